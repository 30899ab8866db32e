//! Sessions between link-local addresses, in a network namespace of their own (needs root).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of a test fail by panicking and say what they skip"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use bgp::{
    Desired, Event, Handle, Local, NextHop, Options, Originate, PeerConfig, PeerInfo, Prefix,
    Speaker, State, Ttl,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

const PATIENCE: Duration = Duration::from_secs(30);

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "TORTIE_LINK_TEST";

/// Runs a test in a process of its own in a new network namespace with `left` and `right`, the
/// two ends of a wire; true in that process.
fn in_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if std::env::var_os("SKIP_PRIVILEGED").is_some() {
        eprintln!("skipped: SKIP_PRIVILEGED is set");
        return false;
    }
    let script = "ip link set lo up && ip link add left type veth peer name right \
                  && ip link set left up && ip link set right up && exec \"$0\" \"$@\"";
    let status = Command::new("unshare")
        .args(["--net", "--", "sh", "-ec", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespace");
    false
}

/// Our link-local address on an interface, once the kernel has found no other node with it.
fn link_local(interface: &str) -> Ipv6Addr {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let output = Command::new("ip")
            .args([
                "-6",
                "-o",
                "address",
                "show",
                "dev",
                interface,
                "scope",
                "link",
                "-tentative",
            ])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut words = text.split(['/', ' ']);
        if let Some(address) = words.find_map(|word| word.parse::<Ipv6Addr>().ok()) {
            return address;
        }
        assert!(std::time::Instant::now() < end, "no address on {interface}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

struct Node {
    desired: Desired,
    handle: Handle,
    events: mpsc::Receiver<Event>,
    learned: BTreeMap<Prefix, Vec<NextHop>>,
}

impl Node {
    /// A speaker in AS 64500 + `number` with one prefix of each family and one peer.
    fn start(number: u8, peer: PeerConfig) -> Node {
        let port = 1000 + u16::from(number);
        let id = Ipv4Addr::new(192, 0, 2, number);
        let mut local = Local::new(64500 + u32::from(number), id);
        local.listen = vec![SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)];
        let prefixes = [
            format!("10.{number}.0.0/24"),
            format!("2001:db8:{number}::/48"),
        ];
        let prefixes = prefixes.map(|text| (text.parse().unwrap(), Originate::default()));
        let desired = Desired {
            local,
            peers: [("peer".into(), peer)].into(),
            dynamic: BTreeMap::new(),
            originate: prefixes.into(),
        };
        let (handle, events) = Speaker::start(desired.clone(), Options::default());
        Node {
            desired,
            handle,
            events,
            learned: BTreeMap::new(),
        }
    }

    /// A peer with number `number` at an address of an interface.
    fn peer(address: IpAddr, interface: &str, number: u8) -> PeerConfig {
        let mut peer = PeerConfig::new(address, 64500 + u32::from(number));
        peer.port = 1000 + u16::from(number);
        peer.interface = Some(interface.into());
        peer
    }

    fn change(&self, peer: PeerConfig) {
        let mut desired = self.desired.clone();
        desired.peers.insert("peer".into(), peer);
        self.handle.set(desired);
    }

    async fn until_learned(&mut self, text: &str, next_hop: &NextHop) {
        let prefix: Prefix = text.parse().unwrap();
        let end = Instant::now() + PATIENCE;
        while self.learned.get(&prefix) != Some(&vec![next_hop.clone()]) {
            let event = timeout_at(end, self.events.recv()).await;
            let info = self.handle.peers().await;
            let event = event.unwrap_or_else(|_| panic!("no {text}: {:?} {info:#?}", self.learned));
            if let Event::Best(changes) = event.unwrap() {
                for (prefix, next_hops) in changes {
                    self.learned.insert(prefix, next_hops.unwrap_or_default());
                }
            }
        }
    }

    async fn info_until(&self, condition: impl Fn(&PeerInfo) -> bool) -> PeerInfo {
        let end = Instant::now() + PATIENCE;
        loop {
            let info = self.handle.peers().await.remove(0);
            if condition(&info) {
                return info;
            }
            assert!(Instant::now() < end, "{info:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Both nodes learn both families over the wire.
async fn exchange(mut left: Node, mut right: Node) {
    let on = |address: Ipv6Addr, interface: &str| NextHop {
        address: address.into(),
        interface: Some(interface.into()),
    };
    let (at_left, at_right) = (link_local("left"), link_local("right"));
    for prefix in ["10.2.0.0/24", "2001:db8:2::/48"] {
        left.until_learned(prefix, &on(at_right, "left")).await;
    }
    for prefix in ["10.1.0.0/24", "2001:db8:1::/48"] {
        right.until_learned(prefix, &on(at_left, "right")).await;
    }
}

#[test]
fn unnumbered_peers_find_each_other_and_exchange_both_families() {
    if !in_namespace("unnumbered_peers_find_each_other_and_exchange_both_families") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let any = Ipv6Addr::UNSPECIFIED.into();
        let mut to_right = Node::peer(any, "left", 2);
        to_right.password = Some("both ends".into());
        to_right.ttl = Ttl::Security { hops: 1 };
        let mut to_left = Node::peer(any, "right", 1);
        to_left.password = Some("both ends".into());
        to_left.ttl = Ttl::Security { hops: 1 };
        let left = Node::start(1, to_right);
        let right = Node::start(2, to_left);
        let info = left
            .info_until(|info| info.state == State::Established)
            .await;
        assert_eq!(IpAddr::V6(link_local("right")), info.address);
        exchange(left, right).await;
    });
}

#[test]
fn peers_with_link_local_addresses_dial_and_accept_on_their_interface() {
    if !in_namespace("peers_with_link_local_addresses_dial_and_accept_on_their_interface") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut to_right = Node::peer(link_local("right").into(), "left", 2);
        to_right.source = Some(link_local("left").into());
        let mut to_left = Node::peer(link_local("left").into(), "right", 1);
        to_left.passive = true;
        let left = Node::start(1, to_right);
        let right = Node::start(2, to_left);
        exchange(left, right).await;
    });
}

#[test]
fn gtsm_drops_what_could_come_from_further_away() {
    if !in_namespace("gtsm_drops_what_could_come_from_further_away") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut to_right = Node::peer(link_local("right").into(), "left", 2);
        to_right.ttl = Ttl::Security { hops: 1 };
        to_right.passive = true;
        // Its packets have TTL 1 as those of a router 254 hops away would have here.
        let mut to_left = Node::peer(link_local("left").into(), "right", 1);
        to_left.connect_retry_secs = Some(1);
        let left = Node::start(1, to_right);
        let right = Node::start(2, to_left.clone());
        let says = |info: &PeerInfo| {
            let error = info.last_error.as_ref();
            error.is_some_and(|error| error.contains("TTL 1, GTSM asks for 255"))
        };
        let info = left.info_until(says).await;
        assert_eq!(0, info.messages_in);
        to_left.ttl = Ttl::Security { hops: 1 };
        right.change(to_left);
        left.info_until(|info| info.state == State::Established)
            .await;
    });
}

#[test]
fn too_many_passwords_name_the_sysctl_and_are_set_once_there_is_room() {
    if !in_namespace("too_many_passwords_name_the_sysctl_and_are_set_once_there_is_room") {
        return;
    }
    let room = "/proc/sys/net/core/optmem_max";
    let before = std::fs::read_to_string(room).unwrap();
    std::fs::write(room, "100").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut to_right = Node::peer(link_local("right").into(), "left", 2);
        to_right.password = Some("long".into());
        to_right.passive = true;
        let left = Node::start(1, to_right);
        let says = |info: &PeerInfo| {
            let error = info.last_error.as_ref();
            error.is_some_and(|error| error.contains("net.core.optmem_max"))
        };
        left.info_until(says).await;
        std::fs::write(room, before).unwrap();
        let mut to_left = Node::peer(link_local("left").into(), "right", 1);
        to_left.password = Some("long".into());
        let right = Node::start(2, to_left);
        right
            .info_until(|info| info.state == State::Established)
            .await;
    });
}

#[test]
fn missing_interface_is_said_and_taken_when_it_comes() {
    if !in_namespace("missing_interface_is_said_and_taken_when_it_comes") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let any = Ipv6Addr::UNSPECIFIED.into();
        let left = Node::start(1, Node::peer(any, "late", 2));
        let right = Node::start(2, Node::peer(any, "right", 1));
        let says = |info: &PeerInfo| {
            info.last_error
                .as_ref()
                .is_some_and(|e| e.contains("no interface late"))
        };
        left.info_until(says).await;
        let rename = "ip link set left down && ip link set left name late && ip link set late up";
        let status = Command::new("sh").args(["-ec", rename]).status().unwrap();
        assert!(status.success());
        left.info_until(|info| info.state == State::Established)
            .await;
        right
            .info_until(|info| info.state == State::Established)
            .await;
    });
}
