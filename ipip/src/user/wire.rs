//! What goes in front of a packet on the wire, the same as the kernel's tunnels write.
//!
//! IPIP (RFC 2003): the whole outer IPv4 header, as `tunl0` makes it: TTL and "don't fragment" of the
//! packet inside, DSCP 0, its ECN bits. Identification and checksum are left to the kernel.
//! VXLAN (RFC 7348): its eight octets and the Ethernet frame; the outer UDP header is the kernel's.

use std::net::{IpAddr, Ipv4Addr};

use super::packet::{ETHERNET, IPIP, IPV4, Packet, ecn_outside};

/// Length of a VXLAN header.
pub(crate) const VXLAN: usize = 8;
const VNI_IS_VALID: u8 = 0x08;

/// How packets look on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// IPv4 in IPv4, protocol 4, as the kernel's `ipip`.
    Ipip,
    /// VXLAN in UDP, as the kernel's `vxlan`.
    Vxlan {
        /// Network identifier, 24 bits.
        vni: u32,
        /// UDP port of every node.
        port: u16,
    },
}

impl Wire {
    /// Bytes that a packet grows by, outer headers included.
    pub fn overhead(self, v6: bool) -> u32 {
        match (self, v6) {
            (Wire::Ipip, _) => 20,
            (Wire::Vxlan { .. }, false) => 50,
            (Wire::Vxlan { .. }, true) => 70,
        }
    }

    /// Bytes between what the socket takes and the packet inside.
    pub(crate) fn prefix(self) -> usize {
        match self {
            Wire::Ipip => IPV4,
            Wire::Vxlan { .. } => VXLAN + ETHERNET,
        }
    }
}

/// The header of one packet of a tunnel.
pub(crate) struct Outer {
    pub(crate) local: IpAddr,
    pub(crate) remote: IpAddr,
}

impl Outer {
    /// Writes what goes before the packet `ip` of `length` bytes to `out`, which has
    /// [`Wire::prefix`] bytes.
    pub(crate) fn write(
        &self,
        wire: Wire,
        out: &mut [u8],
        ethernet: &[u8],
        (packet, ip, length): (&Packet, &[u8], usize),
    ) {
        match wire {
            Wire::Ipip => {
                out.fill(0);
                out[0] = 0x45;
                out[1] = ecn_outside(packet.ecn(ip));
                out[2..4].copy_from_slice(&((IPV4 + length) as u16).to_be_bytes());
                if packet.dont_fragment(ip) {
                    out[6] = 0x40;
                }
                out[8] = packet.hops(ip);
                out[9] = IPIP;
                out[12..16].copy_from_slice(&ipv4(self.local).octets());
                out[16..20].copy_from_slice(&ipv4(self.remote).octets());
            }
            Wire::Vxlan { vni, .. } => {
                out[..VXLAN].copy_from_slice(&vxlan(vni));
                out[VXLAN..].copy_from_slice(ethernet);
            }
        }
    }
}

/// The VXLAN header: the flag that says that there is an identifier, and the identifier.
pub(crate) fn vxlan(vni: u32) -> [u8; VXLAN] {
    let [_, a, b, c] = vni.to_be_bytes();
    [VNI_IS_VALID, 0, 0, 0, a, b, c, 0]
}

/// An address that is known to be IPv4, for IPIP knows no other.
fn ipv4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

/// The hardware address that stands for a node on `tunl0`: 02:04, then its IPv4 address.
pub fn ipip_mac(node: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = node.octets();
    [0x02, 0x04, a, b, c, d]
}

/// The node that such a hardware address stands for.
pub(crate) fn ipip_node(mac: &[u8]) -> Option<Ipv4Addr> {
    match mac {
        [0x02, 0x04, a, b, c, d] => Some(Ipv4Addr::new(*a, *b, *c, *d)),
        _ => None,
    }
}
