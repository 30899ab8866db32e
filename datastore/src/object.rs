//! Objects and their keys.

use std::fmt;

use crds::{Kind, Resource};
use serde_json::Value;

use crate::Error;

/// What identifies an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, for namespaced kinds.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Key of an object without namespace.
    pub fn cluster(kind: Kind, name: impl Into<String>) -> Key {
        Key {
            kind,
            namespace: None,
            name: name.into(),
        }
    }

    /// Key of an object in a namespace.
    pub fn namespaced(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Key {
        Key {
            kind,
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// An object as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// What identifies it.
    pub key: Key,
    /// Version of this state; opaque, equal only for equal states. Empty for an object not stored yet.
    pub resource_version: String,
    /// The whole manifest, unknown fields included; its `metadata.resourceVersion` is `resource_version`.
    pub value: Value,
}

impl Object {
    /// An object to create, from a typed resource.
    pub fn new<T: Resource>(resource: &T) -> Result<Object, Error> {
        let metadata = resource.metadata();
        let key = Key {
            kind: T::KIND,
            namespace: metadata.namespace.clone(),
            name: resource.name().to_owned(),
        };
        let value = resource
            .to_value()
            .map_err(|error| Error::invalid(&key, error))?;
        let resource_version = metadata.resource_version.clone().unwrap_or_default();
        Ok(Object {
            key,
            resource_version,
            value,
        })
    }
}
