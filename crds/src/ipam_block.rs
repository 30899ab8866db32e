//! `IPAMBlock`: addresses of a block and who has them.

#![allow(
    unreachable_pub,
    reason = "`KubeSchema` derives through a second struct inside a function"
)]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::custom_resource;
use crate::{Cidr, FieldError};

/// Addresses of a block and who has them. Written by address management, not by people.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "crd.projectcalico.org",
    version = "v1",
    kind = "IPAMBlock",
    root = "IpamBlock",
    plural = "ipamblocks",
    singular = "ipamblock",
    shortname = "block",
    category = "tortie",
    derive = "PartialEq",
    doc = "Addresses of a block and who has them. Written by address management, not by people.",
    selectable = ".spec.affinity",
    printcolumn = r#"{"name": "CIDR", "type": "string", "jsonPath": ".spec.cidr"}"#,
    printcolumn = r#"{"name": "Affinity", "type": "string", "jsonPath": ".spec.affinity"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.cidr == oldSelf.cidr").message("the cidr of a block cannot change; release the block instead"))]
pub struct IpamBlockSpec {
    /// The block.
    pub cidr: Cidr,

    /// Who owns it: `host:<node>`, `virtual:<name>`, or nothing for a block given back while addresses were in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub affinity: Option<String>,

    /// When the owner claimed it, as RFC 3339 text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_claim_time: Option<String>,

    /// One entry per address of the block: null when free, else an index into `attributes`.
    #[schemars(with = "Vec<NullableIndex>")]
    pub allocations: Vec<Option<u32>>,

    /// Positions of free addresses; taken from the front and returned to the back, so that reuse is late.
    pub unallocated: Vec<u32>,

    /// Who has addresses; owners with several addresses appear once.
    pub attributes: Vec<AllocationAttribute>,

    /// Grows by one with each write, starting at the time of creation in nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sequence_number: i64,

    /// For each position in use (as text), `sequenceNumber` at the time it was given out; guards late releases.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sequence_number_for_allocation: BTreeMap<String, i64>,

    /// Whether only the owner may take addresses.
    pub strict_affinity: bool,

    /// True once deletion has begun; readers ignore the object from then on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// Schema of an entry of `allocations`.
struct NullableIndex;

impl schemars::JsonSchema for NullableIndex {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NullableIndex".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "nullable": true })
    }
}

/// Who has an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AllocationAttribute {
    /// Handle of the owner, `<network>.<container id>` for pods.
    #[serde(default, rename = "handle_id", skip_serializing_if = "Option::is_none")]
    pub handle_id: Option<String>,

    /// Facts for people and for address collection: node, namespace, pod, timestamp, type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secondary: BTreeMap<String, String>,

    /// The same facts about another owner while an address moves between two.
    #[serde(
        default,
        rename = "alternateOwnerAttrs",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub alternate_owner_attrs: BTreeMap<String, String>,

    /// When it was released, if addresses rest before reuse.
    #[serde(
        default,
        rename = "releasedAt",
        skip_serializing_if = "Option::is_none"
    )]
    pub released_at: Option<String>,
}

/// Keys of [`AllocationAttribute::secondary`].
pub mod attribute {
    /// Node of the owner.
    pub const NODE: &str = "node";
    /// Namespace of the pod.
    pub const NAMESPACE: &str = "namespace";
    /// Name of the pod.
    pub const POD: &str = "pod";
    /// When the address was given out.
    pub const TIMESTAMP: &str = "timestamp";
    /// What it is for when not for a pod.
    pub const TYPE: &str = "type";
    /// Value of [`TYPE`]: address of an IPIP device.
    pub const TYPE_IPIP: &str = "ipipTunnelAddress";
    /// Value of [`TYPE`]: address of an IPv4 VXLAN device.
    pub const TYPE_VXLAN: &str = "vxlanTunnelAddress";
    /// Value of [`TYPE`]: address of an IPv6 VXLAN device.
    pub const TYPE_VXLAN_V6: &str = "vxlanV6TunnelAddress";
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl IpamBlockSpec {
    /// The node that owns the block, if a node does.
    pub fn host(&self) -> Option<&str> {
        self.affinity.as_deref()?.strip_prefix("host:")
    }

    /// The text of `affinity` for a node.
    pub fn host_affinity(node: &str) -> String {
        format!("host:{node}")
    }

    /// Number of addresses in the block.
    pub fn size(&self) -> u128 {
        self.cidr.size()
    }

    /// Addresses in use.
    pub fn used(&self) -> usize {
        self.allocations.iter().flatten().count()
    }

    fn check(&self, errors: &mut Vec<FieldError>) {
        let remedy =
            "restore the object from before the edit, or release the block with its pods gone";
        let mut push =
            |field: String, problem: String| errors.push(FieldError::new(field, problem, remedy));
        if self.allocations.len() as u128 != self.size() {
            let problem = format!(
                "{} entries for the {} addresses of {}",
                self.allocations.len(),
                self.size(),
                self.cidr
            );
            push("spec.allocations".into(), problem);
            return;
        }
        let mut state = vec![Position::Unmentioned; self.allocations.len()];
        for (ordinal, allocation) in self.allocations.iter().enumerate() {
            let Some(index) = allocation else { continue };
            state[ordinal] = Position::Used;
            if *index as usize >= self.attributes.len() {
                let problem = format!(
                    "index {index} is beyond the {} attributes",
                    self.attributes.len()
                );
                push(format!("spec.allocations[{ordinal}]"), problem);
            }
        }
        for (entry, ordinal) in self.unallocated.iter().enumerate() {
            let problem = match state.get_mut(*ordinal as usize) {
                None => format!(
                    "position {ordinal} is beyond the block of {} addresses",
                    self.allocations.len()
                ),
                Some(Position::Used) => {
                    format!("position {ordinal} is free here and in use in spec.allocations")
                }
                Some(Position::Free) => format!("position {ordinal} appears twice"),
                Some(unmentioned) => {
                    *unmentioned = Position::Free;
                    continue;
                }
            };
            push(format!("spec.unallocated[{entry}]"), problem);
        }
    }
}

/// What a block says about one of its addresses.
#[derive(Clone, Copy)]
enum Position {
    Unmentioned,
    Used,
    Free,
}

custom_resource!(IpamBlock);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Resource, decode};

    fn block(spec: Value) -> IpamBlock {
        let api = "crd.projectcalico.org/v1";
        decode(&json!({ "apiVersion": api, "kind": "IPAMBlock", "metadata": { "name": "b" }, "spec": spec })).unwrap()
    }

    fn spec() -> Value {
        json!({
            "affinity": "host:node-1",
            "allocations": [0, null, 0, null],
            "attributes": [{
                "handle_id": "k8s-pod-network.abc",
                "secondary": { "namespace": "default", "node": "node-1", "pod": "web-0" },
            }],
            "cidr": "10.0.1.0/30",
            "sequenceNumber": 1_700_000_000_000_000_001_i64,
            "sequenceNumberForAllocation": { "0": 1_700_000_000_000_000_000_i64 },
            "strictAffinity": false,
            "unallocated": [1, 3],
        })
    }

    #[test]
    fn a_calico_object_reads_and_writes_unchanged() {
        let block = block(spec());
        assert_eq!(block.validate(), Ok(()));
        assert_eq!((block.spec.host(), block.spec.used()), (Some("node-1"), 2));
        assert_eq!(block.to_value().unwrap()["spec"], spec());
    }

    #[test]
    fn contradictions_are_named() {
        for (field, value, expected) in [
            ("allocations", json!([0]), "spec.allocations"),
            (
                "allocations",
                json!([7, null, 0, null]),
                "spec.allocations[0]",
            ),
            ("unallocated", json!([0, 1, 3]), "spec.unallocated[0]"),
            ("unallocated", json!([1, 3, 3]), "spec.unallocated[2]"),
            ("unallocated", json!([1, 3, 4]), "spec.unallocated[2]"),
        ] {
            let mut spec = spec();
            spec[field] = value;
            let errors = block(spec).validate().unwrap_err();
            assert_eq!(
                errors.into_iter().map(|e| e.field).collect::<Vec<_>>(),
                [expected]
            );
        }
    }
}
