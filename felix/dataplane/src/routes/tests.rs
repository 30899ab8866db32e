//! Histories of desired and actual routes, and the operations they lead to.

use std::collections::HashMap;
use std::time::Duration;

use felix_calc::{RouteClass, Target};
use netlink::{Link, Nexthop, Refusal, Scope};

use super::*;
use crate::host::tests::{host, link};

mod interfaces;
mod owners;

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
