//! Peers that are accepted from a range of addresses.

use std::num::NonZeroU32;

use bgp::{DynamicPeers, PeerConfig, PeerKey, State};
use bgp_wire::{Message, Notification};
use tokio::time::{Duration, Instant};

use crate::node::{Node, PATIENCE, address, prefix};
use crate::raw::{Raw, expects};

fn range(text: &str, limit: u32, remote_as: u32) -> DynamicPeers {
    DynamicPeers {
        range: prefix(text),
        limit: NonZeroU32::new(limit).unwrap(),
        template: PeerConfig::new(address(0), remote_as),
    }
}

async fn keys(node: &Node) -> Vec<String> {
    let peers = node.handle.peers().await;
    peers.into_iter().map(|p| p.key.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_of_a_range_come_and_go_and_the_longest_range_counts() {
    let mut node = Node::start(120, &["10.120.0.0/26"]).await;
    node.set(|desired| {
        let all = range("127.0.0.0/25", 8, 64999);
        desired.dynamic.insert("all".into(), all);
        let one = range("127.0.0.121/32", 8, 64500 + 121);
        desired.dynamic.insert("one".into(), one);
    });
    let (mut raw, _) = Raw::establish(121, &node, false).await;
    let key = PeerKey::from("one/127.0.0.121");
    let info = node.established(&key).await;
    assert_eq!(Some("one".into()), info.range);
    assert_eq!(1, raw.receive_update().await.reach[0].nlri.len());
    raw.announce(&["10.121.0.0/26"]).await;
    raw.end_of_rib().await;
    node.learns("10.121.0.0/26", "192.0.2.121").await;
    // Routes are kept for its restart, and so is the peer.
    drop(raw);
    node.peer_until(&key, "its loss", |info| info.state != State::Established)
        .await;
    let (mut raw, _) = Raw::establish(121, &node, true).await;
    let info = node.established(&key).await;
    assert_eq!(1, info.flaps);
    // It leaves for good: nothing is kept, and it is forgotten.
    let farewell = Notification::administrative_shutdown("gone");
    raw.send(Message::Notification(farewell)).await;
    drop(raw);
    let end = Instant::now() + PATIENCE;
    while !keys(&node).await.is_empty() {
        assert!(Instant::now() < end, "{:?}", keys(&node).await);
        node.idle(Duration::from_millis(50)).await;
    }
    assert!(node.learned.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn range_takes_no_more_peers_than_its_limit_and_no_listed_one() {
    let mut node = Node::start(122, &[]).await;
    let listed = node.add_peer(expects(123));
    node.set(|desired| {
        let all = range("127.0.0.0/24", 2, 64500 + 124);
        desired.dynamic.insert("all".into(), all);
    });
    let (_listed, _) = Raw::establish(123, &node, false).await;
    node.established(&listed).await;
    let (_first, _) = Raw::establish(124, &node, false).await;
    node.established(&"all/127.0.0.124".into()).await;
    // A connection that says nothing takes a place, and a hundred of one address take no more.
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(Raw::connect(125, &node).await);
    }
    let mut refused = Raw::connect(126, &node).await;
    assert_eq!(None, refused.receive_or_end().await);
    let expected = ["127.0.0.123", "all/127.0.0.124", "all/127.0.0.125"];
    assert_eq!(expected.to_vec(), keys(&node).await);
    assert!(node.handle.info().await.strangers > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_of_the_template_reaches_its_peers_and_its_end_ends_them() {
    let mut node = Node::start(127, &[]).await;
    let all = || range("127.0.0.0/24", 4, 64500 + 128);
    node.set(|desired| {
        desired.dynamic.insert("all".into(), all());
    });
    let (mut raw, _) = Raw::establish(128, &node, false).await;
    let key = PeerKey::from("all/127.0.0.128");
    node.established(&key).await;
    node.set(|desired| {
        let mut peers = all();
        peers.template.shut_down = Some("maintenance".into());
        desired.dynamic.insert("all".into(), peers);
    });
    let notification = raw.receive_notification().await;
    assert_eq!(Some("maintenance".to_owned()), notification.text());
    node.set(|desired| {
        desired.dynamic.insert("all".into(), all());
    });
    let (mut raw, _) = Raw::establish(128, &node, false).await;
    node.established(&key).await;
    node.set(|desired| desired.dynamic.clear());
    assert_eq!((6, 3), {
        let notification = raw.receive_notification().await;
        (notification.code, notification.subcode)
    });
    assert!(keys(&node).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn range_has_one_password_and_a_listed_peer_its_own() {
    let mut node = Node::start(129, &[]).await;
    let mut listed = Node::start(130, &[]).await;
    let mut member = Node::start(131, &[]).await;
    let mut stranger = Node::start(132, &[]).await;
    let mut config = listed.as_peer();
    config.password = Some("of the one".into());
    config.passive = true;
    let at_node = node.add_peer(config);
    node.set(|desired| {
        let mut peers = range("127.0.0.0/24", 4, 64500 + 131);
        peers.template.password = Some("of the range".into());
        desired.dynamic.insert("all".into(), peers);
    });
    let with = |password: &str| {
        let mut config = node.as_peer();
        config.password = Some(password.into());
        config
    };
    let (one, range, wrong) = (with("of the one"), with("of the range"), with("guessed"));
    listed.add_peer(one);
    member.add_peer(range);
    let at_stranger = stranger.add_peer(wrong);
    node.established(&at_node).await;
    node.established(&"all/127.0.0.131".into()).await;
    let what = "a time-out";
    stranger
        .peer_until(&at_stranger, what, |info| {
            info.last_error
                .as_ref()
                .is_some_and(|e| e.contains("same password?"))
        })
        .await;
    let known = keys(&node).await;
    assert!(!known.contains(&"all/127.0.0.132".to_owned()), "{known:?}");
}
