//! Events.

use std::time::{Duration, Instant};

use netlink::bulk::{Operation, RouteBatch};
use netlink::monitor::{Event, Group, Monitor};
use netlink::{RouteKind, Socket};
use nix::sys::socket::{setsockopt, sockopt};

use crate::lab::{card, in_netns, ip, many_routes, net};

/// Waits until an event satisfies `wanted`, and returns everything seen on the way.
pub(crate) fn wait_for(monitor: &mut Monitor, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut seen = Vec::new();
    while !seen.iter().any(&wanted) {
        let last = &seen[seen.len().saturating_sub(20)..];
        assert!(
            Instant::now() < deadline,
            "not among {} events up to {last:#?}",
            seen.len()
        );
        seen.extend(monitor.next(Duration::from_millis(100)).unwrap());
    }
    seen
}

#[test]
fn the_monitor_tells_what_others_change_and_not_what_we_change() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let mut monitor = Monitor::open(&[
            Group::Links,
            Group::Addresses,
            Group::Routes,
            Group::Neighbours,
        ])
        .unwrap();
        monitor.ignore_changes_of(&socket).unwrap();
        let eth0 = card(&mut socket, "eth0", "192.0.2.1/24");
        wait_for(
            &mut monitor,
            |e| matches!(e, Event::Link(l) if l.index == eth0 && l.running),
        );

        let mut own = RouteBatch::new();
        for route in many_routes(1000, eth0) {
            own.push_route(Operation::Add, &route);
        }
        own.apply(&mut socket).unwrap();
        ip("route add 172.16.1.0/26 via 192.0.2.9 proto bird");
        ip("-6 route add blackhole 2001:db8:1::/122 proto 80");
        ip("route replace 172.16.1.0/26 via 192.0.2.8 proto static");
        ip("neighbour add 192.0.2.9 lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
        ip("address add 2001:db8::1/64 dev eth0 nodad");
        ip("route del 172.16.1.0/26");
        ip("address del 2001:db8::1/64 dev eth0");
        ip("link del eth0");
        let gone = |e: &Event| matches!(e, Event::LinkGone(l) if l.index == eth0);
        let seen = wait_for(&mut monitor, gone);

        let has = |wanted: &dyn Fn(&Event) -> bool| assert!(seen.iter().any(wanted), "{seen:#?}");
        let foreign = net("172.16.1.0/26");
        has(
            &|e| matches!(e, Event::Route { route: r, .. } if r.destination == foreign && r.protocol == 12),
        );
        has(&|e| matches!(e, Event::Route { route: r, replaced: true } if r.protocol == 4));
        has(&|e| matches!(e, Event::RouteGone(r) if r.destination == foreign));
        let hole = net("2001:db8:1::/122");
        has(
            &|e| matches!(e, Event::Route { route: r, .. } if r.destination == hole && r.kind == RouteKind::Blackhole),
        );
        has(&|e| matches!(e, Event::Neighbour(n) if n.permanent && n.index == eth0));
        let address = net("2001:db8::1/64");
        has(&|e| matches!(e, Event::Address(a) if a.net == address));
        has(&|e| matches!(e, Event::AddressGone(a) if a.net == address));
        let pods = net("10.0.0.0/8");
        let own =
            |e: &Event| matches!(e, Event::Route { route: r, .. } if pods.contains(&r.destination));
        assert!(!seen.iter().any(own));
    });
}

#[test]
fn lost_events_are_told() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let eth0 = card(&mut socket, "eth0", "192.0.2.1/24");
        let mut monitor = Monitor::open(&[Group::Routes]).unwrap();
        setsockopt(&monitor, sockopt::RcvBuf, &65_536).unwrap();
        let mut batch = RouteBatch::new();
        for route in many_routes(1000, eth0) {
            batch.push_route(Operation::Add, &route);
        }
        batch.apply(&mut socket).unwrap();
        let seen = wait_for(&mut monitor, |e| *e == Event::Overrun);
        assert!(seen.len() < 1000);
        ip("route add blackhole 172.16.1.0/26");
        let hole = net("172.16.1.0/26");
        wait_for(
            &mut monitor,
            |e| matches!(e, Event::Route { route: r, .. } if r.destination == hole),
        );
    });
}

#[test]
fn a_port_that_leaves_its_bridge_is_not_gone() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let eth0 = card(&mut socket, "eth0", "192.0.2.1/24");
        ip("link add br0 type bridge");
        let mut monitor = Monitor::open(&[Group::Links, Group::Routes]).unwrap();
        ip("link set eth0 master br0");
        ip("link set eth0 nomaster");
        ip("route add blackhole 172.16.1.0/26");
        let hole = net("172.16.1.0/26");
        let seen = wait_for(
            &mut monitor,
            |e| matches!(e, Event::Route { route: r, .. } if r.destination == hole),
        );
        let joined = |e: &Event| matches!(e, Event::Link(l) if l.controller.is_some());
        assert!(seen.iter().any(joined), "{seen:#?}");
        let gone = |e: &Event| matches!(e, Event::LinkGone(l) if l.index == eth0);
        assert!(!seen.iter().any(gone), "{seen:#?}");
    });
}
