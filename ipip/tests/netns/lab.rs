//! Two nodes on one link, and foreign tools to judge by.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use ipip::{Carrier, Device, Encapsulation, Outcome, Remote, Tunnel, Vxlan};
use netlink::netns::NetNs;
use netlink::{Socket, Veth};
use serde_json::Value;

/// Longer than any wait that ends well, in an emulated machine too.
const DEADLINE: Duration = Duration::from_secs(60);

/// A node in a namespace of its own.
pub(crate) struct Node {
    netns: NetNs,
    pub(crate) number: u8,
}

/// Two nodes with `eth0` on one link: 192.0.2.1 and .2, 2001:db8::1 and ::2.
pub(crate) fn two_nodes() -> Option<(Node, Node)> {
    let (one, two) = (Node::new(1)?, Node::new(2)?);
    one.run(|| {
        let veth = Veth {
            name: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            alias: None,
            up: true,
            peer_name: "eth0".into(),
            peer_mac: Some([2, 0, 0, 0, 0, 2]),
            peer_netns: Some(two.netns.as_fd()),
        };
        Socket::open().unwrap().create_veth(&veth).unwrap();
    });
    for node in [&one, &two] {
        node.run(|| {
            ip("link set lo up");
            ip("link set eth0 up");
            ip(&format!("address add 192.0.2.{}/24 dev eth0", node.number));
            ip(&format!(
                "address add 2001:db8::{}/64 dev eth0 nodad",
                node.number
            ));
        });
    }
    Some((one, two))
}

impl Node {
    pub(crate) fn new(number: u8) -> Option<Node> {
        match NetNs::create() {
            Ok(netns) => Some(Node { netns, number }),
            Err(_) if std::env::var("SKIP_PRIVILEGED").is_ok_and(|value| value == "1") => None,
            Err(error) => {
                panic!("{error}: these tests need root, or SKIP_PRIVILEGED=1 to leave them out")
            }
        }
    }

    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns.run(work).unwrap()
    }

    /// Prepares and sweeps a tunnel, as if there were no routes to wait for.
    pub(crate) fn set_up(&self, tunnel: &Tunnel) -> Outcome {
        let device = Device {
            tunnel: tunnel.clone(),
            carrier: Carrier::Kernel,
        };
        self.run(|| {
            let mut socket = Socket::open().unwrap();
            let prepared = device.prepare(&mut socket).unwrap();
            let swept = device.sweep(&mut socket).unwrap();
            Outcome {
                written: prepared.written + swept.written,
                problems: prepared.problems,
                observed: swept.observed,
            }
        })
    }

    /// Waits until a ping is answered.
    pub(crate) fn reaches(&self, address: &str) {
        let start = Instant::now();
        while !self.run(|| succeeds("ping", &format!("-c1 -W1 -n {address}"))) {
            assert!(start.elapsed() < DEADLINE, "no answer from {address}");
        }
    }
}

/// What a device looks like to `ip -d link`.
pub(crate) fn link(name: &str) -> Value {
    json("ip", &format!("-d link show {name}")).remove(0)
}

/// Whether there is a device of this name.
pub(crate) fn exists(name: &str) -> bool {
    succeeds("ip", &format!("link show {name}"))
}

/// Addresses of a device with their prefix lengths, but for IPv6 link-local ones.
pub(crate) fn addresses(name: &str) -> Vec<String> {
    let list = json("ip", &format!("address show dev {name}"));
    let addresses = list[0]["addr_info"].as_array().unwrap().iter();
    addresses
        .filter(|info| info["scope"] != "link")
        .map(|info| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"]))
        .collect()
}

/// Permanent neighbours of a device.
pub(crate) fn neighbours(name: &str) -> Vec<String> {
    let mut list: Vec<String> = json("ip", &format!("neigh show dev {name} nud permanent"))
        .iter()
        .map(|n| {
            format!(
                "{} {}",
                n["dst"].as_str().unwrap(),
                n["lladdr"].as_str().unwrap()
            )
        })
        .collect();
    list.sort();
    list
}

/// The forwarding table of a device.
pub(crate) fn forwarding(name: &str) -> Vec<String> {
    let mut list: Vec<String> = json("bridge", &format!("fdb show dev {name}"))
        .iter()
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
            format!("{} {} {}", text("mac"), text("dst"), text("state"))
        })
        .collect();
    list.sort();
    list
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

fn succeeds(program: &str, arguments: &str) -> bool {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    output.status.success()
}

fn json(program: &str, arguments: &str) -> Vec<Value> {
    let text = run(program, &format!("-j {arguments}"));
    if text.trim().is_empty() {
        return Vec::new();
    }
    serde_json::from_str(&text).unwrap()
}

pub(crate) fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn mac(number: u8) -> [u8; 6] {
    [0x66, 0, 0, 0, 0, number]
}

/// The VXLAN tunnel of a node, with the other one at its other end.
pub(crate) fn vxlan(number: u8) -> Tunnel {
    let other = 3 - number;
    let remote = Remote {
        mac: mac(other),
        node: addr(&format!("192.0.2.{other}")),
    };
    Tunnel {
        name: "vxlan.calico".into(),
        address: Some(addr(&format!("10.244.{number}.1"))),
        local: addr(&format!("192.0.2.{number}")),
        mtu: 1450,
        encapsulation: Encapsulation::Vxlan(Vxlan {
            vni: 4096,
            port: 4789,
            mac: mac(number),
            parent: "eth0".into(),
            remotes: BTreeMap::from([(addr(&format!("10.244.{other}.1")), remote)]),
        }),
    }
}

/// The same over and for IPv6.
pub(crate) fn vxlan_v6(number: u8) -> Tunnel {
    let other = 3 - number;
    let remote = Remote {
        mac: mac(other),
        node: addr(&format!("2001:db8::{other}")),
    };
    let mut tunnel = vxlan(number);
    tunnel.name = "vxlan-v6.calico".into();
    tunnel.address = Some(addr(&format!("fd00:10:{number}::1")));
    tunnel.local = addr(&format!("2001:db8::{number}"));
    tunnel.mtu = 1430;
    settings(&mut tunnel).remotes =
        BTreeMap::from([(addr(&format!("fd00:10:{other}::1")), remote)]);
    tunnel
}

/// The IPIP tunnel of a node.
pub(crate) fn ipip(number: u8) -> Tunnel {
    Tunnel {
        name: "tunl0".into(),
        address: Some(addr(&format!("10.244.{number}.0"))),
        local: addr(&format!("192.0.2.{number}")),
        mtu: 1480,
        encapsulation: Encapsulation::Ipip,
    }
}

pub(crate) fn settings(tunnel: &mut Tunnel) -> &mut Vxlan {
    match &mut tunnel.encapsulation {
        Encapsulation::Vxlan(settings) => settings,
        Encapsulation::Ipip => panic!("not a VXLAN tunnel"),
    }
}
