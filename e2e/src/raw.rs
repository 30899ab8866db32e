//! Packets written octet by octet: tunnel packets as a forger sends them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

use anyhow::{Result, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use crate::lab::Namespace;

/// IP protocol of IPIP (RFC 2003).
pub const IPIP: u8 = 4;
const UDP: u8 = 17;
const ETHERTYPE_IPV4: [u8; 2] = [8, 0];
const VXLAN_PORT: u16 = 4789;

/// An IPv4 packet without options. The kernel fills in the checksum of the outermost one.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(20 + payload.len())?;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    Ok(packet)
}

/// A UDP datagram without checksum.
pub fn udp(from: u16, to: u16, payload: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(8 + payload.len())?;
    let mut datagram = Vec::new();
    for field in [from, to, length, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    Ok(datagram)
}

/// A packet to a UDP socket, in IPIP from one node to another (RFC 2003).
pub fn in_ipip(outer: [Ipv4Addr; 2], inner: &[u8]) -> Result<Vec<u8>> {
    ipv4(outer[0], outer[1], IPIP, inner)
}

/// The same in VXLAN (RFC 7348). `mac` is that of the VXLAN device at the other end.
pub fn in_vxlan(outer: [Ipv4Addr; 2], vni: u32, mac: [u8; 6], inner: &[u8]) -> Result<Vec<u8>> {
    let mut frame = vec![8, 0, 0, 0];
    frame.extend((vni << 8).to_be_bytes());
    frame.extend(mac);
    frame.extend([0x66, 1, 2, 3, 4, 5]);
    frame.extend(ETHERTYPE_IPV4);
    frame.extend(inner);
    ipv4(outer[0], outer[1], UDP, &udp(40000, VXLAN_PORT, &frame)?)
}

/// Sends a packet from a namespace exactly as it is, whatever its source address says.
pub fn send(from: &Namespace, packet: &[u8]) -> Result<()> {
    ensure!(packet.len() >= 20, "no IPv4 packet");
    let to = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
    from.inside(|| {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Raw,
        )?;
        let SocketAddr::V4(to) = SocketAddr::new(IpAddr::V4(to), 0) else {
            unreachable!("made of an IPv4 address")
        };
        sendto(
            socket.as_raw_fd(),
            packet,
            &SockaddrIn::from(to),
            MsgFlags::empty(),
        )?;
        Ok(())
    })
}

/// The Internet checksum (RFC 1071) of a header of even length.
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}
