//! Every operation, cut off before and after each of its writes: repeating it succeeds, and so does cleaning up instead.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "support/stepped.rs"]
#[allow(dead_code, reason = "only its executor is used")]
mod stepped;
#[path = "support/cluster.rs"]
mod support;
#[path = "support/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use datastore::memory::Fault;
use ipam::{Assign, AutoAssign, Error, Ipam};
use support::{Cluster, addr, cidr, v4};
use world::World;

/// Before the operation: a node with one address, in a pool with room for three more blocks.
async fn warm() -> Cluster {
    let cluster = Cluster::new();
    cluster
        .pool("pool", "10.0.0.0/28", |pool| pool.block_size = Some(30))
        .await;
    cluster
        .pool("six", "fd00::/125", |pool| pool.block_size = Some(126))
        .await;
    cluster.some("node-1", "net.old", 1).await;
    cluster
}

/// Cuts the operation off at every write, and then lets `after` judge. Returns at how many places it was cut.
async fn cut_everywhere(
    run: impl AsyncFn(&Ipam) -> Result<(), Error>,
    after: impl AsyncFn(&Cluster),
) -> usize {
    let mut cuts = 0;
    for place in 0.. {
        let before = cuts;
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let cluster = warm().await;
            let mut writes = 0;
            let crash = fault.clone();
            cluster.store.on_call(move |call| {
                writes += u64::from(call.operation.writes());
                (call.operation.writes() && writes == place + 1).then(|| crash.clone())
            });
            let outcome = run(&cluster.another_process()).await;
            cluster.store.restart();
            World::read(&cluster.store);
            cuts += usize::from(outcome.is_err());
            after(&cluster).await;
        }
        if cuts == before {
            return cuts;
        }
    }
    unreachable!("the operation writes without end")
}

/// Everything but the given handles is freed, and all agrees.
async fn clean_up(cluster: &Cluster, live: &[&str]) -> World {
    let ipam = cluster.another_process();
    let live: BTreeSet<String> = live.iter().map(|handle| (*handle).to_owned()).collect();
    let held = ipam.allocations_of_node("node-1").await.unwrap();
    ipam.release_dead(held, None, live.clone()).await.unwrap();
    ipam.repair().await.unwrap();
    let world = World::read(&cluster.store);
    world.check_settled();
    assert_eq!(world.counted.keys().cloned().collect::<BTreeSet<_>>(), live);
    world
}

fn request() -> AutoAssign {
    AutoAssign {
        v6: 1,
        ..v4("node-1", "net.new", 6)
    }
}

async fn add(ipam: &Ipam) -> Result<(), Error> {
    ipam.auto_assign(&request()).await.map(|_| ())
}

#[tokio::test]
async fn an_interrupted_request_can_be_repeated() {
    let cuts = cut_everywhere(add, async |cluster| {
        let assigned = cluster
            .another_process()
            .auto_assign(&request())
            .await
            .unwrap();
        assert_eq!(
            (assigned.v4.len(), assigned.v6.len(), assigned.shortfall),
            (6, 1, None)
        );
        let world = clean_up(cluster, &["net.new", "net.old"]).await;
        assert_eq!(world.held.len(), 8);
    })
    .await;
    assert!(cuts >= 20, "{cuts}");
}

#[tokio::test]
async fn an_interrupted_request_can_be_forgotten() {
    cut_everywhere(add, async |cluster| {
        assert_eq!(clean_up(cluster, &["net.old"]).await.held.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_interrupted_request_can_be_released() {
    cut_everywhere(add, async |cluster| {
        cluster
            .another_process()
            .release_handle("net.new")
            .await
            .unwrap();
        let world = World::read(&cluster.store);
        assert_eq!((world.held.len(), &world.counted), (1, &world.actual));
    })
    .await;
}

#[tokio::test]
async fn an_interrupted_release_can_be_repeated_or_forgotten() {
    let release = async |ipam: &Ipam| ipam.release_handle("net.old").await.map(|_| ());
    let cuts = cut_everywhere(release, async |cluster| {
        cluster
            .another_process()
            .release_handle("net.old")
            .await
            .unwrap();
        let world = World::read(&cluster.store);
        assert_eq!((world.held.len(), world.counted.len()), (0, 0));
    })
    .await;
    assert_eq!(cuts, 6, "block, mark, delete");
    cut_everywhere(release, async |cluster| {
        assert_eq!(clean_up(cluster, &[]).await.held.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn an_interrupted_assignment_can_be_repeated() {
    let request = Assign {
        addr: addr("10.0.0.13"),
        node: "node-1".to_owned(),
        handle: "net.new".to_owned(),
        attributes: BTreeMap::new(),
    };
    let assign = async |ipam: &Ipam| ipam.assign(&request).await;
    let cuts = cut_everywhere(assign, async |cluster| {
        cluster.another_process().assign(&request).await.unwrap();
        clean_up(cluster, &["net.new", "net.old"]).await;
    })
    .await;
    assert!(cuts >= 4, "{cuts}");
}

#[tokio::test]
async fn an_interrupted_claim_or_release_of_a_block_is_settled_by_the_next_request() {
    for block in ["10.0.0.0/30", "10.0.0.4/30", "10.0.0.8/30", "10.0.0.12/30"] {
        let turn = async |ipam: &Ipam| {
            ipam.claim_block("node-1", cidr(block)).await?;
            ipam.release_affinity("node-1", cidr(block)).await
        };
        let cuts = cut_everywhere(turn, async |cluster| {
            let all = cluster
                .another_process()
                .auto_assign(&v4("node-1", "net.new", 15))
                .await
                .unwrap();
            assert_eq!(all.v4.len(), 15, "{:?}", all.shortfall);
            clean_up(cluster, &["net.new", "net.old"]).await;
        })
        .await;
        assert!(cuts >= 8, "{cuts}");
    }
}

#[tokio::test]
async fn an_interrupted_removal_of_a_node_can_be_repeated() {
    let remove = async |ipam: &Ipam| ipam.release_node("node-1").await.map(|_| ());
    let cuts = cut_everywhere(remove, async |cluster| {
        cluster
            .another_process()
            .release_node("node-1")
            .await
            .unwrap();
        let world = clean_up(cluster, &[]).await;
        assert_eq!((world.owners.len(), world.affinities.len()), (0, 0));
    })
    .await;
    assert!(cuts >= 12, "{cuts}");
}
