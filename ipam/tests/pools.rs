//! Which pools serve a request, and what becomes of blocks when pools change.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
mod support;

use std::time::Duration;

use crds::Kind;
use datastore::memory::{Fault, Operation};
use ipam::{AutoAssign, IntendedUse, Release};
use support::{Cluster, cidr, v4};

#[tokio::test]
async fn existing_blocks_of_another_size_are_kept_and_never_overlapped() {
    let cluster = Cluster::new();
    cluster
        .pool("old", "10.0.0.0/25", |pool| pool.block_size = Some(28))
        .await;
    cluster.one("node-1", "net.a").await;
    let kept = cluster.blocks().await[0].spec.cidr;
    cluster.delete_pool("old").await;
    cluster.pool("new", "10.0.0.0/25", |_| {}).await;
    cluster.one("node-1", "net.b").await;
    assert_eq!(
        cluster.blocks().await.len(),
        1,
        "the old block still has addresses"
    );
    let all = cluster.some("node-1", "net.c", 200).await;
    assert_eq!(all.v4.len(), 14 + 64);
    let text = all.shortfall.unwrap().to_string();
    assert!(
        text.contains(&format!(
            "IPPool new has spec.blockSize 26, but block {kept}"
        )),
        "{text}"
    );
}

#[tokio::test]
async fn pools_choose_nodes_by_label_and_give_blocks_back_when_they_change() {
    let cluster = Cluster::new();
    cluster.node("node-1", &[("zone", "a")]).await;
    cluster
        .pool("a", "10.0.0.0/24", |pool| {
            pool.node_selector = Some("zone == 'a'".to_owned())
        })
        .await;
    cluster
        .pool("b", "10.0.1.0/24", |pool| {
            pool.node_selector = Some("zone == 'b'".to_owned())
        })
        .await;
    let first = cluster.one("node-1", "net.a").await;
    assert!(cidr("10.0.0.0/24").contains(&first));
    cluster.ipam.release_handle("net.a").await.unwrap();

    cluster
        .change_pool("a", |pool| {
            pool.node_selector = Some("zone == 'c'".to_owned())
        })
        .await;
    let text = cluster
        .some("node-1", "net.b", 1)
        .await
        .shortfall
        .unwrap()
        .to_string();
    assert!(
        text.contains(
            "a (spec.nodeSelector \"zone == 'c'\" does not match the labels of the node)"
        ),
        "{text}"
    );

    cluster
        .change_pool("b", |pool| pool.node_selector = None)
        .await;
    cluster.one("node-1", "net.b").await;
    assert_eq!(
        cluster.affinities().await.len(),
        2,
        "claimed less than a minute ago"
    );
    cluster.pass(60);
    cluster.some("node-1", "net.c", 64).await;
    let owned: Vec<_> = cluster
        .affinities()
        .await
        .into_iter()
        .map(|(_, cidr, _)| cidr)
        .collect();
    assert_eq!(owned.len(), 2);
    assert!(
        owned
            .iter()
            .all(|block| cidr("10.0.1.0/24").contains(&block.net()))
    );
}

#[tokio::test]
async fn blocks_with_addresses_stay_when_their_pool_does_not_serve_the_node_any_more() {
    let cluster = Cluster::with_pools(&[("a", "10.0.0.0/26")]).await;
    cluster.one("node-1", "net.a").await;
    cluster
        .change_pool("a", |pool| pool.disabled = Some(true))
        .await;
    cluster.pool("b", "10.0.1.0/26", |_| {}).await;
    cluster.pass(3600);
    let second = cluster.one("node-1", "net.b").await;
    assert!(
        cidr("10.0.1.0/26").contains(&second),
        "a disabled pool gives no new addresses"
    );
    assert_eq!(cluster.affinities().await.len(), 2);
}

#[tokio::test]
async fn at_the_limit_an_empty_block_of_another_pool_makes_room() {
    let cluster = Cluster::with_pools(&[("a", "10.0.0.0/26"), ("b", "10.0.1.0/26")]).await;
    cluster
        .config(|config| config.max_blocks_per_host = Some(1))
        .await;
    cluster.one("node-1", "net.a").await;
    cluster.ipam.release_handle("net.a").await.unwrap();
    cluster.pass(60);
    let request = AutoAssign {
        pools_v4: vec!["b".to_owned()],
        ..v4("node-1", "net.b", 1)
    };
    assert_eq!(
        cluster.ipam.auto_assign(&request).await.unwrap().shortfall,
        None
    );
    assert_eq!(cluster.affinities().await.len(), 1);
}

#[tokio::test]
async fn a_deleted_pool_is_left_for_another() {
    let cluster = Cluster::with_pools(&[("a", "10.0.0.0/24")]).await;
    let first = cluster.one("node-1", "net.a").await;
    cluster.delete_pool("a").await;
    let text = cluster
        .some("node-1", "net.b", 1)
        .await
        .shortfall
        .unwrap()
        .to_string();
    assert_eq!(
        text,
        "0 of 1 IPv4 addresses assigned: there is no IPv4 IPPool: create one"
    );
    cluster.pool("b", "10.0.1.0/24", |_| {}).await;
    assert!(cidr("10.0.1.0/24").contains(&cluster.one("node-1", "net.b").await));
    let released = cluster
        .ipam
        .release(&[Release::unguarded(first)])
        .await
        .unwrap();
    assert_eq!(
        released.released,
        [first],
        "its addresses can still be freed"
    );
}

#[tokio::test]
async fn a_full_requested_pool_is_followed_by_the_next() {
    let cluster = Cluster::with_pools(&[
        ("a", "10.0.0.0/26"),
        ("b", "10.0.1.0/26"),
        ("c", "10.0.2.0/26"),
    ])
    .await;
    let request = AutoAssign {
        pools_v4: vec!["b".to_owned(), "10.0.0.0/26".to_owned()],
        ..v4("node-1", "net.a", 70)
    };
    let assigned = cluster.ipam.auto_assign(&request).await.unwrap();
    let of = |range: &str| {
        assigned
            .v4
            .iter()
            .filter(|addr| cidr(range).contains(*addr))
            .count()
    };
    assert_eq!(
        (of("10.0.1.0/26"), of("10.0.0.0/26"), of("10.0.2.0/26")),
        (64, 6, 0)
    );
}

#[tokio::test]
async fn uses_decide_between_pools() {
    let cluster = Cluster::new();
    cluster
        .pool("pods", "10.0.0.0/26", |pool| {
            pool.allowed_uses = Some(vec![IntendedUse::Workload.into()])
        })
        .await;
    cluster
        .pool("tunnels", "10.0.1.0/26", |pool| {
            pool.allowed_uses = Some(vec![IntendedUse::Tunnel.into()])
        })
        .await;
    let request = AutoAssign {
        intended_use: IntendedUse::Tunnel,
        ..v4("node-1", "ipip-tunnel-addr-node-1", 1)
    };
    let tunnel = cluster.ipam.auto_assign(&request).await.unwrap().v4[0];
    assert!(cidr("10.0.1.0/26").contains(&tunnel));
    assert!(cidr("10.0.0.0/26").contains(&cluster.one("node-1", "net.a").await));
}

#[tokio::test]
async fn labels_of_an_unknown_node_are_an_error_not_a_guess() {
    let cluster = Cluster::new();
    cluster
        .pool("a", "10.0.0.0/24", |pool| {
            pool.node_selector = Some("!has(gpu)".to_owned())
        })
        .await;
    let error = cluster
        .ipam
        .auto_assign(&v4("node-1", "net.a", 1))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("node \"node-1\" has no Node object, and IPPool a selects"),
        "{error}"
    );
}

#[tokio::test]
async fn who_is_patient_lists_all_blocks_ever_less_often_while_the_pools_are_used_up() {
    let mut cluster = Cluster::with_pools(&[("pool", "10.0.0.0/26")]).await;
    cluster.some("node-2", "net.all", 64).await;
    cluster.ipam = cluster.ipam.clone().with_patience();
    let calls = cluster.record_calls();
    let listed = || {
        let calls = calls.take();
        calls
            .iter()
            .filter(|call| *call == "List IPAMBlock")
            .count()
    };
    let mut pauses = Vec::new();
    for number in 0..200 {
        let handle = format!("net.{number}");
        let refused = cluster.some("node-1", &handle, 1).await;
        let text = refused.shortfall.unwrap().to_string();
        assert!(text.contains("is left in IPPool pool"), "{text}");
        match listed() {
            // Claiming and borrowing share it.
            1 => pauses.push(0),
            0 => {
                assert!(text.contains("all blocks were looked at"), "{text}");
                *pauses.last_mut().unwrap() += 5;
            }
            many => panic!("{many} lists for one request"),
        }
        cluster.pass(5);
    }
    assert_eq!(pauses[..6], [0, 5, 15, 35, 75, 155]);
    // Another pool is another question.
    cluster.pool("new", "10.1.0.0/26", |_| {}).await;
    cluster.one("node-1", "net.more").await;
    assert_eq!(listed(), 1);
}

#[tokio::test]
async fn an_address_of_an_own_block_is_found_without_any_patience() {
    let mut cluster = Cluster::with_pools(&[("pool", "10.0.0.0/26")]).await;
    cluster.some("node-1", "net.most", 63).await;
    let last = cluster.one("node-1", "net.last").await;
    cluster.ipam = cluster.ipam.clone().with_patience();
    for number in 0..3 {
        let refused = cluster.some("node-1", &format!("net.{number}"), 1).await;
        assert!(refused.shortfall.is_some());
    }
    cluster.ipam.release_handle("net.last").await.unwrap();
    assert_eq!(cluster.one("node-1", "net.next").await, last);
}

#[tokio::test]
async fn the_last_block_that_another_node_claims_first_is_borrowed_of() {
    let cluster = Cluster::with_pools(&[("pool", "10.0.0.0/26")]).await;
    let other = cluster.another_process();
    let mut is_first = true;
    cluster.store.on_call(move |call| {
        let claims = call.kind == Kind::BlockAffinity && call.operation == Operation::Create;
        let slow = claims && std::mem::take(&mut is_first);
        slow.then_some(Fault::Delay(Duration::from_millis(300)))
    });
    let (slow, fast) = tokio::join!(cluster.some("node-1", "net.a", 1), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        other.auto_assign(&v4("node-2", "net.b", 1)).await.unwrap()
    });
    assert_eq!((slow.v4.len(), fast.v4.len()), (1, 1), "{slow:?}");
    let blocks = cluster.blocks().await;
    assert_eq!((blocks.len(), blocks[0].spec.host()), (1, Some("node-2")));
}
