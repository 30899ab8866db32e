//! Long-lived graceful restart (RFC 9494).

use bgp::{Family, PeerKey};
use bgp_wire::capability::LongLivedFamily;
use bgp_wire::{Capability, Community, Open};

use crate::node::{Node, prefix};
use crate::raw::{Raw, expects};

const V4: Family = Family::IPV4_UNICAST;
const P: &str = "10.171.0.0/26";
const SHORT: &str = "10.171.1.0/26";

/// Restarts within a second; after that its routes are good for this many seconds.
fn open(raw: &Raw, restarting: bool, stale_secs: u32) -> Open {
    let mut open = raw.open(restarting);
    for capability in &mut open.capabilities {
        if let Capability::GracefulRestart(restart) = capability {
            restart.time_secs = 1;
        }
    }
    let families = vec![LongLivedFamily {
        family: V4,
        forwarding: true,
        stale_secs,
    }];
    let long_lived = Capability::LongLivedGracefulRestart(families);
    open.capabilities.push(long_lived);
    open
}

/// A node with a raw peer that it keeps the routes of for long.
async fn node_with(number: u8) -> (Node, PeerKey) {
    let mut node = Node::start(number, &[]).await;
    let mut config = expects(number + 1);
    config.long_lived_secs = Some(3600);
    let key = node.add_peer(config);
    (node, key)
}

async fn peer_of(a: &mut Node, b: &mut Node, long_lived: bool) {
    let long_lived_secs = long_lived.then_some(3600);
    let (mut b_at_a, mut a_at_b) = (b.as_peer(), a.as_peer());
    b_at_a.long_lived_secs = long_lived_secs;
    a_at_b.long_lived_secs = long_lived_secs;
    let b_at_a = a.add_peer(b_at_a);
    b.add_peer(a_at_b);
    a.established(&b_at_a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_away_for_long_is_the_last_resort_until_its_time_is_over() {
    let (mut node, key) = node_with(170).await;
    let mut knows = Node::start(172, &[]).await;
    let mut other = Node::start(173, &[]).await;
    peer_of(&mut node, &mut knows, true).await;
    peer_of(&mut node, &mut other, false).await;
    let mut raw = Raw::connect(171, &node).await;
    let opened = open(&raw, false, 3);
    raw.open_session(opened).await;
    let short = raw.update_with(vec![prefix(SHORT).into()], vec![Community::NO_LLGR]);
    raw.announce(&[P]).await;
    raw.send(short).await;
    raw.end_of_rib().await;
    for reader in [&mut knows, &mut other] {
        reader.learns(P, "192.0.2.170").await;
        reader.learns(SHORT, "192.0.2.170").await;
    }
    drop(raw);

    let info = node
        .peer_until(&key, "the end of the restart time", |info| {
            !info.long_lived.is_empty()
        })
        .await;
    assert_eq!((vec![V4], vec![V4]), (info.stale, info.long_lived));
    node.loses(SHORT).await;
    knows.loses(SHORT).await;
    other.loses(P).await;
    assert!(node.learned.contains_key(&prefix(P)));
    assert!(knows.learned.contains_key(&prefix(P)));
    let route = knows.handle.route(P).await.unwrap().exact.unwrap();
    let communities = &route.paths[0].attributes.communities;
    assert_eq!(["65535:6"], communities[..]);

    node.loses(P).await;
    knows.loses(P).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_comes_back_late_loses_nothing() {
    let (mut node, key) = node_with(174).await;
    let mut raw = Raw::connect(175, &node).await;
    let opened = open(&raw, false, 3600);
    raw.open_session(opened).await;
    raw.announce(&[P, SHORT]).await;
    raw.end_of_rib().await;
    node.learns(SHORT, "192.0.2.175").await;
    drop(raw);
    let is_long_lived = |info: &bgp::PeerInfo| !info.long_lived.is_empty();
    node.peer_until(&key, "the end of the restart time", is_long_lived)
        .await;

    // Back, away again, and back: what it has repeated and what it has not, both stay.
    for round in 0..2 {
        let mut raw = Raw::connect(175, &node).await;
        let opened = open(&raw, true, 3600);
        raw.open_session(opened).await;
        raw.announce(&[P]).await;
        node.peer_until(&key, "its session", |info| info.session.is_some())
            .await;
        if round == 1 {
            raw.announce(&[P, SHORT]).await;
            raw.end_of_rib().await;
            node.peer_until(&key, "fresh routes", |info| info.stale.is_empty())
                .await;
        }
        drop(raw);
        node.peer_until(&key, "its end", |info| info.session.is_none())
            .await;
    }
    assert!(
        node.story.iter().all(|line| !line.ends_with("gone")),
        "{:?}",
        node.story
    );
}
