//! The suite: what every back end must do, and what it needs to be tried.

use std::sync::Arc;

use crds::{IpPool, IpPoolSpec, Kind};
use datastore::{Datastore, Key};

/// A place that several programs use at the same time.
pub(crate) trait Backend: Send + Sync + 'static {
    /// An empty place of its own.
    fn new() -> impl Future<Output = Self> + Send;

    /// What one more program sees of it.
    fn open(&self) -> impl Future<Output = Arc<dyn Datastore>> + Send;

    /// Makes a namespace, where one must exist before there can be objects in it.
    fn namespace(&self, _name: &str) -> impl Future<Output = ()> + Send {
        async {}
    }
}

pub(crate) fn pool(name: &str, cidr: &str) -> IpPool {
    IpPool::new(name, IpPoolSpec::new(cidr.parse().unwrap()))
}

pub(crate) fn key(name: &str) -> Key {
    Key::cluster(Kind::IpPool, name)
}

/// Every test for one back end; with `keeps_unknown_fields` also what a schema in a server makes impossible.
macro_rules! suite {
    ($backend:ty, keeps_unknown_fields) => {
        crate::suite::suite!($backend);
        crate::suite::suite!(@ $backend, unknown, unknown_fields_survive_typed_updates);
    };
    ($backend:ty) => {
        crate::suite::suite!(@ $backend, objects,
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
            namespaced_objects_of_one_name_are_different
        );
        crate::suite::suite!(@ $backend, watch,
            a_watch_delivers_the_present_first
            a_watch_sees_what_others_do
            a_watch_is_of_one_kind
            a_slow_watch_gets_the_newest_state
            a_dropped_wait_loses_nothing
        );
    };
    (@ $backend:ty, $part:ident, $($test:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            use crate::suite::Backend;
            crate::$part::$test(&<$backend>::new().await).await;
        }
    )*};
}

pub(crate) use suite;
