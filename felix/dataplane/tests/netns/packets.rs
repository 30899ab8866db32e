//! Namespaces with real packets between them, seen by `tcpdump`.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use netlink::netns::NetNs;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{DEADLINE, ip, new_netns};

/// Where all packets of tests go to or come from when they do not say otherwise.
pub(crate) const PORT: u16 = 5000;
/// `IPPROTO_RAW`: the header is part of what is sent.
const IPPROTO_RAW: i32 = 255;

/// A namespace by what it is in the test.
pub(crate) struct Place {
    netns: NetNs,
}

impl Place {
    pub(crate) fn new() -> Option<Place> {
        let place = Place {
            netns: new_netns()?,
        };
        place.run(|| ip("link set lo up"));
        Some(place)
    }

    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns.run(work).unwrap()
    }

    /// Runs `ip` with each line.
    pub(crate) fn ip(&self, lines: &[&str]) {
        self.run(|| {
            for line in lines {
                ip(line);
            }
        });
    }

    /// A path to the namespace for `ip link`.
    fn path(&self) -> String {
        let fd = self.netns.as_fd().as_raw_fd();
        format!("/proc/{}/fd/{fd}", std::process::id())
    }

    /// Sends a UDP packet with ports 5000.
    pub(crate) fn send(&self, from: &str, to: &str) {
        self.send_to(from, to, PORT);
    }

    /// Sends a UDP packet from port 5000 to this one.
    pub(crate) fn send_to(&self, from: &str, to: &str, port: u16) {
        let from = SocketAddr::new(from.parse().unwrap(), PORT);
        let to = SocketAddr::new(to.parse().unwrap(), port);
        self.run(|| {
            let socket = Socket::new(Domain::for_address(from), Type::DGRAM, None).unwrap();
            // A program that another test starts holds the last socket for a moment.
            socket.set_reuse_address(true).unwrap();
            socket.bind(&from.into()).unwrap();
            socket.send_to(b"test", &to.into()).unwrap();
        });
    }

    /// Sends an IPv4 packet as it is, whatever its source.
    pub(crate) fn send_raw(&self, packet: &[u8]) {
        let to: [u8; 4] = packet[16..20].try_into().unwrap();
        let to = SocketAddr::new(Ipv4Addr::from(to).into(), 0);
        self.run(|| {
            let socket = raw_socket(IPPROTO_RAW);
            socket.send_to(packet, &to.into()).unwrap();
        });
    }

    /// Connects by TCP and closes; the listener is in `there`.
    pub(crate) fn connect(&self, there: &Place, to: &str) {
        let to = SocketAddr::new(to.parse().unwrap(), PORT);
        let listener = there.run(|| TcpListener::bind(to).unwrap());
        self.run(|| TcpStream::connect_timeout(&to, DEADLINE).unwrap());
        listener.accept().unwrap();
    }

    /// What receives IPv4 packets of a protocol above IP.
    pub(crate) fn receiver(&self, protocol: u8) -> Socket {
        self.run(|| {
            let socket = raw_socket(protocol.into());
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            socket
        })
    }

    /// Starts to look at what comes in by an interface.
    pub(crate) fn capture(&self, interface: &str, filter: &str) -> Capture {
        let mut arguments = vec![
            "-n",
            "-l",
            "-q",
            "-Q",
            "in",
            "--immediate-mode",
            "-i",
            interface,
        ];
        arguments.extend(filter.split_whitespace());
        let mut tcpdump = self.run(|| {
            Command::new("tcpdump")
                .args(arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("tcpdump is installed")
        });
        let mut started = BufReader::new(tcpdump.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(started.read_line(&mut line).unwrap() > 0, "tcpdump ended");
        }
        let output = BufReader::new(tcpdump.stdout.take().unwrap());
        let (found, lines) = channel();
        std::thread::spawn(move || {
            // What else it says must not fill its pipe.
            let _started = started;
            for line in output.lines().map_while(Result::ok) {
                if found.send(line).is_err() {
                    return;
                }
            }
        });
        Capture {
            tcpdump,
            lines: Mutex::new(lines),
        }
    }
}

fn raw_socket(protocol: i32) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(protocol))).unwrap();
    socket.set_broadcast(true).unwrap();
    socket
}

/// Connects two places with a cable.
pub(crate) fn cable(one: (&Place, &str), other: (&Place, &str)) {
    let (near, far) = (one.1, other.1);
    let path = other.0.path();
    one.0.run(|| {
        ip(&format!(
            "link add {near} type veth peer name {far} netns {path}"
        ));
        ip(&format!("link set {near} up"));
    });
    other.0.ip(&[&format!("link set {far} up")]);
}

/// Puts a pod behind a workload interface of a node; the node still needs a route to it.
pub(crate) fn pod(node: &Place, interface: &str, address: &str) -> Option<Place> {
    let pod = Place::new()?;
    cable((node, interface), (&pod, "eth0"));
    node.ip(&[
        &format!("link set {interface} address ee:ee:ee:ee:ee:ee"),
        &format!("address add fe80::ecee:eeff:feee:eeee/64 dev {interface} nodad"),
    ]);
    pod.ip(&[
        &format!("address add {address}/32 dev eth0"),
        "route add 169.254.1.1 dev eth0 scope link",
        "route add default via 169.254.1.1",
        "neighbour add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent",
    ]);
    Some(pod)
}

/// What `tcpdump` prints.
pub(crate) struct Capture {
    tcpdump: Child,
    lines: Mutex<Receiver<String>>,
}

impl Capture {
    /// The next packet, such as `10.0.1.5.5000 > 203.0.113.9.5000`.
    pub(crate) fn next(&self) -> String {
        let line = match self.lines.lock().unwrap().recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("no packet within {DEADLINE:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("tcpdump ended"),
        };
        let packet = line.split_once(" IP").expect("an IP packet").1;
        let (ends, _) = packet.split_once(':').map_or((packet, ""), |_| {
            // IPv6 addresses have colons too: the one behind the ports has a space behind it.
            packet.split_once(": ").unwrap_or((packet, ""))
        });
        ends.trim_start_matches('6').trim().to_owned()
    }

    /// The source address of the next packet, and its port.
    pub(crate) fn next_source(&self) -> (IpAddr, u16) {
        let packet = self.next();
        let source = packet.split(" > ").next().unwrap();
        let (address, port) = source.rsplit_once('.').unwrap();
        (address.parse().unwrap(), port.parse().unwrap())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}

/// An IPv4 packet; the kernel fills in lengths and checksum of the header.
pub(crate) fn packet(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let octets = |text: &str| text.parse::<Ipv4Addr>().unwrap().octets();
    let length = u16::try_from(20 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    packet.extend(octets(source));
    packet.extend(octets(destination));
    packet.extend(payload);
    packet
}

/// A UDP header without a checksum, and four octets.
pub(crate) fn udp(from: u16, to: u16) -> Vec<u8> {
    let mut datagram = from.to_be_bytes().to_vec();
    datagram.extend(to.to_be_bytes());
    datagram.extend([0, 12, 0, 0]);
    datagram.extend(b"test");
    datagram
}

/// Waits for a packet on a raw socket and returns its source.
pub(crate) fn source_of_next(mut socket: &Socket) -> Ipv4Addr {
    let mut buffer = [0; 2048];
    let length = socket.read(&mut buffer).expect("a packet");
    assert!(length >= 20);
    let source: [u8; 4] = buffer[12..16].try_into().unwrap();
    Ipv4Addr::from(source)
}

/// Tries until it holds.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "not {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a program with words as arguments; its output with all white space the same.
pub(crate) fn words(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    same_spaces(&String::from_utf8(output.stdout).unwrap())
}

pub(crate) fn same_spaces(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
