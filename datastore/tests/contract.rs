//! What every back end must do. A new one implements `Backend` and adds a line at the end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "contract/objects.rs"]
mod objects;
#[path = "contract/watch.rs"]
mod watch;

use std::sync::Arc;

use crds::{IpPool, IpPoolSpec, Kind};
use datastore::file::FileStore;
use datastore::memory::MemoryStore;
use datastore::{Datastore, Key};

/// A place that several programs use at the same time.
pub(crate) trait Backend: Send + Sync + 'static {
    /// An empty place of its own.
    fn new() -> Self;

    /// What one more program sees of it.
    fn open(&self) -> impl Future<Output = Arc<dyn Datastore>> + Send;
}

pub(crate) fn pool(name: &str, cidr: &str) -> IpPool {
    IpPool::new(name, IpPoolSpec::new(cidr.parse().unwrap()))
}

pub(crate) fn key(name: &str) -> Key {
    Key::cluster(Kind::IpPool, name)
}

struct File(tempfile::TempDir);

impl Backend for File {
    fn new() -> Self {
        File(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Arc<dyn Datastore> {
        Arc::new(FileStore::open(self.0.path()).unwrap())
    }
}

struct Memory(MemoryStore);

impl Backend for Memory {
    fn new() -> Self {
        Memory(MemoryStore::new())
    }

    async fn open(&self) -> Arc<dyn Datastore> {
        Arc::new(self.0.clone())
    }
}

macro_rules! contract {
    ($($part:ident { $($test:ident)* })*) => {
        mod file {
            $($(contract!(@ File $part $test);)*)*
        }
        mod memory {
            $($(contract!(@ Memory $part $test);)*)*
        }
    };
    (@ $backend:ident $part:ident $test:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            crate::$part::$test(&<crate::$backend as crate::Backend>::new()).await;
        }
    };
}

contract! {
    objects {
        created_objects_are_read_back
        objects_are_listed_in_order
        names_are_unique
        invalid_objects_are_refused
        names_stay_inside_the_store
        update_is_compare_and_swap
        an_update_without_change_keeps_the_version
        a_recreated_object_has_another_version
        delete_can_demand_a_version
        concurrent_writers_lose_no_update
        only_one_creator_wins
        status_is_replaced_alone
        annotations_are_merged
        unknown_fields_survive_typed_updates
        namespaced_objects_of_one_name_are_different
    }
    watch {
        a_watch_delivers_the_present_first
        a_watch_sees_what_others_do
        a_watch_is_of_one_kind
        a_slow_watch_gets_the_newest_state
        a_dropped_wait_loses_nothing
    }
}
