//! TCP sockets as BGP wants them: backlog, TTL, GTSM (RFC 5082), MD5 (RFC 2385).
//!
//! The only file of this package with `unsafe`: three socket options that no library covers.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::config::{Password, PeerConfig, Ttl};

/// Packets of control protocols get their own traffic class (RFC 4271 appendix E: precedence 6).
const TOS_NETWORK_CONTROL: u32 = 0xc0;

/// The kernel cuts this to `net.core.somaxconn`. A backlog of 8 makes hundreds of peers that dial
/// at once wait for minutes.
const BACKLOG: i32 = i32::MAX;

/// Opens a listening socket.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Has a listening socket expect the signature of a peer, or no longer.
pub(crate) fn expect_signature(
    listener: &TcpListener,
    peer: IpAddr,
    password: Option<&Password>,
) -> io::Result<()> {
    let family = listener.local_addr()?;
    if family.is_ipv4() != peer.is_ipv4() {
        return Ok(());
    }
    match set_md5(listener.as_raw_fd(), peer, password) {
        // Taking away a key that is not there.
        Err(error) if password.is_none() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Makes a socket to dial a peer with.
pub(crate) fn dial_from(peer: &PeerConfig, external: bool) -> io::Result<TcpSocket> {
    let socket = if peer.address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    set_distance(SockRef::from(&socket), socket.as_raw_fd(), peer, external)?;
    if let Some(password) = &peer.password {
        set_md5(socket.as_raw_fd(), peer.address, Some(password))?;
    }
    if let Some(source) = peer.source {
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(source, 0))?;
    }
    Ok(socket)
}

/// Sets what both dialled and accepted connections need; an accepted one also its distance.
pub(crate) fn adopt(stream: &TcpStream, peer: &PeerConfig, external: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    set_distance(SockRef::from(stream), stream.as_raw_fd(), peer, external)
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

fn set_distance(
    socket: SockRef<'_>,
    fd: RawFd,
    peer: &PeerConfig,
    external: bool,
) -> io::Result<()> {
    let ttl = match peer.ttl {
        Ttl::Default if external && !peer.address.is_loopback() => Some(1),
        Ttl::Default => None,
        Ttl::Multihop(ttl) => Some(ttl.max(1)),
        Ttl::Security { .. } => Some(u8::MAX),
    };
    let least = match peer.ttl {
        Ttl::Default | Ttl::Multihop(_) => 0,
        Ttl::Security { hops } => u8::MAX - hops.max(1) + 1,
    };
    if peer.address.is_ipv4() {
        ttl.map_or(Ok(()), |ttl| socket.set_ttl_v4(ttl.into()))?;
        socket.set_tos_v4(TOS_NETWORK_CONTROL)?;
        set_int(fd, libc::IPPROTO_IP, libc::IP_MINTTL, least.into())
    } else {
        ttl.map_or(Ok(()), |ttl| socket.set_unicast_hops_v6(ttl.into()))?;
        socket.set_tclass_v6(TOS_NETWORK_CONTROL)?;
        set_int(fd, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, least.into())
    }
}

/// `linux/in6.h`; not in libc.
const IPV6_MINHOPCOUNT: libc::c_int = 73;

/// `struct tcp_md5sig` of `linux/tcp.h`; not in libc.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    ifindex: libc::c_int,
    key: [u8; MD5_KEY_LEN],
}

const MD5_KEY_LEN: usize = 80;

fn set_md5(fd: RawFd, peer: IpAddr, password: Option<&Password>) -> io::Result<()> {
    let secret = password.map_or(&[][..], Password::reveal);
    if secret.len() > MD5_KEY_LEN {
        let problem = "a TCP MD5 password has at most 80 octets";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let mut key = [0; MD5_KEY_LEN];
    key[..secret.len()].copy_from_slice(secret);
    let option = TcpMd5Sig {
        address: storage_of(peer),
        flags: 0,
        prefix_len: 0,
        key_len: secret.len() as u16,
        ifindex: 0,
        key,
    };
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &option)
}

fn storage_of(address: IpAddr) -> libc::sockaddr_storage {
    let address = SockAddr::from(SocketAddr::new(address, 0));
    #[allow(unsafe_code, reason = "all-zero bytes are the empty sockaddr_storage")]
    // SAFETY: sockaddr_storage is plain data for which all-zero bytes are a valid value.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let len = (address.len() as usize).min(size_of::<libc::sockaddr_storage>());
    #[allow(unsafe_code, reason = "copies a socket address into a larger buffer")]
    // SAFETY: `address` holds `len` readable bytes, `storage` has room for them, they are distinct.
    unsafe {
        let to = (&raw mut storage).cast::<u8>();
        std::ptr::copy_nonoverlapping(address.as_ptr().cast::<u8>(), to, len);
    }
    storage
}

fn set_int(fd: RawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    set_option(fd, level, name, &value)
}

fn set_option<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    #[allow(unsafe_code, reason = "socket options that no library covers")]
    // SAFETY: `value` is a live, initialised object of the length given; the kernel only reads it.
    let result = unsafe {
        let pointer = std::ptr::from_ref(value).cast::<libc::c_void>();
        libc::setsockopt(fd, level, name, pointer, size_of::<T>() as libc::socklen_t)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
