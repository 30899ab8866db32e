//! Route refreshes with marks around them (RFC 7313), as a peer makes them.

use std::time::Duration;

use bgp::{Family, Options};
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
    raw.announce(&[P, Q]).await;
    (node, raw)
}

async fn until_stale(node: &mut Node, text: &str, is_stale: bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let routes = node.handle.routes().await;
        let route = routes.iter().find(|route| route.prefix == prefix(text));
        if route.is_some_and(|route| route.stale == is_stale) {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{text}: {route:?}");
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
