//! One session: transitions of RFC 5880 §6.2, timers of §6.8.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use bfd::{Config, Diagnostic, Output, Packet, Session, State, Time};

/// 100 ms both ways, three packets.
const CONFIG: Config = Config {
    min_tx_micros: 100_000,
    min_rx_micros: 100_000,
    multiplier: NonZeroU8::MIN.saturating_add(2),
};

fn millis(millis: u64) -> Time {
    Duration::from_millis(millis)
}

/// What is to be sent.
fn packets(out: &[Output]) -> Vec<Packet> {
    let packet = |output: &Output| match output {
        Output::Send(packet) => Some(*packet),
        Output::Changed { .. } => None,
    };
    out.iter().filter_map(packet).collect()
}

fn session() -> Session {
    Session::new(CONFIG, NonZeroU32::new(7).unwrap(), 1)
}

fn from_neighbor(state: State) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: NonZeroU32::new(9).unwrap(),
        your_discriminator: NonZeroU32::new(7),
        desired_min_tx: 50_000,
        required_min_rx: 200_000,
        required_min_echo_rx: 0,
    }
}

/// A session brought into a state at time zero.
fn session_in(state: State) -> Session {
    let mut session = session();
    let mut out = Vec::new();
    match state {
        State::AdminDown => {
            session.receive(millis(0), &from_neighbor(State::Down), &mut out);
            session.shut_down(millis(0), &mut out);
        }
        State::Down => {}
        State::Init => session.receive(millis(0), &from_neighbor(State::Down), &mut out),
        State::Up => {
            session.receive(millis(0), &from_neighbor(State::Init), &mut out);
            // Our poll that announces the fast pace is answered.
            let mut answer = from_neighbor(State::Up);
            answer.is_final = true;
            session.receive(millis(0), &answer, &mut out);
        }
    }
    assert_eq!(state, session.state());
    session
}

fn receive(session: &mut Session, now: Time, packet: &Packet) -> Vec<Output> {
    let mut out = Vec::new();
    session.receive(now, packet, &mut out);
    out
}

#[test]
fn states_follow_the_table() {
    use State::{AdminDown, Down, Init, Up};
    let table = [
        (AdminDown, [AdminDown, AdminDown, AdminDown, AdminDown]),
        (Down, [Down, Init, Up, Down]),
        (Init, [Down, Init, Up, Up]),
        (Up, [Down, Down, Up, Up]),
    ];
    for (ours, after) in table {
        for (theirs, after) in [AdminDown, Down, Init, Up].into_iter().zip(after) {
            let mut session = session_in(ours);
            let out = receive(&mut session, millis(1), &from_neighbor(theirs));
            assert_eq!(
                after,
                session.state(),
                "{ours}, the neighbour says {theirs}"
            );
            let sent = packets(&out);
            if after == ours {
                assert_eq!(0, sent.len(), "{ours} to {theirs}");
                continue;
            }
            assert_eq!(after, sent[0].state, "a change is told at once");
            let changed = Output::Changed {
                from: ours,
                to: after,
            };
            assert!(out.contains(&changed), "{ours} to {after}: {out:?}");
            let why = if after == Down {
                Diagnostic::NEIGHBOR_DOWN
            } else {
                Diagnostic::NONE
            };
            assert_eq!((why, why), (session.diagnostic(), sent[0].diagnostic));
        }
    }
}

#[test]
fn a_silent_neighbour_is_lost_after_its_multiplier_and_the_slower_interval() {
    let mut session = session_in(State::Up);
    let mut out = Vec::new();
    // We take a packet every 100 ms, it would send every 50: three times 100 ms.
    assert_eq!(Some(millis(300)), session.detection_time());
    session.timer(millis(299), &mut out);
    assert_eq!(State::Up, session.state());
    out.clear();
    session.timer(millis(300), &mut out);
    assert_eq!(State::Down, session.state());
    assert_eq!(Diagnostic::TIME_EXPIRED, session.diagnostic());
    let [packet] = packets(&out)[..] else {
        panic!("{out:?}")
    };
    assert_eq!(
        (State::Down, None),
        (packet.state, packet.your_discriminator)
    );
    assert_eq!(1_000_000, packet.desired_min_tx, "slow again");
    // What it once said is forgotten: we are not bound to its interval of 200 ms.
    assert_eq!(
        (None, State::Down),
        (session.remote_discriminator(), session.remote_state())
    );
}

#[test]
fn a_session_that_is_not_up_sends_once_a_second() {
    let mut session = session();
    assert_eq!(
        Some(Duration::ZERO),
        session.next_deadline(),
        "the first at once"
    );
    let (mut sent, mut now) = (Vec::new(), millis(0));
    for _ in 0..200 {
        let mut out = Vec::new();
        now = now.max(session.next_deadline().unwrap());
        session.timer(now, &mut out);
        assert_eq!(1, packets(&out).len());
        assert_eq!(1_000_000, packets(&out)[0].desired_min_tx);
        sent.push(now);
    }
    let gaps: Vec<Duration> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        gaps.iter()
            .all(|gap| (millis(750)..=millis(1000)).contains(gap)),
        "{gaps:?}"
    );
    let spread = *gaps.iter().max().unwrap() - *gaps.iter().min().unwrap();
    assert!(spread > millis(200), "jitter of only {spread:?}");
}

#[test]
fn with_a_multiplier_of_one_packets_come_early_enough() {
    let config = Config {
        multiplier: NonZeroU8::MIN,
        ..CONFIG
    };
    let mut session = Session::new(config, NonZeroU32::MIN, 3);
    let mut now = millis(0);
    for _ in 0..200 {
        session.timer(now, &mut Vec::new());
        let gap = session.next_deadline().unwrap() - now;
        assert!((millis(750)..=millis(900)).contains(&gap), "{gap:?}");
        now += gap;
    }
}

#[test]
fn coming_up_announces_the_fast_pace_with_a_poll() {
    let mut session = session_in(State::Init);
    assert_eq!(Some(millis(1000)), session.interval());
    let out = receive(&mut session, millis(5), &from_neighbor(State::Up));
    let [packet] = packets(&out)[..] else {
        panic!("{out:?}")
    };
    assert!(packet.poll && !packet.is_final);
    assert_eq!(
        (100_000, 100_000),
        (packet.desired_min_tx, packet.required_min_rx)
    );
    // The neighbour takes a packet every 200 ms: not before that.
    assert_eq!(Some(millis(200)), session.interval());
    let mut out = Vec::new();
    let next = session.next_deadline().unwrap();
    session.timer(next, &mut out);
    assert!(packets(&out)[0].poll, "until it is answered");
    let mut answer = from_neighbor(State::Up);
    answer.is_final = true;
    receive(&mut session, next, &answer);
    let mut out = Vec::new();
    session.timer(session.next_deadline().unwrap(), &mut out);
    assert!(!packets(&out)[0].poll);
}

#[test]
fn a_poll_is_answered_at_once_and_leaves_the_pace_alone() {
    let mut session = session_in(State::Up);
    let next = session.next_deadline().unwrap();
    let mut poll = from_neighbor(State::Up);
    poll.poll = true;
    let out = receive(&mut session, millis(1), &poll);
    let [answer] = packets(&out)[..] else {
        panic!("{out:?}")
    };
    assert!(answer.is_final && !answer.poll);
    assert_eq!(Some(next), session.next_deadline());
}

#[test]
fn slower_sending_waits_for_the_neighbour_and_faster_does_not() {
    let mut session = session_in(State::Up);
    let slow = Config {
        min_tx_micros: 900_000,
        min_rx_micros: 40_000,
        ..CONFIG
    };
    let mut out = Vec::new();
    session.configure(millis(1), slow, &mut out);
    let [packet] = packets(&out)[..] else {
        panic!("{out:?}")
    };
    assert!(packet.poll);
    assert_eq!(
        (900_000, 40_000),
        (packet.desired_min_tx, packet.required_min_rx)
    );
    // Both would make the other side, or us, believe in a loss before it knows.
    assert_eq!(Some(millis(200)), session.interval());
    assert_eq!(Some(millis(300)), session.detection_time());
    let mut answer = from_neighbor(State::Up);
    answer.is_final = true;
    receive(&mut session, millis(2), &answer);
    assert_eq!(Some(millis(900)), session.interval());
    assert_eq!(Some(millis(150)), session.detection_time());

    let fast = Config {
        min_tx_micros: 200_000,
        min_rx_micros: 400_000,
        ..CONFIG
    };
    session.configure(millis(3), fast, &mut Vec::new());
    assert_eq!(Some(millis(200)), session.interval());
    assert_eq!(Some(millis(1200)), session.detection_time());
    assert_eq!(State::Up, session.state());
}

#[test]
fn a_change_during_a_poll_is_polled_again() {
    let mut session = session_in(State::Up);
    let mut out = Vec::new();
    session.configure(
        millis(1),
        Config {
            min_tx_micros: 300_000,
            ..CONFIG
        },
        &mut out,
    );
    session.configure(
        millis(2),
        Config {
            min_tx_micros: 600_000,
            ..CONFIG
        },
        &mut out,
    );
    let mut answer = from_neighbor(State::Up);
    answer.is_final = true;
    // It answers the first.
    receive(&mut session, millis(3), &answer);
    assert_eq!(Some(millis(200)), session.interval());
    let mut polls = Vec::new();
    for _ in 0..2 {
        let mut out = Vec::new();
        session.timer(session.next_deadline().unwrap(), &mut out);
        polls.push(packets(&out)[0].poll);
        receive(&mut session, millis(200), &from_neighbor(State::Up));
    }
    assert_eq!([false, true], polls[..], "one packet parts the sequences");
    receive(&mut session, millis(201), &answer);
    assert_eq!(Some(millis(600)), session.interval());
}

#[test]
fn the_multiplier_changes_without_a_poll() {
    let mut session = session_in(State::Up);
    let mut out = Vec::new();
    let multiplier = NonZeroU8::new(9).unwrap();
    session.configure(
        millis(1),
        Config {
            multiplier,
            ..CONFIG
        },
        &mut out,
    );
    assert!(out.is_empty());
    session.timer(session.next_deadline().unwrap(), &mut out);
    let packet = packets(&out)[0];
    assert_eq!((multiplier, false), (packet.multiplier, packet.poll));
}

#[test]
fn a_neighbour_that_wants_no_packets_gets_none() {
    for change in [
        (|packet: &mut Packet| packet.required_min_rx = 0) as fn(&mut Packet),
        |packet| packet.demand = true,
    ] {
        let mut session = session_in(State::Up);
        let mut quiet = from_neighbor(State::Up);
        change(&mut quiet);
        assert!(receive(&mut session, millis(10), &quiet).is_empty());
        assert_eq!(None, session.interval());
        // It is still watched.
        assert_eq!(Some(millis(310)), session.next_deadline());
        quiet.poll = true;
        assert_eq!(1, packets(&receive(&mut session, millis(20), &quiet)).len());
        receive(&mut session, millis(30), &from_neighbor(State::Up));
        assert_eq!(Some(millis(200)), session.interval());
    }
}

#[test]
fn a_session_taken_down_says_so_for_a_detection_time() {
    let mut session = session_in(State::Up);
    let mut out = Vec::new();
    session.shut_down(millis(10), &mut out);
    let [packet] = packets(&out)[..] else {
        panic!("{out:?}")
    };
    assert_eq!(
        (State::AdminDown, Diagnostic::ADMINISTRATIVE),
        (packet.state, packet.diagnostic)
    );
    let mut now = millis(10);
    while let Some(next) = session.next_deadline() {
        assert!(next > now && !session.is_over());
        now = next;
        session.timer(now, &mut out);
    }
    // Our multiplier times the 200 ms that the neighbour asked for.
    assert_eq!(millis(610), now);
    assert!(session.is_over());
    // Who was never heard needs no goodbye.
    let mut unheard = session_in(State::Down);
    unheard.shut_down(millis(10), &mut out);
    assert!(unheard.is_over());
}
