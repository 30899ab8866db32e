//! Two state machines against each other in virtual time: collisions, restarts, dead peers.

#![allow(clippy::panic, reason = "helpers of a test fail by panicking")]

#[path = "pair/wire.rs"]
mod wire;

use std::time::Duration;

use bgp_fsm::{Config, Event, Restart, State, Stop, Time};
use bgp_wire::{Family, Notification};

use wire::{Pair, Side, config, graceful};

fn millis(millis: u64) -> Time {
    Duration::from_millis(millis)
}

fn secs(secs: u64) -> Time {
    Duration::from_secs(secs)
}

fn started(a: Config, b: Config) -> Pair {
    let mut pair = Pair::new(a, b, [millis(1), millis(1)]);
    pair.feed(Side::A, Event::Start);
    pair.feed(Side::B, Event::Start);
    pair.run_until(secs(40));
    assert!(pair.established(), "{:?}", pair.story);
    pair
}

fn count(pair: &Pair, side: Side, what: &str) -> usize {
    let story = pair.story[side as usize].iter();
    story.filter(|line| line.starts_with(what)).count()
}

/// Ends the session of a pair gracefully: both OPENs carried the capability.
fn restarting(side: Side) -> Config {
    let mut config = graceful(side);
    config.restart = config.restart.map(|r| Restart {
        restarting: true,
        ..r
    });
    config
}

#[test]
fn dials_that_cross_leave_one_session_at_any_offset_and_latency() {
    for offset in (0..40).map(millis) {
        for latency in [[1, 1], [5, 1], [1, 5], [7, 13]] {
            for make in [config, graceful] {
                let latency = latency.map(millis);
                let mut pair = Pair::new(make(Side::A), make(Side::B), latency);
                pair.feed(Side::A, Event::Start);
                pair.run_until(offset);
                pair.feed(Side::B, Event::Start);
                pair.run_until(secs(1));
                assert!(
                    pair.established(),
                    "{offset:?} {latency:?}: {:?}",
                    pair.story
                );
                pair.run_until(secs(600));
                let ups = [Side::A, Side::B].map(|side| count(&pair, side, "up"));
                let downs = [Side::A, Side::B].map(|side| count(&pair, side, "down"));
                assert_eq!(
                    ([1, 1], [0, 0]),
                    (ups, downs),
                    "{offset:?}: {:?}",
                    pair.story
                );
            }
        }
    }
}

#[test]
fn dials_that_cross_over_an_unsteady_network_settle_at_once() {
    let mut flaps = 0;
    for seed in 1..2000 {
        let make = if seed % 2 == 0 { config } else { graceful };
        let mut pair = Pair::new(make(Side::A), make(Side::B), [millis(1), millis(1)]);
        pair.shake(8, seed);
        pair.feed(Side::A, Event::Start);
        pair.run_until(millis(seed % 16));
        pair.feed(Side::B, Event::Start);
        pair.run_until(secs(4));
        assert!(pair.established(), "seed {seed}: {:?}", pair.story);
        pair.run_until(secs(100));
        flaps += count(&pair, Side::A, "down") + count(&pair, Side::B, "down");
    }
    assert!(flaps < 10, "{flaps} sessions were lost again");
}

#[test]
fn connection_of_the_higher_router_id_survives_a_collision() {
    let pair = started(config(Side::A), config(Side::B));
    let (_, negotiated) = pair.peer(Side::B).established().unwrap();
    assert_eq!(bgp_fsm::Origin::Outgoing, negotiated.origin);
}

#[test]
fn passive_side_waits_for_the_other() {
    let mut passive = config(Side::A);
    passive.passive = true;
    let pair = started(passive, config(Side::B));
    assert_eq!(1, count(&pair, Side::A, "up"));
}

#[test]
fn session_stays_up_on_keepalives_alone() {
    let mut pair = started(config(Side::A), config(Side::B));
    pair.run_until(secs(86_400));
    assert_eq!(
        0,
        count(&pair, Side::A, "down") + count(&pair, Side::B, "down")
    );
}

#[test]
fn silent_death_is_noticed_after_the_hold_time() {
    let mut pair = started(config(Side::A), config(Side::B));
    pair.die(Side::B, false);
    pair.run_until(secs(40 + 59));
    assert_eq!(State::Established, pair.peer(Side::A).state());
    pair.run_until(secs(40 + 91));
    assert_eq!(1, count(&pair, Side::A, "down: hold timer expired"));
}

#[test]
fn restart_keeps_routes_until_end_of_rib() {
    let mut pair = started(graceful(Side::A), graceful(Side::B));
    pair.feed(Side::B, Event::Stop(Stop::Restart));
    pair.die(Side::B, true);
    pair.run_until(secs(45));
    assert_eq!(
        1,
        count(
            &pair,
            Side::A,
            "down: connection closed by the peer, routes kept"
        )
    );
    pair.revive(Side::B, restarting(Side::B));
    pair.run_until(secs(60));
    assert!(pair.established(), "{:?}", pair.story);
    assert_eq!(2, pair.peer(Side::A).stale().len());
    let (conn, negotiated) = pair.peer(Side::A).established().unwrap();
    assert!(negotiated.restart.as_ref().unwrap().restarting);
    pair.feed(Side::A, Event::EndOfRib(conn, Family::IPV4_UNICAST));
    assert_eq!(vec![Family::IPV6_UNICAST], pair.peer(Side::A).stale());
    pair.feed(Side::A, Event::EndOfRib(conn, Family::IPV6_UNICAST));
    pair.run_until(secs(600));
    assert_eq!(0, count(&pair, Side::A, "forget"));
}

#[test]
fn peer_that_never_says_end_of_rib_loses_its_stale_routes_all_the_same() {
    let mut pair = started(graceful(Side::A), graceful(Side::B));
    pair.die(Side::B, true);
    pair.run_until(secs(42));
    pair.revive(Side::B, restarting(Side::B));
    pair.run_until(secs(60));
    assert_eq!(0, count(&pair, Side::A, "forget"));
    pair.run_until(secs(80));
    assert_eq!(1, count(&pair, Side::A, "forget"));
    assert!(pair.established());
}

#[test]
fn peer_that_does_not_return_loses_its_routes_after_its_restart_time() {
    let mut pair = started(graceful(Side::A), graceful(Side::B));
    pair.die(Side::B, true);
    pair.run_until(secs(99));
    assert_eq!(0, count(&pair, Side::A, "forget"));
    pair.run_until(secs(101));
    assert_eq!(1, count(&pair, Side::A, "forget"));
}

#[test]
fn second_restart_inside_the_window_keeps_routes_but_not_for_ever() {
    let mut pair = started(graceful(Side::A), graceful(Side::B));
    for _ in 0..2 {
        pair.die(Side::B, true);
        pair.run_until(pair.now + secs(5));
        pair.revive(Side::B, restarting(Side::B));
        pair.run_until(pair.now + secs(10));
        assert!(pair.established(), "{:?}", pair.story);
        assert_eq!(2, pair.peer(Side::A).stale().len(), "{:?}", pair.story);
    }
    // Restart time 60 s and stale time 30 s after the first loss at 40 s.
    for _ in 0..20 {
        pair.die(Side::B, true);
        pair.run_until(pair.now + secs(2));
        pair.revive(Side::B, restarting(Side::B));
        pair.run_until(pair.now + secs(4));
    }
    assert_eq!(1, count(&pair, Side::A, "forget"), "{:?}", pair.story);
}

#[test]
fn peer_that_lost_its_forwarding_state_loses_its_stale_routes_at_once() {
    let mut pair = started(graceful(Side::A), graceful(Side::B));
    pair.die(Side::B, true);
    pair.run_until(secs(42));
    let mut cold = restarting(Side::B);
    cold.restart = cold.restart.map(|r| Restart {
        forwarding: false,
        ..r
    });
    pair.revive(Side::B, cold);
    pair.run_until(secs(60));
    assert_eq!(1, count(&pair, Side::A, "forget"));
}

#[test]
fn restarted_peer_that_dials_first_replaces_the_session_it_forgot() {
    // The node lost power and is back before anyone noticed: no packet says that B died.
    let mut passive = graceful(Side::A);
    passive.passive = true;
    let mut pair = started(passive, graceful(Side::B));
    pair.die(Side::B, false);
    pair.run_until(secs(42));
    pair.revive(Side::B, restarting(Side::B));
    pair.run_until(secs(50));
    assert!(pair.established());
    let story = &pair.story[Side::A as usize];
    assert_eq!(
        vec![
            "up",
            "down: replaced: the peer restarted, routes kept",
            "up"
        ],
        *story
    );
}

#[test]
fn cease_ends_retention_and_is_a_hard_reset_between_speakers_of_rfc_8538() {
    for (notification, expected) in [(false, "6/2"), (true, "6/9")] {
        let with = |side| {
            let mut config = graceful(side);
            config.restart = config.restart.map(|r| Restart { notification, ..r });
            config
        };
        let mut pair = started(with(Side::A), with(Side::B));
        let cease = Notification::administrative_shutdown("node is drained");
        pair.feed(Side::B, Event::Stop(Stop::Notify(cease)));
        pair.run_until(secs(41));
        let line = pair.story[Side::A as usize]
            .iter()
            .find(|l| l.starts_with("down"));
        let line = line.unwrap();
        assert!(
            line.contains(expected) && !line.ends_with("routes kept"),
            "{line}"
        );
    }
}

#[test]
fn rfc_8538_peers_keep_routes_over_a_reset() {
    for (notification, kept) in [(false, 0), (true, 1)] {
        let with = |side| {
            let mut config = graceful(side);
            config.restart = config.restart.map(|r| Restart { notification, ..r });
            config
        };
        let mut pair = started(with(Side::A), with(Side::B));
        pair.die(Side::B, false);
        pair.run_until(secs(40 + 95));
        let lines = pair.story[Side::A as usize].iter();
        assert_eq!(kept, lines.filter(|l| l.ends_with("routes kept")).count());
    }
}

#[test]
fn changed_setting_costs_no_route_between_speakers_of_rfc_8538() {
    for (notification, kept) in [(false, 0), (true, 1)] {
        let with = |side| {
            let mut config = graceful(side);
            config.restart = config.restart.map(|r| Restart { notification, ..r });
            config
        };
        let mut pair = started(with(Side::A), with(Side::B));
        pair.feed(Side::B, Event::Reset(Notification::cease(6)));
        pair.run_until(secs(60));
        for side in [Side::A, Side::B] {
            let lines = pair.story[side as usize].iter();
            let kept_lines = lines.filter(|l| l.contains("6/6") && l.ends_with("routes kept"));
            assert_eq!(kept, kept_lines.count(), "{side:?}: {:?}", pair.story);
        }
        assert!(pair.established(), "{:?}", pair.story);
    }
}

/// Sides that keep each other's routes for 60 s of restart and then for ten minutes.
fn long_lived(side: Side) -> Config {
    Config {
        long_lived_secs: Some(600),
        ..graceful(side)
    }
}

#[test]
fn routes_are_long_lived_after_the_restart_time_and_go_after_the_long_one() {
    let mut pair = started(long_lived(Side::A), long_lived(Side::B));
    pair.die(Side::B, true);
    pair.run_until(secs(40 + 59));
    assert_eq!(0, count(&pair, Side::A, "long-lived"));
    pair.run_until(secs(40 + 62));
    assert_eq!(1, count(&pair, Side::A, "long-lived"), "{:?}", pair.story);
    pair.run_until(secs(40 + 659));
    assert_eq!(
        (2, 0),
        (
            pair.peer(Side::A).stale().len(),
            count(&pair, Side::A, "forget")
        )
    );
    pair.run_until(secs(40 + 662));
    assert_eq!(
        (0, 1),
        (
            pair.peer(Side::A).stale().len(),
            count(&pair, Side::A, "forget")
        )
    );
}

#[test]
fn long_lived_routes_stay_for_a_peer_that_kept_forwarding_and_wait_no_longer_than_before() {
    let mut pair = started(long_lived(Side::A), long_lived(Side::B));
    pair.die(Side::B, true);
    pair.run_until(secs(40 + 100));
    let mut back = long_lived(Side::B);
    back.restart = restarting(Side::B).restart;
    pair.revive(Side::B, back.clone());
    pair.run_until(secs(40 + 120));
    assert!(pair.established());
    assert_eq!(2, pair.peer(Side::A).stale().len(), "{:?}", pair.story);
    // Lost again before end-of-RIB: the timer of the first loss goes on (RFC 9494 §4.2).
    pair.die(Side::B, true);
    pair.run_until(secs(40 + 640));
    assert_eq!(2, pair.peer(Side::A).stale().len(), "{:?}", pair.story);
    pair.run_until(secs(40 + 662));
    assert_eq!(0, pair.peer(Side::A).stale().len(), "{:?}", pair.story);
}

#[test]
fn long_lived_routes_go_when_the_peer_lost_its_forwarding_state() {
    let mut pair = started(long_lived(Side::A), long_lived(Side::B));
    pair.die(Side::B, true);
    pair.run_until(secs(40 + 100));
    let mut cold = long_lived(Side::B);
    cold.restart = cold.restart.map(|r| Restart {
        restarting: true,
        forwarding: false,
        ..r
    });
    pair.revive(Side::B, cold);
    pair.run_until(secs(40 + 120));
    assert!(pair.established());
    assert_eq!(
        (1, 0),
        (
            count(&pair, Side::A, "forget"),
            pair.peer(Side::A).stale().len()
        )
    );
}

#[test]
fn keepalive_interval_changes_within_the_session() {
    let mut pair = started(config(Side::A), config(Side::B));
    let next = |pair: &Pair| pair.peer(Side::A).next_deadline().unwrap() - pair.now;
    assert!(
        next(&pair) > secs(5),
        "a third of 90 s, unless A is unlucky"
    );
    let quick = Config {
        keepalive_secs: Some(2),
        ..config(Side::A)
    };
    pair.set_config(Side::A, quick);
    assert_eq!(secs(2), next(&pair));
    pair.run_until(secs(600));
    assert_eq!(0, count(&pair, Side::A, "down"));
}

#[test]
fn wait_between_dials_changes_at_once() {
    let slow = Config {
        connect_retry: secs(300),
        connect_retry_max: secs(300),
        ..config(Side::A)
    };
    let mut pair = Pair::new(slow, config(Side::B), [millis(1), millis(1)]);
    pair.die(Side::B, true);
    pair.feed(Side::A, Event::Start);
    pair.run_until(secs(1));
    let wait = |pair: &Pair| pair.peer(Side::A).next_deadline().unwrap() - pair.now;
    assert!(wait(&pair) > secs(200));
    pair.set_config(Side::A, config(Side::A));
    assert!(wait(&pair) <= secs(1));
    let passive = Config {
        passive: true,
        ..config(Side::A)
    };
    pair.set_config(Side::A, passive);
    assert_eq!(None, pair.peer(Side::A).next_deadline());
    pair.set_config(Side::A, config(Side::A));
    assert_eq!(secs(0), wait(&pair));
}

#[test]
fn peers_that_fail_for_good_settle_at_the_longest_hold() {
    let mut wrong = config(Side::B);
    wrong.local_as = 64511;
    let mut pair = Pair::new(config(Side::A), wrong, [millis(1), millis(1)]);
    pair.feed(Side::A, Event::Start);
    pair.feed(Side::B, Event::Start);
    pair.run_until(secs(3600));
    let failures = count(&pair, Side::A, "failed");
    assert!(
        (60..1000).contains(&failures),
        "{failures} failures in an hour"
    );
    assert_eq!(0, count(&pair, Side::A, "up"));
}
