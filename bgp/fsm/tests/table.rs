//! The transitions of RFC 4271 §8.2.2, one connection at a time.

use std::net::Ipv4Addr;
use std::time::Duration;

use bgp_fsm::{Action, Config, ConnId, Event, Peer, Reason, Received, State, Stop, Time};
use bgp_wire::{Capability, Family, Message, Notification, Open};

const C1: ConnId = ConnId(1);
const C2: ConnId = ConnId(2);

fn secs(secs: u64) -> Time {
    Duration::from_secs(secs)
}

fn config() -> Config {
    let mut config = Config::new(64500, Ipv4Addr::new(192, 0, 2, 1), 64501);
    config.hold_time_secs = 9;
    config
}

fn remote_open() -> Open {
    Open {
        asn: 64501,
        hold_time: 9,
        router_id: Ipv4Addr::new(192, 0, 2, 2),
        capabilities: vec![
            Capability::MultiProtocol(Family::IPV4_UNICAST),
            Capability::FourOctetAs(64501),
        ],
    }
}

fn open_received(conn: ConnId) -> Event {
    Event::Received(conn, Received::Open(Box::new(remote_open())))
}

fn keepalive(conn: ConnId) -> Event {
    Event::Received(conn, Received::Keepalive)
}

fn notification(conn: ConnId) -> Event {
    Event::Received(conn, Received::Notification(Notification::cease(4)))
}

/// A peer brought into a state at time zero; its connection is `C1`.
fn peer_in(state: State) -> Peer {
    let mut peer = Peer::new(config(), 7);
    let path = [
        (State::Connect, Event::Start),
        (State::OpenSent, Event::Connected(C1)),
        (State::OpenConfirm, open_received(C1)),
        (State::Established, keepalive(C1)),
    ];
    let mut out = Vec::new();
    if state == State::Active {
        peer.handle(secs(0), Event::Start, &mut out);
        peer.handle(secs(0), Event::ConnectFailed(C1), &mut out);
    } else {
        for (reached, event) in path {
            if reached <= state {
                peer.handle(secs(0), event, &mut out);
            }
        }
    }
    assert_eq!(state, peer.state());
    peer
}

/// Actions as words, so that a difference can be read.
fn words(actions: &[Action]) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::Connect(_) => "connect".to_owned(),
        Action::Adopt(_) => "adopt".to_owned(),
        Action::Refuse => "refuse".to_owned(),
        Action::Send(_, message) => match &**message {
            Message::Open(_) => "open".to_owned(),
            Message::Keepalive => "keepalive".to_owned(),
            Message::Notification(n) => format!("notify {}/{}", n.code, n.subcode),
            Message::Update(_) | Message::RouteRefresh(_) => "unexpected".to_owned(),
        },
        Action::Close(_) => "close".to_owned(),
        Action::Up { .. } => "up".to_owned(),
        Action::Down { .. } => "down".to_owned(),
        Action::Failed { .. } => "failed".to_owned(),
        Action::LongLived(_) => "long-lived".to_owned(),
        Action::Forget(_) => "forget".to_owned(),
    };
    actions.iter().map(word).collect()
}

fn check(state: State, at: Time, event: Event, next: State, expected: &str) {
    let mut peer = peer_in(state);
    let mut out = Vec::new();
    peer.handle(at, event.clone(), &mut out);
    let got = words(&out).join(", ");
    assert_eq!(
        (next, expected),
        (peer.state(), &*got),
        "{event:?} in {state}"
    );
}

#[test]
fn idle() {
    use State::{Connect, Idle};
    check(Idle, secs(1), Event::Start, Connect, "connect");
    check(Idle, secs(1), Event::Accepted, Idle, "refuse");
    check(Idle, secs(1), Event::Stop(Stop::Restart), Idle, "");
    check(
        Idle,
        secs(1),
        Event::Reset(Notification::cease(4)),
        Idle,
        "",
    );
    check(Idle, secs(1), Event::Timer, Idle, "");
    check(Idle, secs(1), open_received(C1), Idle, "");
    check(Idle, secs(1), keepalive(C1), Idle, "");
}

#[test]
fn connect() {
    use State::{Active, Connect, Idle, OpenSent};
    check(Connect, secs(1), Event::Start, Connect, "");
    check(Connect, secs(1), Event::Connected(C1), OpenSent, "open");
    check(Connect, secs(1), Event::Connected(C2), Connect, "");
    check(Connect, secs(1), Event::ConnectFailed(C1), Active, "failed");
    check(Connect, secs(1), Event::Accepted, OpenSent, "adopt, open");
    check(Connect, secs(9), Event::Timer, Connect, "");
    check(Connect, secs(10), Event::Timer, Connect, "close, connect");
    check(Connect, secs(1), Event::Stop(Stop::Restart), Idle, "close");
    check(
        Connect,
        secs(1),
        Event::Reset(Notification::cease(4)),
        Idle,
        "close",
    );
}

#[test]
fn active() {
    use State::{Active, Connect, Idle, OpenSent};
    check(Active, secs(0), Event::Timer, Active, "");
    check(Active, secs(1), Event::Timer, Connect, "connect");
    check(Active, secs(0), Event::Accepted, OpenSent, "adopt, open");
    check(Active, secs(0), Event::Connected(C1), Active, "");
    check(Active, secs(0), Event::Start, Active, "");
    check(Active, secs(0), Event::Stop(Stop::Restart), Idle, "");
}

#[test]
fn open_sent() {
    use State::{Active, Idle, OpenConfirm, OpenSent};
    let cease = || Notification::cease(2);
    check(
        OpenSent,
        secs(1),
        open_received(C1),
        OpenConfirm,
        "keepalive",
    );
    check(
        OpenSent,
        secs(1),
        keepalive(C1),
        Idle,
        "notify 5/1, close, failed",
    );
    let update = Event::Received(C1, Received::Update);
    check(OpenSent, secs(1), update, Idle, "notify 5/1, close, failed");
    check(OpenSent, secs(1), notification(C1), Idle, "close, failed");
    check(
        OpenSent,
        secs(1),
        Event::Closed(C1),
        Active,
        "close, failed",
    );
    check(OpenSent, secs(59), Event::Timer, OpenSent, "");
    check(
        OpenSent,
        secs(60),
        Event::Timer,
        Idle,
        "notify 4/0, close, failed",
    );
    let stop = Event::Stop(Stop::Notify(cease()));
    check(OpenSent, secs(1), stop, Idle, "notify 6/2, close, failed");
    let restart = Event::Stop(Stop::Restart);
    check(OpenSent, secs(1), restart, Idle, "close, failed");
    let malformed = Event::Malformed(C1, Notification::new(1, 1));
    check(
        OpenSent,
        secs(1),
        malformed,
        Idle,
        "notify 1/1, close, failed",
    );
    let mut wrong = remote_open();
    wrong.asn = 64511;
    let wrong = Event::Received(C1, Received::Open(Box::new(wrong)));
    check(OpenSent, secs(1), wrong, Idle, "notify 2/2, close, failed");
}

#[test]
fn open_confirm() {
    use State::{Active, Established, Idle, OpenConfirm};
    check(OpenConfirm, secs(1), keepalive(C1), Established, "up");
    check(OpenConfirm, secs(3), Event::Timer, OpenConfirm, "keepalive");
    check(
        OpenConfirm,
        secs(9),
        Event::Timer,
        Idle,
        "notify 4/0, close, failed",
    );
    check(
        OpenConfirm,
        secs(1),
        open_received(C1),
        Idle,
        "notify 5/2, close, failed",
    );
    let update = Event::Received(C1, Received::Update);
    check(
        OpenConfirm,
        secs(1),
        update,
        Idle,
        "notify 5/2, close, failed",
    );
    check(
        OpenConfirm,
        secs(1),
        notification(C1),
        Idle,
        "close, failed",
    );
    check(
        OpenConfirm,
        secs(1),
        Event::Closed(C1),
        Active,
        "close, failed",
    );
    check(OpenConfirm, secs(1), Event::Start, OpenConfirm, "");
}

#[test]
fn established() {
    use State::{Active, Established, Idle};
    check(Established, secs(1), keepalive(C1), Established, "");
    let update = Event::Received(C1, Received::Update);
    check(Established, secs(1), update, Established, "");
    let refresh = Event::Received(C1, Received::RouteRefresh);
    check(Established, secs(1), refresh, Established, "");
    check(Established, secs(2), Event::Timer, Established, "");
    check(Established, secs(3), Event::Timer, Established, "keepalive");
    check(
        Established,
        secs(9),
        Event::Timer,
        Idle,
        "notify 4/0, close, down",
    );
    check(
        Established,
        secs(1),
        open_received(C1),
        Idle,
        "notify 5/3, close, down",
    );
    check(Established, secs(1), notification(C1), Idle, "close, down");
    check(
        Established,
        secs(1),
        Event::Closed(C1),
        Active,
        "close, down",
    );
    let sound = "close, connect, down";
    check(
        Established,
        secs(31),
        Event::Closed(C1),
        State::Connect,
        sound,
    );
    let malformed = Event::Malformed(C1, Notification::new(3, 1));
    check(
        Established,
        secs(1),
        malformed,
        Idle,
        "notify 3/1, close, down",
    );
    let stop = Event::Stop(Stop::Notify(Notification::administrative_shutdown("bye")));
    check(Established, secs(1), stop, Idle, "notify 6/2, close, down");
    check(
        Established,
        secs(1),
        Event::Stop(Stop::Restart),
        Idle,
        "close, down",
    );
    // A peer that does not restart gracefully has to get rid of the old connection itself.
    check(
        Established,
        secs(1),
        Event::Accepted,
        Established,
        "keepalive, refuse",
    );
}

#[test]
fn keepalives_and_updates_restart_the_hold_timer() {
    let mut peer = peer_in(State::Established);
    let mut out = Vec::new();
    peer.handle(secs(8), keepalive(C1), &mut out);
    peer.handle(secs(16), Event::Timer, &mut out);
    peer.handle(secs(16), Event::Received(C1, Received::Update), &mut out);
    peer.handle(secs(24), Event::Heard(C1), &mut out);
    peer.handle(secs(32), Event::Timer, &mut out);
    assert_eq!(State::Established, peer.state());
    peer.handle(secs(33), Event::Timer, &mut out);
    assert_eq!(State::Idle, peer.state());
}

#[test]
fn hold_time_zero_has_no_timers() {
    let mut config = config();
    config.hold_time_secs = 0;
    let mut peer = Peer::new(config, 7);
    let mut out = Vec::new();
    let events = [
        Event::Start,
        Event::Connected(C1),
        open_received(C1),
        keepalive(C1),
    ];
    for event in events {
        peer.handle(secs(0), event, &mut out);
    }
    assert_eq!(None, peer.next_deadline());
    peer.handle(secs(1_000_000), Event::Timer, &mut out);
    assert_eq!(State::Established, peer.state());
}

#[test]
fn peer_that_takes_nothing_is_dropped_after_the_send_hold_time() {
    let mut peer = peer_in(State::Established);
    let mut out = Vec::new();
    peer.handle(secs(5), Event::Waiting(C1), &mut out);
    for at in (5..480).step_by(5) {
        peer.handle(secs(at), keepalive(C1), &mut out);
        peer.handle(secs(at), Event::Timer, &mut out);
    }
    assert_eq!(State::Established, peer.state());
    peer.handle(secs(480), Event::Waiting(C1), &mut out);
    peer.handle(secs(500), Event::Drained(C1), &mut out);
    peer.handle(secs(505), Event::Waiting(C1), &mut out);
    for at in (500..985).step_by(5) {
        peer.handle(secs(at), keepalive(C1), &mut out);
        peer.handle(secs(at), Event::Timer, &mut out);
    }
    assert_eq!(State::Established, peer.state());
    out.clear();
    peer.handle(secs(985), Event::Timer, &mut out);
    assert_eq!(vec!["notify 8/0", "close", "down"], words(&out));
    let last = out.pop();
    assert!(
        matches!(
            last,
            Some(Action::Down {
                reason: Reason::SendHoldTimerExpired,
                ..
            })
        ),
        "{last:?}"
    );
}

#[test]
fn passive_peer_never_dials() {
    let mut config = config();
    config.passive = true;
    let mut peer = Peer::new(config, 7);
    let mut out = Vec::new();
    peer.handle(secs(0), Event::Start, &mut out);
    assert_eq!((State::Active, None), (peer.state(), peer.next_deadline()));
    peer.handle(secs(5), Event::Accepted, &mut out);
    peer.handle(secs(5), open_received(C1), &mut out);
    peer.handle(secs(5), keepalive(C1), &mut out);
    assert_eq!(State::Established, peer.state());
    out.clear();
    peer.handle(secs(100), Event::Closed(C1), &mut out);
    assert_eq!(vec!["close", "down"], words(&out));
    assert_eq!((State::Active, None), (peer.state(), peer.next_deadline()));
}

#[test]
fn failed_dials_and_errors_wait_longer_each_time_up_to_a_limit() {
    let mut peer = Peer::new(config(), 7);
    let mut out = Vec::new();
    peer.handle(secs(0), Event::Start, &mut out);
    let mut now = secs(0);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let Some(Action::Connect(conn)) = out.pop() else {
            panic!("no dial at {now:?}");
        };
        peer.handle(now, Event::ConnectFailed(conn), &mut out);
        let next = peer.next_deadline().unwrap();
        waits.push(next - now);
        now = next;
        peer.handle(now, Event::Timer, &mut out);
    }
    for (wait, limit) in waits.iter().zip([1, 2, 4, 8, 15, 15, 15, 15]) {
        let limit = secs(limit);
        assert!(*wait <= limit && *wait >= limit * 3 / 4, "{waits:?}");
    }
}

#[test]
fn held_peer_refuses_connections_until_the_hold_is_over() {
    let mut peer = peer_in(State::OpenSent);
    let mut out = Vec::new();
    peer.handle(
        secs(0),
        Event::Malformed(C1, Notification::new(1, 1)),
        &mut out,
    );
    out.clear();
    peer.handle(secs(0), Event::Accepted, &mut out);
    assert_eq!(vec!["refuse"], words(&out));
    out.clear();
    peer.handle(secs(1), Event::Timer, &mut out);
    assert_eq!(vec!["connect"], words(&out));
}
