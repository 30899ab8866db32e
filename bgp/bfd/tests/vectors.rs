//! Control packets as octets: RFC 5880 §4.1, and the checks of §6.8.6.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::num::{NonZeroU8, NonZeroU32};

use bfd::{Diagnostic, Malformed, Packet, State};

/// Up, multiplier 5, sends every 100 ms, takes one every 10 ms, no echo.
const UP: [u8; 24] = [
    0x20, 0xc0, 0x05, 0x18, 0x6f, 0x2c, 0x11, 0x09, 0x00, 0x00, 0x00, 0x2a, 0x00, 0x01, 0x86, 0xa0,
    0x00, 0x00, 0x27, 0x10, 0x00, 0x00, 0x00, 0x00,
];

fn up() -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state: State::Up,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        multiplier: NonZeroU8::new(5).unwrap(),
        my_discriminator: NonZeroU32::new(0x6f2c_1109).unwrap(),
        your_discriminator: NonZeroU32::new(42),
        desired_min_tx: 100_000,
        required_min_rx: 10_000,
        required_min_echo_rx: 0,
    }
}

fn changed(at: usize, to: u8) -> [u8; 24] {
    let mut octets = UP;
    octets[at] = to;
    octets
}

#[test]
fn a_packet_is_read_and_written_octet_by_octet() {
    assert_eq!(Ok(up()), Packet::decode(&UP));
    assert_eq!(UP, up().encode());
}

#[test]
fn every_bit_has_its_place() {
    let with = |change: fn(&mut Packet)| {
        let mut packet = up();
        change(&mut packet);
        packet
    };
    let cases = [
        (changed(1, 0xe0), with(|p| p.poll = true)),
        (changed(1, 0xd0), with(|p| p.is_final = true)),
        (
            changed(1, 0xc8),
            with(|p| p.control_plane_independent = true),
        ),
        (changed(1, 0xc2), with(|p| p.demand = true)),
        (changed(1, 0x00), with(|p| p.state = State::AdminDown)),
        (changed(1, 0x40), with(|p| p.state = State::Down)),
        (changed(1, 0x80), with(|p| p.state = State::Init)),
        (
            changed(0, 0x21),
            with(|p| p.diagnostic = Diagnostic::TIME_EXPIRED),
        ),
        (
            changed(0, 0x27),
            with(|p| p.diagnostic = Diagnostic::ADMINISTRATIVE),
        ),
    ];
    for (octets, packet) in cases {
        assert_eq!(Ok(packet), Packet::decode(&octets));
        assert_eq!(octets, packet.encode());
    }
    // Diagnostics that have no name yet are kept.
    let odd = Packet::decode(&changed(0, 0x3f)).unwrap();
    assert_eq!(
        (31, "Diagnostic 31"),
        (odd.diagnostic.code(), &*odd.diagnostic.to_string())
    );
    assert_eq!(0x3f, odd.encode()[0]);
}

#[test]
fn what_must_be_dropped_is_dropped() {
    let mut no_sender = UP;
    no_sender[4..8].fill(0);
    let mut unheard = UP;
    unheard[8..12].fill(0);
    let cases = [
        (changed(0, 0x00), Malformed::Version(0)),
        (changed(0, 0x40), Malformed::Version(2)),
        (changed(2, 0), Malformed::Multiplier),
        (changed(3, 23), Malformed::Length(23)),
        (changed(3, 25), Malformed::Truncated),
        (changed(1, 0xc1), Malformed::Multipoint),
        (changed(1, 0xc4), Malformed::Length(24)),
        (no_sender, Malformed::MyDiscriminator),
        (unheard, Malformed::YourDiscriminator),
    ];
    for (octets, malformed) in cases {
        assert_eq!(Err(malformed), Packet::decode(&octets));
    }
    for len in 0..24 {
        assert_eq!(Err(Malformed::Truncated), Packet::decode(&UP[..len]));
    }
    let mut signed = changed(1, 0xc4).to_vec();
    signed[3] = 28;
    signed.extend([1, 4, 1, b'x']);
    assert_eq!(Err(Malformed::Authenticated), Packet::decode(&signed));
}

#[test]
fn the_first_packets_of_a_neighbour_do_not_know_us() {
    let mut down = changed(1, 0x40);
    down[8..12].fill(0);
    let packet = Packet::decode(&down).unwrap();
    assert_eq!(
        (State::Down, None),
        (packet.state, packet.your_discriminator)
    );
    let mut longer = down.to_vec();
    longer.extend([0xff; 8]);
    assert_eq!(
        Ok(packet),
        Packet::decode(&longer),
        "octets after the packet"
    );
}
