use proptest::prelude::*;

use super::super::packet::{TCP, UDP};
use super::super::samples::*;
use super::super::vnet::{Offload, VNET, Vnet};
use super::*;

const ACK: u8 = 0x10;

fn vnet(frame: &[u8]) -> Vnet {
    Vnet::parse(frame.first_chunk::<VNET>().unwrap()).unwrap()
}

fn dropped(decapsulator: &Decapsulator) -> Vec<Reason> {
    let count = |reason: &Reason| decapsulator.tally.drops[*reason as usize] > 0;
    Reason::ALL.into_iter().filter(count).collect()
}

#[test]
fn a_stream_arrives_in_one_piece_as_it_was_sent() {
    for (wire, v6, length) in [
        (Wire::Ipip, false, 9000),
        (OVER_UDP, false, 9000),
        (OVER_UDP, true, 8900),
    ] {
        let payload: Vec<u8> = (0..length).map(|byte| (byte / 7) as u8).collect();
        let ip = packet(v6, Some(ACK), 77, &payload);
        let (here, there) = ends(wire);
        let frame = frame(wire, ip.clone(), 1000);
        let (frames, decapsulator) = received(there, &sent(here, &frame));
        assert_eq!(frames.len(), 1, "{wire:?}");
        assert_eq!(decapsulator.tally.packets, 9);
        let vnet = vnet(&frames[0]);
        assert_eq!((vnet.offload, vnet.size), (Offload::Tcp, 1000));
        assert_eq!(
            frames[0][VNET..],
            frame[VNET..],
            "to the last bit, checksum left to be done"
        );
    }
}

#[test]
fn datagrams_arrive_in_one_piece_as_they_were_sent() {
    let ip = packet(false, None, 0, &[5; 950]);
    let (here, there) = ends(OVER_UDP);
    let frame = frame(OVER_UDP, ip, 100);
    let (frames, decapsulator) = received(there, &sent(here, &frame));
    assert_eq!(decapsulator.tally.packets, 10);
    assert_eq!(frames.len(), 1);
    assert_eq!(vnet(&frames[0]).offload, Offload::Udp);
    assert_eq!(frames[0][VNET..], frame[VNET..]);
}

#[test]
fn hardware_addresses_of_ipip_name_the_nodes() {
    let (here, there) = ends(Wire::Ipip);
    let (frames, _) = received(
        there,
        &sent(here, &frame(Wire::Ipip, packet(false, None, 0, b"x"), 0)),
    );
    let addresses = [2, 4, 192, 0, 2, 2, 2, 4, 192, 0, 2, 1];
    assert_eq!(frames[0][VNET..VNET + 12], addresses);
}

#[test]
fn strangers_and_oneself_are_not_heard() {
    for source in ["192.0.2.9", "192.0.2.2", "2001:db8::1"] {
        for wire in [Wire::Ipip, OVER_UDP] {
            let (here, there) = ends(wire);
            let sent = sent(here, &frame(wire, packet(false, None, 0, b"x"), 0));
            let (_, mut decapsulator) = received(there, &[]);
            let mut bytes = sent[0].0.clone();
            let datagram = Datagram {
                source: addr(source),
                start: 0,
                length: bytes.len(),
                piece: 0,
                tos: 0,
            };
            decapsulator.datagram(&mut bytes, &datagram, &peers(), &mut |_| panic!("{source}"));
            assert_eq!(dropped(&decapsulator), [Reason::ForeignSource], "{source}");
        }
    }
}

#[test]
fn what_is_no_packet_of_this_tunnel_is_dropped() {
    let (here, there) = ends(OVER_UDP);
    let good = sent(here, &frame(OVER_UDP, packet(false, None, 0, b"x"), 0))[0]
        .0
        .clone();
    for (at, value, reason) in [
        (0, 0, Reason::Malformed),
        (1, 1, Reason::Malformed),
        (5, 0x11, Reason::Malformed),
        (8, 0x02, Reason::NotForUs),
        (20, 0x88, Reason::Ignored),
        (22, 0x65, Reason::Malformed),
        (25, 200, Reason::Malformed),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        let (frames, decapsulator) = received(there, &[(bad, 0)]);
        assert!(frames.is_empty());
        assert_eq!(dropped(&decapsulator), [reason], "octet {at}");
    }
    for length in [0, 7, 8, 21, 22, 41] {
        let (frames, decapsulator) = received(there, &[(good[..length].to_vec(), 0)]);
        assert!(frames.is_empty());
        assert_eq!(
            dropped(&decapsulator),
            [Reason::Malformed],
            "{length} bytes"
        );
    }
}

#[test]
fn ipip_carries_ipv4_only() {
    let (here, there) = ends(Wire::Ipip);
    let mut bytes = sent(here, &frame(Wire::Ipip, packet(false, None, 0, b"x"), 0))[0]
        .0
        .clone();
    bytes.truncate(20);
    let ip = packet(true, None, 0, b"x");
    bytes[3] = (20 + ip.len()) as u8;
    bytes.extend(ip);
    let (frames, decapsulator) = received(there, &[(bytes, 0)]);
    assert!(frames.is_empty());
    assert_eq!(dropped(&decapsulator), [Reason::Malformed]);
}

#[test]
fn a_damaged_segment_is_not_hidden_among_good_ones() {
    let (here, there) = ends(OVER_UDP);
    let ip = packet(false, Some(ACK), 77, &[1; 3000]);
    let mut messages = sent(here, &frame(OVER_UDP, ip, 1000));
    let second = usize::from(messages[0].1) + 200;
    messages[0].0[second] ^= 1;
    let (frames, _) = received(there, &messages);
    assert_eq!(frames.len(), 3);
    assert_eq!(
        vnet(&frames[1]).checksum,
        None,
        "its own checksum goes on to be looked at"
    );
    assert!(!is_sound(inside(&frames[1])));
}

#[test]
fn a_sum_left_to_be_done_is_handed_on() {
    let (_, there) = ends(Wire::Ipip);
    let outer = |ip: Vec<u8>| {
        let mut bytes = vec![
            0x45, 0, 0, 0, 0, 0, 0x40, 0, 63, 4, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
        ];
        bytes[2..4].copy_from_slice(&((20 + ip.len()) as u16).to_be_bytes());
        bytes.extend(ip);
        (bytes, 0)
    };
    // As the kernel's GRO leaves it: longer than any link, with a pseudo header's sum.
    let large = frame(Wire::Ipip, packet(false, Some(ACK), 9, &[4; 5000]), 1)[24..].to_vec();
    let (frames, _) = received(there, &[outer(large.clone())]);
    let expected = Vnet {
        offload: Offload::Tcp,
        size: 1450 - 52,
        checksum: Some((34, 50)),
    };
    assert_eq!(vnet(&frames[0]), expected);
    assert_eq!(inside(&frames[0]), large);
}

#[test]
fn packets_of_two_flows_are_kept_apart_and_in_order() {
    let (here, there) = ends(OVER_UDP);
    let of = |sequence, port| {
        let mut ip = packet(false, Some(ACK), sequence, &[2; 100]);
        // Moved from one word to another, the sum stays.
        ip[21] -= port;
        ip[23] += port;
        sent(here, &frame(OVER_UDP, ip, 0)).remove(0)
    };
    let (frames, _) = received(
        there,
        &[of(0, 0), of(100, 0), of(0, 1), of(200, 0), of(400, 0)],
    );
    let lengths: Vec<_> = frames
        .iter()
        .map(|frame| inside(frame).len() - 52)
        .collect();
    assert_eq!(lengths, [200, 100, 100, 100]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Neither random bytes nor damaged packets panic, whatever the kernel says of their pieces.
    #[test]
    fn no_datagram_panics(
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        damage in proptest::collection::vec((0_usize..140, any::<u8>()), 0..6),
        piece in any::<u16>(),
        (v6, tcp, vxlan) in any::<(bool, bool, bool)>(),
        cut in 0_usize..400,
    ) {
        let wire = if vxlan { OVER_UDP } else { Wire::Ipip };
        let (here, there) = ends(wire);
        let ip = packet(v6 && vxlan, tcp.then_some(ACK), 5, &[3; 300]);
        let mut bytes = sent(here, &frame(wire, ip, 0)).remove(0).0;
        for (at, value) in damage {
            if at < bytes.len() {
                bytes[at] = value;
            }
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        received(there, &[(noise, piece), (bytes.clone(), piece % 300), (bytes, 0)]);
    }

    /// Whatever is put together: the packets in it, cut again, are those that came.
    #[test]
    fn nothing_is_lost_or_invented(
        sizes in proptest::collection::vec(1_usize..300, 1..20),
        tcp in any::<bool>(),
        gap in 0_usize..20,
    ) {
        let (here, there) = ends(OVER_UDP);
        let mut sequence = 0;
        let mut messages = Vec::new();
        let mut payload = Vec::new();
        for (at, size) in sizes.iter().enumerate() {
            if at == gap {
                sequence += 1;
            }
            let bytes = vec![at as u8; *size];
            let ip = packet(false, tcp.then_some(ACK), sequence, &bytes);
            messages.extend(sent(here, &frame(OVER_UDP, ip, 0)));
            sequence += *size as u32;
            payload.extend(bytes);
        }
        let (frames, decapsulator) = received(there, &messages);
        prop_assert_eq!(decapsulator.tally.packets, sizes.len() as u64);
        let mut again: Vec<u8> = Vec::new();
        let mut count = 0;
        for frame in frames {
            let ip = inside(&frame);
            let packet = Packet::parse(ip).unwrap();
            prop_assert_eq!(packet.total, ip.len());
            prop_assert_eq!(packet.protocol, if tcp { TCP } else { UDP });
            let headers = if tcp { 52 } else { 28 };
            let size = match vnet(&frame).size {
                0 => ip.len() - headers,
                size => size,
            };
            count += (ip.len() - headers).div_ceil(size);
            again.extend(&ip[headers..]);
        }
        prop_assert_eq!(again, payload);
        prop_assert_eq!(count, sizes.len());
    }
}
