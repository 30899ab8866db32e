//! Keys of the TCP MD5 signature (RFC 2385).
//!
//! A key can be set, changed and taken away at any time, on an established connection too. While
//! the two ends disagree the kernels drop what they get and send it again, so that a rotation on
//! both sides within the hold time costs no session.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use bgp_wire::Prefix;
use tokio::net::{TcpListener, TcpStream};

use crate::config::Password;
use crate::socket::kernel;

/// `struct tcp_md5sig` of `linux/tcp.h`; not in libc.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    ifindex: libc::c_int,
    key: [u8; KEY_LEN],
}

const KEY_LEN: usize = 80;
/// `linux/tcp.h`; not in libc.
const FLAG_PREFIX: u8 = 1;

/// Has a listening socket expect the signature of peers, or no longer. The longest prefix with a
/// key counts.
///
/// # Errors
/// What the kernel says, with the remedy where there is one.
pub(crate) fn expect_signature(
    listener: &TcpListener,
    peers: Prefix,
    password: Option<&Password>,
) -> io::Result<()> {
    if listener.local_addr()?.is_ipv4() != peers.addr().is_ipv4() {
        return Ok(());
    }
    set_key(listener.as_raw_fd(), peers, password)
}

/// Changes or takes away the key of a connection.
///
/// # Errors
/// As [`expect_signature`].
pub(crate) fn sign(stream: &TcpStream, password: Option<&Password>) -> io::Result<()> {
    let peer = host(stream.peer_addr()?.ip())?;
    set_key(stream.as_raw_fd(), peer, password)
}

/// Sets the key of a socket that is about to dial.
///
/// # Errors
/// As [`expect_signature`].
pub(super) fn sign_dial(fd: RawFd, peer: IpAddr, password: &Password) -> io::Result<()> {
    set_key(fd, host(peer)?, Some(password))
}

/// The prefix of one address.
fn host(address: IpAddr) -> io::Result<Prefix> {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    Prefix::new(address, bits).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

fn set_key(fd: RawFd, peers: Prefix, password: Option<&Password>) -> io::Result<()> {
    let secret = password.map_or(&[][..], Password::reveal);
    if secret.len() > KEY_LEN {
        let problem = "a TCP MD5 password has at most 80 octets";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let mut key = [0; KEY_LEN];
    key[..secret.len()].copy_from_slice(secret);
    let is_host = peers.prefix_len() == if peers.addr().is_ipv4() { 32 } else { 128 };
    let option = TcpMd5Sig {
        address: kernel::storage_of(peers.addr()),
        flags: if is_host { 0 } else { FLAG_PREFIX },
        prefix_len: if is_host { 0 } else { peers.prefix_len() },
        key_len: secret.len() as u16,
        ifindex: 0,
        key,
    };
    let name = if is_host {
        libc::TCP_MD5SIG
    } else {
        libc::TCP_MD5SIG_EXT
    };
    match kernel::set_option(fd, libc::IPPROTO_TCP, name, &option) {
        // Taking away a key that is not there.
        Err(error) if password.is_none() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
            let remedy = "the kernel has no room for so many TCP MD5 passwords on one socket; \
                          raise the sysctl net.core.optmem_max";
            Err(io::Error::new(io::ErrorKind::OutOfMemory, remedy))
        }
        result => result,
    }
}
