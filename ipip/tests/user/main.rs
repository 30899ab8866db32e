//! The tunnel in user space beside the kernel's, judged with ping, `ip -j` and TCP streams.
//! Each test makes its own network namespaces. IPIP beside the kernel's is in
//! `tests/user_ipip_kernel.rs`, for kernels that have it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "the helpers of tests are tests too, and serve other tests as well"
)]

mod lab;

use std::net::{IpAddr, SocketAddr, UdpSocket};

use ipip::user::{Reason, Wire};
use lab::{Carrier, Lab, VXLAN, eventually};

/// Pings of all sizes around the MTU, and a stream in both directions.
fn carries_everything(wire: Wire, v6: bool, carriers: [Carrier; 2]) {
    let Some(mut lab) = Lab::new(wire, v6) else {
        return;
    };
    lab.carry(0, carriers[0]);
    lab.carry(1, carriers[1]);
    lab.wait_for_ping();
    let headers = if v6 { 48 } else { 28 };
    let fits = lab.mtu() - headers;
    for node in [0, 1] {
        for size in [1, 500, fits - 1, fits] {
            let options = format!("-c 2 -i 0.2 -M do -s {size}");
            let (all, text) = lab.ping(node, &options);
            assert!(all, "from {node}, {options}: {text}");
        }
        eventually("the MTU is told", || {
            let (_, text) = lab.ping(node, &format!("-c 1 -M do -s {}", fits + 1));
            let mtu = lab.mtu();
            [
                format!("mtu = {mtu}"),
                format!("mtu={mtu}"),
                format!("mtu: {mtu}"),
            ]
            .iter()
            .any(|said| text.contains(said))
        });
        let (all, text) = lab.ping(node, "-c 2 -i 0.2 -M dont -s 4000");
        assert!(all, "in fragments: {text}");
        lab.transfer(node, 16);
    }
    for node in [0, 1] {
        if carriers[node] == Carrier::User {
            let counters = lab.tunnel(node).counters();
            assert!(counters.sent_bytes > 16 << 20 && counters.received_bytes > 16 << 20);
            for reason in [Reason::Malformed, Reason::ForeignSource, Reason::Loop] {
                assert_eq!(counters.dropped(reason), 0, "{reason:?} at {node}");
            }
            assert_eq!(lab.tunnel(node).health().failure, None);
        }
    }
}

#[test]
fn vxlan_talks_to_the_kernels() {
    carries_everything(VXLAN, false, [Carrier::User, Carrier::Kernel]);
}

#[test]
fn vxlan_over_ipv6_talks_to_the_kernels() {
    carries_everything(VXLAN, true, [Carrier::Kernel, Carrier::User]);
}

#[test]
fn vxlan_talks_to_itself() {
    carries_everything(VXLAN, false, [Carrier::User, Carrier::User]);
}

#[test]
fn vxlan_over_ipv6_talks_to_itself() {
    carries_everything(VXLAN, true, [Carrier::User, Carrier::User]);
}

#[test]
fn ipip_talks_to_itself() {
    carries_everything(Wire::Ipip, false, [Carrier::User, Carrier::User]);
}

#[test]
fn packets_flow_again_after_a_kill() {
    for wire in [VXLAN, Wire::Ipip] {
        let Some(mut lab) = Lab::new(wire, false) else {
            return;
        };
        let program = example("user_tunnel");
        let mut tunnel = lab.spawn("node0", &program, &lab.arguments(0));
        eventually("the device", || {
            lab.try_ip("node0", &format!("link show {}", lab.device(0)))
                .status
                .success()
        });
        lab.route(0);
        lab.carry(1, Carrier::User);
        lab.wait_for_ping();
        let routes = || lab.ip_json("node0", &format!("route show dev {}", lab.device(0)));
        let before = routes().len();
        assert!(before > 0);
        let index =
            || lab.ip_json("node0", &format!("link show {}", lab.device(0)))[0]["ifindex"].as_u64();
        let device = index();
        tunnel.kill();
        assert!(!lab.ping(0, "-c 1 -W 1").0, "nobody carries packets now");
        assert_eq!(routes().len(), before, "routes stay");
        let _tunnel = lab.spawn("node0", &program, &lab.arguments(0));
        lab.wait_for_ping();
        assert_eq!(index(), device, "the device is the same");
    }
}

/// Built with the tests of this package.
fn example(name: &str) -> String {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(|deps| deps.parent()).unwrap();
    let path = folder.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is not built: cargo build --examples",
        path.display()
    );
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_restarted_tunnel_serves_the_same_device() {
    let Some(mut lab) = Lab::new(Wire::Ipip, false) else {
        return;
    };
    lab.carry(0, Carrier::User);
    lab.carry(1, Carrier::User);
    lab.wait_for_ping();
    lab.stop(0);
    lab.start(0);
    lab.wait_for_ping();
}

/// A VXLAN datagram with an ICMP echo request from pod 1 to pod 0.
fn forged(lab: &Lab) -> Vec<u8> {
    let mut bytes = vec![8, 0, 0, 0, 0, 0x10, 0, 0];
    bytes.extend([0x66, 0, 0, 0, 0, 0, 0x66, 0, 0, 0, 0, 1, 8, 0]);
    let mut ip = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0];
    for node in [1, 0] {
        let IpAddr::V4(pod) = lab.pod(node) else {
            panic!("IPv4 only")
        };
        ip.extend(pod.octets());
    }
    let sum = ip
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(ip);
    // An echo request whose own sum is 0xf7ff.
    bytes.extend([8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    bytes
}

fn echo_requests(lab: &Lab) -> u64 {
    let text = lab.exec("pod0", "cat", "/proc/net/snmp");
    let mut lines = text.lines().filter(|line| line.starts_with("Icmp:"));
    let names = lines.next().unwrap().split_whitespace();
    let values = lines.next().unwrap().split_whitespace();
    let (_, value) = names
        .zip(values)
        .find(|(name, _)| *name == "InEchos")
        .unwrap();
    value.parse().unwrap()
}

#[test]
fn packets_from_strangers_are_dropped_and_counted() {
    let Some(mut lab) = Lab::new(VXLAN, false) else {
        return;
    };
    lab.carry(0, Carrier::User);
    lab.ip("node1", "addr add 192.0.2.66/24 dev eth0");
    let send = |source: &str| {
        let source: SocketAddr = format!("{source}:0").parse().unwrap();
        let to = SocketAddr::new(lab.node(0), 4789);
        let socket = lab
            .open("node1")
            .run(|| UdpSocket::bind(source).unwrap())
            .unwrap();
        socket.send_to(&forged(&lab), to).unwrap();
    };
    let strangers = || lab.tunnel(0).counters().dropped(Reason::ForeignSource);
    send("192.0.2.66");
    eventually("a count", || strangers() == 1);
    assert_eq!(lab.tunnel(0).counters().received_packets, 0);
    // The same bytes from a node of the cluster do arrive.
    send("192.0.2.2");
    eventually("an echo request", || echo_requests(&lab) == 1);
    // What came from the stranger would have come before.
    assert_eq!(echo_requests(&lab), 1);
    lab.tunnel(0).update(ipip::user::Peers::default());
    send("192.0.2.2");
    eventually("a count", || strangers() == 2);
}

#[test]
fn a_route_to_the_node_through_its_own_tunnel_is_no_loop() {
    for wire in [Wire::Ipip, VXLAN] {
        let Some(mut lab) = Lab::new(wire, false) else {
            return;
        };
        lab.carry(0, Carrier::User);
        lab.carry(1, Carrier::User);
        lab.wait_for_ping();
        let gateway = match wire {
            Wire::Ipip => lab.node(1),
            Wire::Vxlan { .. } => lab.tunnel_address(1),
        };
        let route = format!("{} via {gateway} dev {} onlink", lab.node(1), lab.device(0));
        lab.ip("node0", &format!("route add {route}"));
        assert!(!lab.ping(0, "-c 3 -i 0.2 -W 1").0);
        let counters = lab.tunnel(0).counters();
        assert!(
            counters.dropped(Reason::Loop) >= 3,
            "{wire:?}: {counters:?}"
        );
        assert!(counters.sent_packets < 1000, "{wire:?}: {counters:?}");
        lab.ip("node0", &format!("route del {route}"));
        lab.wait_for_ping();
    }
}

#[test]
fn a_narrow_way_is_told_to_the_sender() {
    let Some(mut lab) = Lab::new(Wire::Ipip, false) else {
        return;
    };
    lab.carry(0, Carrier::User);
    lab.carry(1, Carrier::User);
    lab.wait_for_ping();
    lab.ip("node0", "route add 192.0.2.2 dev eth0 mtu lock 1300");
    eventually("the pod hears of it", || {
        lab.ping(0, "-c 1 -M do -s 1400").1.contains("mtu = 1280")
    });
    let (all, text) = lab.ping(0, "-c 2 -i 0.2 -M do -s 1252");
    assert!(all, "{text}");
    assert!(lab.tunnel(0).counters().dropped(Reason::TooBig) > 0);
}

#[test]
fn vxlan_goes_in_fragments_where_the_way_is_narrow() {
    let Some(mut lab) = Lab::new(VXLAN, false) else {
        return;
    };
    lab.carry(0, Carrier::User);
    lab.carry(1, Carrier::User);
    lab.wait_for_ping();
    lab.ip("node0", "route add 192.0.2.2 dev eth0 mtu lock 1300");
    let (all, text) = lab.ping(0, "-c 2 -i 0.2 -M do -s 1400");
    assert!(all, "{text}");
    lab.transfer(0, 4);
}

#[test]
fn a_device_that_goes_is_reported_and_made_again() {
    let Some(mut lab) = Lab::new(VXLAN, false) else {
        return;
    };
    lab.carry(0, Carrier::User);
    lab.carry(1, Carrier::User);
    lab.wait_for_ping();
    lab.ip("node0", &format!("link del {}", lab.device(0)));
    eventually("a report", || lab.tunnel(0).health().restarts > 0);
    eventually("a new device", || lab.tunnel(0).health().failure.is_none());
    lab.route(0);
    lab.wait_for_ping();
}

#[test]
fn a_device_of_another_kind_is_left_alone() {
    let Some(lab) = Lab::new(VXLAN, false) else {
        return;
    };
    lab.ip("node0", "link add vxlan.calico type veth peer name other");
    let config = ipip::user::Config {
        device: "vxlan.calico".to_owned(),
        mac: [2; 6],
        mtu: 1450,
        wire: VXLAN,
        local: lab.node(0),
        queues: 1,
    };
    let error = lab
        .open("node0")
        .run(|| ipip::user::Tunnel::start(config))
        .unwrap()
        .unwrap_err();
    assert!(
        error.to_string().starts_with("attach to vxlan.calico: "),
        "{error}"
    );
    let link = lab.ip_json("node0", "-d link show vxlan.calico");
    assert_eq!(link[0]["linkinfo"]["info_kind"], "veth");
}
