//! Core Kubernetes kinds we read, and the metadata every object has.

use k8s_openapi::jiff::Timestamp;

pub use k8s_openapi::api::core::v1::{Namespace, Node, Pod, PodCondition};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

/// The text Kubernetes stores for a moment: RFC 3339 in UTC, whole seconds.
pub fn time_text(moment: std::time::SystemTime) -> String {
    let secs = moment
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    i64::try_from(secs)
        .ok()
        .and_then(|secs| Timestamp::from_second(secs).ok())
        .unwrap_or_default()
        .to_string()
}
