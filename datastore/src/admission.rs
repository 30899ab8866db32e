//! What every object must satisfy before it is stored or believed.

use std::collections::BTreeMap;

use crds::{AnyResource, FieldError, Kind};
use serde_json::{Map, Value};

use crate::{Error, Key, Object};

/// Longest name (RFC 1123 subdomain).
const MAX_NAME: usize = 253;

/// The key a manifest claims, or nothing if its kind is not one of ours.
pub(crate) fn key_of(value: &Value) -> Result<Option<Key>, FieldError> {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let missing = |field: &str, remedy: &str| FieldError::new(field, "is missing", remedy);
    let api_version = text("apiVersion")
        .ok_or_else(|| missing("apiVersion", "begin with apiVersion and kind"))?;
    let kind = text("kind").ok_or_else(|| missing("kind", "begin with apiVersion and kind"))?;
    let Some(kind) = Kind::from_api(api_version, kind) else {
        return Ok(None);
    };
    let metadata = value.get("metadata");
    let text = |field: &str| metadata.and_then(|m| m.get(field)).and_then(Value::as_str);
    let name = text("name").ok_or_else(|| missing("metadata.name", "give the object a name"))?;
    let namespace = kind
        .namespaced()
        .then(|| text("namespace").unwrap_or("default").to_owned());
    let key = Key {
        kind,
        namespace,
        name: name.to_owned(),
    };
    check_name(&key)?;
    Ok(Some(key))
}

/// Names become names of files, so this also keeps every write inside its directory.
fn check_name(key: &Key) -> Result<(), FieldError> {
    let legal = |name: &str| {
        let edge =
            |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        name.len() <= MAX_NAME
            && edge(name.chars().next())
            && edge(name.chars().next_back())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
    };
    for (field, name) in [
        ("metadata.namespace", key.namespace.as_deref()),
        ("metadata.name", Some(&*key.name)),
    ] {
        if let Some(name) = name.filter(|name| !legal(name)) {
            let remedy = "use up to 253 lower-case letters, digits, '-' and '.', a letter or digit at both ends";
            return Err(FieldError::new(
                field,
                format!("{name:?} is not a name"),
                remedy,
            ));
        }
    }
    Ok(())
}

/// Checks an object somebody wants to write: the manifest says what the key says, and its content is valid.
pub(crate) fn admit(mut object: Object) -> Result<Object, Error> {
    let key = object.key.clone();
    let fail = |error| Error::invalid(&key, error);
    let manifest = object
        .value
        .as_object_mut()
        .ok_or_else(|| fail(not_a_map("the manifest")))?;
    manifest
        .entry("apiVersion")
        .or_insert_with(|| key.kind.api_version().into());
    manifest
        .entry("kind")
        .or_insert_with(|| key.kind.name().into());
    let metadata = metadata_mut(&mut object.value).map_err(fail)?;
    metadata
        .entry("name")
        .or_insert_with(|| key.name.clone().into());
    if let Some(namespace) = &key.namespace {
        metadata
            .entry("namespace")
            .or_insert_with(|| namespace.clone().into());
    }
    let claimed = key_of(&object.value).map_err(fail)?;
    if claimed.as_ref() != Some(&key) {
        let claimed = claimed.map_or("another kind".to_owned(), |claimed| claimed.to_string());
        return Err(fail(FieldError::new(
            "metadata.name",
            format!("the manifest is of {claimed}"),
            "make the two agree",
        )));
    }
    validate(&key, &object.value).map_err(fail)?;
    Ok(object)
}

/// Checks the content of a manifest. Of several findings the first is the error, and it says how many there are.
pub(crate) fn validate(key: &Key, value: &Value) -> Result<(), FieldError> {
    let errors = match AnyResource::parse(key.kind, value) {
        Ok(_) => return Ok(()),
        Err(errors) => errors,
    };
    let more = errors.len().saturating_sub(1);
    let mut errors = errors.into_iter();
    let mut first = errors
        .next()
        .unwrap_or_else(|| FieldError::new("", "invalid", "see its documentation"));
    if more > 0 {
        first.remedy = format!("{} (and {more} more)", first.remedy);
    }
    Err(first)
}

/// `metadata` of a manifest, made if absent.
pub(crate) fn metadata_mut(value: &mut Value) -> Result<&mut Map<String, Value>, FieldError> {
    let manifest = value
        .as_object_mut()
        .ok_or_else(|| not_a_map("the manifest"))?;
    let metadata = manifest
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    metadata
        .as_object_mut()
        .ok_or_else(|| not_a_map("metadata"))
}

/// Sets `metadata.resourceVersion`.
pub(crate) fn set_version(value: &mut Value, version: &str) -> Result<(), FieldError> {
    metadata_mut(value)?.insert("resourceVersion".into(), version.into());
    Ok(())
}

/// Sets `metadata.creationTimestamp` if it has none.
pub(crate) fn set_creation_time(value: &mut Value, now: &str) -> Result<(), FieldError> {
    let timestamp = metadata_mut(value)?
        .entry("creationTimestamp")
        .or_insert(Value::Null);
    if timestamp.is_null() {
        *timestamp = now.into();
    }
    Ok(())
}

/// Whether two manifests are the same but for their version.
pub(crate) fn same_content(a: &Value, b: &Value) -> bool {
    let same_fields = |a: &Map<String, Value>, b: &Map<String, Value>, except: &str| {
        let count =
            |fields: &Map<String, Value>| fields.keys().filter(|name| *name != except).count();
        count(a) == count(b)
            && a.iter()
                .all(|(name, value)| name == except || b.get(name) == Some(value))
    };
    let (Value::Object(a), Value::Object(b)) = (a, b) else {
        return a == b;
    };
    let same_metadata = match (a.get("metadata"), b.get("metadata")) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => same_fields(a, b, "resourceVersion"),
        (a, b) => a == b,
    };
    same_metadata && same_fields(a, b, "metadata")
}

/// The manifest with another `status`; none when it is null.
pub(crate) fn with_status(value: &Value, status: Value) -> Result<Value, FieldError> {
    let mut value = value.clone();
    let manifest = value
        .as_object_mut()
        .ok_or_else(|| not_a_map("the manifest"))?;
    if status.is_null() {
        manifest.remove("status");
    } else {
        manifest.insert("status".into(), status);
    }
    Ok(value)
}

/// The manifest with annotations set and removed.
pub(crate) fn with_annotations(
    value: &Value,
    changes: BTreeMap<String, Option<String>>,
) -> Result<Value, FieldError> {
    let mut value = value.clone();
    let metadata = metadata_mut(&mut value)?;
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    if annotations.is_null() {
        *annotations = Value::Object(Map::new());
    }
    let annotations = annotations
        .as_object_mut()
        .ok_or_else(|| not_a_map("metadata.annotations"))?;
    for (key, change) in changes {
        match change {
            Some(text) => annotations.insert(key, text.into()),
            None => annotations.remove(&key),
        };
    }
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    Ok(value)
}

fn not_a_map(field: &str) -> FieldError {
    FieldError::new(field, "is not a map of fields", "write fields below it")
}
