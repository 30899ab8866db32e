//! Requests against a datastore in memory, as one agent makes them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
mod support;

use support::Cluster;

#[tokio::test]
async fn first_address_claims_a_block_and_the_next_uses_it() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/16")]).await;
    let first = cluster.one("node-1", "net.a").await;
    let second = cluster.one("node-1", "net.b").await;
    let blocks = cluster.blocks().await;
    assert_eq!(blocks.len(), 1);
    assert_eq!(blocks[0].spec.host(), Some("node-1"));
    assert!(blocks[0].spec.cidr.contains(&first) && blocks[0].spec.cidr.contains(&second));
    assert_ne!(first, second);
    assert_eq!(
        cluster.affinities().await,
        [(
            "node-1".to_owned(),
            blocks[0].spec.cidr,
            "confirmed".to_owned()
        )]
    );
    assert_eq!(cluster.handle_count("net.a").await, Some(1));
}
