//! Peers that send more prefixes than they may.

use std::num::NonZeroU32;

use bgp::{Clear, MaxPrefixes, MaxPrefixesAction, PeerKey, State};
use bgp_wire::{Message, Notification, Update};

use crate::node::{Node, prefix};
use crate::raw::{Raw, expects};

const TWO: [&str; 2] = ["10.191.0.0/26", "10.191.1.0/26"];
const THREE: [&str; 3] = [TWO[0], TWO[1], "10.191.2.0/26"];

fn limit(action: MaxPrefixesAction) -> MaxPrefixes {
    MaxPrefixes {
        limit: NonZeroU32::new(2).unwrap(),
        warning_percent: 100,
        action,
    }
}

async fn node(number: u8, action: MaxPrefixesAction) -> (Node, Raw, PeerKey) {
    let mut node = Node::start(number, &[]).await;
    let mut config = expects(number + 1);
    config.max_prefixes = Some(limit(action));
    let key = node.add_peer(config);
    let (raw, _) = Raw::establish(number + 1, &node, false).await;
    (node, raw, key)
}

/// RFC 4486 §4: AFI, SAFI and the limit.
fn is_too_many(notification: &Notification) {
    let data = [0, 1, 1, 0, 0, 0, 2];
    assert_eq!((6, 1), (notification.code, notification.subcode));
    assert_eq!(data, notification.data[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warning_is_only_said() {
    let (mut node, mut raw, key) = node(190, MaxPrefixesAction::Warn).await;
    raw.announce(&TWO).await;
    let says = |text: &'static str| {
        move |info: &bgp::PeerInfo| info.warning.as_ref().is_some_and(|w| w.contains(text))
    };
    node.peer_until(&key, "a warning", says("2 prefixes")).await;
    raw.announce(&THREE).await;
    node.peer_until(&key, "another warning", says("3 prefixes"))
        .await;
    node.learns(THREE[2], "192.0.2.191").await;
    let withdrawn = Update {
        unreach: vec![bgp_wire::Unreach {
            family: bgp::Family::IPV4_UNICAST,
            nlri: TWO.iter().map(|text| prefix(text).into()).collect(),
        }],
        ..Update::default()
    };
    raw.send(Message::Update(withdrawn)).await;
    node.peer_until(&key, "no warning", |info| info.warning.is_none())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_surplus_is_not_used_until_there_is_room() {
    let (mut node, mut raw, key) = node(192, MaxPrefixesAction::Discard).await;
    raw.announce(&THREE).await;
    node.learns(THREE[1], "192.0.2.193").await;
    node.peer_until(&key, "a warning", |info| info.warning.is_some())
        .await;
    assert!(!node.learned.contains_key(&prefix(THREE[2])));
    let why = node.handle.why(THREE[2], None).await.unwrap();
    assert!(
        why.text.iter().any(|line| line.contains("prefix limit")),
        "{why:?}"
    );
    let withdrawn = Update {
        unreach: vec![bgp_wire::Unreach {
            family: bgp::Family::IPV4_UNICAST,
            nlri: vec![prefix(THREE[0]).into()],
        }],
        ..Update::default()
    };
    raw.send(Message::Update(withdrawn)).await;
    node.learns(THREE[2], "192.0.2.193").await;
    raw.announce(&THREE).await;
    // No limit any more, and no other session.
    node.set(|desired| desired.peers.get_mut(&key).unwrap().max_prefixes = None);
    node.learns(THREE[0], "192.0.2.193").await;
    let info = node.peer(&key).await;
    assert_eq!((0, None), (info.flaps, info.warning));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_brings_too_much_is_closed_for_a_while() {
    let action = MaxPrefixesAction::Close {
        restart_after_secs: Some(1),
    };
    let (mut node, mut raw, key) = node(194, action).await;
    raw.announce(&THREE).await;
    is_too_many(&raw.receive_notification().await);
    let info = node
        .peer_until(&key, "closed", |info| info.state == State::Idle)
        .await;
    let error = info.last_error.unwrap();
    assert!(
        error.contains("3 prefixes") && error.contains("closed for 1 s"),
        "{error}"
    );
    let _raw = Raw::connect_after_hold(195, &mut node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_stays_closed_until_it_is_cleared_or_changed() {
    let action = MaxPrefixesAction::Close {
        restart_after_secs: None,
    };
    let (mut node, mut raw, key) = node(196, action).await;
    raw.announce(&THREE).await;
    is_too_many(&raw.receive_notification().await);
    let closed = |info: &bgp::PeerInfo| info.state == State::Idle;
    node.peer_until(&key, "closed", closed).await;
    let mut refused = Raw::connect(197, &node).await;
    assert_eq!(None, refused.receive_or_end().await);
    node.handle.clear("127.0.0.197", Clear::Hard).await.unwrap();
    let mut raw = Raw::connect_after_hold(197, &mut node).await;
    raw.establish_after_open().await;
    raw.announce(&THREE).await;
    is_too_many(&raw.receive_notification().await);
    node.peer_until(&key, "closed again", closed).await;
    // A higher limit is obeyed at once.
    node.set(|desired| {
        let max = &mut desired.peers.get_mut(&key).unwrap().max_prefixes;
        max.as_mut().unwrap().limit = NonZeroU32::new(3).unwrap();
    });
    let mut raw = Raw::connect_after_hold(197, &mut node).await;
    raw.establish_after_open().await;
    raw.announce(&THREE).await;
    node.learns(THREE[2], "192.0.2.197").await;
}
