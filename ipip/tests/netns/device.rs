//! What a device and the entries on it look like.

use ipip::{Carrier, Device, Problem, Tunnel};
use netlink::{Socket, TunnelKind};

use crate::lab::{
    Node, addr, addresses, exists, forwarding, ip, link, mac, neighbours, run, settings, two_nodes,
    vxlan, vxlan_v6,
};

const DEVICE: &str = "vxlan.calico";

/// Sets a tunnel up on a node and says how many operations that took; there must be no problem.
fn set_up(node: &Node, tunnel: &Tunnel) -> u64 {
    let outcome = node.set_up(tunnel);
    assert_eq!(outcome.problems, []);
    outcome.written
}

#[test]
fn a_vxlan_device_is_made_as_calico_makes_it() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    assert_eq!(set_up(&node, &vxlan(1)), 7);
    node.run(|| {
        let link = link(DEVICE);
        assert_eq!(link["linkinfo"]["info_kind"], "vxlan");
        let data = &link["linkinfo"]["info_data"];
        assert_eq!(data["id"], 4096);
        assert_eq!(data["port"], 4789);
        assert_eq!(data["local"], "192.0.2.1");
        assert_eq!(data["link"], "eth0");
        assert_eq!(data["learning"], false);
        assert!(data["group"].is_null() && data["remote"].is_null());
        assert_eq!(link["mtu"], 1450);
        assert_eq!(link["address"], "66:00:00:00:00:01");
        assert!(link["flags"].as_array().unwrap().contains(&"UP".into()));
        assert_eq!(addresses(DEVICE), ["10.244.1.1/32"]);
        assert_eq!(neighbours(DEVICE), ["10.244.2.1 66:00:00:00:00:02"]);
        assert_eq!(
            forwarding(DEVICE),
            ["66:00:00:00:00:02 192.0.2.2 permanent"]
        );
    });
    assert_eq!(set_up(&node, &vxlan(1)), 0, "what is right is not touched");
}

#[test]
fn a_vxlan_device_for_ipv6_is_made() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    set_up(&node, &vxlan_v6(1));
    node.run(|| {
        let name = "vxlan-v6.calico";
        let link = link(name);
        assert_eq!(link["linkinfo"]["info_data"]["local6"], "2001:db8::1");
        assert_eq!(link["mtu"], 1430);
        assert_eq!(addresses(name), ["fd00:10:1::1/128"]);
        assert_eq!(neighbours(name), ["fd00:10:2::1 66:00:00:00:00:02"]);
        assert_eq!(
            forwarding(name),
            ["66:00:00:00:00:02 2001:db8::2 permanent"]
        );
    });
    assert_eq!(set_up(&node, &vxlan_v6(1)), 0);
}

#[test]
fn what_was_tampered_with_is_put_right() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    set_up(&node, &vxlan(1));
    let right = || node.run(|| (addresses(DEVICE), neighbours(DEVICE), forwarding(DEVICE)));
    let before = right();
    let tamperings = [
        "ip link del vxlan.calico",
        "ip link set vxlan.calico down",
        "ip link set vxlan.calico mtu 1300",
        "ip link set vxlan.calico address 02:00:00:00:00:99",
        "ip address flush dev vxlan.calico",
        "ip address add 203.0.113.5/24 dev vxlan.calico",
        "ip neigh flush dev vxlan.calico nud permanent",
        "ip neigh replace 10.244.2.1 lladdr 02:00:00:00:00:99 dev vxlan.calico nud permanent",
        "ip neigh replace 10.244.9.1 lladdr 02:00:00:00:00:99 dev vxlan.calico nud permanent",
        "bridge fdb del 66:00:00:00:00:02 dev vxlan.calico dst 192.0.2.2",
        "bridge fdb replace 66:00:00:00:00:02 dev vxlan.calico dst 192.0.2.66",
        "bridge fdb add 02:00:00:00:00:99 dev vxlan.calico dst 192.0.2.66",
        "bridge fdb append 00:00:00:00:00:00 dev vxlan.calico dst 192.0.2.66",
        "ip link set vxlan.calico type vxlan id 4096 local 192.0.2.66",
        "ip link set vxlan.calico type vxlan id 4096 learning",
    ];
    for tampering in tamperings {
        let (program, arguments) = tampering.split_once(' ').unwrap();
        node.run(|| run(program, arguments));
        assert!(set_up(&node, &vxlan(1)) > 0, "{tampering}");
        assert_eq!(right(), before, "{tampering}");
        assert_eq!(set_up(&node, &vxlan(1)), 0, "{tampering}");
        node.run(|| {
            let link = link(DEVICE);
            assert_eq!(link["mtu"], 1450, "{tampering}");
            assert_eq!(link["address"], "66:00:00:00:00:01", "{tampering}");
            let data = &link["linkinfo"]["info_data"];
            assert_eq!(data["local"], "192.0.2.1", "{tampering}");
            assert_eq!(data["learning"], false, "{tampering}");
        });
    }
}

#[test]
fn a_device_with_another_identifier_is_made_anew() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    node.run(|| {
        ip("link add vxlan.calico type vxlan id 17 dstport 8472 dev eth0 group 239.1.1.1");
    });
    set_up(&node, &vxlan(1));
    node.run(|| {
        let data = &link(DEVICE)["linkinfo"]["info_data"];
        assert_eq!(
            (data["id"].as_u64(), data["port"].as_u64()),
            (Some(4096), Some(4789))
        );
        assert_eq!(forwarding(DEVICE).len(), 1);
    });
}

#[test]
fn changes_follow_live_and_keep_the_device() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    let mut tunnel = vxlan(1);
    set_up(&node, &tunnel);
    let index = node.run(|| link(DEVICE)["ifindex"].clone());
    tunnel.mtu = 1350;
    tunnel.address = Some(addr("10.244.77.1"));
    tunnel.local = addr("192.0.2.77");
    settings(&mut tunnel).mac = mac(77);
    settings(&mut tunnel).remotes.clear();
    node.run(|| ip("address add 192.0.2.77/24 dev eth0"));
    set_up(&node, &tunnel);
    node.run(|| {
        let link = link(DEVICE);
        assert_eq!(link["ifindex"], index);
        assert_eq!(link["mtu"], 1350);
        assert_eq!(link["address"], "66:00:00:00:00:4d");
        assert_eq!(link["linkinfo"]["info_data"]["local"], "192.0.2.77");
        assert_eq!(addresses(DEVICE), ["10.244.77.1/32"]);
        assert!(neighbours(DEVICE).is_empty() && forwarding(DEVICE).is_empty());
    });
}

#[test]
fn a_foreign_device_of_the_name_is_reported_and_left_alone() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    node.run(|| {
        ip("link add vxlan.calico type bridge");
        ip("address add 203.0.113.5/24 dev vxlan.calico");
    });
    let before = node.run(|| ip("address show dev vxlan.calico"));
    let outcome = node.set_up(&vxlan(1));
    let found = "bridge".to_owned();
    assert_eq!(outcome.problems, [Problem::OtherKind { found }]);
    assert_eq!(outcome.written, 0);
    node.run(|| Device::retire(&mut Socket::open().unwrap(), DEVICE).unwrap());
    assert_eq!(node.run(|| ip("address show dev vxlan.calico")), before);
}

#[test]
fn an_mtu_that_does_not_fit_is_explained_and_the_rest_is_done() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    node.run(|| ip("link set eth0 mtu 1400"));
    let outcome = node.set_up(&vxlan(1));
    assert_eq!(outcome.problems.len(), 1, "{:?}", outcome.problems);
    let text = outcome.problems[0].to_string();
    assert!(
        text.contains("1450 is too large for interface eth0 with 1400, at most 1350"),
        "{text}"
    );
    node.run(|| assert_eq!(neighbours(DEVICE).len(), 1));
    node.run(|| ip("link set eth0 mtu 1500"));
    set_up(&node, &vxlan(1));
    node.run(|| assert_eq!(link(DEVICE)["mtu"], 1450));
}

#[test]
fn a_missing_interface_is_named() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    let mut tunnel = vxlan(1);
    settings(&mut tunnel).parent = "eth7".into();
    let outcome = node.set_up(&tunnel);
    let parent = "eth7".into();
    assert_eq!(outcome.problems, [Problem::NoParent { parent }]);
    assert!(!node.run(|| exists(DEVICE)));
}

#[test]
fn a_device_that_is_not_wanted_any_more_goes() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    set_up(&node, &vxlan(1));
    node.run(|| {
        let mut socket = Socket::open().unwrap();
        assert!(Device::is_left(&mut socket, DEVICE).unwrap());
        let outcome = Device::retire(&mut socket, DEVICE).unwrap();
        assert_eq!(outcome.problems, []);
        assert!(!exists(DEVICE));
        assert!(!Device::is_left(&mut socket, DEVICE).unwrap());
    });
}

#[test]
fn a_kernel_without_a_kind_of_device_is_told_from_other_troubles() {
    let Some(node) = Node::new(1) else { return };
    // What `ip` says is the judge: it either makes the device or does not know its kind.
    let known = |kind: &str| {
        node.run(|| {
            let output = std::process::Command::new("ip")
                .args(["link", "add", "probe0", "type", kind])
                .args(if kind == "vxlan" {
                    &["id", "1", "dstport", "4789"][..]
                } else {
                    &[]
                })
                .output()
                .unwrap();
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            let made = output.status.success();
            assert!(made || words.contains("Unknown device type"), "{words}");
            if made {
                ip("link del probe0");
            }
            made
        })
    };
    for kind in [TunnelKind::Ipip, TunnelKind::Vxlan] {
        let can = node.run(|| {
            let mut socket = Socket::open().unwrap();
            let before = socket.links().unwrap();
            let can = socket.can_make(kind).unwrap();
            // Loading the module makes `tunl0`; the question itself makes nothing.
            let mut after = socket.links().unwrap();
            after.retain(|link| link.name != "tunl0" || before.contains(link));
            assert_eq!(after, before);
            can
        });
        assert_eq!(can, known(&kind.to_string()), "{kind}");
    }
    if !known("ipip") {
        let outcome = node.set_up(&crate::lab::ipip(1));
        let kind = TunnelKind::Ipip;
        assert_eq!(outcome.problems, [Problem::Unsupported { kind }]);
    }
}

#[test]
fn carries_says_whether_routes_may_lead_through() {
    let Some((node, _other)) = two_nodes() else {
        return;
    };
    let device = Device {
        tunnel: vxlan(1),
        carrier: Carrier::Kernel,
    };
    let link = node.set_up(&vxlan(1)).observed.link.unwrap();
    assert!(device.carries(&link));
    let mut down = link.clone();
    down.admin_up = false;
    assert!(!device.carries(&down));
    let mut other = link;
    other.kind = Some("bridge".into());
    assert!(!device.carries(&other));
}
