//! All connections with one peer: dialling, collisions, holds after errors, restarts.

mod collision;

use std::time::Duration;

use bgp_wire::notification::{code, subcode};
use bgp_wire::{Family, Notification};

use crate::action::{Action, Reason};
use crate::config::Config;
use crate::dial::{Backoff, Dial};
use crate::event::{ConnId, Event, Origin, State, Stop, Time};
use crate::negotiate::Negotiated;
use crate::session::{Input, Outcome, Session};
use crate::stale::{Stale, ends_retention};

/// A session that lived this long was sound: failures before it are forgotten.
const SOUND: Duration = Duration::from_secs(30);

/// One configured peer. See the [package documentation](crate) for how to drive it.
#[derive(Clone, Debug)]
pub struct Peer {
    config: Config,
    dial: Dial,
    /// At most one is established, one was dialled and one is a newcomer.
    sessions: Vec<Session>,
    stale: Stale,
    next_conn: u64,
    dials: Backoff,
    holds: Backoff,
}

impl Peer {
    /// A stopped peer. `seed` makes its waits differ from those of other peers.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        Peer {
            config,
            dial: Dial::Off,
            sessions: Vec::new(),
            stale: Stale::default(),
            next_conn: 0,
            dials: Backoff::new(seed),
            holds: Backoff::new(seed.rotate_left(32)),
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Replaces the settings. Who dials, waits between dials and the interval of KEEPALIVEs
    /// change at once, the rest with the next OPEN; to have one now, follow with
    /// [`Event::Reset`].
    pub fn set_config(&mut self, now: Time, config: Config) {
        let old = std::mem::replace(&mut self.config, config);
        for session in &mut self.sessions {
            session.change_keepalive(now, self.config.keepalive_secs);
        }
        let new = &self.config;
        if let Dial::Active { retry_at } = &mut self.dial {
            let waits = |c: &Config| (c.connect_retry, c.connect_retry_max);
            *retry_at = match (new.passive, old.passive, *retry_at) {
                (true, _, _) => None,
                (false, true, _) => Some(now),
                (false, false, Some(_)) if waits(&old) != waits(new) => {
                    self.dials.reset();
                    Some(now + self.dials.next(new.connect_retry, new.connect_retry_max))
                }
                (false, false, unchanged) => unchanged,
            };
        }
    }

    /// The state of the furthest connection.
    #[must_use]
    pub fn state(&self) -> State {
        let dial = match self.dial {
            Dial::Off | Dial::Held { .. } => State::Idle,
            Dial::Active { .. } | Dial::Parked => State::Active,
            Dial::Connect { .. } => State::Connect,
        };
        let sessions = self.sessions.iter().map(Session::state);
        sessions.max().map_or(dial, |furthest| furthest.max(dial))
    }

    /// The established connection and what was agreed on it.
    #[must_use]
    pub fn established(&self) -> Option<(ConnId, &Negotiated)> {
        let session = self.established_session()?;
        Some((session.conn, session.negotiated()?))
    }

    /// Families of which stale routes are kept (RFC 4724 §4.2, RFC 9494 §4.2).
    #[must_use]
    pub fn stale(&self) -> Vec<Family> {
        self.stale.families()
    }

    /// When [`Event::Timer`] is due, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let sessions = self.sessions.iter().filter_map(Session::deadline);
        let others = [self.dial.deadline(), self.stale.deadline()];
        sessions.chain(others.into_iter().flatten()).min()
    }

    /// Feeds one event and pushes what is to be done. Any event is allowed in any state; events
    /// about connections that are already closed are ignored.
    pub fn handle(&mut self, now: Time, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Start => self.start(now, out),
            Event::Stop(stop) => self.stop(now, stop, out),
            Event::Reset(notification) => self.reset(now, &notification, out),
            Event::Accepted => self.accepted(now, out),
            Event::Connected(conn) => self.connected(now, conn, out),
            Event::ConnectFailed(conn) => self.connect_failed(now, conn, out),
            Event::Closed(conn) => self.feed(now, conn, Input::Closed, out),
            Event::Received(conn, received) => {
                self.feed(now, conn, Input::Received(received), out);
            }
            Event::Malformed(conn, notification) => {
                self.feed(now, conn, Input::Malformed(notification), out);
            }
            Event::EndOfRib(conn, family) => {
                if self
                    .established()
                    .is_some_and(|(current, _)| current == conn)
                {
                    self.stale.end_of_rib(family);
                }
            }
            Event::Heard(conn) => self.feed(now, conn, Input::Heard, out),
            Event::Waiting(conn) => self.feed(now, conn, Input::Waiting, out),
            Event::Drained(conn) => self.feed(now, conn, Input::Drained, out),
            Event::Timer => self.timer(now, out),
        }
    }

    fn established_session(&self) -> Option<&Session> {
        let mut sessions = self.sessions.iter();
        sessions.find(|session| session.state() == State::Established)
    }

    fn fresh_conn(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId(self.next_conn)
    }

    fn start(&mut self, now: Time, out: &mut Vec<Action>) {
        match self.dial {
            Dial::Off => self.try_now(now, out),
            Dial::Held { .. } | Dial::Active { .. } | Dial::Connect { .. } | Dial::Parked => {}
        }
    }

    /// Dials, or waits for the peer when it is the one to dial.
    fn try_now(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.config.passive {
            self.dial = Dial::Active { retry_at: None };
            return;
        }
        let conn = self.fresh_conn();
        let give_up_at = now + self.config.connect_timeout;
        self.dial = Dial::Connect { conn, give_up_at };
        out.push(Action::Connect(conn));
    }

    /// Waits in Active before the next dial. A failed dial comes here too, where RFC 4271 §8.2.2
    /// goes to Idle unless it delays OPENs: a peer that restarts dials us within that time.
    fn wait_active(&mut self, now: Time) {
        let retry_at = if self.config.passive {
            None
        } else {
            let (shortest, longest) = (self.config.connect_retry, self.config.connect_retry_max);
            Some(now + self.dials.next(shortest, longest))
        };
        self.dial = Dial::Active { retry_at };
    }

    fn hold(&mut self, now: Time) {
        let wait = self
            .holds
            .next(self.config.idle_hold, self.config.idle_hold_max);
        self.dial = Dial::Held { until: now + wait };
    }

    fn give_dial_up(&mut self, out: &mut Vec<Action>) {
        match self.dial {
            Dial::Connect { conn, .. } => out.push(Action::Close(conn)),
            Dial::Off | Dial::Held { .. } | Dial::Active { .. } | Dial::Parked => {}
        }
    }

    fn stop(&mut self, now: Time, stop: Stop, out: &mut Vec<Action>) {
        self.give_dial_up(out);
        self.dial = Dial::Off;
        let last_words = match stop {
            Stop::Restart => None,
            Stop::Notify(notification) => Some(notification),
        };
        self.end_all(now, last_words.as_ref(), out);
        self.stale.forget(out);
        self.dials.reset();
        self.holds.reset();
    }

    fn reset(&mut self, now: Time, notification: &Notification, out: &mut Vec<Action>) {
        match self.dial {
            Dial::Off => return,
            Dial::Held { .. } | Dial::Active { .. } | Dial::Connect { .. } | Dial::Parked => {}
        }
        self.give_dial_up(out);
        // Asked for, so no failure that makes the next hold longer.
        let wait = self.holds.jitter(self.config.idle_hold);
        self.dial = Dial::Held { until: now + wait };
        self.end_all(now, Some(notification), out);
    }

    /// Ends every connection because we want it.
    fn end_all(&mut self, now: Time, last_words: Option<&Notification>, out: &mut Vec<Action>) {
        for session in std::mem::take(&mut self.sessions) {
            let sent = last_words.map(|words| harden(words, &session));
            match &sent {
                Some(notification) => {
                    let _over = session.refuse(notification.clone(), out);
                }
                None => out.push(Action::Close(session.conn)),
            }
            self.report(now, &session, Reason::Stopped(sent), out);
        }
    }

    fn accepted(&mut self, now: Time, out: &mut Vec<Action>) {
        match self.dial {
            Dial::Off | Dial::Held { .. } => out.push(Action::Refuse),
            Dial::Active { .. } => {
                self.dial = Dial::Parked;
                self.adopt(now, out);
            }
            Dial::Connect { .. } | Dial::Parked => match self.established_session() {
                Some(session) if !graceful(session) => {
                    // A peer that forgot the old connection resets it when it hears of it, and
                    // is let in at its next try.
                    session.send_keepalive(out);
                    out.push(Action::Refuse);
                }
                Some(_) | None => self.adopt(now, out),
            },
        }
    }

    /// Takes the accepted connection; an earlier one that got nowhere makes room for it.
    fn adopt(&mut self, now: Time, out: &mut Vec<Action>) {
        self.close_where(now, out, |session| {
            session.origin == Origin::Incoming && session.state() != State::Established
        });
        let conn = self.fresh_conn();
        out.push(Action::Adopt(conn));
        let origin = Origin::Incoming;
        let session = Session::start(now, &self.config, (conn, origin), out);
        self.sessions.push(session);
    }

    fn connected(&mut self, now: Time, conn: ConnId, out: &mut Vec<Action>) {
        match self.dial {
            Dial::Connect { conn: dialled, .. } if dialled == conn => {
                self.dial = Dial::Parked;
                let origin = Origin::Outgoing;
                let session = Session::start(now, &self.config, (conn, origin), out);
                self.sessions.push(session);
            }
            Dial::Off
            | Dial::Held { .. }
            | Dial::Active { .. }
            | Dial::Connect { .. }
            | Dial::Parked => {}
        }
    }

    fn connect_failed(&mut self, now: Time, conn: ConnId, out: &mut Vec<Action>) {
        match self.dial {
            Dial::Connect { conn: dialled, .. } if dialled == conn => {
                if self.sessions.is_empty() {
                    self.wait_active(now);
                } else {
                    self.dial = Dial::Parked;
                }
                let reason = Reason::ConnectFailed;
                out.push(Action::Failed { conn, reason });
            }
            Dial::Off
            | Dial::Held { .. }
            | Dial::Active { .. }
            | Dial::Connect { .. }
            | Dial::Parked => {}
        }
    }

    /// Gives a connection its input and draws the consequences for the peer.
    fn feed(&mut self, now: Time, conn: ConnId, input: Input, out: &mut Vec<Action>) {
        let mut sessions = self.sessions.iter_mut();
        let Some(session) = sessions.find(|session| session.conn == conn) else {
            return;
        };
        match session.handle(now, &self.config, input, out) {
            Outcome::Stay => {}
            Outcome::Opened => self.resolve_collision(now, conn, out),
            Outcome::Waited => self.confirm(now, conn, out),
            Outcome::Up => self.up(now, conn, out),
            Outcome::Over(reason) => self.over(now, conn, reason, out),
        }
    }

    /// Confirms the peer's OPEN, which may be all that was missing.
    fn confirm(&mut self, now: Time, conn: ConnId, out: &mut Vec<Action>) {
        let mut sessions = self.sessions.iter_mut();
        let outcome = sessions
            .find(|s| s.conn == conn)
            .map(|s| s.confirm(now, out));
        match outcome {
            Some(Outcome::Up) => self.up(now, conn, out),
            Some(Outcome::Stay | Outcome::Opened | Outcome::Waited | Outcome::Over(_)) | None => {}
        }
    }

    /// A session was established: it is the only one from now on.
    fn up(&mut self, now: Time, conn: ConnId, out: &mut Vec<Action>) {
        self.give_dial_up(out);
        self.dial = Dial::Parked;
        self.close_where(now, out, |session| session.conn != conn);
        let mut sessions = self.sessions.iter();
        let Some(negotiated) = sessions.find_map(Session::negotiated) else {
            return;
        };
        self.stale.session_up(now, &self.config, negotiated, out);
        let negotiated = Box::new(negotiated.clone());
        out.push(Action::Up { conn, negotiated });
    }

    /// Closes the chosen connections in favour of another one.
    fn close_where(&mut self, now: Time, out: &mut Vec<Action>, chosen: impl Fn(&Session) -> bool) {
        let sessions = std::mem::take(&mut self.sessions);
        let (closed, kept): (Vec<_>, Vec<_>) = sessions.into_iter().partition(|s| chosen(s));
        self.sessions = kept;
        for session in closed {
            if session.state() == State::Established {
                // RFC 4724 §5: no NOTIFICATION on the connection the peer has forgotten.
                out.push(Action::Close(session.conn));
                self.report(now, &session, Reason::Superseded, out);
            } else {
                let _over = session.refuse(Notification::cease(subcode::cease::COLLISION), out);
                self.report(now, &session, Reason::Collision, out);
            }
        }
    }

    /// A connection ended by itself.
    fn over(&mut self, now: Time, conn: ConnId, reason: Reason, out: &mut Vec<Action>) {
        let Some(index) = self.sessions.iter().position(|s| s.conn == conn) else {
            return;
        };
        let session = self.sessions.swap_remove(index);
        let since = session.established_since();
        let sound = since.is_some_and(|since| now.saturating_sub(since) >= SOUND);
        if sound {
            self.dials.reset();
            self.holds.reset();
        }
        if self.sessions.is_empty() && self.dial == Dial::Parked {
            match &reason {
                Reason::Closed if sound => self.try_now(now, out),
                Reason::Closed
                | Reason::Collision
                | Reason::ConnectFailed
                | Reason::Superseded
                | Reason::Stopped(_) => self.wait_active(now),
                Reason::Received(notification) if is_collision(notification) => {
                    self.wait_active(now);
                }
                Reason::HoldTimerExpired
                | Reason::SendHoldTimerExpired
                | Reason::Sent(_)
                | Reason::Received(_) => self.hold(now),
            }
        }
        self.report(now, &session, reason, out);
        self.confirm_held(now, out);
    }

    /// Tells the owner that a connection is over.
    fn report(&mut self, now: Time, session: &Session, reason: Reason, out: &mut Vec<Action>) {
        let conn = session.conn;
        match (session.state(), session.negotiated()) {
            (State::Established, Some(negotiated)) => {
                let ended = (negotiated, &reason);
                let keep = self.stale.session_down(now, &self.config, ended);
                out.push(Action::Down { conn, reason, keep });
            }
            (_, Some(_) | None) => out.push(Action::Failed { conn, reason }),
        }
    }

    fn timer(&mut self, now: Time, out: &mut Vec<Action>) {
        for conn in self.sessions.iter().map(|s| s.conn).collect::<Vec<_>>() {
            self.feed(now, conn, Input::Timer, out);
        }
        if self.dial.deadline().is_some_and(|at| at <= now) {
            // In Connect this drops the attempt and dials anew (RFC 4271 §8.2.2, event 9).
            self.give_dial_up(out);
            if self.sessions.is_empty() {
                self.try_now(now, out);
            } else {
                self.dial = Dial::Parked;
            }
        }
        self.stale.timer(now, out);
    }
}

/// RFC 8538 §3.1: a NOTIFICATION that must end the retention of routes is a Hard Reset.
fn harden(words: &Notification, session: &Session) -> Notification {
    if graceful_notification(session) && ends_retention(words) {
        words.clone().into_hard_reset()
    } else {
        words.clone()
    }
}

fn graceful_notification(session: &Session) -> bool {
    let restart = session.negotiated().and_then(|n| n.restart.as_ref());
    restart.is_some_and(|restart| restart.notification)
}

/// The peer restarts gracefully, so that a second connection of it means that it did.
fn graceful(session: &Session) -> bool {
    let restart = session.negotiated().and_then(|n| n.restart.as_ref());
    restart.is_some_and(|restart| !restart.families.is_empty())
}

fn is_collision(notification: &Notification) -> bool {
    (notification.code, notification.subcode) == (code::CEASE, subcode::cease::COLLISION)
}
