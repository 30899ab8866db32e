//! Packets that came in one by one are handed to the kernel in one piece where they are neighbours of
//! a flow, as its own GRO would: TCP segments that continue each other, UDP datagrams of one size.
//! Payload is not copied: what is written is a list of places in the receive buffer.
//!
//! Only packets whose checksum is good are put together. A checksum that covers the pseudo header
//! alone comes from a kernel that put segments together itself, or from one on the same machine that
//! left the sum to be done: such a packet is handed on with that told.

use std::io::IoSlice;
use std::ops::Range;

use super::packet::{
    ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4, Packet, TCP, UDP, write_length,
};
use super::vnet::{Offload, VNET, Vnet};

/// Most packets in one piece.
const MOST_PARTS: usize = 64;
/// Longest IP packet.
const LONGEST: usize = 65535;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// Takes a frame, offload header first, in slices.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[IoSlice<'_>]);

/// The two hardware addresses of a frame, destination first.
pub(crate) type Addresses = [u8; 12];

/// Puts packets together.
pub(crate) struct Coalescer {
    /// Longest packet that the device sends, in bytes.
    mtu: usize,
    /// The kernel takes UDP datagrams in one piece (Linux 6.2).
    udp: bool,
    open: Option<Open>,
    parts: Vec<Range<usize>>,
}

/// A packet that more may be appended to.
#[derive(Clone, Copy, Debug)]
struct Open {
    addresses: Addresses,
    /// Where it starts in the receive buffer.
    at: usize,
    shape: Shape,
    /// Bytes so far, headers once.
    total: usize,
    /// The next TCP sequence number.
    next: u32,
    /// Identification of the last packet, IPv4 only.
    id: u16,
    complete: bool,
}

/// What a packet is to the coalescer.
#[derive(Clone, Copy, Debug)]
struct Shape {
    packet: Packet,
    /// Bytes of all headers.
    headers: usize,
    offload: Offload,
    /// Place of the checksum, from the start of the packet.
    place: usize,
}

enum Verdict {
    /// As it is; with offload when it is a piece already, or its checksum has to be done.
    Alone(Option<Shape>, usize),
    Joins(Shape),
}

impl Coalescer {
    pub(crate) fn new(mtu: u32, udp: bool) -> Coalescer {
        Coalescer {
            mtu: mtu as usize,
            udp,
            open: None,
            parts: Vec::with_capacity(MOST_PARTS),
        }
    }

    /// Takes the packet at `at`, which has been parsed and is inside `buffer` as a whole.
    pub(crate) fn add(
        &mut self,
        buffer: &mut [u8],
        at: usize,
        (packet, addresses): (Packet, Addresses),
        sink: Sink<'_>,
    ) {
        match self.judge(&buffer[at..at + packet.total], packet) {
            Verdict::Joins(shape) => {
                if !self.append(buffer, at, &shape, addresses) {
                    self.flush(buffer, sink);
                    self.start(buffer, at, shape, addresses);
                }
            }
            Verdict::Alone(shape, size) => {
                self.flush(buffer, sink);
                let vnet = match shape {
                    None => [0; VNET],
                    Some(shape) => shape.vnet(size),
                };
                let ip = &buffer[at..at + packet.total];
                write(vnet, addresses, packet.v6, &[ip], sink);
            }
        }
    }

    /// Hands on what was put together.
    pub(crate) fn flush(&mut self, buffer: &mut [u8], sink: Sink<'_>) {
        let Some(open) = self.open.take() else { return };
        let Shape {
            packet,
            headers,
            place,
            offload,
        } = open.shape;
        let several = self.parts.len() > 1;
        let ip = &mut buffer[open.at..];
        if several {
            write_length(ip, &packet, open.total);
            if offload == Offload::Udp {
                let length = (open.total - packet.header) as u16;
                ip[packet.header + 4..packet.header + 6].copy_from_slice(&length.to_be_bytes());
            }
        }
        // The sum over the data was found good: the kernel need not repeat it.
        let length = open.total - packet.header;
        let protocol = if offload == Offload::Udp { UDP } else { TCP };
        let pseudo = packet.pseudo_header(ip, protocol, length).folded();
        ip[place..place + 2].copy_from_slice(&pseudo);
        let size = if several {
            self.parts[0].len() - headers
        } else {
            0
        };
        let mut slices = [&[][..]; MOST_PARTS];
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = &buffer[part.clone()];
        }
        let slices = &slices[..self.parts.len()];
        write(
            open.shape.vnet(size),
            open.addresses,
            packet.v6,
            slices,
            sink,
        );
        self.parts.clear();
    }

    fn judge(&self, ip: &[u8], packet: Packet) -> Verdict {
        let plain = Verdict::Alone(None, 0);
        if packet.fragment {
            return plain;
        }
        let (place, headers, offload) = match packet.protocol {
            TCP if packet.total >= packet.header + 20 => {
                let length = usize::from(ip[packet.header + 12] >> 4) * 4;
                let headers = packet.header + length;
                if length < 20 || headers > packet.total {
                    return plain;
                }
                (packet.header + 16, headers, Offload::Tcp)
            }
            UDP if packet.total >= packet.header + 8 => {
                let at = packet.header + 4;
                let length = usize::from(u16::from_be_bytes([ip[at], ip[at + 1]]));
                if length != packet.total - packet.header || ip[at + 2..at + 4] == [0, 0] {
                    return plain;
                }
                (packet.header + 6, packet.header + 8, Offload::Udp)
            }
            _ => return plain,
        };
        let shape = Shape {
            packet,
            headers,
            offload,
            place,
        };
        let mut sum = packet.pseudo_header(ip, packet.protocol, packet.total - packet.header);
        let partial = ip[place..place + 2] == sum.folded();
        let payload = packet.total - headers;
        let large = packet.total > self.mtu;
        if partial && (large || payload == 0) {
            let room = self.mtu.saturating_sub(headers);
            let cut = large && offload == Offload::Tcp && room > 0;
            return Verdict::Alone(Some(shape), if cut { room } else { 0 });
        }
        let wanted = match offload {
            Offload::Tcp => ip[packet.header + 13] & !PSH == ACK,
            _ => self.udp,
        };
        if !wanted || payload == 0 || (!packet.v6 && packet.header != IPV4) {
            return Verdict::Alone(partial.then_some(shape), 0);
        }
        if !partial {
            sum.add(&ip[packet.header..]);
            if !sum.is_good() {
                return plain;
            }
        }
        Verdict::Joins(shape)
    }

    fn start(&mut self, buffer: &[u8], at: usize, shape: Shape, addresses: Addresses) {
        let packet = shape.packet;
        let ip = &buffer[at..at + packet.total];
        self.parts.push(at..at + packet.total);
        let payload = packet.total - shape.headers;
        self.open = Some(Open {
            addresses,
            at,
            shape,
            total: packet.total,
            next: sequence(ip, packet.header).wrapping_add(payload as u32),
            id: u16::from_be_bytes([ip[4], ip[5]]),
            complete: shape.pushes(ip),
        });
    }

    fn append(
        &mut self,
        buffer: &mut [u8],
        at: usize,
        shape: &Shape,
        addresses: Addresses,
    ) -> bool {
        let Some(open) = &mut self.open else {
            return false;
        };
        let (first, ip) = (&buffer[open.at..], &buffer[at..at + shape.packet.total]);
        let size = open.shape.packet.total - open.shape.headers;
        let payload = shape.packet.total - shape.headers;
        if open.complete
            || self.parts.len() == MOST_PARTS
            || payload > size
            || open.total + payload > LONGEST
            || open.addresses != addresses
            || !open.shape.continues(first, shape, ip)
        {
            return false;
        }
        if shape.offload == Offload::Tcp && sequence(ip, shape.packet.header) != open.next {
            return false;
        }
        let id = u16::from_be_bytes([ip[4], ip[5]]);
        if !shape.packet.dont_fragment(ip) && id != open.id.wrapping_add(1) {
            return false;
        }
        let pushes = shape.pushes(ip);
        open.id = id;
        open.next = open.next.wrapping_add(payload as u32);
        open.total += payload;
        open.complete = pushes || payload < size;
        if pushes {
            buffer[open.at + shape.packet.header + 13] |= PSH;
        }
        self.parts.push(at + shape.headers..at + shape.packet.total);
        true
    }
}

impl Shape {
    fn vnet(&self, size: usize) -> [u8; VNET] {
        let start = ETHERNET + self.packet.header;
        let vnet = Vnet {
            offload: if size > 0 {
                self.offload
            } else {
                Offload::None
            },
            size,
            checksum: Some((start, ETHERNET + self.place)),
        };
        vnet.write(ETHERNET + self.headers, self.packet.v6)
    }

    fn pushes(&self, ip: &[u8]) -> bool {
        self.offload == Offload::Tcp && ip[self.packet.header + 13] & PSH != 0
    }

    /// Whether all that packets of one piece share is the same in both headers.
    fn continues(&self, a: &[u8], other: &Shape, b: &[u8]) -> bool {
        if self.packet.v6 != other.packet.v6
            || self.offload != other.offload
            || self.headers != other.headers
        {
            return false;
        }
        let same = |range: Range<usize>| a[range.clone()] == b[range];
        let network = if self.packet.v6 {
            same(0..4) && same(6..40)
        } else {
            same(0..2) && same(6..10) && same(12..20)
        };
        let at = self.packet.header;
        network
            && same(at..at + 4)
            && (self.offload == Offload::Udp
                || (same(at + 8..at + 13) && same(at + 14..at + 16) && same(at + 18..self.headers)))
    }
}

/// The TCP sequence number; of UDP some octets that nobody looks at.
fn sequence(ip: &[u8], header: usize) -> u32 {
    let at = header + 4;
    ip.get(at..at + 4).map_or(0, |word| {
        u32::from_be_bytes([word[0], word[1], word[2], word[3]])
    })
}

fn write(vnet: [u8; VNET], addresses: Addresses, v6: bool, parts: &[&[u8]], sink: Sink<'_>) {
    let mut head = [0; VNET + ETHERNET];
    head[..VNET].copy_from_slice(&vnet);
    head[VNET..VNET + 12].copy_from_slice(&addresses);
    head[VNET + 12..].copy_from_slice(if v6 { &ETHERTYPE_IPV6 } else { &ETHERTYPE_IPV4 });
    let mut slices = [IoSlice::new(&[]); MOST_PARTS + 1];
    slices[0] = IoSlice::new(&head);
    for (slice, part) in slices[1..].iter_mut().zip(parts) {
        *slice = IoSlice::new(part);
    }
    sink(&slices[..=parts.len()]);
}
