//! `tunl0` and the routes through it, in a real kernel that has IPIP; judged with `ip`.
//!
//! These tests fail where the kernel has no module `ipip`; `make test` runs them in an emulated
//! machine there.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests are tests too"
)]

#[path = "netns/lab.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod lab;

use std::net::Ipv4Addr;
use std::time::Duration;

use felix_calc::{IpipDevice, Overlay};
use felix_dataplane::{Carrier, Config};

use lab::{Node, ip, on_node, own_routes, quick};

/// Far below the time of an audit; in an emulated machine on a busy host each `ip` takes long.
const SOON: Duration = Duration::from_secs(20);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 0);
const ROUTE: &str = "10.0.2.0/26 via 192.0.2.9 dev tunl0";

fn overlay(address: Ipv4Addr, mtu: u32) -> Overlay {
    Overlay {
        ipip: Some(IpipDevice {
            address: Some(address),
            local: Ipv4Addr::new(192, 0, 2, 1),
            mtu,
        }),
        ..Overlay::default()
    }
}

fn node(config: Config) -> Node {
    let mut node = Node::new(config);
    node.overlay(overlay(OWN, 1480));
    node.tunnelled("10.0.2.0/26", "192.0.2.9%tunl0");
    node.apply();
    assert_eq!(node.failures, [""; 0], "this kernel must have ipip");
    node
}

fn device() -> String {
    ip("address show dev tunl0")
}

fn is_right(device: &str) -> bool {
    device.contains("UP")
        && device.contains("mtu 1480")
        && device.contains("inet 10.0.1.0/32 scope global tunl0")
        && device.matches("inet ").count() == 1
}

#[test]
fn the_device_is_there_before_the_route_through_it_in_one_step() {
    on_node(|| {
        let node = node(quick());
        assert!(is_right(&device()), "{}", device());
        assert_eq!(own_routes(), [ROUTE]);
        assert!(ip("route show 10.0.2.0/26").contains("onlink"));
        let in_place = node.tunnels["tunl0"].in_place.unwrap();
        assert_eq!(in_place.carrier, Carrier::Kernel);
        assert_eq!(in_place.address, Some(OWN.into()));
        assert_eq!(in_place.mtu, 1480);
    });
}

#[test]
fn tampering_is_repaired_soon() {
    on_node(|| {
        let mut node = node(quick());
        node.catch_up();
        for tampering in [
            "link set tunl0 down",
            "link set tunl0 mtu 1300",
            "address flush dev tunl0",
            "address add 203.0.113.5/24 dev tunl0",
            "route del 10.0.2.0/26",
        ] {
            ip(tampering);
            let took = node.until(tampering, |_| {
                is_right(&device()) && own_routes() == [ROUTE]
            });
            assert!(took < SOON, "{tampering}: {took:?}");
        }
        assert_eq!(node.failures, [""; 0]);
    });
}

#[test]
fn mtu_and_address_follow_live() {
    on_node(|| {
        let mut node = node(quick());
        node.overlay(overlay(Ipv4Addr::new(10, 0, 1, 7), 1380));
        node.apply();
        node.until("followed", |_| {
            let device = device();
            device.contains("mtu 1380")
                && device.contains("inet 10.0.1.7/32")
                && device.matches("inet ").count() == 1
        });
        assert_eq!(own_routes(), [ROUTE]);
    });
}

#[test]
fn a_device_that_is_not_wanted_lingers_and_is_then_down_and_empty() {
    on_node(|| {
        let mut node = node(Config {
            tunnel_linger: Duration::from_secs(2),
            ..quick()
        });
        node.overlay(Overlay::default()).nothing("10.0.2.0/26");
        node.apply();
        assert!(is_right(&device()), "it still takes packets");
        node.until("empty", |_| {
            let device = device();
            !device.contains("inet ") && !device.contains("UP")
        });
    });
}

#[test]
fn a_restart_takes_over_what_is_right() {
    on_node(|| {
        drop(node(quick()));
        let node = node(quick());
        assert_eq!(node.last.counters.tunnels_written, 0);
        assert_eq!(node.last.counters.routes_written, 0);
        assert!(node.tunnels["tunl0"].in_place.is_some());
    });
}
