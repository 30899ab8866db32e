//! A cluster for tests: a datastore in memory, a clock that is set, and short ways to ask about both.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crds::core::ObjectMeta;
use crds::{
    BlockAffinity, Cidr, IpPool, IpPoolSpec, IpReservation, IpReservationSpec, IpamBlock,
    IpamConfig, IpamConfigSpec, IpamHandle, names,
};
use datastore::memory::MemoryStore;
use datastore::{create_typed, delete_typed, get_typed, list_typed, update_typed};
use ipam::{Assigned, AutoAssign, Ipam};

/// Seconds since 1970 at which every test begins.
const START_SECS: u64 = 1_800_000_000;

/// A datastore and the clock of all nodes.
pub(crate) struct Cluster {
    pub(crate) store: MemoryStore,
    pub(crate) ipam: Ipam,
    clock: Arc<AtomicU64>,
}

impl Cluster {
    pub(crate) fn new() -> Cluster {
        let store = MemoryStore::new();
        let clock = Arc::new(AtomicU64::new(START_SECS));
        let mut cluster = Cluster {
            ipam: Ipam::new(Arc::new(store.clone())),
            store,
            clock,
        };
        cluster.ipam = cluster.another_process();
        cluster
    }

    /// A cluster with enabled pools of default settings.
    pub(crate) async fn with_pools(pools: &[(&str, &str)]) -> Cluster {
        let cluster = Cluster::new();
        for (name, range) in pools {
            cluster.pool(name, range, |_| {}).await;
        }
        cluster
    }

    /// An address manager that shares nothing with the first but the datastore and the time.
    pub(crate) fn another_process(&self) -> Ipam {
        let clock = Arc::clone(&self.clock);
        Ipam::new(Arc::new(self.store.clone()))
            .with_clock(Arc::new(move || {
                SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed))
            }))
            .with_backoff(Arc::new(|_| Duration::ZERO))
    }

    pub(crate) fn pass(&self, secs: u64) {
        self.clock.fetch_add(secs, Ordering::Relaxed);
    }

    pub(crate) async fn pool(&self, name: &str, range: &str, change: impl FnOnce(&mut IpPoolSpec)) {
        let mut spec = IpPoolSpec::new(cidr(range));
        change(&mut spec);
        create_typed(
            &self.store,
            &IpPool {
                metadata: named(name),
                spec,
                status: None,
            },
        )
        .await
        .unwrap();
    }

    pub(crate) async fn change_pool(&self, name: &str, change: impl FnOnce(&mut IpPoolSpec)) {
        let mut pool = get_typed::<IpPool>(&self.store, name).await.unwrap();
        change(&mut pool.resource.spec);
        update_typed(&self.store, &pool).await.unwrap();
    }

    pub(crate) async fn delete_pool(&self, name: &str) {
        let pool = get_typed::<IpPool>(&self.store, name).await.unwrap();
        delete_typed(&self.store, &pool).await.unwrap();
    }

    /// Every call from now on, as `Update IPAMBlock`.
    pub(crate) fn record_calls(&self) -> Calls {
        let calls = Calls::default();
        let log = Arc::clone(&calls.0);
        self.store.on_call(move |call| {
            log.lock()
                .unwrap()
                .push(format!("{:?} {}", call.operation, call.kind));
            None
        });
        calls
    }

    pub(crate) async fn config(&self, change: impl FnOnce(&mut IpamConfigSpec)) {
        if let Ok(mut config) = get_typed::<IpamConfig>(&self.store, names::DEFAULT).await {
            change(&mut config.resource.spec);
            update_typed(&self.store, &config).await.unwrap();
            return;
        }
        let mut spec = IpamConfigSpec::default();
        change(&mut spec);
        create_typed(
            &self.store,
            &IpamConfig {
                metadata: named(names::DEFAULT),
                spec,
            },
        )
        .await
        .unwrap();
    }

    pub(crate) async fn reserve(&self, name: &str, ranges: &[&str]) {
        let spec = IpReservationSpec {
            reserved_cidrs: ranges.iter().map(|range| cidr(range)).collect(),
        };
        create_typed(
            &self.store,
            &IpReservation {
                metadata: named(name),
                spec,
            },
        )
        .await
        .unwrap();
    }

    pub(crate) async fn node(&self, name: &str, labels: &[(&str, &str)]) {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let metadata = ObjectMeta {
            labels: Some(labels),
            ..named(name)
        };
        let node = crds::core::Node {
            metadata,
            ..Default::default()
        };
        create_typed(&self.store, &node).await.unwrap();
    }

    /// One IPv4 address, which must be there.
    pub(crate) async fn one(&self, node: &str, handle: &str) -> IpAddr {
        let assigned = self.some(node, handle, 1).await;
        assert_eq!(assigned.shortfall, None);
        assigned.v4[0]
    }

    /// As many IPv4 addresses as there are, up to `count`.
    pub(crate) async fn some(&self, node: &str, handle: &str, count: u32) -> Assigned {
        self.ipam
            .auto_assign(&v4(node, handle, count))
            .await
            .unwrap()
    }

    pub(crate) async fn blocks(&self) -> Vec<IpamBlock> {
        let blocks = list_typed::<IpamBlock>(&self.store).await.unwrap();
        blocks.into_iter().map(|typed| typed.resource).collect()
    }

    /// Makes the only block contradict itself in a way that no store refuses.
    pub(crate) async fn break_block(&self) {
        let mut block = list_typed::<IpamBlock>(&self.store)
            .await
            .unwrap()
            .remove(0);
        block.resource.spec.attributes[0].released_at = Some("yesterday".to_owned());
        update_typed(&self.store, &block).await.unwrap();
    }

    /// Node, block and state of each affinity.
    pub(crate) async fn affinities(&self) -> Vec<(String, Cidr, String)> {
        let affinities = list_typed::<BlockAffinity>(&self.store).await.unwrap();
        affinities
            .into_iter()
            .map(|typed| {
                let spec = typed.resource.spec;
                let state = serde_json::to_value(spec.state).unwrap();
                (spec.node, spec.cidr, state.as_str().unwrap().to_owned())
            })
            .collect()
    }

    /// The sum of the counts of a handle, `None` without an object.
    pub(crate) async fn handle_count(&self, handle: &str) -> Option<u32> {
        let handle = get_typed::<IpamHandle>(&self.store, &names::handle_name(handle))
            .await
            .ok()?;
        Some(handle.resource.spec.block.values().sum())
    }
}

/// A log of calls.
#[derive(Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A request for IPv4 addresses.
pub(crate) fn v4(node: &str, handle: &str, count: u32) -> AutoAssign {
    AutoAssign {
        node: node.to_owned(),
        handle: handle.to_owned(),
        v4: count,
        ..AutoAssign::default()
    }
}

pub(crate) fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

pub(crate) fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

pub(crate) fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}
