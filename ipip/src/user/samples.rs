//! Packets for the tests of this module, and what becomes of them.

use std::io::IoSlice;
use std::net::IpAddr;

use super::checksum::Sum;
use super::coalesce::Coalescer;
use super::decapsulate::Decapsulator;
use super::encapsulate::{Encapsulator, End, Task};
use super::outbox::FRAMES;
use super::packet::{
    ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4, IPV6, Packet, TCP, UDP, write_length,
};
use super::peers::Peers;
use super::sys::Datagram;
use super::vnet::{Offload, VNET, Vnet};
use super::wire::{Wire, ipip_mac};

pub(super) const MAC: [u8; 6] = [0x66, 1, 2, 3, 4, 5];
pub(super) const PEER_MAC: [u8; 6] = [0x66, 9, 8, 7, 6, 5];
pub(super) const OVER_UDP: Wire = Wire::Vxlan {
    vni: 4096,
    port: 4789,
};

pub(super) fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// This node and the other one, as both see themselves.
pub(super) fn ends(wire: Wire) -> (End, End) {
    let end = |local| End {
        wire,
        local: addr(local),
    };
    (end("192.0.2.1"), end("192.0.2.2"))
}

pub(super) fn peers() -> Peers {
    let hosts = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(addr);
    let vteps = [(MAC, hosts[0]), (PEER_MAC, hosts[1])];
    Peers::new(hosts.map(|host| (host, 32)), vteps)
}

/// An IP packet of a TCP segment (flags given) or a UDP datagram, with good checksums.
pub(super) fn packet(v6: bool, tcp: Option<u8>, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let header = if v6 { IPV6 } else { IPV4 };
    let mut ip = vec![0; header];
    let protocol = if tcp.is_some() { TCP } else { UDP };
    if v6 {
        ip[0] = 0x60;
        ip[6] = protocol;
        ip[7] = 63;
        ip[8..24].copy_from_slice(&addr_bytes("2001:db8:1::1"));
        ip[24..40].copy_from_slice(&addr_bytes("2001:db8:2::1"));
    } else {
        ip[0] = 0x45;
        ip[4..6].copy_from_slice(&7_u16.to_be_bytes());
        ip[6] = 0x40;
        ip[8] = 63;
        ip[9] = protocol;
        ip[12..20].copy_from_slice(&[10, 1, 0, 1, 10, 2, 0, 1]);
    }
    ip.extend([0x80, 1, 0x80, 2]);
    match tcp {
        Some(flags) => {
            ip.extend(sequence.to_be_bytes());
            ip.extend([0, 0, 0, 9, 0x80, flags, 1, 0, 0, 0, 0, 0]);
            // Timestamps, as TCP of today has them.
            ip.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        }
        None => {
            ip.extend(((payload.len() + 8) as u16).to_be_bytes());
            ip.extend([0, 0]);
        }
    }
    ip.extend(payload);
    let total = ip.len();
    let whole = Packet {
        v6,
        header,
        total,
        protocol,
        fragment: false,
    };
    write_length(&mut ip, &whole, total);
    let place = header + if tcp.is_some() { 16 } else { 6 };
    let mut sum = whole.pseudo_header(&ip, protocol, total - header);
    sum.add(&ip[header..]);
    ip[place..place + 2].copy_from_slice(&sum.checksum());
    ip
}

fn addr_bytes(text: &str) -> [u8; 16] {
    text.parse::<std::net::Ipv6Addr>().unwrap().octets()
}

/// The frame in which the kernel hands a packet over, to be cut into pieces of `size` when not 0.
pub(super) fn frame(wire: Wire, mut ip: Vec<u8>, size: usize) -> Vec<u8> {
    let packet = Packet::parse(&ip).unwrap();
    let tcp = packet.protocol == TCP;
    let place = packet.header + if tcp { 16 } else { 6 };
    let offload = match (size, tcp) {
        (0, _) => Offload::None,
        (_, true) => Offload::Tcp,
        (_, false) => Offload::Udp,
    };
    let mut checksum = None;
    if size > 0 {
        let sum = packet.pseudo_header(&ip, packet.protocol, ip.len() - packet.header);
        ip[place..place + 2].copy_from_slice(&sum.folded());
        checksum = Some((ETHERNET + packet.header, ETHERNET + place));
    }
    let vnet = Vnet {
        offload,
        size,
        checksum,
    };
    let mut frame = vnet.write(0, packet.v6).to_vec();
    match wire {
        Wire::Ipip => {
            frame.extend(ipip_mac([192, 0, 2, 2].into()));
            frame.extend(ipip_mac([192, 0, 2, 1].into()));
        }
        Wire::Vxlan { .. } => {
            frame.extend(PEER_MAC);
            frame.extend(MAC);
        }
    }
    frame.extend(if packet.v6 {
        ETHERTYPE_IPV6
    } else {
        ETHERTYPE_IPV4
    });
    frame.extend(ip);
    frame
}

/// What goes out for a frame: the datagrams of each message, and the size the kernel cuts it to.
pub(super) fn sent(end: End, frame: &[u8]) -> Vec<(Vec<u8>, u16)> {
    let mut frames = frame.to_vec();
    let mut encapsulator = Encapsulator::new(end, 4);
    let length = frames.len();
    let task = encapsulator.prepare(&mut frames, (0, length), &peers());
    let Task::Send(job) = task.unwrap() else {
        panic!("nothing to send");
    };
    for piece in 0..job.pieces() {
        assert!(!encapsulator.is_full(job.lane));
        encapsulator.push(&mut frames, &job, piece);
    }
    let lane = &encapsulator.lanes[job.lane];
    let message = |message: &super::sys::Message| {
        let mut bytes = Vec::new();
        for span in &lane.spans[message.spans.clone()] {
            let area = if span.area == FRAMES {
                &frames
            } else {
                encapsulator.headers()
            };
            bytes.extend(&area[span.start..span.start + span.length]);
        }
        (bytes, message.piece)
    };
    lane.messages.iter().map(message).collect()
}

/// The frames that the device of `end` gets for messages that came in.
pub(super) fn received(end: End, messages: &[(Vec<u8>, u16)]) -> (Vec<Vec<u8>>, Decapsulator) {
    let mac = match end.wire {
        Wire::Ipip => ipip_mac([192, 0, 2, 2].into()),
        Wire::Vxlan { .. } => PEER_MAC,
    };
    let mut decapsulator = Decapsulator::new(end, mac, Coalescer::new(1450, true));
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let mut sink = |slices: &[IoSlice<'_>]| {
        frames.push(slices.iter().flat_map(|slice| slice.to_vec()).collect())
    };
    let mut buffer = Vec::new();
    let mut datagrams = Vec::new();
    for (bytes, piece) in messages {
        datagrams.push(Datagram {
            source: addr("192.0.2.1"),
            start: buffer.len(),
            length: bytes.len(),
            piece: usize::from(*piece),
            tos: 0,
        });
        buffer.extend(bytes);
    }
    for datagram in datagrams {
        decapsulator.datagram(&mut buffer, &datagram, &peers(), &mut sink);
    }
    decapsulator.coalescer.flush(&mut buffer, &mut sink);
    (frames, decapsulator)
}

/// Whether all checksums of a packet are good.
pub(super) fn is_sound(ip: &[u8]) -> bool {
    let packet = Packet::parse(ip).unwrap();
    let mut header = Sum::default();
    header.add(&ip[..packet.header]);
    let mut sum = packet.pseudo_header(ip, packet.protocol, packet.total - packet.header);
    sum.add(&ip[packet.header..packet.total]);
    (packet.v6 || header.is_good()) && sum.is_good()
}

/// The packet in a frame for the device, without its offload header.
pub(super) fn inside(frame: &[u8]) -> &[u8] {
    &frame[VNET + ETHERNET..]
}
