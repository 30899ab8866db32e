//! Routes of ours and of others.

use super::*;

#[test]
fn foreign_routes_are_never_touched() {
    let mut node = Node::new();
    let mut other_metric = kernel("10.0.2.0/26", BOOT, "192.0.2.9", 2);
    other_metric.metric = 100;
    node.relist(vec![
        kernel("0.0.0.0/0", BOOT, "192.0.2.254", 2),
        kernel("10.0.8.0/26", BIRD, "192.0.2.9", 2),
        kernel("fe80::/64", 2, "", 4),
        other_metric,
    ]);
    assert_eq!(node.run(), NOTHING);
    node.want("10.0.2.0/26", via(&[("192.0.2.9", "eth0")]));
    assert_eq!(node.run(), ["add 10.0.2.0/26 via 192.0.2.9 dev 2 proto 80"]);
}

#[test]
fn a_place_taken_by_somebody_else_is_a_failure_until_it_is_free() {
    let mut node = Node::new();
    let foreign = kernel("192.0.2.0/24", 2, "", 2);
    node.relist(vec![foreign.clone()]);
    node.want("192.0.2.0/24", via(&[("198.51.100.9", "eth1")]));
    assert_eq!(node.run(), NOTHING);
    assert_eq!(
        node.failures(),
        [
            "route 192.0.2.0/24 via 198.51.100.9 dev eth1: the place is taken by a route of \
             somebody else: 192.0.2.0/24 dev 2 proto 2"
        ]
    );
    node.table.vanished(&foreign);
    assert_eq!(
        node.run(),
        ["add 192.0.2.0/24 via 198.51.100.9 dev 3 proto 80"]
    );
    assert_eq!(node.failures(), NOTHING);
}

#[test]
fn routes_of_calicos_bird_are_adopted_in_place_and_otherwise_left() {
    let mut node = Node::new();
    let mut hole = kernel("10.0.1.0/26", BIRD, "", 1);
    hole.kind = RouteKind::Blackhole;
    hole.scope = Scope::Universe;
    node.relist(vec![
        kernel("10.0.2.0/26", BIRD, "192.0.2.9", 2),
        kernel("10.0.3.0/26", BIRD, "192.0.2.9", 2),
        hole.canonical(),
    ]);
    node.want("10.0.2.0/26", via(&[("192.0.2.9", "eth0")]));
    node.want("10.0.1.0/26", Target::Blackhole);
    let mut done = node.run();
    done.sort();
    assert_eq!(
        done,
        [
            "replace 10.0.2.0/26 via 192.0.2.9 dev 2 proto 80",
            "replace blackhole 10.0.1.0/26 proto 80",
        ]
    );
}

#[test]
fn learned_routes_of_an_earlier_run_are_held_until_the_speaker_has_converged() {
    let mut node = Node::new();
    node.table.hold_learned(true);
    node.relist(vec![
        kernel("10.0.2.0/26", OURS, "192.0.2.9", 2),
        kernel("10.0.3.0/26", OURS, "192.0.2.9", 2),
        kernel("10.0.1.5/32", OURS, "", 4),
    ]);
    node.want("10.0.3.0/26", via(&[("192.0.2.8", "eth0")]));
    assert_eq!(
        node.run(),
        [
            "replace 10.0.3.0/26 via 192.0.2.8 dev 2 proto 80",
            "delete 10.0.1.5/32 dev 4 proto 80",
        ]
    );
    node.table.hold_learned(false);
    assert_eq!(
        node.run(),
        ["delete 10.0.2.0/26 via 192.0.2.9 dev 2 proto 80"]
    );
}

#[test]
fn routes_of_others_on_a_new_workload_interface_have_ten_seconds() {
    let mut node = Node::new();
    node.link(link(9, "cali9"));
    node.table
        .appeared(kernel("10.0.1.9/32", BOOT, "", 9), false);
    let changes = node.table.plan(node.now, ROUND);
    assert!(changes.is_empty());
    assert_eq!(node.table.next(), Some(node.now + Duration::from_secs(10)));
    node.later(5);
    node.relist(vec![kernel("10.0.1.9/32", BOOT, "", 9)]);
    assert_eq!(
        node.run(),
        NOTHING,
        "a listing does not cut the grace short"
    );
    node.later(5);
    assert_eq!(node.run(), ["delete 10.0.1.9/32 dev 9 proto 3"]);
}

#[test]
fn a_pod_route_that_the_cni_plugin_wrote_is_taken_over_in_place() {
    let mut node = Node::new();
    node.link(link(9, "cali9"));
    node.table
        .appeared(kernel("10.0.1.9/32", BOOT, "", 9), false);
    node.want("10.0.1.9/32", pod("cali9"));
    assert_eq!(node.run(), ["replace 10.0.1.9/32 dev 9 proto 80"]);
}

#[test]
fn what_others_break_is_repaired_and_counted() {
    let mut node = Node::new();
    node.want("10.0.2.0/26", via(&[("192.0.2.9", "eth0")]));
    node.want("10.0.1.5/32", pod("cali1"));
    node.run();
    node.table
        .vanished(&kernel("10.0.2.0/26", OURS, "192.0.2.9", 2));
    assert_eq!(node.run(), ["add 10.0.2.0/26 via 192.0.2.9 dev 2 proto 80"]);
    assert_eq!(node.table.counts(), (3, 1));
    // An interface that goes down is nobody's fault.
    node.table.vanished(&kernel("10.0.1.5/32", OURS, "", 4));
    node.down(4);
    node.up(4);
    assert_eq!(node.run(), ["add 10.0.1.5/32 dev 4 proto 80"]);
    assert_eq!(node.table.counts(), (4, 1));
}

#[test]
fn what_was_taken_from_us_is_taken_back_but_not_for_ever() {
    let mut node = Node::new();
    node.want("10.0.2.0/26", via(&[("192.0.2.9", "eth0")]));
    node.run();
    let foreign = kernel("10.0.2.0/26", 4, "192.0.2.7", 2);
    for _ in 0..3 {
        node.table.appeared(foreign.clone(), true);
        assert_eq!(
            node.run(),
            ["replace 10.0.2.0/26 via 192.0.2.9 dev 2 proto 80"]
        );
    }
    node.table.appeared(foreign.clone(), true);
    assert_eq!(node.run(), NOTHING);
    assert_eq!(node.failures().len(), 1);
    assert_eq!(node.table.counts(), (4, 3));
    node.relist(vec![foreign]);
    assert_eq!(node.run().len(), 1, "the audit makes another attempt");
}

#[test]
fn a_route_beside_ours_asks_for_a_listing_and_foreign_ones_among_themselves_do_not() {
    let mut node = Node::new();
    for device in [4, 5, 2] {
        node.table
            .appeared(kernel("fe80::/64", 2, "", device), false);
    }
    assert_eq!(node.table.host_routes().count(), 3);
    node.unlink(5);
    node.table.vanished(&kernel("fe80::/64", 2, "", 5));
    assert_eq!(node.table.host_routes().count(), 2);
    assert!(
        !node.table.is_suspect(),
        "a pod that comes or goes costs no listing"
    );

    node.want("2001:db8:2::/122", via(&[("2001:db8::9", "eth0")]));
    node.run();
    node.table
        .appeared(kernel("2001:db8:2::/122", 4, "2001:db8::7", 2), false);
    assert!(node.table.is_suspect());
}

#[test]
fn a_foreign_multipath_route_that_grows_is_one_route() {
    let mut node = Node::new();
    let one = kernel("2001:db8:2::/64", 4, "2001:db8::7", 2);
    let mut two = one.clone();
    two.nexthops
        .extend(kernel("2001:db8:2::/64", 4, "2001:db8::8", 2).nexthops);
    node.table.appeared(one, false);
    node.table.appeared(two, false);
    assert_eq!(node.table.host_routes().count(), 1);
}

#[test]
fn routes_of_other_tables_do_not_exist_for_us() {
    let mut node = Node::new();
    let mut other = kernel("10.0.2.0/26", OURS, "192.0.2.9", 2);
    other.table = 1000;
    node.table.appeared(other.clone(), false);
    node.table.vanished(&other);
    assert_eq!(node.run(), NOTHING);
    assert!(!node.table.is_suspect());
}
