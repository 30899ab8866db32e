//! Histories of desired and actual routes, and the operations they lead to.

use std::time::Duration;

use felix_calc::RouteClass;
use netlink::{Nexthop, Refusal, Scope};

use super::*;
use crate::host::tests::{host, link};

const BOOT: u8 = 3;
const BIRD: u8 = 12;
const OURS: u8 = 80;

/// A host with `lo`, `eth0`, `eth1`, `cali1`, `cali2` (indexes 1 to 5) and its table.
struct Node {
    host: Host,
    table: Table,
    now: Instant,
}

impl Node {
    fn new() -> Node {
        let ownership = Ownership {
            protocol: OURS,
            remove_external_routes: true,
            grace: Duration::from_secs(10),
            hold_learned: false,
            workloads: HashMap::new(),
        };
        let mut node = Node {
            host: host(&["lo", "eth0", "eth1", "cali1", "cali2"]),
            table: Table::new(ownership),
            now: Instant::now(),
        };
        let links: Vec<Link> = node.host.links().cloned().collect();
        for link in links {
            node.table
                .link_changed(None, Some(&link), &node.host, node.now);
        }
        node.later(60);
        node
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn want(&mut self, destination: &str, target: Target) {
        let destination = destination.parse().unwrap();
        let class = RouteClass::Learned;
        let route = felix_calc::Route {
            destination,
            class,
            target,
        };
        self.table.want(destination, Some(route), &self.host);
    }

    fn want_nothing(&mut self, destination: &str) {
        self.table
            .want(destination.parse().unwrap(), None, &self.host);
    }

    fn link(&mut self, link: Link) {
        let old = self.host.set_link(link.clone());
        self.table
            .link_changed(old.as_ref(), Some(&link), &self.host, self.now);
    }

    fn unlink(&mut self, index: u32) {
        let old = self.host.remove_link(index);
        self.table
            .link_changed(old.as_ref(), None, &self.host, self.now);
    }

    fn down(&mut self, index: u32) {
        let mut link = self.host.by_index(index).unwrap().clone();
        link.admin_up = false;
        self.link(link);
    }

    fn up(&mut self, index: u32) {
        let mut link = self.host.by_index(index).unwrap().clone();
        link.admin_up = true;
        self.link(link);
    }

    /// The operations planned now, as text.
    fn planned(&mut self) -> Vec<String> {
        let plan = self.table.plan(self.now);
        plan.changes.iter().map(text).collect()
    }

    /// Plans, carries out in mind, and returns the operations as text.
    fn run(&mut self) -> Vec<String> {
        let plan = self.table.plan(self.now);
        for change in &plan.changes {
            self.table.applied(change, Ok(()));
        }
        plan.changes.iter().map(text).collect()
    }

    fn failures(&self) -> Vec<String> {
        self.table
            .failures()
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

fn text(change: &RouteChange) -> String {
    let verb = match change {
        RouteChange::Add(_) => "add",
        RouteChange::Replace(_) => "replace",
        RouteChange::Delete(_) => "delete",
    };
    format!("{verb} {}", change.route())
}

fn via(gateways: &[(&str, &str)]) -> Target {
    let nexthops = gateways
        .iter()
        .map(|(gateway, interface)| felix_calc::Nexthop {
            gateway: gateway.parse().unwrap(),
            interface: (*interface).into(),
            onlink: false,
        });
    Target::Via(nexthops.collect())
}

fn pod(interface: &str) -> Target {
    Target::Local {
        interface: interface.into(),
    }
}

/// A kernel route; `via` may be empty.
fn kernel(destination: &str, protocol: u8, via: &str, device: u32) -> Route {
    let mut route = Route::new(destination.parse().unwrap(), protocol);
    if via.is_empty() {
        route.scope = Scope::Link;
    }
    route.nexthops = vec![Nexthop {
        via: via.parse().ok(),
        device: Some(device),
        ..Nexthop::default()
    }];
    route.canonical()
}

const NOTHING: [&str; 0] = [];

#[test]
fn missing_is_added_wrong_is_replaced_and_left_over_goes_last() {
    let mut node = Node::new();
    node.table.relist(vec![
        kernel("10.0.2.0/26", OURS, "192.0.2.8", 2),
        kernel("10.0.3.0/26", OURS, "192.0.2.9", 2),
        kernel("10.0.9.0/26", OURS, "192.0.2.9", 2),
    ]);
    node.want("10.0.1.5/32", pod("cali1"));
    node.want("10.0.2.0/26", via(&[("192.0.2.9", "eth0")]));
    node.want("10.0.3.0/26", via(&[("192.0.2.9", "eth0")]));
    assert_eq!(
        node.run(),
        [
            "add 10.0.1.5/32 dev 4 proto 80",
            "replace 10.0.2.0/26 via 192.0.2.9 dev 2 proto 80",
            "delete 10.0.9.0/26 via 192.0.2.9 dev 2 proto 80",
        ]
    );
    assert_eq!(node.run(), NOTHING);
}

#[test]
fn a_blackhole_and_both_families_are_written_as_the_kernel_lists_them() {
    let mut node = Node::new();
    node.want("10.0.1.0/26", Target::Blackhole);
    node.want("2001:db8:1::/122", Target::Blackhole);
    assert_eq!(node.run().len(), 2);
    let mut listed = vec![
        kernel("10.0.1.0/26", OURS, "", 1),
        kernel("2001:db8:1::/122", OURS, "", 1),
    ];
    for route in &mut listed {
        route.kind = RouteKind::Blackhole;
        route.scope = Scope::Universe;
    }
    node.table
        .relist(listed.into_iter().map(Route::canonical).collect());
    assert_eq!(node.run(), NOTHING);
    assert_eq!(node.table.programmed().len(), 2);
}

#[test]
fn foreign_routes_are_never_touched() {
    let mut node = Node::new();
    let mut other_metric = kernel("10.0.2.0/26", BOOT, "192.0.2.9", 2);
    other_metric.metric = 100;
    node.table.relist(vec![
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
    node.table.relist(vec![foreign.clone()]);
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
    node.table.relist(vec![
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
    node.table.ownership.hold_learned = true;
    node.table.relist(vec![
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
    node.table.ownership.hold_learned = false;
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
    let plan = node.table.plan(node.now);
    assert_eq!(plan.changes, []);
    assert_eq!(plan.next, Some(node.now + Duration::from_secs(10)));
    node.later(5);
    node.table.relist(vec![kernel("10.0.1.9/32", BOOT, "", 9)]);
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
fn a_change_set_back_before_the_plan_writes_nothing() {
    let mut node = Node::new();
    node.want("10.0.2.0/26", via(&[("192.0.2.9", "eth0")]));
    node.run();
    node.want("10.0.2.0/26", via(&[("192.0.2.8", "eth0")]));
    node.want("10.0.2.0/26", via(&[("192.0.2.9", "eth0")]));
    node.want_nothing("10.0.2.0/26");
    node.want("10.0.2.0/26", via(&[("192.0.2.9", "eth0")]));
    assert_eq!(node.run(), NOTHING);
}

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
    node.table.relist(vec![foreign]);
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
fn a_multipath_route_that_lost_all_its_interfaces_at_once_is_written_again() {
    let mut node = Node::new();
    node.want(
        "10.0.2.0/26",
        via(&[("192.0.2.9", "eth0"), ("198.51.100.9", "eth1")]),
    );
    node.run();
    node.table.ownership.hold_learned = true;
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
fn many_failures_are_counted_rather_than_listed() {
    let mut node = Node::new();
    for number in 0..150 {
        let destination = format!("10.9.{number}.0/24");
        node.table
            .appeared(kernel(&destination, BOOT, "192.0.2.7", 2), false);
        node.want(&destination, via(&[("192.0.2.9", "eth0")]));
    }
    assert_eq!(node.run(), NOTHING);
    let failures = node.failures();
    assert_eq!(failures.len(), 101);
    assert_eq!(failures[100], "50 more routes: not in the kernel either");
}

#[test]
fn what_the_kernel_refused_waits_for_a_reason_to_try_again() {
    let mut node = Node::new();
    node.want("10.0.2.0/26", via(&[("192.0.2.9", "eth0")]));
    let plan = node.table.plan(node.now);
    let error = Error::Unreachable(Refusal {
        operation: "add route",
        object: plan.changes[0].route().to_string(),
        errno: 101,
        detail: Some("Nexthop has invalid gateway".into()),
    });
    node.table.applied(&plan.changes[0], Err(&error));
    assert_eq!(node.run(), NOTHING);
    assert!(node.failures()[0].starts_with("route 10.0.2.0/26 via 192.0.2.9 dev eth0: "));
    assert!(node.failures()[0].contains("invalid gateway"));
    node.table.retry();
    assert_eq!(node.run(), ["add 10.0.2.0/26 via 192.0.2.9 dev 2 proto 80"]);
    assert_eq!(node.failures(), NOTHING);
}

#[test]
fn an_interface_that_is_not_ready_is_no_failure() {
    let mut node = Node::new();
    node.want("10.0.1.5/32", pod("cali1"));
    let plan = node.table.plan(node.now);
    let refusal = Refusal {
        operation: "add route",
        object: String::new(),
        errno: 19,
        detail: None,
    };
    node.table
        .applied(&plan.changes[0], Err(&Error::NoDevice(refusal)));
    assert_eq!(node.failures(), NOTHING);
    assert!(node.table.has_refused());
}

#[test]
fn a_pod_route_does_not_wait_behind_a_flood_of_learned_ones() {
    let mut node = Node::new();
    for number in 0..40_000_u32 {
        let net = std::net::Ipv4Addr::from(0x0b00_0000 + (number << 6));
        node.want(&format!("{net}/26"), via(&[("192.0.2.9", "eth0")]));
    }
    node.want("10.0.1.5/32", pod("cali1"));
    let plan = node.table.plan(node.now);
    assert_eq!(text(&plan.changes[0]), "add 10.0.1.5/32 dev 4 proto 80");
    assert_eq!(plan.next, Some(node.now), "the rest follows at once");
    let mut rounds = 0;
    while !node.run().is_empty() {
        rounds += 1;
    }
    assert_eq!(rounds, 3);
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
