//! The IPIP device of the real kernel, judged with `ip -j`, ping and packet counters.
//!
//! These tests fail on a kernel without the module `ipip`: there is nothing to judge by. There
//! they are run in an emulated machine that has it, see `make test`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests are tests too"
)]

#[path = "netns/lab.rs"]
#[allow(dead_code, reason = "shared with the tests of VXLAN")]
mod lab;

use std::process::Command;

use ipip::{Device, Problem, Tunnel};
use netlink::{Socket, TunnelKind};

use lab::{Node, addr, addresses, exists, ip, ipip, link, run, two_nodes};

const DEVICE: &str = "tunl0";

/// Sets a tunnel up on a node and says how many operations that took; there must be no problem.
fn set_up(node: &Node, tunnel: &Tunnel) -> u64 {
    let outcome = node.set_up(tunnel);
    let unsupported = Problem::Unsupported {
        kind: TunnelKind::Ipip,
    };
    assert!(
        !outcome.problems.contains(&unsupported),
        "this kernel has no ipip: run this in a machine that has it"
    );
    assert_eq!(outcome.problems, []);
    outcome.written
}

fn is_up() -> bool {
    link(DEVICE)["flags"]
        .as_array()
        .unwrap()
        .contains(&"UP".into())
}

#[test]
fn tunl0_is_taken_as_the_module_makes_it() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    assert!(set_up(&node, &ipip(1)) >= 3);
    node.run(|| {
        let link = link(DEVICE);
        assert_eq!(link["linkinfo"]["info_kind"], "ipip");
        assert_eq!(link["linkinfo"]["info_data"]["remote"], "any");
        assert_eq!(link["linkinfo"]["info_data"]["local"], "any");
        assert_eq!(link["mtu"], 1480);
        assert!(is_up());
        assert_eq!(addresses(DEVICE), ["10.244.1.0/32"]);
    });
    assert_eq!(set_up(&node, &ipip(1)), 0, "what is right is not touched");
}

#[test]
fn what_was_tampered_with_is_put_right() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    set_up(&node, &ipip(1));
    for tampering in [
        "link set tunl0 down",
        "link set tunl0 mtu 1300",
        "address flush dev tunl0",
        "address add 203.0.113.5/24 dev tunl0",
        "address add 10.244.1.0/24 dev tunl0",
    ] {
        node.run(|| ip(tampering));
        assert!(set_up(&node, &ipip(1)) > 0, "{tampering}");
        node.run(|| {
            assert!(is_up(), "{tampering}");
            assert_eq!(link(DEVICE)["mtu"], 1480, "{tampering}");
            assert_eq!(addresses(DEVICE), ["10.244.1.0/32"], "{tampering}");
        });
        assert_eq!(set_up(&node, &ipip(1)), 0, "{tampering}");
    }
}

#[test]
fn mtu_and_address_follow_live() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    let mut tunnel = ipip(1);
    set_up(&node, &tunnel);
    tunnel.mtu = 1380;
    tunnel.address = Some(addr("10.244.77.0"));
    assert_eq!(set_up(&node, &tunnel), 3);
    node.run(|| {
        assert_eq!(link(DEVICE)["mtu"], 1380);
        assert_eq!(addresses(DEVICE), ["10.244.77.0/32"]);
    });
}

#[test]
fn what_is_not_wanted_any_more_is_down_and_empty() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    set_up(&node, &ipip(1));
    node.run(|| {
        let mut socket = Socket::open().unwrap();
        assert!(Device::is_left(&mut socket, DEVICE).unwrap());
        assert_eq!(Device::retire(&mut socket, DEVICE).unwrap().problems, []);
        assert!(!is_up() && addresses(DEVICE).is_empty());
        assert!(!Device::is_left(&mut socket, DEVICE).unwrap());
    });
    set_up(&node, &ipip(1));
    assert!(node.run(is_up));
}

#[test]
fn a_tunl0_that_was_never_ours_is_not_ended() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    node.run(|| {
        // Makes the device where the module has not been loaded.
        let _exists = Command::new("ip")
            .args(["tunnel", "add", DEVICE, "mode", "ipip"])
            .output();
        ip("link set tunl0 up");
        ip("address add 203.0.113.5/32 dev tunl0");
        let mut socket = Socket::open().unwrap();
        assert!(!Device::is_left(&mut socket, DEVICE).unwrap());
        Device::retire(&mut socket, DEVICE).unwrap();
        assert!(is_up());
        assert_eq!(addresses(DEVICE), ["203.0.113.5/32"]);
    });
}

#[test]
fn the_question_for_the_module_is_answered_and_makes_nothing_else() {
    let Some(node) = Node::new(1) else { return };
    node.run(|| {
        let mut socket = Socket::open().unwrap();
        assert!(socket.can_make(TunnelKind::Ipip).unwrap());
        let others = socket.links().unwrap();
        let names: Vec<&str> = others.iter().map(|link| &*link.name).collect();
        assert!(
            names.iter().all(|name| ["lo", DEVICE].contains(name)),
            "{names:?}"
        );
    });
}

/// The way to the block of the other node, and a pod's address on loopback.
fn pods(node: &Node) {
    let (own, other) = (node.number, 3 - node.number);
    node.run(|| {
        ip(&format!("address add 10.244.{own}.9/32 dev lo"));
        ip(&format!(
            "route add 10.244.{other}.0/26 via 192.0.2.{other} dev tunl0 onlink proto 80"
        ));
    });
}

/// Packets of protocol 4 that came in on a node's card.
fn wrapped(node: &Node) -> u64 {
    node.run(|| {
        let text = run("nft", "-j list chain netdev count in");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let rules = json["nftables"].as_array().unwrap();
        let counters = rules
            .iter()
            .flat_map(|item| item["rule"]["expr"].as_array());
        let counted = counters
            .flatten()
            .find_map(|expr| expr["counter"]["packets"].as_u64());
        counted.unwrap()
    })
}

fn count_wrapped(node: &Node) {
    node.run(|| {
        run("nft", "add table netdev count");
        run(
            "nft",
            "add chain netdev count in { type filter hook ingress device eth0 priority 0 ; }",
        );
        run("nft", "add rule netdev count in ip protocol 4 counter");
    });
}

#[test]
fn packets_pass_wrapped_between_two_nodes() {
    let Some((one, two)) = two_nodes() else {
        return;
    };
    for node in [&one, &two] {
        set_up(node, &ipip(node.number));
        pods(node);
    }
    count_wrapped(&two);
    one.reaches("10.244.2.9");
    two.reaches("10.244.1.9");
    assert!(wrapped(&two) >= 2);
}

#[test]
fn packets_pass_to_a_node_that_was_set_up_by_hand() {
    let Some((one, two)) = two_nodes() else {
        return;
    };
    two.run(|| {
        if !exists(DEVICE) {
            ip("link add tunl0 type ipip");
        }
        ip("link set tunl0 mtu 1480 up");
        ip("address add 10.244.2.0/32 dev tunl0");
    });
    set_up(&one, &ipip(1));
    pods(&one);
    pods(&two);
    count_wrapped(&two);
    one.reaches("10.244.2.9");
    two.reaches("10.244.1.9");
    assert!(wrapped(&two) >= 2);
}
