//! `ClusterInformation`: what the cluster is.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::FieldError;
use crate::resource::custom_resource;

/// What the cluster is. Only the object named `default` counts.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "crd.projectcalico.org",
    version = "v1",
    kind = "ClusterInformation",
    plural = "clusterinformations",
    singular = "clusterinformation",
    shortname = "clusterinfo",
    category = "tortie",
    derive = "PartialEq",
    doc = "What the cluster is. Only the object named default counts.",
    printcolumn = r#"{"name": "GUID", "type": "string", "jsonPath": ".spec.clusterGUID"}"#,
    printcolumn = r#"{"name": "Type", "type": "string", "jsonPath": ".spec.clusterType"}"#,
    printcolumn = r#"{"name": "Ready", "type": "boolean", "jsonPath": ".spec.datastoreReady"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInformationSpec {
    /// Version of the Calico release the data was last migrated to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calico_version: Option<String>,

    /// Identity of the cluster, 32 hexadecimal digits chosen once.
    #[serde(
        default,
        rename = "clusterGUID",
        skip_serializing_if = "Option::is_none"
    )]
    pub cluster_guid: Option<String>,

    /// What runs the cluster, words separated by commas: `k8s,bgp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_type: Option<String>,

    /// False while the data is being migrated: agents then keep what they have and change nothing. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore_ready: Option<bool>,

    /// Edition of the product that wrote the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl ClusterInformationSpec {
    /// Whether agents may act on the data.
    pub fn datastore_ready(&self) -> bool {
        self.datastore_ready.unwrap_or(true)
    }

    fn check(&self, _: &mut Vec<FieldError>) {}
}

custom_resource!(ClusterInformation);
