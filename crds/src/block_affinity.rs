//! `BlockAffinity`: claim of a node on a block.

#![allow(
    unreachable_pub,
    reason = "`KubeSchema` derives through a second struct inside a function"
)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::custom_resource;
use crate::{Cidr, FieldError};

/// Claim of a node on a block of addresses. Written by address management, not by people.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "crd.projectcalico.org",
    version = "v1",
    kind = "BlockAffinity",
    plural = "blockaffinities",
    singular = "blockaffinity",
    shortname = "affinity",
    shortname = "affinities",
    category = "tortie",
    derive = "PartialEq",
    doc = "Claim of a node on a block of addresses. Written by address management, not by people.",
    printcolumn = r#"{"name": "CIDR", "type": "string", "jsonPath": ".spec.cidr"}"#,
    printcolumn = r#"{"name": "Node", "type": "string", "jsonPath": ".spec.node"}"#,
    printcolumn = r#"{"name": "State", "type": "string", "jsonPath": ".spec.state"}"#,
    printcolumn = r#"{"name": "Deleted", "type": "string", "jsonPath": ".spec.deleted"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.cidr == oldSelf.cidr && self.node == oldSelf.node")
        .message("an affinity belongs to one block and one node; delete it and let the node claim again")
)]
pub struct BlockAffinitySpec {
    /// The block.
    pub cidr: Cidr,

    /// The node that claims it.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,

    /// pending: being claimed, no ownership yet. confirmed: the node owns the block. pendingDeletion: being given back.
    pub state: AffinityState,

    /// "true" once deletion has begun; readers ignore the object from then on. A string, as Calico stores it.
    #[serde(with = "deleted_text")]
    #[schemars(with = "DeletedText")]
    pub deleted: bool,

    /// host (default) for nodes, virtual for blocks without one.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<AffinityType>,
}

/// How far a claim is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum AffinityState {
    /// Being claimed: no ownership yet, the block is neither advertised nor used.
    Pending,
    /// The node owns the block.
    Confirmed,
    /// Being given back: no new addresses, no longer advertised.
    PendingDeletion,
}

/// Who claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
#[serde(rename_all = "camelCase")]
pub enum AffinityType {
    /// A node.
    #[default]
    #[serde(alias = "")]
    Host,
    /// Something without a node, such as the addresses of load balancers.
    Virtual,
}

/// Schema of `deleted`.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used")]
enum DeletedText {
    True,
    False,
}

/// `deleted` is "true" or "false" as text in this version of the API and a boolean in the later one: reads both.
mod deleted_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Bool(bool),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(
        deleted: &bool,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if *deleted { "true" } else { "false" })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<bool, D::Error> {
        match Either::deserialize(deserializer) {
            Ok(Either::Bool(deleted)) => Ok(deleted),
            Ok(Either::Text(text)) if text == "true" => Ok(true),
            Ok(Either::Text(text)) if text == "false" || text.is_empty() => Ok(false),
            _ => Err(de::Error::custom("expected the text \"true\" or \"false\"")),
        }
    }
}

impl BlockAffinitySpec {
    /// A claim that is not being deleted.
    pub fn new(cidr: Cidr, node: impl Into<String>, state: AffinityState) -> BlockAffinitySpec {
        BlockAffinitySpec {
            cidr,
            node: node.into(),
            state,
            deleted: false,
            type_: Some(AffinityType::Host),
        }
    }

    fn check(&self, errors: &mut Vec<FieldError>) {
        if self.node.is_empty() {
            errors.push(FieldError::new(
                "spec.node",
                "no node is named",
                "write the name of the node that has the block",
            ));
        }
    }
}

custom_resource!(BlockAffinity);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Resource, decode};

    #[test]
    fn a_calico_object_reads_and_writes_unchanged() {
        let manifest = json!({
            "apiVersion": "crd.projectcalico.org/v1",
            "kind": "BlockAffinity",
            "metadata": { "name": "node-1-10-0-1-0-26" },
            "spec": { "cidr": "10.0.1.0/26", "deleted": "false", "node": "node-1", "state": "pendingDeletion", "type": "host" },
        });
        let affinity: BlockAffinity = decode(&manifest).unwrap();
        assert_eq!(affinity.spec.state, AffinityState::PendingDeletion);
        assert_eq!(affinity.to_value().unwrap(), manifest);
    }

    #[test]
    fn deleted_reads_text_and_boolean() {
        for (deleted, expected) in [
            (json!("true"), true),
            (json!("false"), false),
            (json!(true), true),
        ] {
            let spec = json!({ "cidr": "10.0.1.0/26", "deleted": deleted, "node": "n", "state": "confirmed" });
            assert_eq!(
                serde_json::from_value::<BlockAffinitySpec>(spec)
                    .unwrap()
                    .deleted,
                expected
            );
        }
        let spec =
            json!({ "cidr": "10.0.1.0/26", "deleted": "yes", "node": "n", "state": "confirmed" });
        assert!(serde_json::from_value::<BlockAffinitySpec>(spec).is_err());
    }
}
