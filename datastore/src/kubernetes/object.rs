//! Objects as the API server has them.

use crds::{FieldError, Kind};
use serde_json::{Map, Value, json};

use crate::admission::key_of;
use crate::{Key, Object};

/// An object from what the API server sent. Items of lists and metadata alone do not say the kind that was asked for.
pub(super) fn of_value(kind: Kind, mut value: Value) -> Result<Object, FieldError> {
    let unusable = |problem: &str| FieldError::new("", problem, "ask the API server with kubectl");
    let manifest = value
        .as_object_mut()
        .ok_or_else(|| unusable("the API server sent no object"))?;
    manifest.insert("apiVersion".into(), kind.api_version().into());
    manifest.insert("kind".into(), kind.name().into());
    if let Some(Value::Object(metadata)) = manifest.get_mut("metadata") {
        // A third of an object's size, and nobody here reads it. A write without it changes nothing about it.
        metadata.remove("managedFields");
    }
    let key = key_of(&value)?.ok_or_else(|| unusable("the API server sent another kind"))?;
    let resource_version = value["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    Ok(Object {
        key,
        resource_version,
        value,
    })
}

/// Takes out what only the API server may set on a new object.
pub(super) fn for_create(value: &mut Value) {
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        metadata.remove("resourceVersion");
        metadata.remove("uid");
        metadata.remove("creationTimestamp");
    }
}

/// An object as a watch of the metadata alone delivers it.
pub(super) fn metadata_of(object: &Object) -> Object {
    Object {
        value: json!({
            "apiVersion": object.key.kind.api_version(),
            "kind": object.key.kind.name(),
            "metadata": object.value["metadata"],
        }),
        ..object.clone()
    }
}

/// An object with nothing but what identifies it.
pub(super) fn bare(key: &Key) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".into(), key.name.clone().into());
    if let Some(namespace) = &key.namespace {
        metadata.insert("namespace".into(), namespace.clone().into());
    }
    json!({
        "apiVersion": key.kind.api_version(),
        "kind": key.kind.name(),
        "metadata": metadata,
    })
}

/// Whether a version is of a later time than another; what cannot be compared counts as later.
///
/// Versions of one kind grow, which Kubernetes says so since 1.35 and has always done.
pub(super) fn is_newer(version: &str, than: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    match (number(version), number(than)) {
        (Some(version), Some(than)) => version > than,
        _ => version != than,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_where_they_can_be() {
        assert!(is_newer("10", "9"));
        assert!(!is_newer("9", "10"));
        assert!(!is_newer("9", "9"));
        assert!(is_newer("x", "10"));
    }

    #[test]
    fn items_get_their_kind_and_lose_their_managers() {
        let sent = json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": { "name": "n1", "resourceVersion": "7", "managedFields": [{ "manager": "kubelet" }] },
        });
        let object = of_value(Kind::Node, sent).unwrap();
        assert_eq!(object.key, Key::cluster(Kind::Node, "n1"));
        assert_eq!(object.resource_version, "7");
        let expected = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": "n1", "resourceVersion": "7" },
        });
        assert_eq!(object.value, expected);
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        for sent in [
            json!([]),
            json!({}),
            json!({ "metadata": { "name": "../x" } }),
        ] {
            assert!(of_value(Kind::IpPool, sent).is_err());
        }
    }
}
