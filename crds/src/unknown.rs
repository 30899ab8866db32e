//! Fields of a manifest that our types do not have.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use crate::{Kind, manifest};

static SCHEMAS: LazyLock<BTreeMap<Kind, Value>> = LazyLock::new(|| {
    let schema = |kind| {
        let schema = "/spec/versions/0/schema/openAPIV3Schema";
        Some((kind, manifest::crd(kind)?.pointer(schema)?.clone()))
    };
    Kind::ALL.into_iter().filter_map(schema).collect()
});

/// Paths of the fields that the CRD of the kind does not have: a typing error, or the field of
/// another version. Nothing for core kinds, which have more fields than matter here.
pub fn unknown_fields(kind: Kind, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(schema) = SCHEMAS.get(&kind) {
        for section in ["spec", "status"] {
            compare(
                &schema["properties"][section],
                &value[section],
                section,
                &mut found,
            );
        }
    }
    found
}

fn compare(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let Some(known) = schema["properties"].as_object() else {
                // A map with keys of the user, or something without a shape.
                for (name, value) in fields {
                    let path = format!("{path}.{name}");
                    compare(&schema["additionalProperties"], value, &path, found);
                }
                return;
            };
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                match known.get(name) {
                    Some(schema) => compare(schema, value, &path, found),
                    None => found.push(path),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                compare(&schema["items"], item, &format!("{path}[{index}]"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_typing_error_is_found_wherever_it_stands() {
        let pool = json!({
            "metadata": { "anything": 1 },
            "spec": { "cidr": "10.0.0.0/16", "blokSize": 26, "blockSize": 26 },
        });
        assert_eq!(unknown_fields(Kind::IpPool, &pool), ["spec.blokSize"]);
        let configuration = json!({ "spec": { "communities": [
            { "name": "a", "value": "1:2" },
            { "nme": "b", "value": "1:2" },
        ] } });
        assert_eq!(
            unknown_fields(Kind::BgpConfiguration, &configuration),
            ["spec.communities[1].nme"]
        );
    }

    #[test]
    fn keys_of_the_user_are_no_fields() {
        let handle = json!({ "spec": { "handleID": "a", "block": { "10.0.0.0/26": 1 } } });
        assert!(unknown_fields(Kind::IpamHandle, &handle).is_empty());
        let block = json!({ "spec": { "cidr": "10.0.0.0/26", "attributes": [
            { "handle_id": "a", "secondary": { "node": "a", "other": "b" } },
        ] } });
        assert!(unknown_fields(Kind::IpamBlock, &block).is_empty());
    }

    #[test]
    fn core_objects_are_not_judged() {
        assert!(unknown_fields(Kind::Node, &json!({ "spec": { "new": 1 } })).is_empty());
    }
}
