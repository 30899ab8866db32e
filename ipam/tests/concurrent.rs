//! Many tasks and several processes at once, on real threads.
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

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipam::Ipam;
use support::{Cluster, v4};
use tokio::task::JoinSet;
use world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_address_is_given_twice() {
    let cluster = Cluster::new();
    cluster
        .pool("pool", "10.0.0.0/24", |pool| pool.block_size = Some(29))
        .await;
    let mut tasks = JoinSet::new();
    for process in 0..4 {
        // Real waiting between attempts, as in production.
        let ipam = Ipam::new(Arc::new(cluster.store.clone()));
        for pod in 0..40 {
            let ipam = ipam.clone();
            tasks.spawn(async move {
                let (node, handle) = (format!("node-{process}"), format!("net.{process}-{pod}"));
                for _ in 0..3 {
                    assert_eq!(
                        ipam.auto_assign(&v4(&node, &handle, 1))
                            .await
                            .unwrap()
                            .shortfall,
                        None
                    );
                    ipam.release_handle(&handle).await.unwrap();
                }
                ipam.auto_assign(&v4(&node, &handle, 1)).await.unwrap().v4[0]
            });
        }
    }
    let addrs: Vec<IpAddr> = tasks.join_all().await;
    assert_eq!(addrs.iter().collect::<BTreeSet<_>>().len(), 160);
    let world = World::read(&cluster.store);
    world.check_settled();
    assert_eq!(world.held.len(), 160);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn repeated_requests_of_one_handle_get_the_same_address() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/24")]).await;
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let ipam = cluster.ipam.clone();
        tasks.spawn(async move {
            ipam.auto_assign(&v4("node-1", "net.a", 1))
                .await
                .unwrap()
                .v4[0]
        });
    }
    let addrs: BTreeSet<IpAddr> = tasks.join_all().await.into_iter().collect();
    assert_eq!(
        (addrs.len(), cluster.handle_count("net.a").await),
        (1, Some(1))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cold_node_claims_one_block_for_all_its_pods() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/16")]).await;
    let mut tasks = JoinSet::new();
    for pod in 0..64 {
        let ipam = cluster.ipam.clone();
        tasks.spawn(async move {
            ipam.auto_assign(&v4("node-1", &format!("net.{pod}"), 1))
                .await
                .unwrap()
                .v4[0]
        });
    }
    let addrs: BTreeSet<IpAddr> = tasks.join_all().await.into_iter().collect();
    assert_eq!((addrs.len(), cluster.blocks().await.len()), (64, 1));
}
