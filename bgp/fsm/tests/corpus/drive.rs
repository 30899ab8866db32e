//! Events out of octets: each begins with its kind, a time and a connection. Shared with the fuzz
//! target `fsm`.

use std::net::Ipv4Addr;
use std::time::Duration;

use bgp_fsm::{Action, Config, ConnId, Event, Peer, Received, Restart, State, Stop};
use bgp_wire::{Family, Message, Notification, Params, decode};

/// Feeds what the octets say, and fails when the peer comes apart. Whether a session came up.
pub(crate) fn drive(input: &[u8]) -> bool {
    let Some((first, mut rest)) = input.split_first() else {
        return false;
    };
    let mut peer = Peer::new(config(*first), u64::from(*first));
    let mut came_up = false;
    let (mut now, mut out) = (Duration::ZERO, Vec::new());
    peer.handle(now, Event::Start, &mut out);
    while let Some((&[kind, time, conn], after)) = rest.split_first_chunk() {
        rest = after;
        // Up to 16 s, on a scale that has the short times too.
        now += Duration::from_millis(u64::from(time) * u64::from(time) / 4);
        let Some(event) = event(kind, ConnId(u64::from(conn % 8)), &mut rest) else {
            return came_up;
        };
        out.clear();
        peer.handle(now, event, &mut out);
        peer.handle(now, Event::Timer, &mut out);
        came_up |= out.iter().any(|action| matches!(action, Action::Up { .. }));
        assert!(out.len() < 24, "{} actions for one event", out.len());
        assert!(
            peer.next_deadline().is_none_or(|at| at > now),
            "timer stuck"
        );
        assert_eq!(
            peer.state() == State::Established,
            peer.established().is_some()
        );
    }
    came_up
}

fn config(bits: u8) -> Config {
    let bit = |number: u8| bits & 1 << number != 0;
    let mut config = Config::new(64500, Ipv4Addr::new(192, 0, 2, 1), 64501);
    config.families = vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    config.passive = bit(0);
    config.long_lived_secs = bit(1).then_some(60);
    config.extended_next_hop = bit(2);
    config.restart = bit(3).then(|| Restart {
        time_secs: 30,
        restarting: bit(4),
        forwarding: bit(5),
        notification: bit(6),
        stale_time: Duration::from_secs(20),
    });
    config
}

fn event(kind: u8, conn: ConnId, rest: &mut &[u8]) -> Option<Event> {
    let notification = || Notification::new(kind >> 4, kind & 7);
    Some(match kind % 16 {
        0 => Event::Accepted,
        1 => Event::Connected(conn),
        2 => Event::ConnectFailed(conn),
        3 => Event::Closed(conn),
        4 | 5 => received(conn, rest)?,
        6 | 7 => Event::Received(conn, Received::Keepalive),
        8 => Event::Received(conn, Received::Update),
        9 => Event::Received(conn, Received::Notification(notification())),
        10 => Event::EndOfRib(conn, Family::IPV4_UNICAST),
        11 => Event::Stop(Stop::Restart),
        12 => Event::Stop(Stop::Notify(notification())),
        13 => Event::Reset(notification()),
        14 => Event::Waiting(conn),
        _ => Event::Start,
    })
}

/// An OPEN whose length and body follow.
fn received(conn: ConnId, rest: &mut &[u8]) -> Option<Event> {
    let (&len, after) = rest.split_first()?;
    let (body, after) = after.split_at_checked(usize::from(len))?;
    *rest = after;
    let mut message = vec![0xff; 16];
    message.extend((19 + u16::from(len)).to_be_bytes());
    message.push(1);
    message.extend(body);
    Some(match decode(&message, &Params::default()) {
        Ok(Message::Open(open)) => Event::Received(conn, Received::Open(Box::new(open))),
        Ok(_) => return None,
        Err(error) => Event::Malformed(conn, error.notification()),
    })
}
