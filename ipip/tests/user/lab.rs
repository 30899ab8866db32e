//! Two nodes on a wire, a pod behind each, and what carries packets between them.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ipip::user::{Config, Peers, Tunnel, Wire, ipip_mac};
use netlink::netns::NetNs;
use serde_json::Value;

pub(crate) const VXLAN: Wire = Wire::Vxlan {
    vni: 4096,
    port: 4789,
};
const PATIENCE: Duration = Duration::from_secs(30);

/// What carries packets at one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    User,
    Kernel,
}

/// Two nodes, 0 and 1, and their pods. Removed when dropped.
pub(crate) struct Lab {
    id: String,
    wire: Wire,
    v6: bool,
    tunnels: [Option<Tunnel>; 2],
    kernel: [bool; 2],
    /// Name of IPIP devices in user space; where the kernel has IPIP, `tunl0` is its own everywhere.
    pub(crate) ipip_name: &'static str,
}

impl Lab {
    /// Nothing where tests that need root are left out.
    pub(crate) fn new(wire: Wire, v6: bool) -> Option<Lab> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if let Err(error) = NetNs::create() {
            let skip = std::env::var("SKIP_PRIVILEGED").is_ok_and(|value| value == "1");
            assert!(skip, "{error}: these tests need root, or SKIP_PRIVILEGED=1");
            return None;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let lab = Lab {
            id: format!("ut{}-{count}", std::process::id()),
            wire,
            v6,
            tunnels: [None, None],
            kernel: [false; 2],
            ipip_name: "tunl0",
        };
        lab.build();
        Some(lab)
    }

    fn build(&self) {
        for place in ["node0", "node1", "pod0", "pod1"] {
            run("ip", &format!("netns add {}", self.netns(place)));
            self.ip(place, "link set lo up");
        }
        let other = self.netns("node1");
        self.ip(
            "node0",
            &format!("link add eth0 type veth peer name eth0 netns {other}"),
        );
        let nodad = if self.v6 { "nodad" } else { "" };
        for node in [0, 1] {
            let (place, pod) = (format!("node{node}"), self.netns(&format!("pod{node}")));
            self.ip(
                &place,
                &format!(
                    "addr add {}/{} dev eth0 {nodad}",
                    self.node(node),
                    self.bits(24, 64)
                ),
            );
            self.ip(&place, "link set eth0 up");
            self.ip(
                &place,
                &format!("link add cali0 type veth peer name eth0 netns {pod}"),
            );
            self.ip(&place, "link set cali0 up");
            for (place, address) in [
                (place.clone(), self.gateway(node)),
                (format!("pod{node}"), self.pod(node)),
            ] {
                let device = if place.starts_with("pod") {
                    "eth0"
                } else {
                    "cali0"
                };
                self.ip(
                    &place,
                    &format!(
                        "addr add {address}/{} dev {device} {nodad}",
                        self.bits(28, 124)
                    ),
                );
            }
            let pod = format!("pod{node}");
            self.ip(&pod, "link set eth0 up");
            let family = if self.v6 { "-6 " } else { "" };
            self.ip(
                &pod,
                &format!("{family}route add default via {}", self.gateway(node)),
            );
            let forward = if self.v6 {
                "ipv6.conf.all.forwarding"
            } else {
                "ipv4.ip_forward"
            };
            self.exec(&place, "sysctl", &format!("-qw net.{forward}=1"));
        }
    }

    fn bits(&self, v4: u8, v6: u8) -> u8 {
        if self.v6 { v6 } else { v4 }
    }

    /// Name of a network namespace: `node0`, `node1`, `pod0`, `pod1`.
    pub(crate) fn netns(&self, place: &str) -> String {
        format!("{}-{place}", self.id)
    }

    /// Address of a node.
    pub(crate) fn node(&self, node: usize) -> IpAddr {
        self.address(
            &format!("192.0.2.{}", node + 1),
            &format!("2001:db8::{}", node + 1),
        )
    }

    /// Tunnel address of a node.
    pub(crate) fn tunnel_address(&self, node: usize) -> IpAddr {
        self.address(&format!("10.{node}.0.1"), &format!("fd00:{node}::1"))
    }

    fn gateway(&self, node: usize) -> IpAddr {
        self.address(&format!("10.{node}.0.17"), &format!("fd00:{node}::11"))
    }

    /// Address of a pod.
    pub(crate) fn pod(&self, node: usize) -> IpAddr {
        self.address(&format!("10.{node}.0.18"), &format!("fd00:{node}::12"))
    }

    fn address(&self, v4: &str, v6: &str) -> IpAddr {
        if self.v6 { v6 } else { v4 }.parse().unwrap()
    }

    fn mac(&self, node: usize) -> [u8; 6] {
        match (self.wire, self.node(node)) {
            (Wire::Ipip, IpAddr::V4(address)) => ipip_mac(address),
            _ => [0x66, 0, 0, 0, 0, node as u8],
        }
    }

    /// Name of a node's device.
    pub(crate) fn device(&self, node: usize) -> &'static str {
        match (self.wire, self.v6) {
            (Wire::Ipip, _) if self.kernel[node] => "tunl0",
            (Wire::Ipip, _) => self.ipip_name,
            (_, false) => "vxlan.calico",
            (_, true) => "vxlan-v6.calico",
        }
    }

    pub(crate) fn mtu(&self) -> u32 {
        1500 - self.wire.overhead(self.v6)
    }

    pub(crate) fn peers(&self) -> Peers {
        let bits = self.bits(32, 128);
        Peers::new(
            [0, 1].map(|node| (self.node(node), bits)),
            [0, 1].map(|node| (self.mac(node), self.node(node))),
        )
    }

    /// Lets a node carry packets, and routes the other pod through its device.
    pub(crate) fn carry(&mut self, node: usize, carrier: Carrier) {
        self.kernel[node] = carrier == Carrier::Kernel;
        match carrier {
            Carrier::User => self.start(node),
            Carrier::Kernel => self.kernel(node),
        }
        self.route(node);
    }

    /// Starts the tunnel of a node in this process.
    pub(crate) fn start(&mut self, node: usize) {
        let config = Config {
            device: self.device(node).to_owned(),
            mac: self.mac(node),
            mtu: self.mtu(),
            wire: self.wire,
            local: self.node(node),
            queues: 2,
        };
        let netns = self.open(&format!("node{node}"));
        let tunnel = netns.run(|| Tunnel::start(config)).unwrap().unwrap();
        tunnel.update(self.peers());
        self.tunnels[node] = Some(tunnel);
    }

    pub(crate) fn stop(&mut self, node: usize) {
        self.tunnels[node].take().unwrap().stop();
    }

    /// The tunnel of a node in this process.
    pub(crate) fn tunnel(&self, node: usize) -> &Tunnel {
        self.tunnels[node].as_ref().unwrap()
    }

    /// The arguments of the example `user_tunnel` for a node.
    pub(crate) fn arguments(&self, node: usize) -> Vec<String> {
        let hex = |mac: [u8; 6]| mac.map(|octet| format!("{octet:02x}")).join(":");
        let wire = match self.wire {
            Wire::Ipip => "ipip".to_owned(),
            Wire::Vxlan { vni, port } => format!("vxlan:{vni}:{port}:{}", hex(self.mac(node))),
        };
        let mut arguments = vec![
            self.device(node).to_owned(),
            wire,
            self.node(node).to_string(),
        ];
        arguments.extend([0, 1].map(|node| format!("{}={}", hex(self.mac(node)), self.node(node))));
        arguments
    }

    fn kernel(&self, node: usize) {
        let (place, device) = (format!("node{node}"), self.device(node));
        let mac = self.mac(node).map(|octet| format!("{octet:02x}")).join(":");
        let (local, other) = (self.node(node), self.node(1 - node));
        match self.wire {
            Wire::Ipip => {
                // Where the module is loaded, every namespace has one already.
                self.try_ip(&place, &format!("link add {device} type ipip"));
            }
            Wire::Vxlan { vni, port } => {
                self.ip(&place, &format!(
                    "link add {device} address {mac} type vxlan id {vni} dstport {port} local {local} dev eth0 nolearning"
                ));
                let peer = self
                    .mac(1 - node)
                    .map(|octet| format!("{octet:02x}"))
                    .join(":");
                let bridge = format!("fdb add {peer} dst {other} dev {device} self permanent");
                self.exec(&place, "bridge", &bridge);
            }
        }
    }

    /// Address, neighbours and route of a node's device.
    pub(crate) fn route(&self, node: usize) {
        let (place, device) = (format!("node{node}"), self.device(node));
        self.ip(&place, &format!("link set {device} mtu {} up", self.mtu()));
        let nodad = if self.v6 { "nodad" } else { "" };
        let bits = self.bits(32, 128);
        self.ip(
            &place,
            &format!(
                "addr add {}/{bits} dev {device} {nodad}",
                self.tunnel_address(node)
            ),
        );
        let gateway = match self.wire {
            Wire::Ipip => self.node(1 - node),
            Wire::Vxlan { .. } => {
                let mac = self
                    .mac(1 - node)
                    .map(|octet| format!("{octet:02x}"))
                    .join(":");
                let gateway = self.tunnel_address(1 - node);
                self.ip(
                    &place,
                    &format!("neigh replace {gateway} lladdr {mac} dev {device} nud permanent"),
                );
                gateway
            }
        };
        let net = self.address(
            &format!("10.{}.0.0", 1 - node),
            &format!("fd00:{}::", 1 - node),
        );
        let (family, length) = if self.v6 { ("-6", 64) } else { ("-4", 24) };
        self.ip(
            &place,
            &format!("{family} route replace {net}/{length} via {gateway} dev {device} onlink"),
        );
    }

    pub(crate) fn open(&self, place: &str) -> NetNs {
        NetNs::open(format!("/run/netns/{}", self.netns(place))).unwrap()
    }

    pub(crate) fn ip(&self, place: &str, arguments: &str) -> String {
        run("ip", &format!("-n {} {arguments}", self.netns(place)))
    }

    pub(crate) fn try_ip(&self, place: &str, arguments: &str) -> Output {
        output("ip", &format!("-n {} {arguments}", self.netns(place)))
    }

    pub(crate) fn ip_json(&self, place: &str, arguments: &str) -> Vec<Value> {
        serde_json::from_str(&self.ip(place, &format!("-j {arguments}"))).unwrap()
    }

    pub(crate) fn exec(&self, place: &str, program: &str, arguments: &str) -> String {
        run(
            "ip",
            &format!("netns exec {} {program} {arguments}", self.netns(place)),
        )
    }

    /// Starts a program that is killed when dropped.
    pub(crate) fn spawn(&self, place: &str, program: &str, arguments: &[String]) -> Running {
        let child = Command::new("ip")
            .args(["netns", "exec", &self.netns(place), program])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Running(child)
    }

    /// Pings the other node's pod; what ping says, and whether all answers came.
    pub(crate) fn ping(&self, from: usize, options: &str) -> (bool, String) {
        let place = self.netns(&format!("pod{from}"));
        let arguments = format!(
            "netns exec {place} ping -n -W 2 {options} {}",
            self.pod(1 - from)
        );
        let output = output("ip", &arguments);
        let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        (output.status.success(), texts.concat())
    }

    /// Waits until pods reach each other.
    pub(crate) fn wait_for_ping(&self) {
        eventually("a ping between the pods", || self.ping(0, "-c 1").0);
    }

    /// Sends so many megabytes from one pod to the other; they must arrive as they are.
    pub(crate) fn transfer(&self, from: usize, megabytes: usize) {
        let (sender, receiver) = (format!("pod{from}"), format!("pod{}", 1 - from));
        let listener = self
            .open(&receiver)
            .run(|| TcpListener::bind((self.pod(1 - from), 0)).unwrap())
            .unwrap();
        let to = listener.local_addr().unwrap();
        let receive = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut hash = 0;
            let mut block = vec![0; 1 << 16];
            let mut total = 0;
            loop {
                let length = stream.read(&mut block).unwrap();
                if length == 0 {
                    return (total, hash);
                }
                total += length;
                for byte in &block[..length] {
                    hash = digest(hash, *byte);
                }
            }
        });
        let stream = self
            .open(&sender)
            .run(|| TcpStream::connect_timeout(&to, PATIENCE).unwrap())
            .unwrap();
        let mut stream = stream;
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut hash = 0;
        let mut state = 1_u64;
        for _ in 0..megabytes * 16 {
            let block: Vec<u8> = (0..1 << 16)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (state >> 33) as u8
                })
                .collect();
            for byte in &block {
                hash = digest(hash, *byte);
            }
            stream.write_all(&block).unwrap();
        }
        drop(stream);
        let (total, received) = receive.join().unwrap();
        assert_eq!(total, megabytes << 20);
        assert_eq!(received, hash, "what arrived is not what was sent");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.tunnels = [None, None];
        for place in ["node0", "node1", "pod0", "pod1"] {
            output("ip", &format!("netns del {}", self.netns(place)));
        }
    }
}

/// A program that is killed when dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// What it printed.
    pub(crate) fn finish(mut self) -> String {
        let mut text = String::new();
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A hash that is cheap even in an emulated machine (FNV-1a).
fn digest(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

fn output(program: &str, arguments: &str) -> Output {
    Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn run(program: &str, arguments: &str) -> String {
    let output = output(program, arguments);
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
