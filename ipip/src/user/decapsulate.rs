//! Packets of the tunnel become frames for the device, or are dropped with a reason.

use std::net::IpAddr;

use super::coalesce::{Addresses, Coalescer, Sink};
use super::counters::{Reason, Tally};
use super::encapsulate::End;
use super::packet::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Packet, ecn_inside};
use super::peers::Peers;
use super::sys::Datagram;
use super::wire::{VXLAN, Wire, ipip_mac, vxlan};

/// Takes what the sockets received.
pub(crate) struct Decapsulator {
    end: End,
    /// Hardware address of the device.
    mac: [u8; 6],
    pub(crate) coalescer: Coalescer,
    pub(crate) tally: Tally,
}

impl Decapsulator {
    pub(crate) fn new(end: End, mac: [u8; 6], coalescer: Coalescer) -> Decapsulator {
        Decapsulator {
            end,
            mac,
            coalescer,
            tally: Tally::default(),
        }
    }

    /// Takes a datagram, which may be several that the kernel put together.
    pub(crate) fn datagram(
        &mut self,
        buffer: &mut [u8],
        datagram: &Datagram,
        peers: &Peers,
        sink: Sink<'_>,
    ) {
        let piece = match datagram.piece {
            0 => datagram.length.max(1),
            piece => piece,
        };
        let end = datagram.start + datagram.length;
        let known = datagram.source != self.end.local && peers.contains(datagram.source);
        let mut start = datagram.start;
        loop {
            let next = (start + piece).min(end);
            let inside = if known {
                self.inside(buffer, (start, next), datagram)
            } else {
                Err(Reason::ForeignSource)
            };
            match inside {
                Ok((at, packet, addresses)) => {
                    self.tally.packets += 1;
                    self.tally.bytes += packet.total as u64;
                    self.coalescer.add(buffer, at, (packet, addresses), sink);
                }
                Err(reason) => self.tally.drop(reason),
            }
            start = next;
            if start >= end {
                break;
            }
        }
    }

    /// The packet inside one datagram, and the hardware addresses of its frame.
    fn inside(
        &self,
        buffer: &mut [u8],
        (start, end): (usize, usize),
        datagram: &Datagram,
    ) -> Result<(usize, Packet, Addresses), Reason> {
        let bytes = &buffer[start..end];
        let (at, addresses, v6, tos) = match self.end.wire {
            Wire::Ipip => {
                let outer = Packet::parse(bytes).ok_or(Reason::Malformed)?;
                let addresses = self.ipip_addresses(datagram.source)?;
                (start + outer.header, addresses, false, bytes[1])
            }
            Wire::Vxlan { vni, .. } => {
                let (addresses, v6) = self.vxlan_addresses(bytes, vni)?;
                (start + VXLAN + ETHERNET, addresses, v6, datagram.tos)
            }
        };
        let ip = &mut buffer[at..end];
        let packet = Packet::parse(ip).ok_or(Reason::Malformed)?;
        if packet.v6 != v6 {
            return Err(Reason::Malformed);
        }
        if !ecn_inside(tos, &packet, ip) {
            return Err(Reason::Congestion);
        }
        Ok((at, packet, addresses))
    }

    fn ipip_addresses(&self, source: IpAddr) -> Result<Addresses, Reason> {
        let IpAddr::V4(source) = source else {
            return Err(Reason::ForeignSource);
        };
        let mut addresses = [0; 12];
        addresses[..6].copy_from_slice(&self.mac);
        addresses[6..].copy_from_slice(&ipip_mac(source));
        Ok(addresses)
    }

    fn vxlan_addresses(&self, bytes: &[u8], vni: u32) -> Result<(Addresses, bool), Reason> {
        let frame = bytes.strip_prefix(&vxlan(vni)).ok_or(Reason::Malformed)?;
        let ethernet = frame.first_chunk::<ETHERNET>().ok_or(Reason::Malformed)?;
        if ethernet[..6] != self.mac {
            return Err(Reason::NotForUs);
        }
        let v6 = match [ethernet[12], ethernet[13]] {
            ETHERTYPE_IPV4 => false,
            ETHERTYPE_IPV6 => true,
            _ => return Err(Reason::Ignored),
        };
        let mut addresses = [0; 12];
        addresses.copy_from_slice(&ethernet[..12]);
        Ok((addresses, v6))
    }
}

#[cfg(test)]
mod tests;
