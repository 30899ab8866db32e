//! TCP sockets as BGP wants them: backlog, TTL, GTSM (RFC 5082), MD5 (RFC 2385), link-local
//! addresses.

mod kernel;
mod md5;

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::config::{PeerConfig, Ttl};

pub(crate) use kernel::{interface_index, interface_name};
pub(crate) use md5::{expect_signature, sign};

/// Packets of control protocols get their own traffic class (RFC 4271 appendix E: precedence 6).
const TOS_NETWORK_CONTROL: u32 = 0xc0;

/// The kernel cuts this to `net.core.somaxconn`. A backlog of 8 makes hundreds of peers that dial
/// at once wait for minutes.
const BACKLOG: i32 = i32::MAX;

/// Has the kernel choose.
const DEFAULT_TTL: libc::c_int = -1;

/// Opens a listening socket.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // It answers a dial before it is known whose it is: a peer with GTSM hears only this TTL.
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(u8::MAX.into())?;
    } else {
        socket.set_ttl_v4(u8::MAX.into())?;
    }
    kernel::set_int(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, 1)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Dials a peer at an address of it.
pub(crate) async fn dial(
    peer: &PeerConfig,
    address: IpAddr,
    external: bool,
) -> io::Result<TcpStream> {
    let to = on_link(address, peer.port, peer.interface.as_deref())?;
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    set_distance(
        SockRef::from(&socket),
        socket.as_raw_fd(),
        (peer, address),
        external,
    )?;
    if let Some(password) = &peer.password {
        md5::sign_dial(socket.as_raw_fd(), address, password)?;
    }
    if let Some(source) = peer.source {
        socket.set_reuseaddr(true)?;
        socket.bind(on_link(source, 0, peer.interface.as_deref())?)?;
    }
    socket.connect(to).await
}

/// An address with the interface it means, which only a link-local one needs.
fn on_link(address: IpAddr, port: u16, interface: Option<&str>) -> io::Result<SocketAddr> {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            let missing = "a link-local address needs an interface";
            let interface =
                interface.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, missing))?;
            let scope = kernel::interface_index(interface)?;
            Ok(SocketAddrV6::new(address, port, 0, scope).into())
        }
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(SocketAddr::new(address, port)),
    }
}

/// Sets what both dialled and accepted connections need; an accepted one also its distance.
pub(crate) fn adopt(stream: &TcpStream, peer: &PeerConfig, external: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let address = stream.peer_addr()?.ip();
    let socket = SockRef::from(stream);
    set_distance(socket, stream.as_raw_fd(), (peer, address), external)
}

/// True when bytes wait that were not read yet.
pub(crate) fn has_input(stream: &TcpStream) -> bool {
    let mut octet = [std::mem::MaybeUninit::uninit()];
    matches!(SockRef::from(stream).peek(&mut octet), Ok(count) if count > 0)
}

/// Says that nothing more will be sent.
pub(crate) fn end_output(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).shutdown(std::net::Shutdown::Write)
}

/// Checks that the packet which opened an accepted connection came from no further away than the
/// peer may be (RFC 5082): what it sent before [`adopt`] is already here.
///
/// # Errors
/// It came from further away, or under a flood nobody knows from where.
pub(crate) fn check_distance(stream: &TcpStream, peer: &PeerConfig) -> io::Result<()> {
    // Headers longer than any that we know are as good as none.
    let saved = kernel::saved_syn(stream.as_raw_fd());
    let (packet, len) = saved.unwrap_or(([0; 128], 0));
    let least = least_ttl(peer);
    let is_v4 = stream.peer_addr()?.is_ipv4();
    let ttl = packet[..len].get(if is_v4 { 8 } else { 7 });
    if least > 0 && ttl.is_none_or(|ttl| *ttl < least) {
        let problem = match ttl {
            Some(ttl) => format!("a connection came with TTL {ttl}, GTSM asks for {least}"),
            None => format!("a connection came with unknown TTL, GTSM asks for {least}"),
        };
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    Ok(())
}

/// The least TTL of the peer's packets.
fn least_ttl(peer: &PeerConfig) -> u8 {
    match peer.ttl {
        Ttl::Default | Ttl::Multihop(_) => 0,
        Ttl::Security { hops } => u8::MAX - hops.max(1) + 1,
    }
}

fn set_distance(
    socket: SockRef<'_>,
    fd: RawFd,
    (peer, address): (&PeerConfig, IpAddr),
    external: bool,
) -> io::Result<()> {
    let ttl = match peer.ttl {
        Ttl::Default if external && !address.is_loopback() => 1,
        Ttl::Default => DEFAULT_TTL,
        Ttl::Multihop(ttl) => ttl.max(1).into(),
        Ttl::Security { .. } => u8::MAX.into(),
    };
    let least = least_ttl(peer);
    if address.is_ipv4() {
        kernel::set_int(fd, libc::IPPROTO_IP, libc::IP_TTL, ttl)?;
        socket.set_tos_v4(TOS_NETWORK_CONTROL)?;
        kernel::set_int(fd, libc::IPPROTO_IP, libc::IP_MINTTL, least.into())
    } else {
        kernel::set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, ttl)?;
        socket.set_tclass_v6(TOS_NETWORK_CONTROL)?;
        kernel::set_int(fd, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, least.into())
    }
}

/// `linux/in6.h`; not in libc.
const IPV6_MINHOPCOUNT: libc::c_int = 73;
