//! Two systems in virtual time: a link with delay, loss and a way that can be cut.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use bfd::{
    Action, Arrival, Config, Diagnostic, Dropped, Hops, Packet, Path, Session, SessionId, Sessions,
    State, Time,
};

const CONFIG: Config = Config {
    min_tx_micros: 100_000,
    min_rx_micros: 100_000,
    multiplier: NonZeroU8::MIN.saturating_add(2),
};
const DELAY: Duration = Duration::from_millis(2);
const INTERFACE: u32 = 4;

fn millis(millis: u64) -> Time {
    Duration::from_millis(millis)
}

fn address(side: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, side as u8 + 1).into()
}

fn path(side: usize, hops: Hops) -> Path {
    Path {
        remote: address(1 - side),
        local: Some(address(side)),
        interface: Some(INTERFACE),
        hops,
    }
}

/// One packet on its way.
struct Flying {
    at: Time,
    to: usize,
    multihop: bool,
    octets: [u8; bfd::LEN],
}

/// Side 0 and side 1.
struct Pair {
    now: Time,
    sides: [Sessions; 2],
    ids: [Option<SessionId>; 2],
    flying: Vec<Flying>,
    /// Nothing arrives at this side.
    deaf: [bool; 2],
    loss_percent: u64,
    random: u64,
    ttl: u8,
    sent: [u64; 2],
    dropped: Vec<Dropped>,
    changes: Vec<(usize, State, State)>,
}

impl Pair {
    fn new(configs: [Config; 2]) -> Self {
        Pair::over(configs, [Hops::One, Hops::One])
    }

    fn over(configs: [Config; 2], hops: [Hops; 2]) -> Self {
        let mut pair = Pair {
            now: millis(0),
            sides: [Sessions::new(11), Sessions::new(12)],
            ids: [None; 2],
            flying: Vec::new(),
            deaf: [false; 2],
            loss_percent: 0,
            random: 99,
            ttl: bfd::TTL,
            sent: [0; 2],
            dropped: Vec::new(),
            changes: Vec::new(),
        };
        for side in 0..2 {
            let mut out = Vec::new();
            let path = path(side, hops[side]);
            pair.ids[side] = Some(pair.sides[side].add(path, configs[side], &mut out));
        }
        pair
    }

    fn session(&self, side: usize) -> &Session {
        self.sides[side].get(self.ids[side].unwrap()).unwrap()
    }

    fn states(&self) -> [State; 2] {
        [0, 1].map(|side| self.session(side).state())
    }

    fn act(&mut self, side: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send {
                    packet, multihop, ..
                } => {
                    self.sent[side] += 1;
                    self.random = self.random.wrapping_mul(6_364_136_223_846_793_005) + 1;
                    if (self.random >> 33) % 100 >= self.loss_percent {
                        let (at, to) = (self.now + DELAY, 1 - side);
                        let octets = packet.encode();
                        self.flying.push(Flying {
                            at,
                            to,
                            multihop,
                            octets,
                        });
                    }
                }
                Action::Changed { from, to, .. } => self.changes.push((side, from, to)),
                Action::Gone(_) => self.ids[side] = None,
            }
        }
    }

    fn change(
        &mut self,
        side: usize,
        change: impl FnOnce(&mut Sessions, Time, SessionId, &mut Vec<Action>),
    ) {
        let mut out = Vec::new();
        let id = self.ids[side].unwrap();
        change(&mut self.sides[side], self.now, id, &mut out);
        self.act(side, out);
    }

    fn arrive(&mut self, flying: &Flying) {
        let side = flying.to;
        if self.deaf[side] {
            return;
        }
        let arrival = Arrival {
            remote: address(1 - side),
            local: address(side),
            interface: INTERFACE,
            ttl: self.ttl,
            multihop: flying.multihop,
            octets: &flying.octets,
        };
        let mut out = Vec::new();
        let received = self.sides[side].receive(self.now, &arrival, &mut out);
        self.dropped.extend(received.err());
        self.act(side, out);
    }

    /// Lets time pass, from event to event.
    fn run(&mut self, until: Time) {
        loop {
            let flying = self.flying.iter().map(|flying| flying.at);
            let timers = self.sides.iter().filter_map(Sessions::next_deadline);
            let Some(next) = flying.chain(timers).min().filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            if let Some(index) = self.flying.iter().position(|flying| flying.at <= self.now) {
                let flying = self.flying.remove(index);
                self.arrive(&flying);
            }
            for side in 0..2 {
                let mut out = Vec::new();
                self.sides[side].timer(self.now, &mut out);
                self.act(side, out);
            }
        }
    }
}

#[test]
fn two_systems_come_up_and_agree_on_the_slower_pace() {
    let slower = Config {
        min_tx_micros: 250_000,
        min_rx_micros: 300_000,
        ..CONFIG
    };
    let mut pair = Pair::new([CONFIG, slower]);
    pair.run(millis(3_000));
    assert_eq!([State::Up; 2], pair.states());
    let intervals = [0, 1].map(|side| pair.session(side).interval().unwrap());
    assert_eq!([millis(300), millis(250)], intervals);
    let detection = [0, 1].map(|side| pair.session(side).detection_time().unwrap());
    assert_eq!([millis(750), millis(900)], detection);
    let known = [0, 1].map(|side| pair.session(side).remote_discriminator());
    let own = [1, 0].map(|side| Some(pair.session(side).discriminator()));
    assert_eq!(own, known);
    let before = pair.sent;
    pair.run(millis(33_000));
    assert_eq!([State::Up; 2], pair.states());
    let sent = [pair.sent[0] - before[0], pair.sent[1] - before[1]];
    // 100 and 120 intervals, each 75 to 100 % long.
    assert!(
        (100..=135).contains(&sent[0]) && (120..=161).contains(&sent[1]),
        "{sent:?}"
    );
}

#[test]
fn a_way_that_is_cut_is_noticed_by_one_side_and_told_to_the_other() {
    let mut pair = Pair::new([CONFIG, CONFIG]);
    pair.run(millis(3_000));
    pair.deaf[0] = true;
    pair.changes.clear();
    let cut = pair.now;
    while pair.states() == [State::Up; 2] {
        pair.run(pair.now + millis(1));
    }
    let after = pair.now - cut;
    assert!((millis(200)..=millis(303)).contains(&after), "{after:?}");
    pair.run(pair.now + millis(10));
    assert_eq!(Diagnostic::TIME_EXPIRED, pair.session(0).diagnostic());
    assert_eq!(Diagnostic::NEIGHBOR_DOWN, pair.session(1).diagnostic());
    assert_eq!((0, State::Up, State::Down), pair.changes[0]);
    assert_eq!((1, State::Up, State::Down), pair.changes[1]);
    // It stays down while the way is cut, and comes back with it.
    pair.run(pair.now + millis(5_000));
    assert!(pair.states().iter().all(|state| *state < State::Up));
    pair.deaf[0] = false;
    pair.run(pair.now + millis(3_000));
    assert_eq!([State::Up; 2], pair.states());
}

#[test]
fn loss_below_the_multiplier_takes_nothing_down() {
    let patient = Config {
        multiplier: NonZeroU8::new(20).unwrap(),
        ..CONFIG
    };
    let mut pair = Pair::new([patient, patient]);
    pair.loss_percent = 30;
    pair.run(millis(20_000));
    assert_eq!([State::Up; 2], pair.states());
    pair.changes.clear();
    for round in 0..40 {
        let min_tx_micros = 50_000 + 10_000 * (round % 7);
        let min_rx_micros = 50_000 + 30_000 * (round % 5);
        let config = Config {
            min_tx_micros,
            min_rx_micros,
            ..patient
        };
        let side = round as usize % 2;
        pair.change(side, |sessions, now, id, out| {
            sessions.configure(now, id, config, out)
        });
        pair.run(pair.now + millis(1_500));
    }
    assert_eq!(Vec::<(usize, State, State)>::new(), pair.changes);
}

#[test]
fn a_change_of_pace_is_negotiated_without_a_loss() {
    let mut pair = Pair::new([CONFIG, CONFIG]);
    pair.run(millis(3_000));
    pair.changes.clear();
    let slow = Config {
        min_tx_micros: 2_000_000,
        min_rx_micros: 2_000_000,
        ..CONFIG
    };
    for config in [slow, CONFIG, slow] {
        for side in [0, 1] {
            pair.change(side, |sessions, now, id, out| {
                sessions.configure(now, id, config, out)
            });
            pair.run(pair.now + millis(10_000));
        }
        let detection = [0, 1].map(|side| pair.session(side).detection_time().unwrap());
        assert_eq!(
            [Duration::from_micros(3 * u64::from(config.min_tx_micros)); 2],
            detection
        );
    }
    assert!(pair.changes.is_empty(), "{:?}", pair.changes);
}

#[test]
fn a_removed_session_says_that_it_is_no_failure() {
    let mut pair = Pair::new([CONFIG, CONFIG]);
    pair.run(millis(3_000));
    pair.change(0, |sessions, now, id, out| sessions.remove(now, id, out));
    pair.run(pair.now + millis(10));
    let left = pair.session(1);
    assert_eq!(
        (State::Down, State::AdminDown),
        (left.state(), left.remote_state())
    );
    pair.run(pair.now + millis(2_000));
    assert!(pair.sides[0].is_empty(), "it is gone");
    // One that comes again is a new session, and one that comes at once is not contradicted.
    let path = path(0, Hops::One);
    pair.ids[0] = Some(pair.sides[0].add(path, CONFIG, &mut Vec::new()));
    pair.run(pair.now + millis(4_000));
    assert_eq!([State::Up; 2], pair.states());
}

#[test]
fn a_session_made_anew_does_not_wait_for_the_goodbye() {
    let mut pair = Pair::new([CONFIG, CONFIG]);
    pair.run(millis(3_000));
    pair.change(0, |sessions, now, id, out| sessions.remove(now, id, out));
    let mut out = Vec::new();
    let id = pair.sides[0].add(path(0, Hops::One), CONFIG, &mut out);
    assert_eq!(1, pair.sides[0].len());
    pair.act(0, out);
    pair.ids[0] = Some(id);
    pair.run(pair.now + millis(2_500));
    assert_eq!([State::Up; 2], pair.states());
}

#[test]
fn a_restarted_system_is_noticed_at_once() {
    let mut pair = Pair::new([CONFIG, CONFIG]);
    pair.run(millis(3_000));
    let lost = pair.session(0).transitions();
    pair.sides[1] = Sessions::new(77);
    pair.ids[1] = Some(pair.sides[1].add(path(1, Hops::One), CONFIG, &mut Vec::new()));
    pair.run(pair.now + millis(5));
    assert_eq!(Diagnostic::NEIGHBOR_DOWN, pair.session(0).diagnostic());
    pair.run(pair.now + millis(3_000));
    assert_eq!([State::Up; 2], pair.states());
    assert!(pair.session(0).transitions() > lost);
}

#[test]
fn packets_from_beyond_the_link_are_dropped() {
    let mut pair = Pair::new([CONFIG, CONFIG]);
    pair.ttl = 254;
    pair.run(millis(5_000));
    assert_eq!([State::Down; 2], pair.states());
    assert!(
        pair.dropped
            .iter()
            .all(|dropped| *dropped == Dropped::Ttl(254))
    );
    let near = Hops::Many { least_ttl: 254 };
    let mut pair = Pair::over([CONFIG, CONFIG], [near, near]);
    pair.ttl = 254;
    pair.run(millis(5_000));
    assert_eq!([State::Up; 2], pair.states());
    pair.ttl = 253;
    pair.run(pair.now + millis(1_000));
    assert_eq!(Some(&Dropped::Ttl(253)), pair.dropped.last());
    assert!(pair.states().iter().all(|state| *state < State::Up));
}

#[test]
fn who_can_do_either_speaks_as_the_neighbour_does() {
    let far = Hops::Many { least_ttl: 1 };
    for hops in [
        [Hops::Either, far],
        [Hops::Either, Hops::One],
        [Hops::Either, Hops::Either],
    ] {
        let mut pair = Pair::over([CONFIG, CONFIG], hops);
        pair.run(millis(5_000));
        assert_eq!([State::Up; 2], pair.states(), "{hops:?}");
        // A forged packet from far away takes nothing down.
        let octets = Packet {
            state: State::Down,
            ..forged()
        }
        .encode();
        let multihop = !matches!(hops[1], Hops::Many { .. });
        pair.arrive(&Flying {
            at: pair.now,
            to: 0,
            multihop,
            octets,
        });
        assert_eq!([State::Up; 2], pair.states(), "{hops:?}");
    }
}

fn forged() -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state: State::Down,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        multiplier: NonZeroU8::MIN,
        my_discriminator: NonZeroU32::MIN,
        your_discriminator: None,
        desired_min_tx: 1,
        required_min_rx: 1,
        required_min_echo_rx: 0,
    }
}

#[test]
fn only_who_is_on_the_way_is_heard() {
    let mut pair = Pair::new([CONFIG, CONFIG]);
    pair.run(millis(3_000));
    let good = Arrival {
        remote: address(1),
        local: address(0),
        interface: INTERFACE,
        ttl: 255,
        multihop: false,
        octets: &forged().encode(),
    };
    let elsewhere = [
        Arrival {
            remote: address(7),
            ..good
        },
        Arrival {
            local: address(7),
            ..good
        },
        Arrival {
            interface: INTERFACE + 1,
            ..good
        },
        Arrival {
            multihop: true,
            ..good
        },
    ];
    let sides = &mut pair.sides;
    for arrival in elsewhere {
        let received = sides[0].receive(millis(3_000), &arrival, &mut Vec::new());
        assert_eq!(Err(Dropped::NoSession), received);
    }
    // A discriminator that is not ours is not looked at twice.
    let strange = Packet {
        your_discriminator: NonZeroU32::new(5),
        ..forged()
    }
    .encode();
    let arrival = Arrival {
        octets: &strange,
        ..good
    };
    let received = sides[0].receive(millis(3_000), &arrival, &mut Vec::new());
    assert_eq!(Err(Dropped::NoSession), received);
    assert!(
        sides[0]
            .receive(millis(3_000), &good, &mut Vec::new())
            .is_ok()
    );
}
