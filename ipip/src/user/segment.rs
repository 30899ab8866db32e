//! Cutting what the kernel handed over in one piece (64 KiB at most) into packets that fit the wire:
//! TCP segments, or UDP datagrams of one size. Only headers are written, payload stays where it is.

use std::ops::Range;

use super::checksum::Sum;
use super::packet::{Packet, TCP, UDP, write_length};
use super::vnet::{Offload, Vnet};

const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// How a packet is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    packet: Packet,
    protocol: u8,
    /// Start of the TCP or UDP header, from that of the packet.
    transport: usize,
    /// Bytes of all headers.
    headers: usize,
    /// Payload of each piece.
    size: usize,
}

impl Cut {
    /// Nothing when the headers do not add up. `transport` counts from the start of `ip`.
    pub(crate) fn new(ip: &[u8], packet: Packet, vnet: &Vnet, transport: usize) -> Option<Cut> {
        if transport < packet.header || packet.fragment {
            return None;
        }
        let (protocol, headers) = match vnet.offload {
            Offload::Tcp => {
                let length = usize::from(ip.get(transport + 12)? >> 4) * 4;
                (length >= 20).then_some((TCP, transport + length))?
            }
            Offload::Udp => (UDP, transport + 8),
            Offload::None => return None,
        };
        (headers < packet.total && vnet.size > 0).then_some(Cut {
            packet,
            protocol,
            transport,
            headers,
            size: vnet.size,
        })
    }

    pub(crate) fn pieces(&self) -> usize {
        (self.packet.total - self.headers).div_ceil(self.size)
    }

    /// Bytes of the headers of each piece.
    pub(crate) fn headers(&self) -> usize {
        self.headers
    }

    /// Where the payload of a piece is, from the start of the packet.
    pub(crate) fn payload(&self, piece: usize) -> Range<usize> {
        let start = self.headers + piece * self.size;
        start..(start + self.size).min(self.packet.total)
    }

    /// Writes the headers of a piece to `out`, which has room for just them.
    pub(crate) fn write_headers(&self, piece: usize, ip: &[u8], out: &mut [u8]) {
        let payload = self.payload(piece);
        out.copy_from_slice(&ip[..self.headers]);
        if !self.packet.v6 {
            let id = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(piece as u16);
            out[4..6].copy_from_slice(&id.to_be_bytes());
        }
        write_length(out, &self.packet, self.headers + payload.len());
        let length = self.headers - self.transport + payload.len();
        let place = if self.protocol == TCP {
            self.write_tcp(piece, out);
            self.transport + 16
        } else {
            let at = self.transport + 4;
            out[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
            self.transport + 6
        };
        out[place..place + 2].fill(0);
        let mut sum = self.packet.pseudo_header(ip, self.protocol, length);
        sum.add(&out[self.transport..]);
        sum.add(&ip[payload]);
        out[place..place + 2].copy_from_slice(&never_zero(self.protocol, sum));
    }

    fn write_tcp(&self, piece: usize, out: &mut [u8]) {
        let at = self.transport;
        let first = u32::from_be_bytes([out[at + 4], out[at + 5], out[at + 6], out[at + 7]]);
        let sequence = first.wrapping_add((piece * self.size) as u32);
        out[at + 4..at + 8].copy_from_slice(&sequence.to_be_bytes());
        if piece + 1 < self.pieces() {
            out[at + 13] &= !FIN_PSH;
        }
        if piece > 0 {
            out[at + 13] &= !CWR;
        }
    }
}

/// Finishes a checksum that was left to whoever sends the packet.
/// `start` and `place` count from the start of `packet`; false when they lie outside.
pub(crate) fn finish_checksum(packet: &mut [u8], start: usize, place: usize) -> bool {
    if start >= packet.len() || place < start || place + 2 > packet.len() {
        return false;
    }
    let mut sum = Sum::default();
    sum.add(&packet[start..]);
    // The place says which protocol it is: a zero means "none" in UDP only.
    let protocol = if place - start == 6 { UDP } else { TCP };
    packet[place..place + 2].copy_from_slice(&never_zero(protocol, sum));
    true
}

/// A UDP checksum of zero would say that there is none (RFC 768).
fn never_zero(protocol: u8, sum: Sum) -> [u8; 2] {
    match sum.checksum() {
        [0, 0] if protocol == UDP => [0xff, 0xff],
        checksum => checksum,
    }
}
