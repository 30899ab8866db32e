//! A Lease (`coordination.k8s.io/v1`), by which processes agree on one of them.
//!
//! It is no object of this store: nobody lists or follows it, and what it means is the business of who asks.

use std::time::Duration;

use kube::api::GetParams;
use kube::core::Request;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::request::{Client, post};
use crate::Error;

/// What a Lease says (`LeaseSpec`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseSpec {
    /// Who has it; nobody when absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder_identity: Option<String>,
    /// For how long after `renew_time` it is to be left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_duration_seconds: Option<u32>,
    /// Since when the holder has it: RFC 3339 with microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acquire_time: Option<String>,
    /// When the holder last said that it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<String>,
    /// How often it changed hands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_transitions: Option<u32>,
}

/// A Lease as the API server has it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredLease {
    /// What it says.
    pub spec: LeaseSpec,
    /// The whole object, with what others wrote into it.
    pub object: Value,
}

impl StoredLease {
    /// A Lease in this object.
    ///
    /// # Errors
    /// When a field of ours has another type.
    pub fn read(object: Value) -> Result<StoredLease, serde_json::Error> {
        let spec = match &object["spec"] {
            Value::Null => LeaseSpec::default(),
            spec => LeaseSpec::deserialize(spec)?,
        };
        Ok(StoredLease { spec, object })
    }

    /// The object saying something else, in the version that was read.
    pub fn with(&self, spec: &LeaseSpec) -> Value {
        let mut object = self.object.clone();
        if let Value::Object(old) = json!(self.spec)
            && let Some(fields) = object["spec"].as_object_mut()
        {
            fields.retain(|name, _| !old.contains_key(name));
        }
        if let Value::Object(new) = json!(spec) {
            for (name, value) in new {
                object["spec"][name] = value;
            }
        }
        object
    }
}

/// One Lease in an API server. Each request ends after the time that the caller gives it.
#[derive(Clone)]
pub struct LeaseClient {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) manager: String,
}

impl LeaseClient {
    /// Reads it; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`], here and below.
    pub async fn read(&self, limit: Duration) -> Result<Option<StoredLease>, Error> {
        let built = self.collection().get(&self.name, &GetParams::default());
        self.ask("read", built, &[404], limit).await
    }

    /// Makes it; `None` when somebody else has.
    ///
    /// # Errors
    /// See `read`.
    pub async fn create(
        &self,
        spec: &LeaseSpec,
        limit: Duration,
    ) -> Result<Option<StoredLease>, Error> {
        let object = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": self.name, "namespace": self.namespace }, "spec": spec,
        });
        let data = object.to_string().into_bytes();
        let built = self.collection().create(&post(&self.manager), data);
        self.ask("create", built, &[409], limit).await
    }

    /// Writes it; `None` when it is not what was read any more.
    ///
    /// # Errors
    /// See `read`.
    pub async fn replace(
        &self,
        stored: &StoredLease,
        spec: &LeaseSpec,
        limit: Duration,
    ) -> Result<Option<StoredLease>, Error> {
        let data = stored.with(spec).to_string().into_bytes();
        let built = self
            .collection()
            .replace(&self.name, &post(&self.manager), data);
        self.ask("update", built, &[404, 409], limit).await
    }

    fn collection(&self) -> Request {
        let namespace = &self.namespace;
        Request::new(format!(
            "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        ))
    }

    async fn ask(
        &self,
        verb: &str,
        built: super::request::Built,
        accepted: &[u16],
        limit: Duration,
    ) -> Result<Option<StoredLease>, Error> {
        let what = format!("{verb} Lease {}/{}", self.namespace, self.name);
        let answer = self
            .client
            .ask_unless(&what, built, accepted, limit)
            .await?;
        let read = answer.map(StoredLease::read).transpose();
        read.map_err(|error| Error::unavailable(format!("cannot {what}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_into_a_lease_stays() {
        let stored = StoredLease::read(json!({
            "metadata": { "name": "x", "resourceVersion": "7", "labels": { "a": "b" } },
            "spec": { "holderIdentity": "one", "leaseTransitions": 3, "strategy": "OldestEmulationVersion" },
        }));
        let stored = stored.unwrap();
        assert_eq!(stored.spec.holder_identity.as_deref(), Some("one"));
        let spec = LeaseSpec {
            holder_identity: Some("two".to_owned()),
            ..LeaseSpec::default()
        };
        let expected = json!({
            "metadata": { "name": "x", "resourceVersion": "7", "labels": { "a": "b" } },
            "spec": { "holderIdentity": "two", "strategy": "OldestEmulationVersion" },
        });
        assert_eq!(stored.with(&spec), expected);
        let empty = StoredLease::read(json!({ "metadata": {} })).unwrap();
        assert_eq!(empty.spec, LeaseSpec::default());
        assert_eq!(
            empty.with(&spec)["spec"],
            json!({ "holderIdentity": "two" })
        );
    }
}
