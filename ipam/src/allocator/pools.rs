//! The mark by which a pool that somebody deletes stays until it is not in use.

use crds::{Kind, names};
use datastore::{Key, Object};
use serde_json::{Value, json};

use crate::error::Error;

use super::Ipam;
use super::objects::lost;

impl Ipam {
    /// Marks a pool, unless it is being deleted meanwhile. Returns whether it was written.
    pub(super) async fn guard_pool(&self, name: &str) -> Result<bool, Error> {
        let Some(mut pool) = self.found(Key::cluster(Kind::IpPool, name)).await? else {
            return Ok(false);
        };
        let mut finalizers = finalizers(&pool);
        if is_deleting(&pool) || finalizers.iter().any(is_ours) {
            return Ok(false);
        }
        finalizers.push(names::POOL_FINALIZER.into());
        pool.value["metadata"]["finalizers"] = Value::Array(finalizers);
        Ok(lost(self.store.update(pool).await)?.is_some())
    }

    /// Takes the mark from a pool that is being deleted. Returns whether it was written.
    pub(super) async fn release_pool(&self, name: &str) -> Result<bool, Error> {
        let Some(mut pool) = self.found(Key::cluster(Kind::IpPool, name)).await? else {
            return Ok(false);
        };
        let mut finalizers = finalizers(&pool);
        if !is_deleting(&pool) || !finalizers.iter().any(is_ours) {
            return Ok(false);
        }
        finalizers.retain(|name| !is_ours(name));
        pool.value["metadata"]["finalizers"] = json!(finalizers);
        Ok(lost(self.store.update(pool).await)?.is_some())
    }
}

fn finalizers(object: &Object) -> Vec<Value> {
    let finalizers = object.value["metadata"]["finalizers"].as_array();
    finalizers.cloned().unwrap_or_default()
}

fn is_ours(finalizer: &Value) -> bool {
    finalizer == names::POOL_FINALIZER
}

fn is_deleting(object: &Object) -> bool {
    object.value["metadata"]["deletionTimestamp"].is_string()
}
