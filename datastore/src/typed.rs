//! Objects as Rust types, without losing what the types do not know.

use crds::{FieldError, Kind, Resource};
use serde_json::{Map, Value};

use crate::{Datastore, Error, Key, Object};

/// A resource as it was read. Change `resource` and hand it to [`update_typed`].
#[derive(Clone, Debug)]
pub struct Typed<T> {
    /// The resource.
    pub resource: T,
    /// As it was read.
    original: T,
    raw: Value,
    key: Key,
    resource_version: String,
}

impl<T: Resource> Typed<T> {
    /// Reads an object, as a watch or a list delivers it.
    pub fn from_object(object: Object) -> Result<Typed<T>, Error> {
        let Object {
            key,
            resource_version,
            value: raw,
        } = object;
        match crds::decode(&raw) {
            Ok(resource) => Ok(Typed {
                original: T::clone(&resource),
                resource,
                raw,
                key,
                resource_version,
            }),
            Err(error) => Err(Error::invalid(&key, error)),
        }
    }

    /// What identifies the object.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Version of the state that was read.
    pub fn resource_version(&self) -> &str {
        &self.resource_version
    }

    /// The object with the changes made to `resource` since it was read, and everything else as it was.
    pub fn to_object(&self) -> Result<Object, Error> {
        let fail = |error: FieldError| Error::invalid(&self.key, error);
        let before = self.original.to_value().map_err(fail)?;
        let after = self.resource.to_value().map_err(fail)?;
        let mut value = self.raw.clone();
        merge(&mut value, &before, &after);
        Ok(Object {
            key: self.key.clone(),
            resource_version: self.resource_version.clone(),
            value,
        })
    }
}

/// Reads a resource of a cluster-wide kind.
pub async fn get_typed<T: Resource>(
    store: &(impl Datastore + ?Sized),
    name: &str,
) -> Result<Typed<T>, Error> {
    Typed::from_object(store.get(&Key::cluster(T::KIND, name)).await?)
}

/// Reads all resources of a kind.
pub async fn list_typed<T: Resource>(
    store: &(impl Datastore + ?Sized),
) -> Result<Vec<Typed<T>>, Error> {
    let kind: Kind = T::KIND;
    store
        .list(kind)
        .await?
        .into_iter()
        .map(Typed::from_object)
        .collect()
}

/// Writes a new resource.
pub async fn create_typed<T: Resource>(
    store: &(impl Datastore + ?Sized),
    resource: &T,
) -> Result<Typed<T>, Error> {
    Typed::from_object(store.create(Object::new(resource)?).await?)
}

/// Writes what was changed since the resource was read, if nobody else changed it meanwhile.
pub async fn update_typed<T: Resource>(
    store: &(impl Datastore + ?Sized),
    typed: &Typed<T>,
) -> Result<Typed<T>, Error> {
    Typed::from_object(store.update(typed.to_object()?).await?)
}

/// Removes a resource, if nobody changed it since it was read.
pub async fn delete_typed<T: Resource>(
    store: &(impl Datastore + ?Sized),
    typed: &Typed<T>,
) -> Result<(), Error> {
    store
        .delete(&typed.key, Some(&typed.resource_version))
        .await
}

/// Applies to `raw` what changed from `before` to `after`.
fn merge(raw: &mut Value, before: &Value, after: &Value) {
    if before == after {
        return;
    }
    match (&mut *raw, before, after) {
        (Value::Object(raw), Value::Object(before), Value::Object(after)) => {
            merge_fields(raw, before, after)
        }
        (Value::Array(old), Value::Array(before), Value::Array(after))
            if old.len() == before.len() =>
        {
            *old = merge_items(old, before, after);
        }
        _ => *raw = after.clone(),
    }
}

fn merge_fields(
    raw: &mut Map<String, Value>,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) {
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        raw.remove(name);
    }
    for (name, value) in after {
        match (raw.get_mut(name), before.get(name)) {
            (Some(raw), Some(before)) => merge(raw, before, value),
            // Absent before and now: nothing was changed here, unless it is new.
            (None, Some(before)) if before == value => {}
            _ => {
                raw.insert(name.clone(), value.clone());
            }
        }
    }
}

/// An item that was there before keeps its unknown fields wherever it is now; positions mean nothing.
fn merge_items(old: &[Value], before: &[Value], after: &[Value]) -> Vec<Value> {
    let keep = |item: &Value| {
        let known = item
            .is_object()
            .then(|| before.iter().position(|b| b == item))
            .flatten();
        known.map_or_else(|| item.clone(), |position| old[position].clone())
    };
    after.iter().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(raw: Value, before: Value, after: Value) -> Value {
        let mut raw = raw;
        merge(&mut raw, &before, &after);
        raw
    }

    #[test]
    fn only_what_changed_is_written() {
        let raw =
            json!({ "spec": { "a": 1, "new": true, "m": { "x": 1, "future": 2 } }, "extra": [1] });
        let before = json!({ "spec": { "a": 1, "m": { "x": 1 }, "gone": 1 } });
        let after = json!({ "spec": { "a": 2, "m": { "y": 1 } } });
        let expected =
            json!({ "spec": { "a": 2, "new": true, "m": { "y": 1, "future": 2 } }, "extra": [1] });
        assert_eq!(merged(raw, before, after), expected);
    }

    #[test]
    fn another_spelling_of_an_unchanged_value_stays() {
        let raw = json!({ "asNumber": "65000.1", "b": 1 });
        let before = json!({ "asNumber": 4259840001_u32, "b": 1 });
        let after = json!({ "asNumber": 4259840001_u32, "b": 2 });
        assert_eq!(
            merged(raw, before, after),
            json!({ "asNumber": "65000.1", "b": 2 })
        );
    }

    #[test]
    fn items_that_move_keep_their_unknown_fields() {
        let raw = json!([{ "id": 1, "future": "a" }, { "id": 2, "future": "b" }]);
        let before = json!([{ "id": 1 }, { "id": 2 }]);
        let after = json!([{ "id": 2 }, { "id": 3 }]);
        assert_eq!(
            merged(raw, before, after),
            json!([{ "id": 2, "future": "b" }, { "id": 3 }])
        );
    }
}
