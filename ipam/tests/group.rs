//! Requests of one process that wait for one block: few writes serve many, and who is cut off is nobody's loss.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "support/stepped.rs"]
mod stepped;
#[path = "support/cluster.rs"]
mod support;
#[path = "support/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crds::Kind;
use datastore::create_typed;
use datastore::memory::{Fault, MemoryStore};
use ipam::{Error, Ipam};
use stepped::{Random, Stepped, Tasks, block_on};
use support::{Cluster, cidr, named, v4};
use tokio::task::JoinSet;
use world::World;

const PODS: usize = 40;

/// Every write takes its time, and those of blocks are counted. The first `conflicts` of these are refused.
fn slow_writes(store: &MemoryStore, mut conflicts: u32) -> Arc<Mutex<usize>> {
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    store.on_call(move |call| {
        if !call.operation.writes() {
            return None;
        }
        if call.kind == Kind::IpamBlock {
            *counted.lock().unwrap() += 1;
            if conflicts > 0 {
                conflicts -= 1;
                return Some(Fault::Conflict);
            }
        }
        Some(Fault::Delay(Duration::from_millis(10)))
    });
    count
}

async fn add_all(cluster: &Cluster, pods: usize) -> BTreeSet<IpAddr> {
    let mut tasks = JoinSet::new();
    for pod in 0..pods {
        let ipam = cluster.ipam.clone();
        tasks.spawn(async move {
            let request = v4("node-1", &format!("net.{pod}"), 1);
            let assigned = ipam.auto_assign(&request).await.unwrap();
            assert_eq!(assigned.shortfall, None);
            assigned.v4[0]
        });
    }
    tasks.join_all().await.into_iter().collect()
}

#[tokio::test(start_paused = true)]
async fn pods_that_start_together_share_writes_of_their_block() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/16")]).await;
    cluster.one("node-1", "net.old").await;
    let writes = slow_writes(&cluster.store, 0);
    let addrs = add_all(&cluster, PODS).await;
    assert_eq!(addrs.len(), PODS);
    assert!(*writes.lock().unwrap() <= 3, "{}", writes.lock().unwrap());
    World::read(&cluster.store).check_settled();
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_without_a_block_share_the_writes_of_the_one_that_the_first_claims() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/16")]).await;
    let writes = slow_writes(&cluster.store, 0);
    let addrs = add_all(&cluster, PODS).await;
    assert_eq!((addrs.len(), cluster.blocks().await.len()), (PODS, 1));
    assert!(*writes.lock().unwrap() <= 6, "{}", writes.lock().unwrap());
    World::read(&cluster.store).check_settled();
}

#[tokio::test(start_paused = true)]
async fn a_write_that_came_too_late_is_repeated_for_all() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/16")]).await;
    cluster.one("node-1", "net.old").await;
    let writes = slow_writes(&cluster.store, 2);
    assert_eq!(add_all(&cluster, PODS).await.len(), PODS);
    assert!(*writes.lock().unwrap() <= 6, "{}", writes.lock().unwrap());
    World::read(&cluster.store).check_settled();
}

#[tokio::test(start_paused = true)]
async fn who_finds_the_block_full_goes_on_to_the_next() {
    let cluster = Cluster::new();
    cluster
        .pool("pool", "10.0.0.0/24", |pool| pool.block_size = Some(29))
        .await;
    slow_writes(&cluster.store, 0);
    let addrs = add_all(&cluster, PODS).await;
    assert_eq!((addrs.len(), cluster.blocks().await.len()), (PODS, 5));
    World::read(&cluster.store).check_settled();
}

#[tokio::test(start_paused = true)]
async fn pods_that_end_together_share_writes_of_their_block() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/16")]).await;
    let addrs = add_all(&cluster, PODS).await;
    let writes = slow_writes(&cluster.store, 0);
    let mut tasks = JoinSet::new();
    for pod in 0..PODS {
        let ipam = cluster.ipam.clone();
        tasks.spawn(async move { ipam.release_handle(&format!("net.{pod}")).await.unwrap() });
    }
    let released: Vec<IpAddr> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(released.len(), PODS);
    assert_eq!(released.into_iter().collect::<BTreeSet<_>>(), addrs);
    assert!(*writes.lock().unwrap() <= 3, "{}", writes.lock().unwrap());
    let world = World::read(&cluster.store);
    world.check_settled();
    assert_eq!(world.counted.len(), 0);
}

/// Orders in which one of five is cut off, wherever it is.
const ORDERS: u64 = 400;
const ADDS: [&str; 4] = ["net.a", "net.b", "net.c", "net.d"];
const MAX_STEPS: usize = 100_000;

#[test]
fn who_is_cut_off_takes_nobody_along_and_leaves_nothing() {
    for seed in 0..ORDERS {
        println!("order {seed}");
        one_is_cut_off(&Random::new(seed));
    }
}

fn process(store: &Stepped) -> Ipam {
    Ipam::new(Arc::new(store.clone())).with_backoff(Arc::new(|_| Duration::ZERO))
}

/// A store in which `net.old` has an address, and the process that gave it.
fn warm(random: &Random) -> (Stepped, Ipam) {
    let store = Stepped::new(random.clone());
    let pool = crds::IpPool {
        metadata: named("pool"),
        spec: crds::IpPoolSpec::new(cidr("10.0.0.0/24")),
        status: None,
    };
    block_on(create_typed(&store.inner, &pool)).unwrap();
    let ipam = process(&store);
    block_on(ipam.auto_assign(&v4("node-1", "net.old", 1))).unwrap();
    (store, ipam)
}

/// A repair takes a count that was raised, and not used yet, for a leftover.
#[test]
fn a_repair_between_any_two_steps_of_a_request_is_noticed() {
    for is_same_process in [true, false] {
        let mut repaired = 0;
        for steps in 0..60 {
            let (store, ipam) = warm(&Random::new(0));
            let repairing = match is_same_process {
                true => ipam.clone(),
                false => process(&store),
            };
            let mut tasks = Tasks::new(Random::new(0));
            tasks.start((), async move {
                ipam.auto_assign(&v4("node-1", "net.a", 1)).await.unwrap()
            });
            for _ in 0..steps {
                tasks.step();
            }
            repaired += block_on(repairing.repair()).unwrap().handles.len();
            while !tasks.running.is_empty() {
                tasks.step();
                World::read(&store.inner);
            }
            let world = World::read(&store.inner);
            assert_eq!((world.held.len(), &world.counted), (2, &world.actual));
        }
        assert!(repaired > 0, "no repair met a count that was raised");
    }
}

fn one_is_cut_off(random: &Random) {
    let (store, ipam) = warm(random);
    *store.faults.lock().unwrap() = (*random.pick(&[0, 5]), 0);
    let mut tasks = Tasks::new(random.clone());
    for handle in ADDS {
        let ipam = ipam.clone();
        tasks.start(handle, async move {
            let assigned = ipam.auto_assign(&v4("node-1", handle, 1)).await?;
            Ok::<_, Error>(assigned.v4)
        });
    }
    let release = ipam.clone();
    tasks.start(
        "net.old",
        async move { release.release_handle("net.old").await },
    );
    // At any step, or before hearing that it has written.
    let cut_unheard = random.percent(50);
    let cut_at = random.below(if cut_unheard { 14 } else { 150 });
    let (mut writes, mut outcomes, mut gone) = (0, BTreeMap::new(), Vec::new());
    for step in 0..MAX_STEPS {
        let is_due = match cut_unheard {
            true => writes > cut_at,
            false => step == cut_at,
        };
        if is_due && gone.is_empty() && !tasks.running.is_empty() {
            let victim = match cut_unheard {
                true => tasks.running[tasks.current % tasks.running.len()].label,
                false => random.pick(&tasks.running).label,
            };
            gone = tasks.abandon(|label| *label == victim);
            // Whoever hung up often has what may have come of it released at once.
            let ipam = ipam.clone();
            tasks.start(victim, async move { ipam.release_handle(victim).await });
        }
        if let Some((handle, outcome)) = tasks.step() {
            outcomes.insert(handle, outcome.unwrap());
        }
        if store.take_written() {
            writes += 1;
            World::read(&store.inner);
        }
        if tasks.running.is_empty() {
            break;
        }
    }
    assert_eq!(outcomes.len(), ADDS.len() + 1, "all others end");
    outcomes.remove("net.old");
    outcomes.retain(|handle, _| !gone.contains(handle));
    let given: BTreeMap<IpAddr, String> = outcomes
        .into_iter()
        .flat_map(|(handle, addrs)| addrs.into_iter().map(move |addr| (addr, handle.to_owned())))
        .collect();
    let world = World::read(&store.inner);
    assert_eq!((&world.held, &world.counted), (&given, &world.actual));
}
