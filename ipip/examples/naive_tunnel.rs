//! The tunnel that one would write first: a packet per read, a system call per packet, no offloads.
//! Measurements compare the real one with it.
//!
//! ```text
//! naive_tunnel DEVICE LOCAL REMOTE ipip|PORT
//! ```
//!
//! It knows one other end. With a PORT packets go in UDP, as flannel's UDP mode sends them.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, local, remote, wire] = &arguments[..] else {
        bail!("usage: naive_tunnel DEVICE LOCAL REMOTE ipip|PORT");
    };
    let local: Ipv4Addr = local.parse().context("LOCAL is an IPv4 address")?;
    let remote: Ipv4Addr = remote.parse().context("REMOTE is an IPv4 address")?;
    let device = open(device)?;
    let (socket, port) = match wire.as_str() {
        "ipip" => {
            let protocol = Protocol::from(libc::IPPROTO_IPIP);
            (Socket::new(Domain::IPV4, Type::RAW, Some(protocol))?, 0)
        }
        port => {
            let port = port.parse().context("PORT is a number")?;
            (Socket::new(Domain::IPV4, Type::DGRAM, None)?, port)
        }
    };
    let at = |address, port| SockAddr::from(SocketAddr::V4(SocketAddrV4::new(address, port)));
    socket.bind(&at(local, port))?;
    // Raw sockets deliver the outer header too.
    let skip = if port == 0 { 20 } else { 0 };
    eprintln!("serving");
    std::thread::scope(|scope| {
        scope.spawn(|| receive(&socket, &device, skip));
        send(&socket, &device, &at(remote, port))
    })
}

fn send(socket: &Socket, mut device: &File, remote: &SockAddr) -> Result<()> {
    let mut packet = vec![0; 65536];
    loop {
        let length = device.read(&mut packet)?;
        // A packet that cannot be sent is lost, as on any network.
        let _ = socket.send_to(&packet[..length], remote);
    }
}

fn receive(mut socket: &Socket, mut device: &File, skip: usize) -> Result<()> {
    let mut packet = vec![0; 65536];
    loop {
        let length = socket.read(&mut packet)?;
        // One that the host does not take is lost likewise.
        let _ = device.write(packet.get(skip..length).unwrap_or(&[]));
    }
}

/// A TUN device, whose packets have no header but their own.
#[allow(unsafe_code, reason = "attaching to a device is an ioctl")]
fn open(name: &str) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // SAFETY: all zeroes are a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the descriptor is open and the structure is that of the request.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 {
        bail!("attach to {name}: {}", std::io::Error::last_os_error());
    }
    Ok(file)
}
