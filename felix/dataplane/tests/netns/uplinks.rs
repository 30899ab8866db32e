//! Learned routes and the cards they leave by.

use std::time::Duration;

use crate::lab::{Node, card, ip, on_node, own_routes, quick, routes};

#[test]
fn multipath_follows_the_cards_down_and_up() {
    on_node(|| {
        card("eth1", "198.51.100.1/24");
        ip("address add 2001:db8:f::1/64 dev eth1 nodad");
        let mut node = Node::new(quick());
        node.learned("10.0.2.0/26", &["192.0.2.9%eth0", "198.51.100.9%eth1"]);
        node.learned(
            "2001:db8:2::/122",
            &["2001:db8::9%eth0", "2001:db8:f::9%eth1"],
        );
        node.apply();
        let both = [
            "10.0.2.0/26 via 192.0.2.9 dev eth0 via 198.51.100.9 dev eth1",
            "2001:db8:2::/122 via 2001:db8::9 dev eth0 via 2001:db8:f::9 dev eth1",
        ];
        let one = [
            "10.0.2.0/26 via 192.0.2.9 dev eth0",
            "2001:db8:2::/122 via 2001:db8::9 dev eth0",
        ];
        assert_eq!(own_routes(), both);
        for _ in 0..2 {
            ip("link set eth1 down");
            node.until("on one card", |_| own_routes() == one);
            ip("link set eth1 up");
            ip("address replace 2001:db8:f::1/64 dev eth1 nodad");
            node.until("on both cards", |_| own_routes() == both);
        }
        ip("link del eth1");
        node.until("on one card", |_| own_routes() == one);
        assert_eq!(node.failures, [""; 0]);
    });
}

#[test]
fn ways_through_link_local_routers_serve_both_families() {
    on_node(|| {
        card("eth1", "198.51.100.1/24");
        let mut node = Node::new(quick());
        node.learned("10.0.2.0/26", &["fe80::9%eth1"]);
        node.learned("10.0.3.0/26", &["192.0.2.9%eth0", "fe80::9%eth1"]);
        node.learned("2001:db8:2::/122", &["fe80::9%eth1"]).apply();
        let ways = [
            "10.0.2.0/26 via fe80::9 dev eth1",
            "10.0.3.0/26 via 192.0.2.9 dev eth0 via fe80::9 dev eth1",
            "2001:db8:2::/122 via fe80::9 dev eth1",
        ];
        assert_eq!(own_routes(), ways);
        assert_eq!(node.failures, [""; 0]);
        let written = node.written();
        node.catch_up();
        assert_eq!(
            node.written(),
            written,
            "what the kernel shows is what was wanted"
        );
        ip("link set eth1 down");
        node.until("on one card", |_| {
            own_routes() == ["10.0.3.0/26 via 192.0.2.9 dev eth0"]
        });
    });
}

#[test]
fn routes_of_a_card_that_bounces_come_back() {
    on_node(|| {
        let mut node = Node::new(quick());
        node.learned("10.0.2.0/26", &["192.0.2.9%eth0"]).apply();
        ip("link set eth0 down");
        ip("link set eth0 up");
        node.catch_up();
        node.until("back", |_| {
            own_routes() == ["10.0.2.0/26 via 192.0.2.9 dev eth0"]
        });
    });
}

#[test]
fn a_gateway_out_of_reach_is_reported_and_used_once_it_can_be_reached() {
    on_node(|| {
        let mut node = Node::new(quick());
        node.learned("10.0.2.0/26", &["203.0.113.9%eth0"]);
        node.learned("10.0.3.0/26", &["192.0.2.9%eth0"]).apply();
        assert_eq!(node.failures.len(), 1);
        let failure = &node.failures[0];
        assert!(
            failure.contains("route 10.0.2.0/26 via 203.0.113.9 dev eth0"),
            "{failure}"
        );
        assert!(failure.contains("Nexthop has invalid gateway"), "{failure}");
        assert_eq!(own_routes().len(), 1, "the other one is there");

        ip("address add 203.0.113.1/24 dev eth0");
        let took = node.until("programmed", |node| node.failures.is_empty());
        assert!(
            took < Duration::from_secs(5),
            "by event, not by timer: {took:?}"
        );
        assert_eq!(own_routes().len(), 2);
    });
}

#[test]
fn routes_that_went_silently_with_an_address_are_noticed() {
    on_node(|| {
        ip("address add 203.0.113.1/24 dev eth0");
        let mut node = Node::new(quick());
        node.learned("10.0.2.0/26", &["192.0.2.9%eth0"]).apply();
        // The last address of a card takes all its IPv4 routes along.
        ip("address flush dev eth0");
        ip("address add 192.0.2.1/24 dev eth0");
        node.until("back", |_| {
            own_routes() == ["10.0.2.0/26 via 192.0.2.9 dev eth0"]
        });
    });
}

#[test]
fn a_withdrawn_route_goes_and_a_changed_gateway_replaces() {
    on_node(|| {
        let mut node = Node::new(quick());
        node.learned("10.0.2.0/26", &["192.0.2.9%eth0"]);
        node.learned("10.0.3.0/26", &["192.0.2.9%eth0"]).apply();
        node.learned("10.0.2.0/26", &["192.0.2.8%eth0"]);
        node.nothing("10.0.3.0/26").apply();
        assert_eq!(own_routes(), ["10.0.2.0/26 via 192.0.2.8 dev eth0"]);
        assert_eq!(node.written(), 4);
        node.learned("10.0.2.0/26", &["192.0.2.7%eth0"]);
        node.update()
            .learned("10.0.2.0/26", &["192.0.2.8%eth0"])
            .apply();
        assert_eq!(node.written(), 4, "set back before anything was written");
    });
}

#[test]
fn facts_follow_the_host() {
    on_node(|| {
        let mut node = Node::new(quick());
        node.apply();
        card("eth1", "198.51.100.1/24");
        node.until("told", |node| {
            let facts = node.facts.as_ref().unwrap();
            facts
                .interfaces
                .iter()
                .any(|i| &*i.name == "eth1" && i.up && !i.addresses.is_empty())
                && facts.routes.iter().any(|r| &*r.interface == "eth1")
        });
        ip("link set eth1-wire down");
        node.until("told", |node| {
            let facts = node.facts.as_ref().unwrap();
            facts.interfaces.iter().any(|i| &*i.name == "eth1" && !i.up)
        });
        let own = routes("proto 80");
        assert_eq!(own, [""; 0]);
    });
}
