//! The sockets on the nodes' side.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::encapsulate::End;
use super::error::Error;
use super::sys;
use super::wire::Wire;

/// Source ports of VXLAN, each with its own socket.
const LANES: usize = 8;
/// Bytes that may wait in a receiving socket: some milliseconds at 10 Gbit/s.
const RECEIVE_BUFFER: i32 = 8 << 20;

/// The sockets of one pair of threads.
pub(crate) struct Sockets {
    pub(crate) lanes: Vec<Socket>,
    pub(crate) inbox: Option<Socket>,
}

impl Sockets {
    /// Opens them; `queue` counts the pairs of threads.
    pub(crate) fn open(end: End, queue: usize) -> Result<Sockets, Error> {
        match end.wire {
            Wire::Ipip => Ok(Sockets {
                lanes: vec![raw_lane().map_err(|e| Error::socket("open a raw socket", e))?],
                // Every raw socket gets a copy of every packet: one is enough.
                inbox: (queue == 0)
                    .then(raw_inbox)
                    .transpose()
                    .map_err(|e| Error::socket("open a raw socket for protocol 4", e))?,
            }),
            Wire::Vxlan { port, .. } => Ok(Sockets {
                lanes: (0..LANES)
                    .map(|_| udp_lane(end.local))
                    .collect::<Result<_, _>>()
                    .map_err(|e| Error::socket(format!("open a UDP socket at {}", end.local), e))?,
                inbox: Some(
                    udp_inbox(end.local, port)
                        .map_err(|e| Error::socket(format!("bind UDP port {port}"), e))?,
                ),
            }),
        }
    }
}

/// Sends packets with their outer header; protocol 255 receives none.
fn raw_lane() -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::IPV4,
        Type::RAW,
        Some(Protocol::from(libc::IPPROTO_RAW)),
    )?;
    set_any_size(&socket, false)?;
    Ok(socket)
}

fn raw_inbox() -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::IPV4,
        Type::RAW,
        Some(Protocol::from(libc::IPPROTO_IPIP)),
    )?;
    // Errors of single packets are no errors of this socket.
    set_any_size(&socket, false)?;
    set_receive_buffer(&socket)?;
    Ok(socket)
}

fn udp_lane(local: IpAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(SocketAddr::new(local, 0)),
        Type::DGRAM,
        None,
    )?;
    set_any_size(&socket, local.is_ipv6())?;
    // Nobody is expected to send to this port.
    socket.set_recv_buffer_size(1)?;
    socket.bind(&SockAddr::from(SocketAddr::new(local, 0)))?;
    Ok(socket)
}

fn udp_inbox(local: IpAddr, port: u16) -> io::Result<Socket> {
    let any: IpAddr = match local {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let address = SocketAddr::new(any, port);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
        sys::set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
    } else {
        sys::set_option(&socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
    }
    sys::set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    socket.set_reuse_port(true)?;
    set_receive_buffer(&socket)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// Lets the kernel fragment outer packets on a way that is too narrow, as its own tunnels do.
fn set_any_size(socket: &Socket, v6: bool) -> io::Result<()> {
    if v6 {
        let dont = libc::IPV6_PMTUDISC_DONT;
        sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, dont)
    } else {
        let dont = libc::IP_PMTUDISC_DONT;
        sys::set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, dont)
    }
}

fn set_receive_buffer(socket: &Socket) -> io::Result<()> {
    // Above the system's limit with CAP_NET_ADMIN, up to it without.
    let forced = sys::set_option(
        socket,
        libc::SOL_SOCKET,
        libc::SO_RCVBUFFORCE,
        RECEIVE_BUFFER,
    );
    forced.or_else(|_| socket.set_recv_buffer_size(RECEIVE_BUFFER as usize))
}

/// The MTU of the way to a node, as the kernel knows it by now.
pub(crate) fn route_mtu(node: Ipv4Addr) -> io::Result<u32> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // Connecting looks the route up and sends nothing; the port (discard) does not matter.
    socket.connect(&SockAddr::from(SocketAddr::new(node.into(), 9)))?;
    let mtu = sys::option(&socket, libc::IPPROTO_IP, libc::IP_MTU)?;
    Ok(u32::try_from(mtu).unwrap_or(0))
}
