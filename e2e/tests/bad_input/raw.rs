//! A BGP peer that says whatever octets it is told to (RFC 4271 §4), written by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::cluster::{Cluster, LIMIT};
use e2e::lab::Namespace;
use e2e::node::Node;
use e2e::wait;

use crate::lab::{apply, calico, peers};

/// AS number of every raw peer.
pub(crate) const ASN: u32 = 64600;

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;

/// What raw peers announce. Only prefixes inside pools are told on (Calico behaviour), and no pod
/// shall get an address from these.
const POOLS: [&str; 3] = ["203.0.113.0/24", "198.51.100.0/24", "10.128.0.0/10"];

/// Where raw peers live: a namespace with the addresses 192.0.2.`first` and following.
pub(crate) fn host(cluster: &Cluster, first: u8, count: u8) -> Result<Namespace> {
    let namespace = cluster.lab.namespace("raw")?;
    cluster.lab.plug(&namespace, "raw", &[])?;
    let mut manifests = String::new();
    for (number, cidr) in POOLS.iter().enumerate() {
        manifests.push_str("---\n");
        let spec = format!("cidr: {cidr}, blockSize: 26, nodeSelector: '!all()'");
        manifests.push_str(&calico("IPPool", &format!("raw-{number}"), &spec));
    }
    for last in first..first + count {
        namespace.ip(&format!("address add 192.0.2.{last}/24 dev eth0"))?;
        manifests.push_str("---\n");
        manifests.push_str(&calico(
            "BGPPeer",
            &format!("raw-{last}"),
            &format!("node: node1, peerIP: 192.0.2.{last}, asNumber: {ASN}"),
        ));
    }
    apply(cluster, "raw.yaml", &manifests)?;
    for last in first..first + count {
        wait::until("the agent to expect the peer", LIMIT, || {
            let peers = peers(&cluster.nodes[0], &name(last))?;
            // Dialling fails at once: nothing listens here.
            let waits = peers.iter().any(|peer| peer["state"] == "Active");
            ensure!(waits, "{peers:?}");
            Ok(Some(()))
        })?;
    }
    Ok(namespace)
}

/// What the agent calls the session with 192.0.2.`last`.
pub(crate) fn name(last: u8) -> String {
    format!("Node_192_0_2_{last}")
}

/// The agent's view of the session.
pub(crate) fn session(node: &Node, last: u8) -> Result<serde_json::Value> {
    let found = peers(node, &name(last))?;
    found.into_iter().next().context("no such peer")
}

/// A connection with the agent.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    input: Vec<u8>,
    last: u8,
}

impl Raw {
    /// Connects from 192.0.2.`last` to the agent at 192.0.2.11.
    pub(crate) fn connect(namespace: &Namespace, last: u8) -> Result<Raw> {
        Self::connect_with(namespace, last, None)
    }

    /// As [`Raw::connect`], with a receive buffer of this size.
    pub(crate) fn connect_with(
        namespace: &Namespace,
        last: u8,
        buffer: Option<i32>,
    ) -> Result<Raw> {
        let from = SocketAddr::from(([192, 0, 2, last], 0));
        let to = SocketAddr::from(([192, 0, 2, 11], 179));
        let stream = namespace.inside(|| connect(from, to, buffer))?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Raw {
            stream,
            input: Vec::new(),
            last,
        })
    }

    /// Connects and brings the session up.
    pub(crate) fn establish(namespace: &Namespace, last: u8, hold: u16) -> Result<Raw> {
        let mut raw = Raw::connect(namespace, last)?;
        raw.shake_hands(hold)?;
        Ok(raw)
    }

    /// OPEN and KEEPALIVE in both directions.
    pub(crate) fn shake_hands(&mut self, hold: u16) -> Result<()> {
        let open = open(self.last, ASN, hold);
        self.send(&open)?;
        let (kind, body) = self.receive()?.context("closed instead of OPEN")?;
        ensure!(kind == OPEN, "message {kind} {body:?} instead of OPEN");
        let (kind, body) = self.receive()?.context("closed instead of KEEPALIVE")?;
        ensure!(
            kind == KEEPALIVE,
            "message {kind} {body:?} instead of KEEPALIVE"
        );
        self.send(&message(KEEPALIVE, &[]))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// The next message: type and body; nothing at the end of the connection.
    pub(crate) fn receive(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        let start = Instant::now();
        loop {
            if let Some(&[high, low]) = self.input.get(16..18) {
                let length = usize::from(u16::from_be_bytes([high, low]));
                if self.input.len() >= length {
                    let message: Vec<u8> = self.input.drain(..length).collect();
                    return Ok(Some((message[18], message[19..].to_vec())));
                }
            }
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error.into()),
            }
            ensure!(start.elapsed() < LIMIT, "nothing came in {LIMIT:?}");
        }
    }

    /// Reads up to the NOTIFICATION, which must be the last word: code, subcode, data.
    pub(crate) fn notification(&mut self) -> Result<(u8, u8, Vec<u8>)> {
        while let Some((kind, body)) = self.receive()? {
            if kind == NOTIFICATION {
                ensure!(self.receive()?.is_none(), "more after a NOTIFICATION");
                let [code, subcode, data @ ..] = &body[..] else {
                    bail!("a short NOTIFICATION {body:?}");
                };
                return Ok((*code, *subcode, data.to_vec()));
            }
        }
        bail!("closed without a NOTIFICATION")
    }

    /// Takes what has come so far; no NOTIFICATION and no end may be among it.
    pub(crate) fn still_open(&mut self) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(300) {
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => bail!("the agent closed the connection"),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if is_timeout(&error) => break,
                Err(error) => return Err(error.into()),
            }
        }
        while let Some(&[high, low]) = self.input.get(16..18) {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if self.input.len() < length {
                break;
            }
            let message: Vec<u8> = self.input.drain(..length).collect();
            ensure!(
                message[18] != NOTIFICATION,
                "the agent sent NOTIFICATION {:?}",
                &message[19..]
            );
        }
        Ok(())
    }

    /// Next hop of what this peer announces: itself.
    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, self.last)
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Connects from a chosen address, which the standard library cannot do.
fn connect(from: SocketAddr, to: SocketAddr, buffer: Option<i32>) -> Result<TcpStream> {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
    };
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else {
        bail!("IPv4 only");
    };
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    if let Some(octets) = buffer {
        setsockopt(&socket, sockopt::RcvBuf, &usize::try_from(octets)?)?;
    }
    bind(socket.as_raw_fd(), &SockaddrIn::from(from))?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(to))?;
    Ok(TcpStream::from(socket))
}

/// A message with a good header.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    let length = u16::try_from(19 + body.len()).unwrap_or(u16::MAX);
    message.extend(length.to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// An OPEN: version 4, IPv4 unicast, four-octet AS number.
pub(crate) fn open(last: u8, asn: u32, hold: u16) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let mut body = vec![4];
    // AS_TRANS for what two octets cannot say (RFC 6793 §9).
    body.extend(u16::try_from(asn).unwrap_or(23456).to_be_bytes());
    body.extend(hold.to_be_bytes());
    body.extend([192, 0, 2, last]);
    let length = u8::try_from(capabilities.len()).unwrap_or(0);
    body.extend([length + 2, 2, length]);
    body.extend(capabilities);
    message(OPEN, &body)
}

/// One path attribute with the flags given.
pub(crate) fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
    [&[flags, kind, length], value].concat()
}

/// The attributes of a good route: ORIGIN, AS_PATH, NEXT_HOP.
pub(crate) fn good_attributes(next_hop: Ipv4Addr) -> [Vec<u8>; 3] {
    [
        attribute(0x40, 1, &[0]),
        attribute(0x40, 2, &[&[2, 1][..], &ASN.to_be_bytes()].concat()),
        attribute(0x40, 3, &next_hop.octets()),
    ]
}

/// An UPDATE that announces IPv4 prefixes.
pub(crate) fn update(attributes: &[Vec<u8>], prefixes: &[(Ipv4Addr, u8)]) -> Vec<u8> {
    let attributes = attributes.concat();
    let length = u16::try_from(attributes.len()).unwrap_or(u16::MAX);
    let mut body = vec![0, 0];
    body.extend(length.to_be_bytes());
    body.extend(attributes);
    for (address, length) in prefixes {
        body.push(*length);
        body.extend(&address.octets()[..usize::from(length.div_ceil(8)).min(4)]);
    }
    message(UPDATE, &body)
}
