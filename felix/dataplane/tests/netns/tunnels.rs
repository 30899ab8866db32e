//! VXLAN devices and the routes through them, judged with `ip`, `bridge` and ping.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use felix_calc::{Firewall, Overlay, Vtep, VxlanDevice};
use felix_dataplane::{Carrier, Config, UserTunnels};
use netlink::TunnelKind;
use serde_json::Value;

use crate::lab::{Node, card, ip, on_node, own_routes, quick, run};

const DEVICE: &str = "vxlan.calico";

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn device(local: &str, address: &str, remote: &str, node: &str) -> VxlanDevice {
    let vtep = Vtep {
        mac: [0x66, 0, 0, 0, 0, 9],
        node: addr(node),
    };
    VxlanDevice {
        address: Some(addr(address)),
        mac: [0x66, 0, 0, 0, 0, 1],
        local: addr(local),
        parent: "eth0".into(),
        vni: 4096,
        port: 4789,
        mtu: 1430,
        remotes: BTreeMap::from([(addr(remote), vtep)]),
    }
}

/// Tunnels of both families to a node with 192.0.2.9 and 2001:db8::9.
pub(crate) fn both() -> Overlay {
    Overlay {
        vxlan: Some(device("192.0.2.1", "10.0.1.1", "10.0.2.1", "192.0.2.9")),
        vxlan_v6: Some(device(
            "2001:db8::1",
            "2001:db8:1::1",
            "2001:db8:2::1",
            "2001:db8::9",
        )),
        ..Overlay::default()
    }
}

/// A node with both tunnels and a route through each.
fn node() -> Node {
    let mut node = Node::new(quick());
    node.overlay(both());
    node.tunnelled("10.0.2.0/26", "10.0.2.1%vxlan.calico");
    node.tunnelled("2001:db8:2::/122", "2001:db8:2::1%vxlan-v6.calico");
    node.apply();
    node
}

const ROUTES: [&str; 2] = [
    "10.0.2.0/26 via 10.0.2.1 dev vxlan.calico",
    "2001:db8:2::/122 via 2001:db8:2::1 dev vxlan-v6.calico",
];

fn link(name: &str) -> Value {
    let text = ip(&format!("-j -d link show {name}"));
    serde_json::from_str::<Vec<Value>>(&text).unwrap().remove(0)
}

fn exists(name: &str) -> bool {
    let text = ip("-j link show");
    let links: Vec<Value> = serde_json::from_str(&text).unwrap();
    links.iter().any(|link| link["ifname"] == name)
}

/// Everything about a device that others could have changed.
fn state(name: &str) -> String {
    if !exists(name) {
        return "gone".to_owned();
    }
    let link = link(name);
    let data = &link["linkinfo"]["info_data"];
    let flags = link["flags"].as_array().unwrap();
    let mut text = format!(
        "mtu {} mac {} up {} id {} port {} learning {}\n",
        link["mtu"],
        link["address"],
        flags.contains(&"UP".into()),
        data["id"],
        data["port"],
        data["learning"],
    );
    for line in ip(&format!("-o address show dev {name} scope global")).lines() {
        let words: Vec<&str> = line.split_whitespace().skip(2).take(2).collect();
        text += &words.join(" ");
        text += "\n";
    }
    text += &ip(&format!("neigh show dev {name} nud permanent"));
    text += &run("bridge", &format!("fdb show dev {name}"));
    text
}

#[test]
fn devices_are_there_before_the_routes_through_them_in_one_step() {
    on_node(|| {
        let node = node();
        let mut routes = own_routes();
        routes.retain(|route| route.contains("vxlan"));
        assert_eq!(routes, ROUTES);
        for route in ["route show 10.0.2.0/26", "-6 route show 2001:db8:2::/122"] {
            let route = ip(route);
            assert!(
                route.contains("onlink") && route.contains("mtu 1430"),
                "{route}"
            );
        }
        assert_eq!(node.failures, [""; 0]);
        let report = &node.tunnels[DEVICE];
        assert_eq!(report.problems, []);
        let in_place = report.in_place.unwrap();
        assert_eq!(in_place.carrier, Carrier::Kernel);
        assert_eq!(in_place.address, Some(addr("10.0.1.1")));
        assert_eq!(in_place.mtu, 1430);
        assert_eq!(in_place.mac, Some([0x66, 0, 0, 0, 0, 1]));
        assert_eq!(
            state(DEVICE)
                .matches("10.0.2.1 lladdr 66:00:00:00:00:09")
                .count(),
            1
        );
    });
}

#[test]
fn tampering_is_repaired_within_a_second() {
    on_node(|| {
        let mut node = node();
        node.catch_up();
        let right = (state(DEVICE), state("vxlan-v6.calico"));
        let tamperings = [
            "ip link del vxlan.calico",
            "ip link del vxlan-v6.calico",
            "ip link set vxlan.calico down",
            "ip link set vxlan-v6.calico down",
            "ip link set vxlan.calico mtu 1400",
            "ip link set vxlan.calico address 02:00:00:00:00:99",
            "ip address flush dev vxlan.calico",
            "ip address add 203.0.113.5/24 dev vxlan.calico",
            "ip neigh flush dev vxlan.calico nud permanent",
            "ip neigh replace 10.0.2.7 lladdr 02:00:00:00:00:99 dev vxlan.calico nud permanent",
            "bridge fdb del 66:00:00:00:00:09 dev vxlan.calico dst 192.0.2.9",
            "bridge fdb replace 66:00:00:00:00:09 dev vxlan.calico dst 192.0.2.66",
            "bridge fdb append 00:00:00:00:00:00 dev vxlan.calico dst 192.0.2.66",
            "bridge fdb del 66:00:00:00:00:09 dev vxlan-v6.calico dst 2001:db8::9",
            "ip route del 10.0.2.0/26",
        ];
        for tampering in tamperings {
            let repairs = node.last.counters.drift_repairs;
            let (program, arguments) = tampering.split_once(' ').unwrap();
            run(program, arguments);
            let took = node.until(tampering, |_| {
                let mut routes = own_routes();
                routes.retain(|route| route.contains("vxlan"));
                (state(DEVICE), state("vxlan-v6.calico")) == right && routes == ROUTES
            });
            assert!(took < Duration::from_secs(1), "{tampering}: {took:?}");
            assert!(node.last.counters.drift_repairs > repairs, "{tampering}");
        }
        // A device of another identifier in its place.
        ip("link del vxlan.calico");
        ip("link add vxlan.calico type vxlan id 7 dstport 4789 dev eth0 local 192.0.2.1");
        let took = node.until("another identifier", |_| state(DEVICE) == right.0);
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!(node.failures, [""; 0]);
    });
}

#[test]
fn packets_pass_between_two_nodes_and_after_the_device_was_deleted() {
    on_node(|| {
        // The other node is set up by hand, in a namespace that ends with this test's thread.
        let far = netlink::netns::NetNs::create().unwrap();
        ip("link del eth0");
        let here = netlink::netns::NetNs::current().unwrap();
        far.run(|| {
            let veth = netlink::Veth {
                name: "eth0".into(),
                mac: [2, 0, 0, 0, 0, 9],
                mtu: 1500,
                alias: None,
                up: true,
                peer_name: "eth0".into(),
                peer_mac: None,
                peer_netns: Some(std::os::fd::AsFd::as_fd(&here)),
            };
            netlink::Socket::open().unwrap().create_veth(&veth).unwrap();
            ip("link set lo up");
            for (number, node, tunnel, other, device, local) in [
                ("4", "192.0.2.9/24", "10.0.2.1/26", "10.0.1.1", "192.0.2.1", "192.0.2.9"),
                ("6", "2001:db8::9/64", "2001:db8:2::1/122", "2001:db8:1::1", "2001:db8::1", "2001:db8::9"),
            ] {
                ip(&format!("address add {node} dev eth0 {}", if number == "6" { "nodad" } else { "" }));
                ip(&format!("link add vx{number} type vxlan id 4096 dstport 4789 local {local} dev eth0 nolearning"));
                ip(&format!("link set vx{number} address 66:00:00:00:00:09 mtu 1430 up"));
                ip(&format!("address add {tunnel} dev vx{number} {}", if number == "6" { "nodad" } else { "" }));
                ip(&format!("neigh add {other} lladdr 66:00:00:00:00:01 dev vx{number} nud permanent"));
                ip(&format!("route add {other} dev vx{number}"));
                run("bridge", &format!("fdb add 66:00:00:00:00:01 dev vx{number} dst {device}"));
            }
        }).unwrap();
        ip("link set eth0 up");
        ip("address add 192.0.2.1/24 dev eth0");
        ip("address add 2001:db8::1/64 dev eth0 nodad");
        let mut node = node();
        let ping = |node: &mut Node, address: &str| {
            node.until(address, |_| {
                let arguments = ["-c1", "-W1", "-n", address];
                let output = std::process::Command::new("ping").args(arguments).output();
                output.unwrap().status.success()
            })
        };
        ping(&mut node, "10.0.2.1");
        ping(&mut node, "2001:db8:2::1");
        ip("link del vxlan.calico");
        ip("link set vxlan-v6.calico down");
        ping(&mut node, "10.0.2.1");
        ping(&mut node, "2001:db8:2::1");
    });
}

#[test]
fn no_route_leads_through_a_foreign_device_of_the_name() {
    on_node(|| {
        ip("link add vxlan.calico type bridge");
        ip("link set vxlan.calico up");
        let before = ip("address show vxlan.calico");
        let mut node = node();
        node.catch_up();
        let mut routes = own_routes();
        routes.retain(|route| route.contains("vxlan"));
        assert_eq!(routes, ROUTES[1..]);
        assert_eq!(node.failures.len(), 1, "{:?}", node.failures);
        assert_eq!(node.last.counters.waiting, 1);
        assert!(
            node.failures[0]
                .contains("tunnel vxlan.calico: the name belongs to a device of kind bridge"),
            "{:?}",
            node.failures
        );
        assert_eq!(ip("address show vxlan.calico"), before);
        assert!(node.tunnels[DEVICE].in_place.is_none());
        // Once it is out of the way, ours takes its place.
        ip("link del vxlan.calico");
        let took = node.until("ours", |node| {
            node.failures.is_empty() && own_routes().contains(&ROUTES[0].to_owned())
        });
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
}

#[test]
fn the_device_waits_for_its_interface_and_routes_wait_for_the_device() {
    on_node(|| {
        ip("link set eth0 name elsewhere");
        let mut node = node();
        assert!(!exists(DEVICE));
        assert_eq!(node.last.counters.waiting, 2);
        assert!(
            node.failures[0].contains("its interface eth0 is not there"),
            "{:?}",
            node.failures
        );
        ip("link set elsewhere name eth0");
        let took = node.until("in place", |node| {
            node.failures.is_empty() && exists(DEVICE) && node.last.counters.waiting == 0
        });
        assert!(took < Duration::from_secs(1), "{took:?}");
        // With its interface the kernel removes the device.
        ip("link del eth0");
        node.until("gone", |node| node.last.counters.waiting == 2);
        card("eth0", "192.0.2.1/24");
        node.until("back", |node| {
            node.last.counters.waiting == 0 && node.failures.is_empty()
        });
    });
}

#[test]
fn changes_of_mtu_and_other_ends_are_followed_without_a_new_device() {
    on_node(|| {
        let mut node = node();
        let index = link(DEVICE)["ifindex"].clone();
        let mut overlay = both();
        let vxlan = overlay.vxlan.as_mut().unwrap();
        vxlan.mtu = 1300;
        vxlan.address = Some(addr("10.0.1.2"));
        let vtep = vxlan.remotes.pop_first().unwrap().1;
        vxlan.remotes.insert(addr("10.0.2.2"), vtep);
        node.overlay(overlay);
        node.tunnelled("10.0.2.0/26", "10.0.2.2%vxlan.calico");
        node.apply();
        assert_eq!(link(DEVICE)["ifindex"], index);
        let text = state(DEVICE);
        assert!(text.contains("mtu 1300"), "{text}");
        let route = "10.0.2.0/26 via 10.0.2.2 dev vxlan.calico".to_owned();
        assert!(own_routes().contains(&route), "{:?}", own_routes());
        let route = ip("route show 10.0.2.0/26");
        assert!(route.contains("mtu 1300"), "{route}");
        node.until("swept", |_| {
            let text = state(DEVICE);
            text.contains("10.0.1.2/32")
                && !text.contains("10.0.1.1/32")
                && !text.contains("10.0.2.1 ")
        });
        assert_eq!(node.tunnels[DEVICE].in_place.unwrap().mtu, 1300);
    });
}

#[test]
fn a_device_that_is_not_wanted_lingers_and_then_goes() {
    on_node(|| {
        let mut node = Node::new(Config {
            tunnel_linger: Duration::from_millis(700),
            ..quick()
        });
        node.overlay(both());
        node.apply();
        let before = state(DEVICE);
        let start = std::time::Instant::now();
        node.overlay(Overlay {
            vxlan_v6: both().vxlan_v6,
            ..Overlay::default()
        });
        node.apply();
        assert_eq!(state(DEVICE), before, "it still takes packets");
        assert!(!node.tunnels.contains_key(DEVICE));
        node.until("gone", |_| !exists(DEVICE));
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(700), "{took:?}");
        assert!(exists("vxlan-v6.calico"));
        // Wanted again before its time is up, it stays.
        node.overlay(Overlay::default());
        node.apply();
        let index = link("vxlan-v6.calico")["ifindex"].clone();
        node.overlay(both());
        node.apply();
        let started = std::time::Instant::now();
        node.until("longer", |_| started.elapsed() > Duration::from_millis(900));
        assert_eq!(link("vxlan-v6.calico")["ifindex"], index);
        assert!(exists(DEVICE));
    });
}

#[test]
fn a_restart_takes_over_what_is_right_and_ends_what_is_not_wanted() {
    on_node(|| {
        let before = node();
        let right = state(DEVICE);
        let index = link(DEVICE)["ifindex"].clone();
        drop(before);
        let mut node = Node::new(Config {
            tunnel_linger: Duration::from_millis(300),
            ..quick()
        });
        node.overlay(Overlay {
            vxlan: both().vxlan,
            ..Overlay::default()
        });
        node.tunnelled("10.0.2.0/26", "10.0.2.1%vxlan.calico");
        node.apply();
        assert_eq!(node.last.counters.tunnels_written, 0);
        assert_eq!((state(DEVICE), &link(DEVICE)["ifindex"]), (right, &index));
        assert!(node.tunnels[DEVICE].in_place.is_some());
        node.until("left over", |_| !exists("vxlan-v6.calico"));
    });
}

#[test]
fn what_lingers_over_a_restart_is_filtered_until_it_is_gone() {
    on_node(|| {
        drop(node());
        let mut node = Node::new(Config {
            tunnel_linger: Duration::from_millis(700),
            ..quick()
        });
        node.overlay(Overlay::default());
        node.firewall(Firewall::default()).apply();
        let filtered = || run("nft", "list chain inet tortie vxlan-in").contains("drop");
        assert!(exists(DEVICE) && filtered());
        node.until("gone", |_| !exists(DEVICE) && !exists("vxlan-v6.calico"));
        node.until("unfiltered", |_| !filtered());
    });
}

#[test]
fn nothing_is_removed_before_it_was_said_which_tunnels_there_shall_be() {
    on_node(|| {
        drop(node());
        let mut node = Node::new(Config {
            tunnel_linger: Duration::ZERO,
            ..quick()
        });
        node.apply().catch_up();
        assert!(exists(DEVICE) && exists("vxlan-v6.calico"));
    });
}

#[test]
fn a_kernel_without_ipip_is_said_in_a_way_a_program_understands() {
    on_node(|| {
        let mut socket = netlink::Socket::open().unwrap();
        let kind = TunnelKind::Ipip;
        let can = socket.can_make(kind).unwrap();
        let mut node = Node::new(carried_by(UserTunnels::Never));
        node.overlay(ipip_only());
        node.tunnelled("10.0.2.0/26", "192.0.2.9%tunl0");
        node.apply();
        let report = &node.tunnels["tunl0"];
        if can {
            assert!(report.in_place.is_some() && report.problems.is_empty());
        } else {
            assert_eq!(report.problems, [ipip::Problem::Unsupported { kind }]);
            assert_eq!(own_routes(), [""; 0], "nothing leaves unwrapped");
            assert_eq!(node.last.counters.waiting, 1);
        }
    });
}

#[test]
fn routes_through_a_device_that_is_deleted_and_made_again_are_all_healed() {
    on_node(|| {
        let mut node = Node::new(quick());
        node.overlay(both());
        for number in 0..500 {
            let destination = format!("10.{}.{}.0/26", 64 + number / 250, number % 250);
            node.tunnelled(&destination, "10.0.2.1%vxlan.calico");
        }
        node.apply().catch_up();
        let count = || {
            own_routes()
                .iter()
                .filter(|route| route.contains("vxlan"))
                .count()
        };
        assert_eq!(count(), 500);
        ip("link del vxlan.calico");
        let took = node.until("healed", |_| count() == 500);
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
}

fn carried_by(user_tunnels: UserTunnels) -> Config {
    Config {
        user_tunnels,
        ..quick()
    }
}

fn ipip_only() -> Overlay {
    Overlay {
        ipip: Some(felix_calc::IpipDevice {
            address: Some("10.0.1.0".parse().unwrap()),
            local: "192.0.2.1".parse().unwrap(),
            mtu: 1480,
        }),
        ..Overlay::default()
    }
}

#[test]
fn this_process_carries_what_the_kernel_cannot() {
    on_node(|| {
        let mut socket = netlink::Socket::open().unwrap();
        let can = socket.can_make(TunnelKind::Ipip).unwrap();
        let mut node = Node::new(quick());
        node.overlay(ipip_only());
        node.tunnelled("10.0.2.0/26", "192.0.2.9%tunl0");
        node.apply().catch_up();
        let report = &node.tunnels["tunl0"];
        let carrier = report.in_place.map(|device| device.carrier);
        let wanted = if can { Carrier::Kernel } else { Carrier::User };
        assert_eq!((carrier, &report.problems[..]), (Some(wanted), &[][..]));
        assert_eq!(own_routes().len(), 1);
    });
}

#[test]
fn a_device_of_this_process_is_taken_over_and_given_back_to_the_kernel() {
    on_node(|| {
        let kind = || link(DEVICE)["linkinfo"]["info_kind"].clone();
        let index = || link(DEVICE)["ifindex"].clone();
        let start = |user_tunnels| {
            let mut node = Node::new(carried_by(user_tunnels));
            node.overlay(both());
            node.tunnelled("10.0.2.0/26", "10.0.2.1%vxlan.calico");
            node.apply().catch_up();
            assert_eq!(node.last.counters.waiting, 0);
            node
        };
        let node = start(UserTunnels::Always);
        assert_eq!(kind(), "tun");
        let before = index();
        let neighbours = ip("neigh show dev vxlan.calico nud permanent");
        assert!(
            neighbours.starts_with("10.0.2.1 lladdr 66:"),
            "{neighbours}"
        );
        drop(node);
        assert_eq!(
            own_routes().len(),
            1,
            "routes stay while nobody serves the device"
        );
        let node = start(UserTunnels::Always);
        assert_eq!(index(), before, "the next run serves the same device");
        drop(node);
        // The kernel has VXLAN: that is better.
        let node = start(UserTunnels::Fallback);
        assert_eq!(kind(), "vxlan");
        drop(node);
        start(UserTunnels::Always);
        assert_eq!(kind(), "tun");
    });
}
