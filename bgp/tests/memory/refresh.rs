//! Route refreshes with marks around them (RFC 7313), as a peer makes them.

use std::time::Duration;

use bgp::{Clear, Family, Options, Unanswered};
use bgp_wire::{Capability, Message, RefreshSubtype, RouteRefresh};

use crate::node::{Node, PATIENCE, options, prefix};
use crate::raw::{Raw, expects};

const P: &str = "10.181.0.0/26";
const Q: &str = "10.181.1.0/26";

async fn mark(raw: &mut Raw, subtype: RefreshSubtype) {
    let family = Family::IPV4_UNICAST;
    let mark = RouteRefresh { family, subtype };
    raw.send(Message::RouteRefresh(mark)).await;
}

/// A session with two routes learned, which waits a second for the end of a refresh.
async fn established(number: u8) -> (Node, Raw) {
    let options = Options {
        stale_time: Duration::from_secs(1),
        ..options()
    };
    let asn = 64500 + u32::from(number);
    let mut node = Node::start_with(number, asn, &[], |_| {}, options).await;
    node.add_peer(expects(number + 1));
    let mut raw = Raw::connect(number + 1, &node).await;
    let mut open = raw.open(false);
    open.capabilities.push(Capability::EnhancedRouteRefresh);
    raw.open_session(open).await;
    raw.params.enhanced_route_refresh = true;
    raw.announce(&[P, Q]).await;
    (node, raw)
}

async fn until_stale(node: &mut Node, text: &str, is_stale: bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let paths = node.paths(text).await;
        if paths.first().is_some_and(|path| path.stale == is_stale) {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{text}: {paths:?}");
        node.idle(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_does_not_end_loses_nothing() {
    let (mut node, mut raw) = established(180).await;
    raw.end_of_rib().await;
    mark(&mut raw, RefreshSubtype::BeginningOfRib).await;
    raw.announce(&[P]).await;
    until_stale(&mut node, Q, true).await;
    until_stale(&mut node, P, false).await;
    until_stale(&mut node, Q, false).await;
    // Its end comes too late to mean anything.
    mark(&mut raw, RefreshSubtype::EndOfRib).await;
    mark(&mut raw, RefreshSubtype::BeginningOfRib).await;
    raw.announce(&[P]).await;
    until_stale(&mut node, Q, true).await;
    mark(&mut raw, RefreshSubtype::EndOfRib).await;
    node.loses(Q).await;
    assert!(node.learned.contains_key(&prefix(P)));
}

/// RFC 7313 §4.2: what is told for the first time is ended by End-of-RIB only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_before_end_of_rib_is_ignored() {
    let (mut node, mut raw) = established(182).await;
    node.learns(Q, "192.0.2.183").await;
    mark(&mut raw, RefreshSubtype::BeginningOfRib).await;
    mark(&mut raw, RefreshSubtype::EndOfRib).await;
    raw.announce(&["10.181.2.0/26"]).await;
    node.learns("10.181.2.0/26", "192.0.2.183").await;
    assert_eq!(3, node.learned.len());
}

/// RFC 2918: routes are asked for and told again, the session goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soft_clear_repeats_routes_both_ways() {
    let (mut node, mut raw) = established(184).await;
    raw.end_of_rib().await;
    node.learns(Q, "192.0.2.185").await;
    node.set(|desired| {
        let prefix = prefix("10.184.0.0/26");
        desired.originate.insert(prefix, Default::default());
    });
    while raw.receive_update().await.reach.is_empty() {}
    let cleared = node.handle.clear("127.0.0.185", Clear::Soft).await;
    assert!(cleared.unwrap().soft);
    let mut asked = false;
    let mut told = Vec::new();
    while !asked || told.len() < 3 {
        match raw.receive().await {
            Message::RouteRefresh(refresh) if refresh.subtype == RefreshSubtype::Request => {
                asked = true;
            }
            Message::RouteRefresh(refresh) => told.push(Some(refresh.subtype)),
            Message::Update(update) => {
                assert_eq!(1, update.reach[0].nlri.len());
                told.push(None);
            }
            other => assert_eq!(Message::Keepalive, other),
        }
    }
    let (begin, end) = (RefreshSubtype::BeginningOfRib, RefreshSubtype::EndOfRib);
    assert_eq!([Some(begin), None, Some(end)], told[..]);
    assert_eq!(0, node.handle.peers().await[0].flaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hard_clear_starts_the_session_anew() {
    let (mut node, mut raw) = established(186).await;
    let cleared = node.handle.clear("127.0.0.187", Clear::Hard).await;
    assert!(!cleared.unwrap().soft);
    let notification = raw.receive_notification().await;
    assert_eq!((6, 4), (notification.code, notification.subcode));
    // Whoever is let in is sent an OPEN.
    let _raw = Raw::connect_after_hold(187, &mut node).await;
    let nobody = node.handle.clear("nobody", Clear::Hard).await;
    assert_eq!(Err(Unanswered::NoPeer("nobody".to_owned())), nobody);
}
