//! Namespaces, cards and foreign tools for the tests.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use ipnet::IpNet;
use netlink::netns::NetNs;
use netlink::{AddressOptions, Nexthop, Route, Scope, Socket};
use serde_json::Value;

pub(crate) const HOST_MAC: [u8; 6] = [0xee; 6];

/// Runs `test` in a new namespace, with loopback up.
pub(crate) fn in_netns(test: impl FnOnce() + Send) {
    let Some(netns) = new_netns() else { return };
    netns
        .run(|| {
            ip("link set lo up");
            test();
        })
        .unwrap();
}

pub(crate) fn new_netns() -> Option<NetNs> {
    match NetNs::create() {
        Ok(netns) => Some(netns),
        Err(_) if std::env::var("SKIP_PRIVILEGED").is_ok_and(|value| value == "1") => None,
        Err(error) => {
            panic!("{error}: these tests need root, or SKIP_PRIVILEGED=1 to leave them out")
        }
    }
}

pub(crate) fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn ip_json(arguments: &str) -> Vec<Value> {
    let text = ip(&format!("-j {arguments}"));
    if text.trim().is_empty() {
        return Vec::new();
    }
    serde_json::from_str(&text).unwrap()
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A network card with carrier: one end of a veth pair.
pub(crate) fn card(socket: &mut Socket, name: &str, address: &str) -> u32 {
    ip(&format!("link add {name} type veth peer name {name}-wire"));
    ip(&format!("link set {name} up"));
    ip(&format!("link set {name}-wire up"));
    let index = socket.link(name).unwrap().unwrap().index;
    let options = AddressOptions {
        no_dad: true,
        ..AddressOptions::default()
    };
    socket.add_address(index, net(address), options).unwrap();
    index
}

pub(crate) fn via(gateway: &str, device: u32) -> Nexthop {
    Nexthop {
        via: Some(addr(gateway)),
        device: Some(device),
        onlink: false,
        weight: 1,
    }
}

/// `count` /32 routes below 10.0.0.0/8, in scrambled order.
pub(crate) fn many_routes(count: u32, device: u32) -> Vec<Route> {
    let host = |number: u32| {
        let address = Ipv4Addr::from(0x0a00_0000 + number.wrapping_mul(2_654_435_761) % (1 << 24));
        IpNet::from(IpAddr::V4(address))
    };
    (0..count)
        .map(|number| {
            let mut route = Route::new(host(number), 80);
            route.scope = Scope::Link;
            route.nexthops = vec![Nexthop {
                device: Some(device),
                ..Nexthop::default()
            }];
            route
        })
        .collect()
}
