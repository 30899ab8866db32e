//! Packets through the tunnels, between our own nodes and one that was set up by hand.

use crate::lab::{Node, ip, run, settings, two_nodes, vxlan, vxlan_v6};

fn route(node: &Node, destination: &str, gateway: &str, device: &str) {
    node.run(|| {
        ip(&format!(
            "route replace {destination} via {gateway} dev {device} onlink"
        ))
    });
}

/// A pod's address on loopback, and the way to the block of the other node.
fn pods(node: &Node, device: &str, of: impl Fn(u8) -> Pod) {
    let own = of(node.number);
    node.run(|| ip(&format!("address add {} dev lo", own.address)));
    let other = of(3 - node.number);
    route(node, &other.block, &other.gateway, device);
}

struct Pod {
    address: String,
    block: String,
    gateway: String,
}

fn pod_v4(number: u8) -> Pod {
    Pod {
        address: format!("10.244.{number}.9/32"),
        block: format!("10.244.{number}.0/26"),
        gateway: format!("10.244.{number}.1"),
    }
}

fn pod_v6(number: u8) -> Pod {
    Pod {
        address: format!("fd00:10:{number}::9/128"),
        block: format!("fd00:10:{number}::/122"),
        gateway: format!("fd00:10:{number}::1"),
    }
}

#[test]
fn packets_pass_through_vxlan_between_two_nodes() {
    let Some((one, two)) = two_nodes() else {
        return;
    };
    for node in [&one, &two] {
        assert_eq!(node.set_up(&vxlan(node.number)).problems, []);
        assert_eq!(node.set_up(&vxlan_v6(node.number)).problems, []);
        pods(node, "vxlan.calico", pod_v4);
        pods(node, "vxlan-v6.calico", pod_v6);
    }
    one.reaches("10.244.2.9");
    two.reaches("10.244.1.9");
    one.reaches("fd00:10:2::9");
    two.reaches("fd00:10:1::9");
    // Through the tunnel, and by nothing else.
    let received = |node: &Node, device: &str| {
        let path = format!("/sys/class/net/{device}/statistics/rx_packets");
        let _ = path;
        node.run(|| run("ip", &format!("-j -s link show {device}")))
    };
    for device in ["vxlan.calico", "vxlan-v6.calico"] {
        let text = received(&two, device);
        let list: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert!(
            list[0]["stats64"]["rx"]["packets"].as_u64().unwrap() >= 2,
            "{text}"
        );
    }
}

#[test]
fn packets_pass_to_a_node_that_was_set_up_by_hand() {
    let Some((one, two)) = two_nodes() else {
        return;
    };
    two.run(|| {
        ip("link add vx type vxlan id 4096 dstport 4789 local 192.0.2.2 dev eth0 nolearning");
        ip("link set vx address 66:00:00:00:00:02 mtu 1450 up");
        ip("address add 10.244.2.1/32 dev vx");
        ip("neigh add 10.244.1.1 lladdr 66:00:00:00:00:01 dev vx nud permanent");
        run("bridge", "fdb add 66:00:00:00:00:01 dev vx dst 192.0.2.1");
    });
    one.set_up(&vxlan(1));
    pods(&one, "vxlan.calico", pod_v4);
    pods(&two, "vx", pod_v4);
    one.reaches("10.244.2.9");
    two.reaches("10.244.1.9");
}

#[test]
fn both_tunnel_addresses_work_while_one_takes_over_from_the_other() {
    let Some((one, two)) = two_nodes() else {
        return;
    };
    for node in [&one, &two] {
        node.set_up(&vxlan(node.number));
        pods(node, "vxlan.calico", pod_v4);
    }
    one.reaches("10.244.2.9");
    // The other node's tunnel address and hardware address are new; the old ones are known until
    // the route has moved.
    let mut tunnel = vxlan(1);
    let old = settings(&mut tunnel).remotes.pop_first().unwrap().1;
    let new = ipip::Remote {
        mac: crate::lab::mac(22),
        ..old
    };
    let gateway = crate::lab::addr("10.244.2.2");
    settings(&mut tunnel).remotes.insert(gateway, new);
    let device = ipip::Device {
        tunnel,
        carrier: ipip::Carrier::Kernel,
    };
    one.run(|| {
        let mut socket = netlink::Socket::open().unwrap();
        assert_eq!(device.prepare(&mut socket).unwrap().problems, []);
        assert_eq!(crate::lab::neighbours("vxlan.calico").len(), 2);
        assert_eq!(crate::lab::forwarding("vxlan.calico").len(), 2);
    });
    one.reaches("10.244.2.9");
    let mut moved = vxlan(2);
    moved.address = Some(gateway);
    settings(&mut moved).mac = crate::lab::mac(22);
    two.set_up(&moved);
    route(&one, "10.244.2.0/26", "10.244.2.2", "vxlan.calico");
    one.run(|| {
        let mut socket = netlink::Socket::open().unwrap();
        assert_eq!(device.sweep(&mut socket).unwrap().problems, []);
        assert_eq!(crate::lab::neighbours("vxlan.calico").len(), 1);
        assert_eq!(crate::lab::forwarding("vxlan.calico").len(), 1);
    });
    one.reaches("10.244.2.9");
    two.reaches("10.244.1.9");
}
