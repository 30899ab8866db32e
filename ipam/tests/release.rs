//! Freeing addresses and blocks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipam::{Error, Refusal, Release};
use support::{Cluster, addr, cidr, v4};

#[tokio::test]
async fn a_released_handle_is_gone_and_releasing_again_is_fine() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/24")]).await;
    let first = cluster.one("node-1", "net.a").await;
    assert_eq!(cluster.ipam.release_handle("NET.A").await.unwrap(), [first]);
    assert_eq!(cluster.handle_count("net.a").await, None);
    assert_eq!(
        cluster.ipam.release_handle("net.a").await.unwrap(),
        Vec::<IpAddr>::new()
    );
    assert_eq!(
        cluster.affinities().await.len(),
        1,
        "the node keeps its block"
    );
}

#[tokio::test]
async fn mass_release_reports_every_address_once() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/16")]).await;
    let assigned = cluster.some("node-1", "net.a", 100).await.v4;
    let mut releases: Vec<Release> = assigned
        .iter()
        .map(|addr| Release::unguarded(*addr))
        .collect();
    releases.extend(releases.clone());
    releases.push(Release::unguarded(addr("10.0.200.1")));
    releases.push(Release::unguarded(addr("192.0.2.1")));
    let outcome = cluster.ipam.release(&releases).await.unwrap();
    let released: BTreeSet<_> = outcome.released.iter().collect();
    assert_eq!(
        (outcome.released.len(), released),
        (100, assigned.iter().collect())
    );
    assert_eq!(
        outcome.not_allocated,
        [addr("192.0.2.1"), addr("10.0.200.1")]
    );
    assert_eq!(cluster.handle_count("net.a").await, None);
}

#[tokio::test]
async fn a_stale_release_cannot_free_what_was_assigned_since() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/26")]).await;
    cluster.some("node-1", "net.fill", 63).await;
    let last = cluster.one("node-1", "net.a").await;
    let stale: Vec<Release> = cluster
        .ipam
        .allocations_of_node("node-1")
        .await
        .unwrap()
        .into_iter()
        .filter(|held| held.addr == last)
        .map(Release::from)
        .collect();
    cluster.ipam.release_handle("net.a").await.unwrap();
    assert_eq!(cluster.one("node-1", "net.b").await, last);
    let outcome = cluster.ipam.release(&stale).await.unwrap();
    assert_eq!(
        outcome.refused,
        [(last, Refusal::OtherHandle(Some("net.b".to_owned())))]
    );
    cluster.ipam.release_handle("net.b").await.unwrap();
    assert_eq!(cluster.one("node-1", "net.a").await, last);
    assert_eq!(
        cluster.ipam.release(&stale).await.unwrap().refused,
        [(last, Refusal::Reallocated)]
    );
}

#[tokio::test]
async fn a_block_without_owner_goes_with_its_last_address() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/26")]).await;
    cluster.one("node-1", "net.a").await;
    cluster
        .ipam
        .release_affinity("node-1", cidr("10.0.0.0/26"))
        .await
        .unwrap();
    let blocks = cluster.blocks().await;
    assert_eq!(
        (blocks.len(), blocks[0].spec.affinity.as_deref()),
        (1, None)
    );
    assert_eq!(cluster.affinities().await, []);
    cluster.ipam.release_handle("net.a").await.unwrap();
    assert_eq!(cluster.blocks().await.len(), 0);
    cluster.one("node-1", "net.b").await;
    assert_eq!(cluster.affinities().await.len(), 1);
}

#[tokio::test]
async fn a_block_without_owner_is_claimed_before_borrowing() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/26")]).await;
    cluster.one("node-1", "net.a").await;
    cluster
        .ipam
        .release_affinity("node-1", cidr("10.0.0.0/26"))
        .await
        .unwrap();
    cluster.config(|config| config.strict_affinity = true).await;
    cluster.one("node-2", "net.b").await;
    assert_eq!(cluster.blocks().await[0].spec.host(), Some("node-2"));
}

#[tokio::test]
async fn only_empty_blocks_are_given_back_and_one_is_kept() {
    let cluster = Cluster::new();
    cluster
        .pool("pool", "10.0.0.0/24", |pool| pool.block_size = Some(30))
        .await;
    let addrs = cluster.some("node-1", "net.a", 12).await.v4;
    let used = *addrs.last().unwrap();
    let freed: Vec<Release> = addrs[..8]
        .iter()
        .map(|addr| Release::unguarded(*addr))
        .collect();
    cluster.ipam.release(&freed).await.unwrap();
    let full = cluster
        .blocks()
        .await
        .iter()
        .map(|block| block.spec.cidr)
        .find(|cidr| cidr.contains(&used))
        .unwrap();
    let error = cluster
        .ipam
        .release_empty_affinity("node-1", full)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::BlockNotEmpty { held: 4, .. }),
        "{error}"
    );
    assert_eq!(
        cluster
            .ipam
            .release_empty_blocks("node-1", 1)
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(cluster.blocks().await.len(), 1);
    cluster.ipam.release_handle("net.a").await.unwrap();
    assert_eq!(
        cluster
            .ipam
            .release_empty_blocks("node-1", 1)
            .await
            .unwrap(),
        []
    );
    assert_eq!(
        cluster
            .ipam
            .release_empty_blocks("node-1", 0)
            .await
            .unwrap(),
        [full]
    );
    assert_eq!(
        (
            cluster.blocks().await.len(),
            cluster.affinities().await.len()
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn a_lost_node_leaves_nothing_and_releasing_again_is_fine() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/24"), ("six", "fd00::/112")]).await;
    cluster.one("node-1", "net.a").await;
    cluster.one("node-2", "net.b").await;
    let theirs = cluster.ipam.allocations_of_node("node-2").await.unwrap();
    for _ in 0..2 {
        cluster.ipam.release_node("node-1").await.unwrap();
        assert_eq!(
            cluster.ipam.allocations_of_node("node-1").await.unwrap(),
            []
        );
        assert_eq!(
            cluster.ipam.allocations_of_node("node-2").await.unwrap(),
            theirs
        );
        assert_eq!(
            (
                cluster.blocks().await.len(),
                cluster.affinities().await.len()
            ),
            (1, 1)
        );
        assert_eq!(cluster.handle_count("net.a").await, None);
    }
}

#[tokio::test]
async fn reconciliation_frees_what_is_not_alive_and_spares_the_rest() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/26")]).await;
    let dead = cluster.one("node-1", "net.dead").await;
    cluster.one("node-1", "net.alive").await;
    cluster.one("node-1", "other.dead").await;
    cluster.one("node-2", "net.theirs").await;
    let attributes = BTreeMap::from([("type".to_owned(), "ipipTunnelAddress".to_owned())]);
    let tunnel = ipam::AutoAssign {
        attributes,
        ..v4("node-1", "ipip-tunnel-addr-node-1", 1)
    };
    cluster.ipam.auto_assign(&tunnel).await.unwrap();
    let release = async |network| {
        let held = cluster.ipam.allocations_of_node("node-1").await.unwrap();
        let live = BTreeSet::from(["NET.alive".to_owned()]);
        cluster
            .ipam
            .release_dead(held, network, live)
            .await
            .unwrap()
    };
    assert_eq!(release(Some("net")).await, [dead]);
    assert_eq!(release(None).await.len(), 1);
    let left = cluster.ipam.allocations_of_node("node-1").await.unwrap();
    let left: Vec<_> = left.into_iter().filter_map(|held| held.handle).collect();
    assert_eq!(left, ["net.alive", "ipip-tunnel-addr-node-1"]);
    assert_eq!(cluster.handle_count("net.dead").await, None);
}

#[tokio::test]
async fn reconciliation_never_hurts_a_request_that_runs_meanwhile() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/26")]).await;
    let address = cluster.one("node-1", "net.a").await;
    let snapshot: Vec<Release> = cluster
        .ipam
        .allocations_of_node("node-1")
        .await
        .unwrap()
        .into_iter()
        .map(Release::from)
        .collect();
    assert_eq!(
        cluster.one("node-1", "net.a").await,
        address,
        "the request is repeated"
    );
    let outcome = cluster.ipam.release(&snapshot).await.unwrap();
    assert_eq!(outcome.refused, [(address, Refusal::Reallocated)]);
}

#[tokio::test]
async fn a_lost_claim_leaves_nothing() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/26")]).await;
    cluster
        .ipam
        .claim_block("node-1", cidr("10.0.0.0/26"))
        .await
        .unwrap();
    let error = cluster
        .ipam
        .claim_block("node-2", cidr("10.0.0.0/26"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "block 10.0.0.0/26 belongs to \"host:node-1\""
    );
    assert_eq!(cluster.affinities().await.len(), 1);
    for odd in ["10.0.0.0/27", "10.0.1.0/26"] {
        let error = cluster
            .ipam
            .claim_block("node-1", cidr(odd))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::NotABlock { .. }), "{error}");
    }
}
