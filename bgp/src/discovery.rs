//! Finds the neighbour of an unnumbered peer: whoever sends router advertisements on the link
//! (RFC 4861), as FRR does for `neighbor eth0 interface`. So that the neighbour finds us too, we
//! send some, with a router lifetime of 0: nobody takes us for a default router.
//!
//! Where several routers are on the link, the first that is heard stays the neighbour until it
//! has been silent for a while.

mod packet;

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::socket;
use packet::Said;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Between two advertisements of ours, at first and later on.
const FIRST: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(10);

/// A neighbour that was not heard for so long gives way to another one.
const SILENCE: Duration = Duration::from_secs(45);

/// Wait after an error, such as an interface that is not there yet.
const RETRY: Duration = Duration::from_secs(2);

/// What was found on a link.
#[derive(Debug)]
pub(crate) struct Discovered {
    pub(crate) interface: Arc<str>,
    /// The neighbour's link-local address, or why nobody can be found.
    pub(crate) found: Result<Ipv6Addr, String>,
}

/// Looks at one link until it is dropped.
#[derive(Debug)]
pub(crate) struct Discovery(JoinHandle<()>);

impl Discovery {
    pub(crate) fn start(
        runtime: &Handle,
        interface: Arc<str>,
        news: mpsc::Sender<Discovered>,
    ) -> Discovery {
        Discovery(runtime.spawn(run(interface, news)))
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(interface: Arc<str>, news: mpsc::Sender<Discovered>) {
    let mut told = None;
    while let Err(error) = watch(&interface, &news).await {
        let error = format!("cannot look for a neighbour on {interface}: {error}");
        if told.as_ref() != Some(&error) {
            tracing::warn!(error);
            told = Some(error.clone());
            let interface = interface.clone();
            let found = Err(error);
            if news.send(Discovered { interface, found }).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Looks at a link until something is wrong with it, or nobody wants to know any more.
async fn watch(interface: &Arc<str>, news: &mpsc::Sender<Discovered>) -> io::Result<()> {
    let mut link = Link::open(interface)?;
    let mut neighbour: Option<(Ipv6Addr, Instant)> = None;
    let mut wait = FIRST;
    let mut next = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {
                if neighbour.is_none() {
                    link.send(ALL_ROUTERS, &packet::solicitation())?;
                }
                link.advertise()?;
                next = Instant::now() + wait;
                wait = (wait * 2).min(LATER);
            }
            heard = link.hear() => match heard? {
                // Who asks may have missed us; whoever asks all the time has to wait.
                Some((_, Said::Solicitation)) if link.may_answer() => link.advertise()?,
                Some((from, Said::Advertisement)) => {
                    let other = neighbour.filter(|(known, _)| *known != from);
                    if other.is_some_and(|(_, heard)| heard.elapsed() < SILENCE) {
                        continue;
                    }
                    let is_known = neighbour.is_some_and(|(known, _)| known == from);
                    neighbour = Some((from, Instant::now()));
                    let interface = interface.clone();
                    let found = Discovered { interface, found: Ok(from) };
                    if !is_known && news.send(found).await.is_err() {
                        return Ok(());
                    }
                }
                Some((_, Said::Solicitation)) | None => {}
            },
        }
    }
}

/// A raw socket on one link.
struct Link {
    /// Not UDP, but all the library has for sockets without connections.
    socket: UdpSocket,
    index: u32,
    /// When we last said that we are here.
    advertised: Option<Instant>,
}

impl Link {
    fn open(interface: &str) -> io::Result<Link> {
        let index = socket::interface_index(interface)?;
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6));
        let socket = socket.map_err(|error| {
            if error.kind() == io::ErrorKind::PermissionDenied {
                let missing = "a raw ICMPv6 socket needs the capability CAP_NET_RAW";
                io::Error::new(error.kind(), missing)
            } else {
                error
            }
        })?;
        socket.attach_filter(&packet::filter())?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.set_multicast_if_v6(index)?;
        socket.set_multicast_hops_v6(u8::MAX.into())?;
        socket.set_multicast_loop_v6(false)?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        socket.set_nonblocking(true)?;
        Ok(Link {
            socket: UdpSocket::from_std(socket.into())?,
            index,
            advertised: None,
        })
    }

    fn may_answer(&self) -> bool {
        self.advertised.is_none_or(|at| at.elapsed() >= FIRST)
    }

    fn advertise(&mut self) -> io::Result<()> {
        self.advertised = Some(Instant::now());
        self.send(ALL_NODES, &packet::advertisement())
    }

    fn send(&self, to: Ipv6Addr, packet: &[u8]) -> io::Result<()> {
        let to = SocketAddrV6::new(to, 0, 0, self.index);
        match self.socket.try_send_to(packet, to.into()) {
            Ok(_) => Ok(()),
            // The link is down, or our address on it is not ready: it will be said again.
            Err(error) => match error.kind() {
                io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::WouldBlock => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// The next packet from a link-local address; none when it is not for us.
    async fn hear(&self) -> io::Result<Option<(Ipv6Addr, Said)>> {
        // The first octets tell; options are not looked at.
        let mut packet = [0; 16];
        let (octets, from) = self.socket.recv_from(&mut packet).await?;
        let from = match from {
            SocketAddr::V6(from) => Some(*from.ip()).filter(Ipv6Addr::is_unicast_link_local),
            SocketAddr::V4(_) => None,
        };
        Ok(from.zip(packet::read(&packet[..octets])))
    }
}
