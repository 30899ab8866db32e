//! Random events in random order: no panic, no growth, no timer that fires for ever.
//!
//! `TORTIE_FUZZ_CASES` sets the number of sequences (default 5,000), of up to 120 events each.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::net::Ipv4Addr;
use std::time::Duration;

use bgp_fsm::{Action, Config, ConnId, Event, Peer, Received, Restart, State, Stop};
use bgp_wire::capability::{GracefulRestart, LongLivedFamily, Role};
use bgp_wire::{Capability, Family, Notification, Open};

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
    cases.map_or(5_000, |cases| cases.parse().unwrap())
}

fn config(random: &mut Random) -> Config {
    let mut config = Config::new(64500, Ipv4Addr::new(192, 0, 2, 1), 64501);
    config.families = vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    config.passive = random.one_in(4);
    config.hold_time_secs = [0, 3, 9, 90][random.below(4) as usize];
    config.long_lived_secs = (!random.one_in(3)).then(|| random.below(500) as u32);
    config.role = random.one_in(8).then_some(Role::Peer);
    config.restart = (!random.one_in(3)).then(|| Restart {
        time_secs: random.below(200) as u16,
        restarting: random.one_in(2),
        forwarding: random.one_in(2),
        notification: random.one_in(2),
        stale_time: Duration::from_secs(random.below(200)),
    });
    config
}

fn open(random: &mut Random) -> Open {
    let mut capabilities = vec![Capability::MultiProtocol(Family::IPV4_UNICAST)];
    if random.one_in(2) {
        capabilities.push(Capability::MultiProtocol(Family::IPV6_UNICAST));
    }
    if random.one_in(2) {
        capabilities.push(Capability::GracefulRestart(GracefulRestart {
            restarting: random.one_in(2),
            notification: random.one_in(2),
            time_secs: random.below(4096) as u16,
            families: vec![(Family::IPV4_UNICAST, random.one_in(2))],
        }));
    }
    if random.one_in(3) {
        capabilities.push(Capability::LongLivedGracefulRestart(vec![
            LongLivedFamily {
                family: Family::IPV4_UNICAST,
                forwarding: random.one_in(2),
                stale_secs: random.below(500) as u32,
            },
        ]));
    }
    if random.one_in(8) {
        capabilities.push(Capability::Role(Role::Peer));
    }
    Open {
        asn: if random.one_in(20) { 64502 } else { 64501 },
        hold_time: random.below(30) as u16,
        router_id: Ipv4Addr::new(192, 0, 2, random.below(3) as u8),
        capabilities,
    }
}

fn notification(random: &mut Random) -> Notification {
    Notification::new(random.below(9) as u8, random.below(11) as u8)
}

/// Mostly events that bring a session forward, on a connection that is likely to exist.
fn event(random: &mut Random, owner: &Owner) -> Event {
    let conn = match owner.open.len() as u64 {
        0 => ConnId(owner.newest),
        _ if random.one_in(20) => ConnId(owner.newest.saturating_sub(random.below(4))),
        open => owner.open[random.below(open) as usize],
    };
    let rare = random.one_in(8);
    match random.below(if rare { 40 } else { 12 }) {
        0 => Event::Start,
        1 => Event::Accepted,
        2 | 3 => Event::Connected(conn),
        4..7 => Event::Received(conn, Received::Open(Box::new(open(random)))),
        7..11 => Event::Received(conn, Received::Keepalive),
        11 => Event::Received(conn, Received::Update),
        12..24 => Event::Accepted,
        24 => Event::Stop(Stop::Restart),
        25 => Event::Stop(Stop::Notify(notification(random))),
        26..28 => Event::Reset(notification(random)),
        28 => Event::ConnectFailed(conn),
        29..31 => Event::Closed(conn),
        31 => Event::Received(conn, Received::Notification(notification(random))),
        32 => Event::Received(conn, Received::RouteRefresh),
        33 => Event::Malformed(conn, notification(random)),
        34 => Event::EndOfRib(conn, Family::IPV4_UNICAST),
        35 => Event::Heard(conn),
        36 => Event::Waiting(conn),
        37 => Event::Drained(conn),
        _ => Event::Timer,
    }
}

/// What the owner of the sockets would believe.
#[derive(Default)]
struct Owner {
    open: Vec<ConnId>,
    up: Option<ConnId>,
    newest: u64,
    sessions: u64,
}

impl Owner {
    fn act(&mut self, action: Action) {
        match action {
            Action::Connect(conn) | Action::Adopt(conn) => {
                assert!(conn.0 > self.newest, "{conn} was used before");
                self.newest = conn.0;
                self.open.push(conn);
            }
            Action::Close(conn) => self.open.retain(|open| *open != conn),
            Action::Send(conn, _) => assert!(self.open.contains(&conn), "sent on closed {conn}"),
            Action::Up { conn, .. } => {
                assert_eq!(None, self.up.replace(conn), "a second session came up");
                assert!(self.open.contains(&conn));
                self.sessions += 1;
            }
            Action::Down { conn, .. } => {
                assert_eq!(Some(conn), self.up.take(), "an unknown session went down");
                assert!(!self.open.contains(&conn), "{conn} is down but open");
            }
            Action::Failed { conn, .. } => self.open.retain(|open| *open != conn),
            Action::Refuse | Action::LongLived(_) | Action::Forget(_) => {}
        }
    }
}

#[test]
fn any_sequence_of_events_is_survived() {
    let mut random = Random(0x7465_7374);
    let (mut events, mut sessions) = (0, 0);
    for _ in 0..cases() {
        let mut peer = Peer::new(config(&mut random), random.0);
        let mut owner = Owner::default();
        let mut now = Duration::ZERO;
        for _ in 0..1 + random.below(120) {
            let mut out = Vec::new();
            if random.one_in(3) {
                now += Duration::from_millis(random.below(20_000));
            }
            if random.one_in(50) {
                peer.set_config(now, config(&mut random));
            }
            peer.handle(now, event(&mut random, &owner), &mut out);
            // All that is due fires at once and leaves nothing due.
            peer.handle(now, Event::Timer, &mut out);
            assert!(
                peer.next_deadline().is_none_or(|at| at > now),
                "timer stuck"
            );
            assert!(out.len() < 24, "{} actions for one event", out.len());
            out.into_iter().for_each(|action| owner.act(action));
            assert!(owner.open.len() <= 4, "{} connections", owner.open.len());
            assert_eq!(peer.established().map(|(conn, _)| conn), owner.up);
            assert_eq!(peer.state() == State::Established, owner.up.is_some());
            events += 1;
        }
        sessions += owner.sessions;
    }
    assert!(
        sessions > events / 500,
        "only {sessions} sessions: the events are too wild"
    );
}
