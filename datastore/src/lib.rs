//! Where desired state lives.
//!
//! [`Datastore`] is the one seam between the programs and their data; every back end passes `tests/contract.rs`.
//! [`file::FileStore`] keeps the manifests of a directory, [`kubernetes::KubernetesStore`] is a cluster's API server,
//! [`memory::MemoryStore`] serves tests and can be told to fail.
//!
//! What holds for every back end:
//! - An [`Object`] is the whole manifest, unknown fields included; [`typed`] reads and writes it as a Rust type and
//!   changes nothing it does not know.
//! - Writes are compare-and-swap: [`Datastore::update`] succeeds only on the version it read, in all processes that
//!   share the data. A write that would change nothing is not done and keeps the version.
//! - Only valid objects can be written (`crds::Resource::validate`). What was written by others and is broken arrives
//!   as [`Event::Broken`]; the last good object stays until it is mended or deleted.
//! - A [`Watch`] delivers the present, [`Event::InSync`], then every change. Changes of one object that a slow reader
//!   has not seen yet are folded into the newest, so a queue never grows beyond the number of objects.
//!
//! Nothing here decides anything about networks.

mod admission;
mod error;
mod event;
pub mod file;
pub mod kubernetes;
pub mod memory;
mod notice;
mod object;
mod outage;
mod shared;
mod table;
pub mod typed;

use std::collections::BTreeMap;

use async_trait::async_trait;
use crds::Kind;
use serde_json::Value;
use tokio::sync::watch;

pub use error::Error;
pub use event::{Broken, Event, Remains};
pub use notice::Notice;
pub use object::{Key, Object};
pub use outage::Outage;
pub use table::Watch;
pub use typed::{Typed, create_typed, delete_typed, get_typed, list_typed, update_typed};

/// A place that keeps objects.
#[async_trait]
pub trait Datastore: Send + Sync + 'static {
    /// Reads one object. An object that is broken at the moment is [`Error::Invalid`], not its last good state.
    async fn get(&self, key: &Key) -> Result<Object, Error>;

    /// Reads all objects of a kind, ordered by namespace and name. Of broken objects the last good state, if any.
    async fn list(&self, kind: Kind) -> Result<Vec<Object>, Error>;

    /// As [`Datastore::list`], one after the other: whoever keeps little of each never has all of them in memory.
    /// After an error some were seen.
    async fn visit(&self, kind: Kind, see: &mut (dyn FnMut(Object) + Send)) -> Result<(), Error> {
        self.list(kind).await?.into_iter().for_each(see);
        Ok(())
    }

    /// As [`Datastore::visit`], but only what a watch of this store is about, which may be a part of the kind. What is
    /// followed already is not asked for.
    async fn visit_followed(
        &self,
        kind: Kind,
        see: &mut (dyn FnMut(Object) + Send),
    ) -> Result<(), Error> {
        self.visit(kind, see).await
    }

    /// Follows all objects of a kind, or the part of them that the store was told to follow.
    async fn watch(&self, kind: Kind) -> Result<Watch, Error>;

    /// Writes a new object. Its version and creation time are set here; `status` may be ignored by a back end.
    async fn create(&self, object: Object) -> Result<Object, Error>;

    /// Replaces an object if it still has the version `object.resource_version`, else [`Error::Conflict`].
    /// `status` may be ignored by a back end: see [`Datastore::patch_status`].
    async fn update(&self, object: Object) -> Result<Object, Error>;

    /// Removes an object; with a version only if it still has that, else [`Error::Conflict`].
    async fn delete(&self, key: &Key, resource_version: Option<&str>) -> Result<(), Error>;

    /// Replaces `status` and nothing else, whatever the version.
    async fn patch_status(&self, key: &Key, status: Value) -> Result<Object, Error>;

    /// Sets (`Some`) and removes (`None`) annotations and leaves the others, whatever the version.
    async fn patch_annotations(
        &self,
        key: &Key,
        annotations: BTreeMap<String, Option<String>>,
    ) -> Result<Object, Error>;

    /// Gives up the connections there are and makes new ones: the address they came from is gone, and nothing would
    /// tell for minutes. What is on its way fails or is as lost as its connection.
    fn reconnect(&self) {}

    /// Tells people what happened to an object. A store that has no place for that tells nobody.
    async fn record(&self, _notice: &Notice) -> Result<(), Error> {
        Ok(())
    }

    /// Everything that is broken at the moment, ordered by place.
    async fn problems(&self) -> Result<Vec<Broken>, Error>;

    /// Whether the store cannot be reached at the moment, and since when; watches go on with what they know.
    /// The channel of a store that is always there is closed.
    fn outage(&self) -> watch::Receiver<Option<Outage>> {
        watch::channel(None).1
    }
}
