//! Core Kubernetes kinds we read, and the metadata every object has.

use std::net::IpAddr;

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

/// The moment that a text of RFC 3339 names.
pub fn parse_time(text: &str) -> Option<std::time::SystemTime> {
    text.parse::<Timestamp>().ok().map(Into::into)
}

/// Addresses of type InternalIP in the status of a Node, in its order; what is no address is left out.
pub fn internal_addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_ref());
    let internal = addresses.into_iter().flatten();
    internal
        .filter(|one| one.type_ == "InternalIP")
        .filter_map(|one| one.address.parse().ok())
}
