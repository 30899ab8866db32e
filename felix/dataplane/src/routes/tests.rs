//! Histories of desired and actual routes, and the operations they lead to.

use std::collections::HashMap;
use std::time::Duration;

use felix_calc::{RouteClass, Target};
use netlink::{Link, Nexthop, Refusal, RouteKind, Scope};

use super::*;
use crate::host::tests::{host, link};

mod interfaces;
mod owners;

const BOOT: u8 = 3;
const BIRD: u8 = 12;
const OURS: u8 = 80;
/// Changes of one round.
const ROUND: usize = 16_384;

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
        let changes = self.table.plan(self.now, ROUND);
        for change in &changes {
            self.table.lost(change);
        }
        self.text(&changes)
    }

    /// Plans, carries out in mind, and returns the operations as text.
    fn run(&mut self) -> Vec<String> {
        let changes = self.table.plan(self.now, ROUND);
        let text = self.text(&changes);
        for change in &changes {
            self.table.applied(change, Ok(()));
        }
        text
    }

    fn relist(&mut self, routes: Vec<Route>) {
        let listed = routes.into_iter().map(|route| self.table.listed(route));
        self.table.relist(listed.collect());
    }

    fn text(&self, changes: &[Change]) -> Vec<String> {
        let text = |change: &Change| {
            let verb = match change.operation {
                Operation::Add => "add",
                Operation::Replace => "replace",
                Operation::Delete => "delete",
            };
            let shapes = self.table.shapes.borrow();
            let route = shapes.route(change.shape, change.key.destination);
            format!("{verb} {route}")
        };
        changes.iter().map(text).collect()
    }

    fn failures(&self) -> Vec<String> {
        self.table
            .failures()
            .iter()
            .map(ToString::to_string)
            .collect()
    }
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
    node.relist(vec![
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
    node.relist(listed.into_iter().map(Route::canonical).collect());
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
    let changes = node.table.plan(node.now, ROUND);
    let error = Error::Unreachable(Refusal {
        operation: "add route",
        object: "10.0.2.0/26".to_owned(),
        errno: 101,
        detail: Some("Nexthop has invalid gateway".into()),
    });
    node.table.applied(&changes[0], Err(&error));
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
    let changes = node.table.plan(node.now, 256);
    assert_eq!(changes.len(), 256);
    assert_eq!(node.text(&changes[..1]), ["add 10.0.1.5/32 dev 4 proto 80"]);
    node.want("10.0.1.6/32", pod("cali2"));
    assert_eq!(node.run()[0], "add 10.0.1.6/32 dev 5 proto 80");
    while node.table.has_work(node.now) {
        node.run();
    }
    for change in &changes {
        node.table.applied(change, Ok(()));
    }
    assert_eq!(node.table.counts().0, 40_002);
}

#[test]
fn a_route_that_flaps_while_the_kernel_is_busy_waits_once_and_leaves_nothing() {
    let mut node = Node::new();
    let nets: Vec<String> = (0..200)
        .map(|number| format!("10.9.{number}.0/24"))
        .collect();
    for _ in 0..50 {
        for net in &nets {
            node.want(net, via(&[("192.0.2.9", "eth0")]));
        }
        for net in &nets {
            node.want_nothing(net);
        }
    }
    let mut waiting = 0;
    while node.table.queue.pop().is_some() {
        waiting += 1;
    }
    assert_eq!(waiting, nets.len());

    let mut node = Node::new();
    node.want(&nets[0], via(&[("192.0.2.9", "eth0")]));
    let changes = node.table.plan(node.now, ROUND);
    node.want_nothing(&nets[0]);
    node.want(&nets[0], via(&[("192.0.2.8", "eth0")]));
    assert_eq!(node.run(), NOTHING, "one change at a time");
    node.table.applied(&changes[0], Ok(()));
    assert_eq!(
        node.run(),
        ["replace 10.9.0.0/24 via 192.0.2.8 dev 2 proto 80"]
    );
    node.want_nothing(&nets[0]);
    node.run();
    assert_eq!(node.table.delta.iter().count(), 0);
    node.relist(vec![]);
    assert_eq!(node.table.shapes.get_mut().in_kernel().count(), 0);
}

#[test]
fn what_others_do_while_a_change_is_under_way_asks_for_a_listing() {
    let mut node = Node::new();
    node.want("10.0.2.0/26", via(&[("192.0.2.9", "eth0")]));
    let changes = node.table.plan(node.now, ROUND);
    let ours = kernel("10.0.2.0/26", OURS, "192.0.2.9", 2);
    node.table.vanished(&ours);
    node.table.applied(&changes[0], Ok(()));
    assert!(node.table.is_suspect());
    node.relist(vec![]);
    assert!(!node.table.is_suspect());
    assert_eq!(node.run(), ["add 10.0.2.0/26 via 192.0.2.9 dev 2 proto 80"]);
    assert_eq!(node.table.counts(), (2, 1), "that was a repair");
}

#[test]
fn a_listing_finds_what_is_missing_and_what_is_beside_ours() {
    let mut node = Node::new();
    node.want("2001:db8:1::/122", via(&[("2001:db8::9", "eth0")]));
    node.want("10.0.2.0/26", via(&[("192.0.2.9", "eth0")]));
    node.run();
    let ours = kernel("2001:db8:1::/122", OURS, "2001:db8::9", 2);
    let beside = kernel("2001:db8:1::/122", BIRD, "2001:db8::8", 2);
    for routes in [vec![beside.clone(), ours.clone()], vec![ours, beside]] {
        node.relist(routes);
        assert_eq!(node.run(), ["add 10.0.2.0/26 via 192.0.2.9 dev 2 proto 80"]);
        assert_eq!(node.table.host_routes().count(), 1);
    }
    assert_eq!(node.table.counts().1, 2);
}
