//! Routes and the interfaces they leave by.

use super::*;

#[test]
fn multipath_follows_its_interfaces_down_and_up() {
    let mut node = Node::new();
    node.want(
        "10.0.2.0/26",
        via(&[("192.0.2.9", "eth0"), ("198.51.100.9", "eth1")]),
    );
    let both = "10.0.2.0/26 nexthop via 192.0.2.9 dev 2 nexthop via 198.51.100.9 dev 3 proto 80";
    assert_eq!(node.run(), [format!("add {both}")]);
    node.down(3);
    assert_eq!(
        node.run(),
        ["replace 10.0.2.0/26 via 192.0.2.9 dev 2 proto 80"]
    );
    node.up(3);
    assert_eq!(node.run(), [format!("replace {both}")]);
    node.unlink(2);
    assert_eq!(
        node.run(),
        ["replace 10.0.2.0/26 via 198.51.100.9 dev 3 proto 80"]
    );
}

#[test]
fn a_pod_route_waits_for_its_interface_and_follows_its_index() {
    let mut node = Node::new();
    node.unlink(4);
    node.want("10.0.1.5/32", pod("cali1"));
    assert_eq!(node.run(), NOTHING);
    assert_eq!((node.table.waiting(), node.failures()), (1, vec![]));
    node.link(link(9, "cali1"));
    assert_eq!(node.run(), ["add 10.0.1.5/32 dev 9 proto 80"]);
    assert_eq!(node.table.waiting(), 0);
    // The kernel drops the route together with the interface, and says nothing.
    node.unlink(9);
    assert!(node.table.programmed().is_empty());
    node.link(link(10, "cali1"));
    assert_eq!(node.run(), ["add 10.0.1.5/32 dev 10 proto 80"]);
}

#[test]
fn a_flap_within_one_round_puts_the_route_back() {
    let mut node = Node::new();
    node.want("10.0.1.5/32", pod("cali1"));
    node.run();
    node.down(4);
    node.up(4);
    assert_eq!(node.run(), ["add 10.0.1.5/32 dev 4 proto 80"]);
}

#[test]
fn a_renamed_interface_is_the_end_of_one_and_the_start_of_another() {
    let mut node = Node::new();
    node.want("10.0.1.5/32", pod("cali1"));
    node.run();
    node.link(link(4, "cali7"));
    assert_eq!(node.run(), ["delete 10.0.1.5/32 dev 4 proto 80"]);
    node.link(link(4, "cali1"));
    assert_eq!(node.run(), ["add 10.0.1.5/32 dev 4 proto 80"]);
}

#[test]
fn an_interface_that_becomes_a_workload_has_its_routes_looked_at_again() {
    let mut node = Node::new();
    node.link(link(9, "temporary"));
    node.table
        .appeared(kernel("10.0.1.9/32", BOOT, "", 9), false);
    node.link(link(9, "cali9"));
    node.later(11);
    assert_eq!(node.planned(), ["delete 10.0.1.9/32 dev 9 proto 3"]);
    node.link(link(9, "temporary"));
    assert_eq!(node.planned(), NOTHING);
}

#[test]
fn a_multipath_route_that_lost_all_its_interfaces_at_once_is_written_again() {
    let mut node = Node::new();
    node.want(
        "10.0.2.0/26",
        via(&[("192.0.2.9", "eth0"), ("198.51.100.9", "eth1")]),
    );
    node.run();
    node.table.hold_learned(true);
    for index in [2, 3] {
        node.down(index);
    }
    assert_eq!(node.run(), NOTHING);
    for index in [2, 3] {
        node.up(index);
    }
    assert_eq!(
        node.run(),
        ["add 10.0.2.0/26 nexthop via 192.0.2.9 dev 2 nexthop via 198.51.100.9 dev 3 proto 80"]
    );
}

#[test]
fn an_interface_that_is_not_ready_is_no_failure() {
    let mut node = Node::new();
    node.want("10.0.1.5/32", pod("cali1"));
    let changes = node.table.plan(node.now, ROUND);
    let refusal = Refusal {
        operation: "add route",
        object: String::new(),
        errno: 19,
        detail: None,
    };
    node.table
        .applied(&changes[0], Err(&Error::NoDevice(refusal)));
    assert_eq!(node.failures(), NOTHING);
    assert!(node.table.has_refused());
}
