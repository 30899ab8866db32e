//! Requests for addresses against a datastore in memory, as agents make them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};

use ipam::{Assign, AutoAssign, Error, Release};
use support::{Cluster, addr, cidr, v4};

fn certain(address: &str, node: &str, handle: &str) -> Assign {
    Assign {
        addr: addr(address),
        node: node.to_owned(),
        handle: handle.to_owned(),
        attributes: BTreeMap::new(),
    }
}

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
    let affinity = (
        "node-1".to_owned(),
        blocks[0].spec.cidr,
        "confirmed".to_owned(),
    );
    assert_eq!(cluster.affinities().await, [affinity]);
    assert_eq!(cluster.handle_count("net.a").await, Some(1));
}

#[tokio::test]
async fn attributes_are_kept_with_each_address() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/24")]).await;
    let attributes = BTreeMap::from([("pod".to_owned(), "web-0".to_owned())]);
    let request = AutoAssign {
        attributes,
        ..v4("node-1", "net.A", 2)
    };
    cluster.ipam.auto_assign(&request).await.unwrap();
    let held = cluster.ipam.allocations_of_node("node-1").await.unwrap();
    assert_eq!(held.len(), 2);
    assert_eq!(held[0].handle.as_deref(), Some("net.a"));
    let expected = [("node", "node-1"), ("pod", "web-0")];
    assert_eq!(
        held[0].attributes,
        expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
}

#[tokio::test]
async fn both_families_in_one_request() {
    let cluster = Cluster::with_pools(&[("v4", "10.0.0.0/24"), ("v6", "fd00::/112")]).await;
    let request = AutoAssign {
        v6: 2,
        ..v4("node-1", "net.a", 1)
    };
    let assigned = cluster.ipam.auto_assign(&request).await.unwrap();
    assert_eq!(
        (assigned.v4.len(), assigned.v6.len(), assigned.shortfall),
        (1, 2, None)
    );
    assert!(
        assigned
            .v6
            .iter()
            .all(|addr| cidr("fd00::/112").contains(addr))
    );
    assert_eq!(
        cluster
            .ipam
            .addresses_of_handle("net.a")
            .await
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn what_was_prepared_for_another_handle_or_node_is_of_no_use() {
    let cluster = Cluster::with_pools(&[("v4", "10.0.0.0/24")]).await;
    let held = cluster.one("node-1", "net.a").await;
    for (node, handle) in [("node-1", "net.b"), ("node-2", "net.a")] {
        let prepared = cluster.ipam.prepare("node-1", "net.a").await.unwrap();
        assert_eq!(prepared.held(), [held]);
        let request = v4(node, handle, 1);
        let assigned = cluster.ipam.auto_assign_prepared(prepared, &request).await;
        let assigned = assigned.unwrap().v4;
        let of_handle = cluster.ipam.addresses_of_handle(handle).await.unwrap();
        assert_eq!(assigned, of_handle);
        assert_eq!(assigned == [held], handle == "net.a");
    }
}

#[tokio::test]
async fn a_repeated_request_returns_what_the_handle_has() {
    let cluster = Cluster::with_pools(&[("v4", "10.0.0.0/24"), ("v6", "fd00::/112")]).await;
    let first = cluster.one("node-1", "net.a").await;
    assert_eq!(cluster.one("node-1", "net.a").await, first);
    assert_eq!(cluster.one("node-1", "NET.A").await, first);
    let more = cluster
        .ipam
        .auto_assign(&AutoAssign {
            v6: 1,
            ..v4("node-1", "net.a", 2)
        })
        .await
        .unwrap();
    assert_eq!((more.v4[0], more.v4.len(), more.v6.len()), (first, 2, 1));
    assert_eq!(cluster.handle_count("net.a").await, Some(3));
}

#[tokio::test]
async fn a_warm_node_writes_handle_and_block_once_each() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/24")]).await;
    cluster.one("node-1", "net.a").await;
    let calls = cluster.record_calls();
    cluster.one("node-1", "net.b").await;
    let writes: Vec<_> = calls
        .take()
        .into_iter()
        .filter(|call| !call.starts_with("Get") && !call.starts_with("List"))
        .collect();
    assert_eq!(writes, ["Create IPAMHandle", "Update IPAMBlock"]);
}

/// Whoever comes next waits for what is asked while the block is locked: only these two writes.
#[tokio::test]
async fn a_block_that_was_written_last_is_not_read_again() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/24")]).await;
    cluster.one("node-1", "net.a").await;
    let calls = cluster.record_calls();
    cluster.one("node-1", "net.b").await;
    let all = calls.take();
    let of = |kind: &str| -> Vec<&str> {
        let of_kind = all.iter().filter(|call| call.ends_with(kind));
        of_kind.map(String::as_str).collect()
    };
    assert_eq!(of("IPAMBlock"), ["Update IPAMBlock"]);
    assert_eq!(of("IPAMHandle"), ["Get IPAMHandle", "Create IPAMHandle"]);
}

#[tokio::test]
async fn what_others_wrote_into_a_block_counts() {
    let cluster = Cluster::new();
    cluster
        .pool("pool", "10.0.0.0/28", |pool| pool.block_size = Some(30))
        .await;
    let other = cluster.another_process();
    let theirs = |handle: &'static str| {
        let other = other.clone();
        async move {
            other
                .auto_assign(&v4("node-1", handle, 1))
                .await
                .unwrap()
                .v4[0]
        }
    };
    let mut addresses = BTreeSet::from([cluster.one("node-1", "net.a").await]);
    addresses.insert(theirs("net.b").await);
    addresses.insert(cluster.one("node-1", "net.c").await);
    assert_eq!(cluster.handle_count("net.c").await, Some(1));
    addresses.insert(theirs("net.d").await);
    assert_eq!((addresses.len(), cluster.blocks().await.len()), (4, 1));
    // Full, as far as we know; what they give back is found, and no other block is claimed.
    cluster.ipam.release_handle("net.a").await.unwrap();
    cluster.one("node-1", "net.e").await;
    other.release_handle("net.b").await.unwrap();
    cluster.one("node-1", "net.f").await;
    assert_eq!(cluster.blocks().await.len(), 1);
}

#[tokio::test]
async fn three_hundred_addresses_span_blocks() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/16")]).await;
    let assigned = cluster.some("node-1", "net.a", 300).await;
    assert_eq!(assigned.v4.iter().collect::<BTreeSet<_>>().len(), 300);
    assert_eq!(
        (
            cluster.blocks().await.len(),
            cluster.handle_count("net.a").await
        ),
        (5, Some(300))
    );
    assert_eq!(
        cluster.ipam.release_handle("net.a").await.unwrap().len(),
        300
    );
    assert_eq!(cluster.handle_count("net.a").await, None);
}

#[tokio::test]
async fn nodes_begin_at_different_blocks() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/16")]).await;
    for node in 0..5 {
        cluster
            .one(&format!("node-{node}"), &format!("net.{node}"))
            .await;
    }
    let blocks = cluster.blocks().await;
    let owners: BTreeSet<_> = blocks
        .iter()
        .map(|block| block.spec.host().unwrap())
        .collect();
    assert_eq!((blocks.len(), owners.len()), (5, 5));
    assert_ne!(
        blocks[0].spec.cidr,
        cidr("10.0.0.0/26"),
        "the walk begins at a place that depends on the node"
    );
}

#[tokio::test]
async fn a_full_node_borrows_unless_affinity_is_strict() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/26")]).await;
    cluster.one("node-1", "net.a").await;
    cluster.config(|config| config.strict_affinity = true).await;
    let refused = cluster.some("node-2", "net.b", 1).await;
    let text = refused.shortfall.unwrap().to_string();
    assert!(
        text.contains("IPPool pool") && text.contains("spec.strictAffinity"),
        "{text}"
    );
    cluster
        .config(|config| config.strict_affinity = false)
        .await;
    cluster.one("node-2", "net.b").await;
    assert_eq!(cluster.affinities().await.len(), 1);
    let held = cluster.ipam.allocations_of_node("node-2").await.unwrap();
    assert_eq!((held.len(), held[0].block), (1, cidr("10.0.0.0/26")));
}

#[tokio::test]
async fn the_block_limit_stops_claiming_and_borrowing() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/24")]).await;
    cluster.one("node-2", "net.other").await;
    cluster
        .config(|config| config.max_blocks_per_host = Some(2))
        .await;
    let assigned = cluster.some("node-1", "net.a", 200).await;
    assert_eq!(assigned.v4.len(), 128);
    let text = assigned.shortfall.unwrap().to_string();
    assert_eq!(
        text,
        "128 of 200 IPv4 addresses assigned: node \"node-1\" has 2 blocks, the limit of IPAMConfig default \
         spec.maxBlocksPerHost: raise it"
    );
}

#[tokio::test]
async fn twenty_blocks_are_the_limit_when_none_is_set() {
    let cluster = Cluster::new();
    cluster
        .pool("pool", "10.0.0.0/24", |pool| pool.block_size = Some(32))
        .await;
    let assigned = cluster.some("node-1", "net.a", 30).await;
    assert_eq!((assigned.v4.len(), cluster.blocks().await.len()), (20, 20));
}

#[tokio::test]
async fn blocks_are_only_claimed_when_allowed() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/24")]).await;
    cluster
        .config(|config| (config.auto_allocate_blocks, config.strict_affinity) = (false, true))
        .await;
    let text = cluster
        .some("node-1", "net.a", 1)
        .await
        .shortfall
        .unwrap()
        .to_string();
    assert!(text.contains("spec.autoAllocateBlocks is false"), "{text}");
    cluster
        .ipam
        .claim_block("node-1", cidr("10.0.0.64/26"))
        .await
        .unwrap();
    assert_eq!(cluster.one("node-1", "net.a").await, addr("10.0.0.64"));
}

#[tokio::test]
async fn partial_fulfilment_says_what_is_in_the_way() {
    let cluster = Cluster::new();
    cluster
        .pool("small", "10.0.0.0/29", |pool| pool.block_size = Some(30))
        .await;
    cluster
        .config(|config| config.ip_cooldown_seconds = Some(60))
        .await;
    cluster
        .reserve("printers", &["10.0.0.1/32", "10.0.0.6/31"])
        .await;
    let first = cluster.one("node-1", "net.a").await;
    cluster.ipam.release_handle("net.a").await.unwrap();
    let assigned = cluster.some("node-1", "net.b", 8).await;
    assert_eq!(assigned.v4.len(), 4);
    assert!(!assigned.v4.contains(&first) && !assigned.v4.contains(&addr("10.0.0.1")));
    assert_eq!(
        assigned.shortfall.unwrap().to_string(),
        "4 of 8 IPv4 addresses assigned: no free address or block is left in IPPool small: add a pool; \
         3 free addresses are held back by IPReservation spec.reservedCIDRs: narrow it; \
         1 released addresses rest for IPAMConfig default spec.ipCooldownSeconds of 60: try later"
    );
    cluster.pass(60);
    assert!(cluster.some("node-1", "net.b", 5).await.v4.contains(&first));
}

#[tokio::test]
async fn freed_addresses_are_reused_last() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/26")]).await;
    let first = cluster.one("node-1", "net.0").await;
    cluster.ipam.release_handle("net.0").await.unwrap();
    for pod in 1..64 {
        assert_ne!(cluster.one("node-1", &format!("net.{pod}")).await, first);
    }
    assert_eq!(cluster.one("node-1", "net.64").await, first);
}

#[tokio::test]
async fn blocks_of_one_address_work() {
    let cluster = Cluster::new();
    cluster
        .pool("pool", "10.0.0.0/30", |pool| pool.block_size = Some(32))
        .await;
    cluster
        .pool("six", "fd00::/126", |pool| pool.block_size = Some(128))
        .await;
    let request = AutoAssign {
        v6: 4,
        ..v4("node-1", "net.a", 4)
    };
    let assigned = cluster.ipam.auto_assign(&request).await.unwrap();
    assert_eq!(
        (assigned.v4.len(), assigned.v6.len(), assigned.shortfall),
        (4, 4, None)
    );
    assert_eq!(cluster.blocks().await.len(), 8);
}

#[tokio::test]
async fn a_certain_address_claims_its_block() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/24")]).await;
    cluster.reserve("fixed", &["10.0.0.200/32"]).await;
    let request = certain("10.0.0.200", "node-1", "net.a");
    cluster.ipam.assign(&request).await.unwrap();
    cluster.ipam.assign(&request).await.unwrap();
    assert_eq!(
        cluster.affinities().await,
        [(
            "node-1".to_owned(),
            cidr("10.0.0.192/26"),
            "confirmed".to_owned()
        )]
    );
    assert_eq!(
        cluster.ipam.addresses_of_handle("net.a").await.unwrap(),
        [addr("10.0.0.200")]
    );
    assert_eq!(cluster.handle_count("net.a").await, Some(1));
    let taken = cluster
        .ipam
        .assign(&certain("10.0.0.200", "node-2", "net.b"))
        .await
        .unwrap_err();
    assert_eq!(
        taken.to_string(),
        "address 10.0.0.200 is held by handle \"net.a\": ask for another address or release that one"
    );
}

#[tokio::test]
async fn a_certain_address_is_borrowed_unless_affinity_is_strict() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/24")]).await;
    cluster
        .ipam
        .assign(&certain("10.0.0.1", "node-1", "net.a"))
        .await
        .unwrap();
    cluster.config(|config| config.strict_affinity = true).await;
    let request = certain("10.0.0.2", "node-2", "net.b");
    assert!(matches!(
        cluster.ipam.assign(&request).await,
        Err(Error::StrictAffinity { .. })
    ));
    cluster
        .config(|config| config.strict_affinity = false)
        .await;
    cluster.ipam.assign(&request).await.unwrap();
    assert_eq!(cluster.affinities().await.len(), 1);
}

#[tokio::test]
async fn a_certain_address_must_lie_in_an_enabled_pool() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/24")]).await;
    cluster
        .pool("off", "10.0.1.0/24", |pool| pool.disabled = Some(true))
        .await;
    for address in ["10.0.1.1", "10.0.2.1", "fd00::1"] {
        let error = cluster
            .ipam
            .assign(&certain(address, "node-1", "net.a"))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::OutsidePools(_)), "{error}");
    }
    assert_eq!(cluster.handle_count("net.a").await, None);
}

#[tokio::test]
async fn long_node_names_work() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/24")]).await;
    let node = "n".repeat(250);
    cluster.one(&node, "net.a").await;
    cluster.ipam.release_node(&node).await.unwrap();
    assert_eq!(
        (
            cluster.affinities().await.len(),
            cluster.blocks().await.len()
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn a_broken_block_is_named_and_left_alone() {
    let cluster = Cluster::new();
    cluster
        .pool("pool", "10.0.0.0/29", |pool| pool.block_size = Some(30))
        .await;
    let first = cluster.one("node-1", "net.a").await;
    cluster.break_block().await;
    let assigned = cluster.some("node-1", "net.b", 8).await;
    assert_eq!(assigned.v4.len(), 4, "of the other block");
    let text = assigned.shortfall.unwrap().to_string();
    assert!(
        text.contains("spec.attributes[0].releasedAt: \"yesterday\" is not a time"),
        "{text}"
    );
    assert_eq!(text.matches("yesterday").count(), 1, "{text}");
    assert!(cluster.ipam.release_handle("net.b").await.is_ok());
    let error = cluster
        .ipam
        .release(&[Release::unguarded(first)])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::BrokenBlock(_)), "{error}");
    assert_eq!(cluster.ipam.repair().await.unwrap().handles, [""; 0]);
    assert_eq!(
        cluster.handle_count("net.a").await,
        Some(1),
        "what cannot be read is not taken for empty"
    );
}
