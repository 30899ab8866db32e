//! `IPAMHandle`: all addresses of one owner.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::custom_resource;
use crate::{Cidr, FieldError};

/// In which blocks an owner has how many addresses. Written by address management, not by people.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "crd.projectcalico.org",
    version = "v1",
    kind = "IPAMHandle",
    root = "IpamHandle",
    plural = "ipamhandles",
    singular = "ipamhandle",
    category = "tortie",
    derive = "PartialEq",
    doc = "In which blocks an owner has how many addresses. Written by address management, not by people.",
    printcolumn = r#"{"name": "Handle", "type": "string", "jsonPath": ".spec.handleID"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
pub struct IpamHandleSpec {
    /// Id of the owner, `<network>.<container id>` for pods; the name of the object is its lower-case form.
    #[serde(rename = "handleID")]
    pub handle_id: String,

    /// Block CIDR to number of addresses the owner has there.
    #[schemars(with = "BTreeMap<String, u32>")]
    pub block: BTreeMap<Cidr, u32>,

    /// True once deletion has begun; readers ignore the object from then on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

impl IpamHandleSpec {
    fn check(&self, errors: &mut Vec<FieldError>) {
        if self.handle_id.is_empty() {
            errors.push(FieldError::new(
                "spec.handleID",
                "no handle is named",
                "write the id the object is named after",
            ));
        }
    }
}

custom_resource!(IpamHandle);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Resource, decode};

    #[test]
    fn a_calico_object_reads_and_writes_unchanged() {
        let manifest = json!({
            "apiVersion": "crd.projectcalico.org/v1",
            "kind": "IPAMHandle",
            "metadata": { "name": "k8s-pod-network.abc" },
            "spec": { "handleID": "k8s-pod-network.abc", "block": { "10.0.1.0/26": 1, "fd00::/122": 1 } },
        });
        let handle: IpamHandle = decode(&manifest).unwrap();
        assert_eq!(handle.spec.block.values().sum::<u32>(), 2);
        assert_eq!(handle.to_value().unwrap(), manifest);
    }
}
