//! Where things are in a packet: IP headers, ports, flows, ECN.
//! Nothing here trusts a length that it has not compared with the bytes at hand.

use std::net::{IpAddr, Ipv4Addr};

use super::checksum::Sum;

/// Length of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;
/// Length of an IPv4 header without options.
pub(crate) const IPV4: usize = 20;
/// Length of an IPv6 header.
pub(crate) const IPV6: usize = 40;

pub(crate) const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
pub(crate) const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
pub(crate) const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
/// IPv4 in IPv4 (RFC 2003).
pub(crate) const IPIP: u8 = 4;

const ECN: u8 = 0b11;
const CONGESTION: u8 = 0b11;
const DONT_FRAGMENT: u8 = 0x40;

/// An IPv4 or IPv6 packet at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) v6: bool,
    /// Bytes of the IP header, extension headers of IPv6 not counted.
    pub(crate) header: usize,
    /// Bytes of the whole packet, as its header says.
    pub(crate) total: usize,
    /// Of IPv6 the next header, which may be that of an extension.
    pub(crate) protocol: u8,
    /// It is a part of a bigger packet (of IPv4; IPv6 says so in an extension header).
    pub(crate) fragment: bool,
}

impl Packet {
    /// Nothing when version and lengths do not agree with the bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Packet> {
        match bytes.first()? >> 4 {
            4 => {
                let head = bytes.get(..IPV4)?;
                let header = usize::from(head[0] & 0x0f) * 4;
                let total = usize::from(u16::from_be_bytes([head[2], head[3]]));
                let fragment = u16::from_be_bytes([head[6], head[7]]) & 0x3fff != 0;
                let fits = header >= IPV4 && header <= total && total <= bytes.len();
                fits.then_some(Packet {
                    v6: false,
                    header,
                    total,
                    protocol: head[9],
                    fragment,
                })
            }
            6 => {
                let head = bytes.get(..IPV6)?;
                let total = IPV6 + usize::from(u16::from_be_bytes([head[4], head[5]]));
                (total <= bytes.len()).then_some(Packet {
                    v6: true,
                    header: IPV6,
                    total,
                    protocol: head[6],
                    fragment: false,
                })
            }
            _ => None,
        }
    }

    /// Reads the header of an IPv4 packet whose end may be missing.
    pub(crate) fn parse_start(bytes: &[u8]) -> Option<Packet> {
        let head = bytes.get(..IPV4)?;
        let header = usize::from(head[0] & 0x0f) * 4;
        (head[0] >> 4 == 4 && header >= IPV4 && header <= bytes.len()).then_some(Packet {
            v6: false,
            header,
            total: bytes.len(),
            protocol: head[9],
            fragment: false,
        })
    }

    /// Source and destination, as they stand in the header.
    pub(crate) fn addresses<'a>(&self, ip: &'a [u8]) -> &'a [u8] {
        if self.v6 { &ip[8..40] } else { &ip[12..20] }
    }

    pub(crate) fn source(&self, ip: &[u8]) -> IpAddr {
        let addresses = self.addresses(ip);
        address(&addresses[..addresses.len() / 2])
    }

    pub(crate) fn destination(&self, ip: &[u8]) -> IpAddr {
        let addresses = self.addresses(ip);
        address(&addresses[addresses.len() / 2..])
    }

    /// The pseudo header's part of a TCP or UDP checksum over `length` bytes.
    pub(crate) fn pseudo_header(&self, ip: &[u8], protocol: u8, length: usize) -> Sum {
        Sum::pseudo_header(self.addresses(ip), protocol, length)
    }

    /// The two bits of explicit congestion notification (RFC 3168).
    pub(crate) fn ecn(&self, ip: &[u8]) -> u8 {
        if self.v6 {
            (ip[1] >> 4) & ECN
        } else {
            ip[1] & ECN
        }
    }

    pub(crate) fn dont_fragment(&self, ip: &[u8]) -> bool {
        self.v6 || ip[6] & DONT_FRAGMENT != 0
    }

    /// TTL or hop limit.
    pub(crate) fn hops(&self, ip: &[u8]) -> u8 {
        if self.v6 { ip[7] } else { ip[8] }
    }

    /// A number that packets of a connection share, for the choice of a source port.
    pub(crate) fn flow(&self, ip: &[u8]) -> u32 {
        let mut hash = 0x9e37_79b9_u32 ^ u32::from(self.protocol);
        let mut mix = |word: &[u8]| {
            let word = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
            hash = (hash ^ word).wrapping_mul(0x85eb_ca6b);
            hash ^= hash >> 15;
        };
        self.addresses(ip).chunks_exact(4).for_each(&mut mix);
        if !self.fragment
            && matches!(self.protocol, TCP | UDP)
            && let Some(ports) = ip.get(self.header..self.header + 4)
        {
            mix(ports);
        }
        hash ^ (hash >> 13)
    }
}

fn address(octets: &[u8]) -> IpAddr {
    match <[u8; 16]>::try_from(octets) {
        Ok(octets) => IpAddr::from(octets),
        Err(_) => IpAddr::V4(ipv4_at(octets, 0)),
    }
}

pub(crate) fn ipv4_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

/// The outer ECN bits of a tunnel packet: those inside, but that congestion noticed earlier is not
/// told again (RFC 6040 §4.1 in the kernel's reading: `INET_ECN_encapsulate`).
pub(crate) fn ecn_outside(inner: u8) -> u8 {
    if inner & ECN == CONGESTION {
        0b10
    } else {
        inner & ECN
    }
}

/// Hands congestion noticed on the way on to the packet inside (RFC 6040 §4.2).
/// False when the packet must be dropped, because its sender would not understand.
pub(crate) fn ecn_inside(outer: u8, packet: &Packet, ip: &mut [u8]) -> bool {
    if outer & ECN != CONGESTION {
        return true;
    }
    match packet.ecn(ip) {
        0 => false,
        CONGESTION => true,
        _ => {
            if packet.v6 {
                ip[1] |= CONGESTION << 4;
            } else {
                ip[1] |= CONGESTION;
                write_ipv4_checksum(ip, packet.header);
            }
            true
        }
    }
}

pub(crate) fn write_ipv4_checksum(ip: &mut [u8], header: usize) {
    ip[10..12].fill(0);
    let mut sum = Sum::default();
    sum.add(&ip[..header]);
    let checksum = sum.checksum();
    ip[10..12].copy_from_slice(&checksum);
}

/// Writes the length of an IP packet into its header.
pub(crate) fn write_length(ip: &mut [u8], packet: &Packet, total: usize) {
    if packet.v6 {
        ip[4..6].copy_from_slice(&((total - IPV6) as u16).to_be_bytes());
    } else {
        ip[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        write_ipv4_checksum(ip, packet.header);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ipv4(tos: u8) -> Vec<u8> {
        let mut ip = vec![0x45, tos, 0, 28, 0, 1, 0x40, 0, 64, UDP, 0, 0];
        ip.extend([192, 0, 2, 1, 192, 0, 2, 2, 0, 53, 0, 54, 0, 8, 0, 0]);
        write_ipv4_checksum(&mut ip, IPV4);
        ip
    }

    #[test]
    fn congestion_outside_is_told_inside() {
        let mut ip = ipv4(0b10);
        let packet = Packet::parse(&ip).unwrap();
        assert!(ecn_inside(0b11, &packet, &mut ip));
        assert_eq!(packet.ecn(&ip), 0b11);
        let mut sum = Sum::default();
        sum.add(&ip[..IPV4]);
        assert!(sum.is_good());
    }

    #[test]
    fn congestion_that_the_sender_cannot_hear_is_a_loss() {
        let mut ip = ipv4(0);
        let packet = Packet::parse(&ip).unwrap();
        assert!(!ecn_inside(0b11, &packet, &mut ip));
        assert!(ecn_inside(0b01, &packet, &mut ip));
    }

    #[test]
    fn congestion_inside_starts_anew_outside() {
        assert_eq!([0, 1, 2, 3].map(ecn_outside), [0, 1, 2, 2]);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let good = ipv4(0);
        assert!(Packet::parse(&good).is_some());
        for (at, value) in [(0, 0x44), (0, 0x4f), (0, 0x55), (3, 29), (3, 19)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Packet::parse(&bad), None, "octet {at} = {value:#x}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), version in 0_u8..3) {
            if let Some(first) = bytes.first_mut() {
                match version {
                    0 => *first = *first & 0x0f | 0x40,
                    1 => *first = *first & 0x0f | 0x60,
                    _ => {}
                }
            }
            if let Some(packet) = Packet::parse(&bytes) {
                packet.flow(&bytes);
                packet.source(&bytes);
                ecn_inside(3, &packet, &mut bytes);
            }
        }
    }
}
