//! What the other side of the device answers by itself: ARP for the nodes behind `tunl0`, and
//! "fragmentation needed" for what no longer fits the way to a node.

use std::net::Ipv4Addr;

use super::checksum::Sum;
use super::packet::{
    ETHERNET, ETHERTYPE_ARP, ETHERTYPE_IPV4, ICMP, IPV4, Packet, ipv4_at, write_ipv4_checksum,
};
use super::wire::ipip_mac;

/// Length of an Ethernet frame with ARP for IPv4 (RFC 826).
pub(crate) const ARP_FRAME: usize = ETHERNET + 28;

/// Ethernet and IPv4, hardware and protocol address lengths, request.
const ARP_REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];

/// The node that an ARP request asks for.
pub(crate) fn asked_for(frame: &[u8]) -> Option<Ipv4Addr> {
    let arp = frame.get(ETHERNET..ARP_FRAME)?;
    (arp[..8] == ARP_REQUEST).then(|| ipv4_at(arp, 24))
}

/// The answer to an ARP request for `node`, which [`asked_for`] read in `frame`.
pub(crate) fn arp(frame: &[u8], node: Ipv4Addr) -> [u8; ARP_FRAME] {
    let mut answer = [0; ARP_FRAME];
    let asker = ETHERNET + 8..ETHERNET + 18;
    answer[..6].copy_from_slice(&frame[6..12]);
    answer[6..12].copy_from_slice(&ipip_mac(node));
    answer[12..14].copy_from_slice(&ETHERTYPE_ARP);
    answer[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 2]);
    answer[22..28].copy_from_slice(&ipip_mac(node));
    answer[28..32].copy_from_slice(&node.octets());
    answer[32..42].copy_from_slice(&frame[asker]);
    answer
}

/// Bytes of the packet that an ICMP error quotes: its header and eight octets (RFC 792).
const QUOTED: usize = 60 + 8;
/// Length of the longest frame that [`fragmentation_needed`] makes.
pub(crate) const ICMP_FRAME: usize = ETHERNET + IPV4 + 8 + QUOTED;

/// "Fragmentation needed" (RFC 1191 §4) for the packet `ip`, to the hardware address `to`.
/// It comes from the packet's own destination: that is certainly behind this device, so that no
/// reverse path filter takes offence.
pub(crate) fn fragmentation_needed(
    ip: &[u8],
    packet: &Packet,
    mtu: u32,
    (to, from): (&[u8], &[u8]),
) -> ([u8; ICMP_FRAME], usize) {
    let mut frame = [0; ICMP_FRAME];
    let quoted = (packet.header + 8).min(packet.total).min(QUOTED);
    let total = IPV4 + 8 + quoted;
    frame[..6].copy_from_slice(to);
    frame[6..12].copy_from_slice(from);
    frame[12..14].copy_from_slice(&ETHERTYPE_IPV4);

    let outer = &mut frame[ETHERNET..ETHERNET + total];
    outer[0] = 0x45;
    outer[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    outer[8] = 64;
    outer[9] = ICMP;
    outer[12..16].copy_from_slice(&ip[16..20]);
    outer[16..20].copy_from_slice(&ip[12..16]);
    write_ipv4_checksum(outer, IPV4);

    let icmp = &mut outer[IPV4..];
    icmp[..2].copy_from_slice(&[3, 4]);
    icmp[6..8].copy_from_slice(&(mtu.min(0xffff) as u16).to_be_bytes());
    icmp[8..].copy_from_slice(&ip[..quoted]);
    let mut sum = Sum::default();
    sum.add(icmp);
    let checksum = sum.checksum();
    icmp[2..4].copy_from_slice(&checksum);
    (frame, ETHERNET + total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arp_is_answered_with_the_address_in_the_hardware_address() {
        let mut frame = [0; ARP_FRAME];
        frame[..12].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 4, 192, 0, 2, 1]);
        frame[12..14].copy_from_slice(&ETHERTYPE_ARP);
        frame[14..22].copy_from_slice(&ARP_REQUEST);
        frame[22..32].copy_from_slice(&[2, 4, 192, 0, 2, 1, 10, 1, 0, 1]);
        frame[38..].copy_from_slice(&[192, 0, 2, 7]);
        let node = asked_for(&frame).unwrap();
        assert_eq!(node, Ipv4Addr::new(192, 0, 2, 7));
        let answer = arp(&frame, node);
        assert_eq!(answer[..6], frame[6..12], "to who asked");
        assert_eq!(answer[20..22], [0, 2], "a reply");
        assert_eq!(answer[22..32], [2, 4, 192, 0, 2, 7, 192, 0, 2, 7]);
        assert_eq!(answer[32..], frame[22..32]);
        assert_eq!(asked_for(&answer), None, "answers are not answered");
        assert_eq!(asked_for(&frame[..40]), None);
    }
}
