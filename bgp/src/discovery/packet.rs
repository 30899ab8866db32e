//! Router solicitations and advertisements (RFC 4861 §4.1, §4.2), as little of them as finding a
//! neighbour takes.

use socket2::SockFilter;

const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Here is a router.
    Advertisement,
    /// Which routers are here?
    Solicitation,
}

/// Asks for routers. The kernel fills in the checksum.
pub(super) fn solicitation() -> [u8; 8] {
    [SOLICITATION, 0, 0, 0, 0, 0, 0, 0]
}

/// Says that we are here and no default router: its lifetime is 0 (RFC 4861 §6.2.3), and nothing
/// else is specified.
pub(super) fn advertisement() -> [u8; 16] {
    let mut packet = [0; 16];
    packet[0] = ADVERTISEMENT;
    packet
}

/// Reads a packet as a raw socket gives it, without the IPv6 header; none when it is neither, or
/// too short (RFC 4861 §6.1).
pub(super) fn read(packet: &[u8]) -> Option<Said> {
    match packet {
        [ADVERTISEMENT, 0, rest @ ..] if rest.len() >= 14 => Some(Said::Advertisement),
        [SOLICITATION, 0, rest @ ..] if rest.len() >= 6 => Some(Said::Solicitation),
        _ => None,
    }
}

/// Lets through what has travelled no hop, as RFC 4861 §6.1 asks, and is one of the two kinds.
pub(super) fn filter() -> [SockFilter; 7] {
    let step = SockFilter::new;
    [
        step(LOAD_OCTET, 0, 0, HOP_LIMIT),
        step(JUMP_IF_EQUAL, 0, 3, u8::MAX.into()),
        step(LOAD_OCTET, 0, 0, 0),
        step(JUMP_IF_EQUAL, 2, 0, SOLICITATION.into()),
        step(JUMP_IF_EQUAL, 1, 0, ADVERTISEMENT.into()),
        step(RETURN, 0, 0, 0),
        step(RETURN, 0, 0, u32::MAX),
    ]
}

const LOAD_OCTET: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// Place of the hop limit: the eighth octet of the network header, which lies before the packet.
const HOP_LIMIT: u32 = (libc::SKF_NET_OFF + 7) as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_packets_are_read_and_short_or_foreign_ones_are_not() {
        assert_eq!(Some(Said::Solicitation), read(&solicitation()));
        assert_eq!(Some(Said::Advertisement), read(&advertisement()));
        assert_eq!([0, 0], advertisement()[6..8], "a default router");
        assert_eq!(None, read(&[]));
        assert_eq!(None, read(&advertisement()[..15]));
        assert_eq!(None, read(&solicitation()[..7]));
        // A neighbour solicitation, and a code that is not 0.
        assert_eq!(None, read(&[135, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(None, read(&[133, 1, 0, 0, 0, 0, 0, 0]));
    }
}
