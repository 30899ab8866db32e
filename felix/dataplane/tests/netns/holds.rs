//! Routes that stay for a while because the other end of their tunnel is not ready.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use felix_calc::{Overlay, VxlanDevice};
use felix_dataplane::Config;

use crate::lab::{Node, ip, on_node, own_routes, quick};

const HOLD: Duration = Duration::from_millis(500);
const OLD: &str = "10.0.2.0/26 via 192.0.2.9 dev eth0";
const NEW: &str = "10.0.2.0/26 via 10.0.2.1 dev vxlan.calico";

fn overlay() -> Overlay {
    Overlay {
        vxlan: Some(VxlanDevice {
            address: Some("10.0.1.1".parse().unwrap()),
            mac: [0x66, 0, 0, 0, 0, 1],
            local: "192.0.2.1".parse().unwrap(),
            parent: "eth0".into(),
            vni: 4096,
            port: 4789,
            mtu: 1450,
            remotes: BTreeMap::new(),
        }),
        ..Overlay::default()
    }
}

fn node() -> Node {
    let mut node = Node::new(Config {
        tunnel_linger: HOLD,
        ..quick()
    });
    node.overlay(overlay());
    node
}

/// The routes to the other node's block.
fn routes() -> Vec<String> {
    let mut routes = own_routes();
    routes.retain(|route| route.starts_with("10.0.2."));
    routes
}

#[test]
fn what_is_in_the_kernel_stays_and_then_follows_the_gateways() {
    on_node(|| {
        let mut node = node();
        node.learned("10.0.2.0/26", &["192.0.2.9%eth0"]).apply();
        assert_eq!(routes(), [OLD]);
        let start = Instant::now();
        node.hold("10.0.2.0/26", &["10.0.2.1%vxlan.calico"]).apply();
        assert_eq!(routes(), [OLD]);
        node.until("moved", |_| routes() == [NEW]);
        assert!(start.elapsed() >= HOLD, "{:?}", start.elapsed());
    });
}

#[test]
fn what_leads_through_another_tunnel_stays_as_long() {
    on_node(|| {
        let mut node = node();
        node.tunnelled("10.0.2.0/26", "10.0.2.1%vxlan.calico")
            .apply();
        let start = Instant::now();
        node.hold("10.0.2.0/26", &[]).apply();
        assert_eq!(routes(), [NEW]);
        node.until("gone", |_| routes().is_empty());
        assert!(start.elapsed() >= HOLD, "{:?}", start.elapsed());
    });
}

#[test]
fn where_there_is_nothing_the_gateways_are_used_at_once() {
    on_node(|| {
        let mut node = node();
        node.hold("10.0.2.0/26", &["10.0.2.1%vxlan.calico"]).apply();
        assert_eq!(routes(), [NEW]);
    });
}

#[test]
fn without_gateways_the_route_goes_after_the_while() {
    on_node(|| {
        let mut node = node();
        node.learned("10.0.2.0/26", &["192.0.2.9%eth0"]).apply();
        node.hold("10.0.2.0/26", &[]).hold("10.0.2.64/26", &[]);
        node.apply();
        assert_eq!(routes(), [OLD]);
        node.until("gone", |_| routes().is_empty());
        assert_eq!(node.last.counters.waiting, 2);
    });
}

#[test]
fn a_ready_other_end_ends_the_hold_at_once() {
    on_node(|| {
        let mut node = node();
        node.learned("10.0.2.0/26", &["192.0.2.9%eth0"]).apply();
        node.hold("10.0.2.0/26", &[]).apply();
        node.tunnelled("10.0.2.0/26", "10.0.2.1%vxlan.calico")
            .apply();
        assert_eq!(routes(), [NEW]);
        // The end of the hold that is over changes nothing.
        let start = Instant::now();
        node.until("later", |_| start.elapsed() > HOLD * 2);
        assert_eq!(routes(), [NEW]);
    });
}

#[test]
fn a_route_that_is_taken_away_is_not_put_back_but_replaced() {
    on_node(|| {
        let mut node = node();
        node.learned("10.0.2.0/26", &["192.0.2.9%eth0"]).apply();
        node.hold("10.0.2.0/26", &["10.0.2.1%vxlan.calico"]).apply();
        ip("route del 10.0.2.0/26");
        let took = node.until("moved", |_| routes() == [NEW]);
        assert!(took < HOLD, "{took:?}");
    });
}

#[test]
fn after_a_restart_the_route_of_the_earlier_run_is_kept() {
    on_node(|| {
        let mut earlier = node();
        earlier.learned("10.0.2.0/26", &["192.0.2.9%eth0"]).apply();
        drop(earlier);
        let mut node = node();
        let start = Instant::now();
        node.hold("10.0.2.0/26", &["10.0.2.1%vxlan.calico"]).apply();
        assert_eq!(routes(), [OLD]);
        node.until("moved", |_| routes() == [NEW]);
        assert!(start.elapsed() >= HOLD);
    });
}
