//! Random packets, changes and times in random order: no panic, no growth, no timer that fires
//! for ever, never more packets than asked for.
//!
//! `TORTIE_FUZZ_CASES` sets the number of sequences (default 2,000), of up to 200 events each.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU8;
use std::time::Duration;

use bfd::{Action, Arrival, Config, Hops, Path, SessionId, Sessions, State, Time};

/// Xorshift: the same sequence on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

fn cases() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "the test's own setting")]
    let cases = std::env::var("TORTIE_FUZZ_CASES");
    cases.map_or(2_000, |cases| cases.parse().unwrap())
}

fn interval(random: &mut Random) -> u32 {
    match random.below(10) {
        0 => 0,
        1 => u32::MAX,
        _ => 1_000 * (1 + random.below(500) as u32),
    }
}

fn config(random: &mut Random) -> Config {
    Config {
        min_tx_micros: interval(random),
        min_rx_micros: interval(random),
        multiplier: NonZeroU8::new(1 + random.below(255) as u8).unwrap(),
    }
}

fn remote(random: &mut Random) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, random.below(3) as u8).into()
}

/// Octets of a packet that is likely to be one for a session.
fn octets(random: &mut Random, ids: &[SessionId]) -> Vec<u8> {
    let ours = match ids.len() as u64 {
        0 => 0,
        _ if random.one_in(4) => 0,
        count => ids[random.below(count) as usize].discriminator().get(),
    };
    let flags = (random.below(4) << 6 | random.below(256) & 0x3a) as u8;
    let mut octets = vec![
        0x20 | random.below(9) as u8,
        flags,
        1 + random.below(9) as u8,
        24,
    ];
    for word in [1 + random.below(2) as u32, ours] {
        octets.extend(word.to_be_bytes());
    }
    for _ in 0..3 {
        octets.extend(interval(random).to_be_bytes());
    }
    if random.one_in(10) {
        let at = random.below(24) as usize;
        octets[at] = random.below(256) as u8;
    }
    if random.one_in(20) {
        octets.truncate(random.below(24) as usize);
    }
    octets
}

struct World {
    now: Time,
    sessions: Sessions,
    ids: Vec<SessionId>,
    ups: u64,
}

impl World {
    fn event(&mut self, random: &mut Random, out: &mut Vec<Action>) {
        match random.below(40) {
            0 | 1 if self.ids.len() < 4 => {
                let hops = [Hops::One, Hops::Either, Hops::Many { least_ttl: 9 }];
                let path = Path {
                    remote: remote(random),
                    local: None,
                    interface: random.one_in(2).then_some(1),
                    hops: hops[random.below(3) as usize],
                };
                self.ids.push(self.sessions.add(path, config(random), out));
            }
            2 | 3 if !self.ids.is_empty() => {
                let id = self.ids[random.below(self.ids.len() as u64) as usize];
                self.sessions.configure(self.now, id, config(random), out);
            }
            4 if !self.ids.is_empty() => {
                let id = self.ids[random.below(self.ids.len() as u64) as usize];
                self.sessions.remove(self.now, id, out);
            }
            _ => {
                let octets = octets(random, &self.ids);
                let arrival = Arrival {
                    remote: remote(random),
                    local: Ipv4Addr::LOCALHOST.into(),
                    interface: 1,
                    ttl: if random.one_in(9) {
                        random.below(256) as u8
                    } else {
                        255
                    },
                    multihop: random.one_in(3),
                    octets: &octets,
                };
                // Most are dropped; which does not matter here.
                let _dropped = self.sessions.receive(self.now, &arrival, out);
            }
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send {
                    session, packet, ..
                } => {
                    assert_eq!(session.discriminator(), packet.my_discriminator);
                    assert!(!(packet.poll && packet.is_final));
                    assert!(packet.state == State::Up || packet.desired_min_tx >= 1_000_000);
                    assert!(packet.state < State::Init || packet.your_discriminator.is_some());
                }
                Action::Changed { from, to, .. } => {
                    self.ups += u64::from(to == State::Up && from != to);
                }
                Action::Gone(id) => self.ids.retain(|live| *live != id),
            }
        }
    }
}

#[test]
fn any_sequence_of_packets_and_changes_is_survived() {
    let mut random = Random(0x6266_6421);
    let (mut events, mut ups) = (0, 0);
    for _ in 0..cases() {
        let mut world = World {
            now: Duration::ZERO,
            sessions: Sessions::new(random.0),
            ids: Vec::new(),
            ups: 0,
        };
        for _ in 0..1 + random.below(200) {
            let mut out = Vec::new();
            if random.one_in(3) {
                world.now += Duration::from_millis(random.below(3_000));
            }
            world.event(&mut random, &mut out);
            world.sessions.timer(world.now, &mut out);
            // All that is due fires at once and leaves nothing due.
            let next = world.sessions.next_deadline();
            assert!(
                next.is_none_or(|at| at > world.now),
                "timer stuck at {next:?}"
            );
            // A state that changes is told once, a poll is answered once, a timer fires once.
            assert!(
                out.len() <= 4 * 4 + 3,
                "{} actions for one event",
                out.len()
            );
            world.act(out);
            assert_eq!(world.ids.len(), world.sessions.len());
            for id in &world.ids {
                assert!(world.sessions.get(*id).is_some());
            }
            events += 1;
        }
        ups += world.ups;
    }
    assert!(
        ups > events / 500,
        "only {ups} sessions: the events are too wild"
    );
}
