//! Packets out of octets: each begins with a time, a TTL and a choice. Shared with the fuzz target
//! `bfd`.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU8;
use std::time::Duration;

use bfd::{Action, Arrival, Config, Hops, Packet, Path, Sessions, State};

/// Feeds what the octets say, and fails when a session comes apart. Whether one came up.
pub(crate) fn drive(mut input: &[u8]) -> bool {
    if let Ok(packet) = Packet::decode(input) {
        assert_eq!(Ok(packet), Packet::decode(&packet.encode()));
    }
    let remote = |number: u8| IpAddr::from(Ipv4Addr::new(192, 0, 2, number % 3));
    let config = |pace: u8| Config {
        min_tx_micros: u32::from(pace) * 10_000,
        min_rx_micros: u32::from(pace ^ 0x55) * 10_000,
        multiplier: NonZeroU8::MIN.saturating_add(pace % 8),
    };
    let (mut sessions, mut ids) = (Sessions::new(1), Vec::new());
    let mut came_up = false;
    let (mut now, mut out) = (Duration::ZERO, Vec::new());
    let all = [Hops::One, Hops::Either, Hops::Many { least_ttl: 250 }];
    for (number, hops) in (0..).zip(all) {
        let path = Path {
            remote: remote(number),
            local: None,
            interface: None,
            hops,
        };
        ids.push(sessions.add(path, config(30), &mut out));
    }
    while let Some((&[time, ttl, choice], after)) = input.split_first_chunk() {
        now += Duration::from_millis(u64::from(time) * 8);
        let (octets, rest) = after.split_at(after.len().min(bfd::LEN));
        input = rest;
        let mut octets = octets.to_vec();
        let id = ids[usize::from(choice % 3)];
        out.clear();
        match choice >> 4 {
            0 => sessions.configure(now, id, config(ttl), &mut out),
            1 => sessions.remove(now, id, &mut out),
            // Ours is a number that no corpus can know.
            2..8 if octets.len() == bfd::LEN => {
                octets[8..12].copy_from_slice(&id.discriminator().get().to_be_bytes());
            }
            _ => {}
        }
        let arrival = Arrival {
            remote: remote(choice),
            local: Ipv4Addr::LOCALHOST.into(),
            interface: 1,
            ttl: if choice & 8 == 0 { bfd::TTL } else { ttl },
            multihop: choice & 4 != 0,
            octets: &octets,
        };
        // Most are dropped; which does not matter here.
        let _dropped = sessions.receive(now, &arrival, &mut out);
        sessions.timer(now, &mut out);
        came_up |= out
            .iter()
            .any(|action| matches!(action, Action::Changed { to: State::Up, .. }));
        assert!(out.len() < 24, "{} actions for one packet", out.len());
        assert!(
            sessions.next_deadline().is_none_or(|at| at > now),
            "timer stuck"
        );
        assert!(sessions.len() <= 3);
    }
    came_up
}
