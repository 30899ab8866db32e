use proptest::prelude::*;

use super::super::samples::*;
use super::super::segment::Cut;
use super::*;

const ACK: u8 = 0x10;
const PSH_ACK: u8 = 0x18;

fn datagrams(messages: &[(Vec<u8>, u16)]) -> Vec<&[u8]> {
    let cut = |(bytes, piece): &'_ (Vec<u8>, u16)| match piece {
        0 => bytes.len(),
        piece => usize::from(*piece),
    };
    messages
        .iter()
        .flat_map(|message| message.0.chunks(cut(message)))
        .collect()
}

fn refusal(wire: Wire, frame: &[u8]) -> Reason {
    let mut frames = frame.to_vec();
    let length = frames.len();
    let encapsulator = Encapsulator::new(ends(wire).0, 1);
    encapsulator
        .prepare(&mut frames, (0, length), &peers())
        .unwrap_err()
}

#[test]
fn ipip_header_is_that_of_the_kernel() {
    let mut ip = packet(false, Some(ACK), 1, b"x");
    ip[1] = 0b1011_1010;
    let frame = frame(Wire::Ipip, ip.clone(), 0);
    let sent = sent(ends(Wire::Ipip).0, &frame);
    let length = (20 + ip.len()) as u8;
    let outer = [
        0x45, 0b10, 0, length, 0, 0, 0x40, 0, 63, 4, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
    ];
    assert_eq!(sent, [([&outer[..], &ip].concat(), 0)]);
}

#[test]
fn ipip_leaves_fragmenting_to_the_way_where_the_packet_does() {
    let mut ip = packet(false, None, 0, b"x");
    ip[6] = 0;
    let sent = sent(ends(Wire::Ipip).0, &frame(Wire::Ipip, ip, 0));
    assert_eq!(sent[0].0[6], 0);
}

#[test]
fn vxlan_header_is_that_of_the_kernel() {
    for v6 in [false, true] {
        let ip = packet(v6, None, 0, b"hello");
        let frame = frame(OVER_UDP, ip, 0);
        let sent = sent(ends(OVER_UDP).0, &frame);
        let expected = [&[8, 0, 0, 0, 0, 0x10, 0, 0][..], &frame[VNET..]].concat();
        assert_eq!(sent, [(expected, 0)]);
    }
}

#[test]
fn a_piece_of_a_stream_is_cut_into_segments() {
    for (wire, v6) in [(Wire::Ipip, false), (OVER_UDP, false), (OVER_UDP, true)] {
        let payload: Vec<u8> = (0..3500_u32).map(|byte| byte as u8).collect();
        let ip = packet(v6, Some(PSH_ACK), u32::MAX - 900, &payload);
        let sent = sent(ends(wire).0, &frame(wire, ip, 1000));
        let datagrams = datagrams(&sent);
        assert_eq!(datagrams.len(), 4);
        let mut joined: Vec<u8> = Vec::new();
        let header = if v6 { 40 } else { 20 };
        for (at, datagram) in datagrams.iter().enumerate() {
            let ip = &datagram[wire.prefix()..];
            assert!(is_sound(ip), "segment {at}");
            assert_eq!(Packet::parse(ip).unwrap().total, ip.len());
            let sequence = u32::from_be_bytes(ip[header + 4..header + 8].try_into().unwrap());
            assert_eq!(sequence, (u32::MAX - 900).wrapping_add(at as u32 * 1000));
            let flags = if at == 3 { PSH_ACK } else { ACK };
            assert_eq!(ip[header + 13], flags, "only the last one pushes");
            joined.extend(&ip[header + 32..]);
        }
        assert_eq!(joined, payload);
    }
}

#[test]
fn segments_of_vxlan_go_in_one_message() {
    let ip = packet(false, Some(ACK), 1, &[7; 3500]);
    let vxlan = sent(ends(OVER_UDP).0, &frame(OVER_UDP, ip.clone(), 1000));
    assert_eq!(vxlan.len(), 1);
    assert_eq!(vxlan[0].1, 8 + 14 + 52 + 1000);
    let ipip = sent(ends(Wire::Ipip).0, &frame(Wire::Ipip, ip, 1000));
    assert_eq!(ipip.len(), 4, "raw sockets send one by one");
}

#[test]
fn datagrams_are_cut_apart() {
    let ip = packet(false, None, 0, &[9; 250]);
    let sent = sent(ends(OVER_UDP).0, &frame(OVER_UDP, ip, 100));
    let lengths: Vec<_> = datagrams(&sent)
        .iter()
        .map(|datagram| {
            let ip = &datagram[VXLAN_PREFIX..];
            assert!(is_sound(ip));
            u16::from_be_bytes([ip[24], ip[25]])
        })
        .collect();
    assert_eq!(lengths, [108, 108, 58]);
}

const VXLAN_PREFIX: usize = 22;

#[test]
fn congestion_window_reduced_is_told_once() {
    const CWR_ACK: u8 = 0x90;
    let ip = packet(false, Some(CWR_ACK), 1, &[7; 2000]);
    let sent = sent(ends(Wire::Ipip).0, &frame(Wire::Ipip, ip, 1000));
    let flags: Vec<_> = sent.iter().map(|(bytes, _)| bytes[20 + 20 + 13]).collect();
    assert_eq!(flags, [CWR_ACK, ACK]);
}

#[test]
fn what_goes_to_nobody_known_is_dropped() {
    for wire in [Wire::Ipip, OVER_UDP] {
        let mut frame = frame(wire, packet(false, None, 0, b"x"), 0);
        frame[VNET + 5] = 77;
        assert_eq!(refusal(wire, &frame), Reason::UnknownDestination);
        frame[VNET] = 1;
        assert_eq!(refusal(wire, &frame), Reason::Ignored, "multicast");
    }
}

#[test]
fn what_would_come_back_is_dropped() {
    let outer = |protocol, port: [u8; 2]| {
        let mut ip = packet(false, None, 0, b"x");
        ip[9] = protocol;
        ip[12..20].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
        ip[22..24].copy_from_slice(&port);
        ip
    };
    let port = 4789_u16.to_be_bytes();
    assert_eq!(
        refusal(Wire::Ipip, &frame(Wire::Ipip, outer(4, port), 0)),
        Reason::Loop
    );
    assert_eq!(
        refusal(OVER_UDP, &frame(OVER_UDP, outer(UDP, port), 0)),
        Reason::Loop
    );
    let mut fragment = outer(UDP, [0, 0]);
    fragment[7] = 9;
    assert_eq!(
        refusal(OVER_UDP, &frame(OVER_UDP, fragment, 0)),
        Reason::Loop
    );
    let other = sent(ends(OVER_UDP).0, &frame(OVER_UDP, outer(UDP, [0, 53]), 0));
    assert_eq!(other.len(), 1, "what the host itself sends is none");
}

#[test]
fn arp_is_answered_for_nodes_only() {
    let mut arp = vec![0; VNET];
    arp.extend([0xff; 6]);
    arp.extend([2, 4, 192, 0, 2, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend([2, 4, 192, 0, 2, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    for (node, known) in [(2, true), (3, true), (1, false), (9, false)] {
        let mut frame = [&arp[..], &[192, 0, 2, node]].concat();
        let length = frame.len();
        let encapsulator = Encapsulator::new(ends(Wire::Ipip).0, 1);
        let task = encapsulator.prepare(&mut frame, (0, length), &peers());
        assert_eq!(matches!(task, Ok(Task::Answer(_))), known, "192.0.2.{node}");
        assert_eq!(refusal(OVER_UDP, &frame), Reason::Ignored);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Neither random bytes nor damaged frames panic; what is cut stays within its frame.
    #[test]
    fn no_frame_panics(
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        damage in proptest::collection::vec((0_usize..140, any::<u8>()), 0..6),
        size in 0_usize..3000,
        (v6, tcp, vxlan) in any::<(bool, bool, bool)>(),
        cut in 0_usize..400,
    ) {
        let wire = if vxlan { OVER_UDP } else { Wire::Ipip };
        let mut frame = frame(wire, packet(v6, tcp.then_some(ACK), 5, &[3; 300]), size);
        for (at, value) in damage {
            if at < frame.len() {
                frame[at] = value;
            }
        }
        frame.truncate(frame.len() - cut.min(frame.len()));
        for mut bytes in [noise, frame] {
            let length = bytes.len();
            let mut encapsulator = Encapsulator::new(ends(wire).0, 4);
            let Ok(Task::Send(job)) = encapsulator.prepare(&mut bytes, (0, length), &peers()) else {
                continue;
            };
            for piece in 0..job.pieces() {
                if encapsulator.is_full(job.lane) {
                    encapsulator.clear();
                }
                encapsulator.push(&mut bytes, &job, piece);
            }
        }
    }

    #[test]
    fn pieces_cover_the_payload(length in 1_usize..5000, size in 1_usize..2000) {
        let ip = packet(false, Some(ACK), 5, &vec![3; length]);
        let packet = Packet::parse(&ip).unwrap();
        let vnet = Vnet { offload: Offload::Tcp, size, checksum: None };
        let cut = Cut::new(&ip, packet, &vnet, 20).unwrap();
        let mut at = cut.headers();
        for piece in 0..cut.pieces() {
            let payload = cut.payload(piece);
            prop_assert_eq!(payload.start, at);
            prop_assert!(!payload.is_empty() && payload.len() <= size);
            at = payload.end;
        }
        prop_assert_eq!(at, ip.len());
    }
}
