//! `IPReservation`: addresses never given out automatically.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::custom_resource;
use crate::types::cidr_or_address_list;
use crate::{Cidr, FieldError};

/// Addresses of pools that are never given out automatically; pods that ask for one by name still get it.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "crd.projectcalico.org",
    version = "v1",
    kind = "IPReservation",
    root = "IpReservation",
    plural = "ipreservations",
    singular = "ipreservation",
    category = "tortie",
    derive = "PartialEq",
    doc = "Addresses of pools that are never given out automatically; pods that ask for one by name still get it.",
    printcolumn = r#"{"name": "CIDRs", "type": "string", "jsonPath": ".spec.reservedCIDRs"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
pub struct IpReservationSpec {
    /// Ranges and single addresses, for example 10.0.0.0/29 and 10.0.0.53.
    #[serde(
        default,
        rename = "reservedCIDRs",
        deserialize_with = "cidr_or_address_list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub reserved_cidrs: Vec<Cidr>,
}

impl IpReservationSpec {
    fn check(&self, _: &mut Vec<FieldError>) {}
}

custom_resource!(IpReservation);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn single_addresses_are_ranges_of_one() {
        let spec: IpReservationSpec =
            serde_json::from_value(json!({ "reservedCIDRs": ["10.0.0.53", "fd00::/64"] })).unwrap();
        assert_eq!(
            spec.reserved_cidrs,
            [
                "10.0.0.53/32".parse().unwrap(),
                "fd00::/64".parse().unwrap()
            ]
        );
    }
}
