//! What is ours, what is not, and what happens when others touch it.

use std::time::{Duration, Instant};

use crate::lab::{Node, ip, on_node, own_routes, quick, routes, workload};

#[test]
fn foreign_routes_are_left_alone() {
    on_node(|| {
        workload("cali1");
        ip("route add default via 192.0.2.254 dev eth0");
        ip("route add 10.0.8.0/26 via 192.0.2.9 proto bird");
        ip("route add 10.0.7.0/26 via 192.0.2.9 proto static");
        ip("route add blackhole 10.0.6.0/26");
        ip("route add 10.0.5.0/26 via 192.0.2.9 proto 80 table 1000");
        ip("-6 route add 2001:db8:8::/64 via 2001:db8::9 proto bgp");
        // The IPv6 table of local addresses changes by itself while addresses are checked for duplicates.
        let listing = || format!("{}{}", ip("-4 route show table all"), ip("-6 route show"));
        let before = listing();
        let mut node = Node::new(quick());
        node.apply().catch_up();
        assert_eq!(listing(), before);
        assert_eq!(node.written(), 0);
    });
}

#[test]
fn routes_of_others_to_a_pod_go_after_the_grace_and_the_link_local_one_stays() {
    on_node(|| {
        let start = Instant::now();
        workload("cali1");
        ip("route add 10.0.1.9 dev cali1");
        ip("-6 route add 2001:db8:1::9 dev cali1");
        let mut node = Node::new(quick());
        node.apply();
        assert_eq!(routes("10.0.1.9").len(), 1, "still within the grace");
        node.until("removed", |_| {
            routes("10.0.1.9").is_empty() && routes("2001:db8:1::9").is_empty()
        });
        assert!(start.elapsed() >= Duration::from_millis(300));
        assert_eq!(routes("fe80::/64 dev cali1").len(), 1);

        ip("route add 10.0.1.9 dev cali1");
        node.until("removed at once", |_| routes("10.0.1.9").is_empty());
    });
}

#[test]
fn without_removal_of_external_routes_they_stay() {
    on_node(|| {
        workload("cali1");
        ip("route add 10.0.1.9 dev cali1");
        let mut config = quick();
        config.remove_external_routes = false;
        config.external_route_grace = Duration::ZERO;
        let mut node = Node::new(config);
        node.apply().catch_up();
        assert_eq!(routes("10.0.1.9").len(), 1);
    });
}

#[test]
fn a_route_of_the_same_key_is_taken_over_in_place() {
    on_node(|| {
        workload("cali1");
        ip("route add 10.0.1.5 dev cali1");
        ip("route add 10.0.2.0/26 via 192.0.2.9 proto bird");
        ip("route add blackhole 10.0.1.0/26 proto bird");
        ip("-6 route add 2001:db8:2::/122 via 2001:db8::9 proto bird");
        ip("-6 route add blackhole 2001:db8:1::/122 proto bird");
        let mut node = Node::new(quick());
        node.pod("cali1", &["10.0.1.5"])
            .block("10.0.1.0/26")
            .block("2001:db8:1::/122");
        node.learned("10.0.2.0/26", &["192.0.2.9%eth0"]);
        node.learned("2001:db8:2::/122", &["2001:db8::9%eth0"])
            .apply();
        let expected = [
            "10.0.1.5 dev cali1",
            "10.0.2.0/26 via 192.0.2.9 dev eth0",
            "169.254.1.1 dev eth0",
            "2001:db8:2::/122 via 2001:db8::9 dev eth0",
            "blackhole 10.0.1.0/26",
            "blackhole 2001:db8:1::/122",
        ];
        assert_eq!(own_routes(), expected);
        assert_eq!(routes("proto bird"), [""; 0]);
        assert_eq!(node.failures, [""; 0]);
    });
}

#[test]
fn what_others_delete_or_change_is_repaired_by_event() {
    on_node(|| {
        workload("cali1");
        let mut node = Node::new(quick());
        node.pod("cali1", &["10.0.1.5", "2001:db8:1::5"])
            .block("10.0.1.0/26");
        node.block("2001:db8:1::/122")
            .learned("10.0.2.0/26", &["192.0.2.9%eth0"]);
        node.learned(
            "2001:db8:2::/122",
            &["2001:db8::9%eth0", "2001:db8::8%eth0"],
        )
        .apply();
        let right = own_routes();
        assert_eq!(right.len(), 7);
        let damage = [
            "route del 10.0.1.5",
            "-6 route del 2001:db8:1::5",
            "route del blackhole 10.0.1.0/26",
            "-6 route del 2001:db8:1::/122",
            "route del 10.0.2.0/26",
            "-6 route del 2001:db8:2::/122",
            "route replace 10.0.2.0/26 via 192.0.2.7 proto 80",
            "route replace 10.0.2.0/26 via 192.0.2.7 proto static",
            "-6 route replace 2001:db8:1::5 dev eth0",
            "route replace blackhole 10.0.1.5",
            "route flush proto 80",
        ];
        for (number, damage) in damage.into_iter().enumerate() {
            ip(damage);
            let took = node.until(damage, |_| own_routes() == right);
            assert!(took < Duration::from_secs(1), "{damage}: {took:?}");
            assert!(node.last.counters.drift_repairs > number as u64, "{damage}");
        }
        assert_eq!(
            node.last.counters.listings, 1,
            "found by event, not by listing"
        );
        assert_eq!(node.programmed.len(), 4);
        assert_eq!(node.failures, [""; 0]);
    });
}

#[test]
fn a_place_that_somebody_else_holds_is_reported_and_taken_when_free() {
    on_node(|| {
        ip("route add 10.0.2.0/26 via 192.0.2.7 proto static");
        ip("-6 route add 2001:db8:2::/122 via 2001:db8::7 proto static");
        let mut node = Node::new(quick());
        node.learned("10.0.2.0/26", &["192.0.2.9%eth0"]);
        node.learned("2001:db8:2::/122", &["2001:db8::9%eth0"])
            .apply();
        assert_eq!(node.failures.len(), 2, "{:?}", node.failures);
        assert!(node.failures[0].starts_with("route 10.0.2.0/26 via 192.0.2.9 dev eth0: "));
        assert_eq!(routes("10.0.2.0/26")[0]["gateway"], "192.0.2.7");

        ip("route del 10.0.2.0/26");
        ip("-6 route del 2001:db8:2::/122");
        node.until("taken", |node| {
            node.failures.is_empty() && own_routes().len() == 2
        });
    });
}
