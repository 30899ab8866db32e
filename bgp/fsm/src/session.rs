//! One connection from our OPEN to its end: OpenSent, OpenConfirm, Established
//! (RFC 4271 §8.2.2), total over state and input.

use std::time::Duration;

use bgp_wire::notification::subcode::fsm;
use bgp_wire::{Message, Notification, Open};

use crate::action::{Action, Reason};
use crate::config::Config;
use crate::event::{ConnId, Origin, Received, State, Time};
use crate::negotiate::{Negotiated, negotiate};

/// How long the peer's OPEN is awaited. RFC 4271 suggests four minutes; a node that accepts and
/// goes away would then hold up a new session for as long.
const OPEN_HOLD: Duration = Duration::from_secs(60);

/// RFC 9687 §4.1: at least eight minutes.
const SEND_HOLD: Duration = Duration::from_secs(480);

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) conn: ConnId,
    pub(crate) origin: Origin,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    OpenSent {
        hold_at: Time,
    },
    OpenConfirm {
        negotiated: Box<Negotiated>,
        timers: Timers,
    },
    Established {
        negotiated: Box<Negotiated>,
        timers: Timers,
        since: Time,
    },
}

/// Deadlines of a connection whose OPENs agreed.
#[derive(Clone, Debug)]
struct Timers {
    hold: Duration,
    hold_at: Option<Time>,
    keepalive: Duration,
    keepalive_at: Option<Time>,
    send_hold: Duration,
    send_hold_at: Option<Time>,
}

/// What a connection can be told.
#[derive(Debug)]
pub(crate) enum Input {
    Received(Received),
    Malformed(Notification),
    Closed,
    Heard,
    Waiting,
    Drained,
    Timer,
}

/// What an input means for the peer as a whole.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Nothing beyond this connection.
    Stay,
    /// The peer's OPEN is good; [`Session::confirm`] or a collision is next.
    Opened,
    /// The session is established.
    Up,
    /// The connection is over; its last words are already sent and it is closed.
    Over(Reason),
}

impl Session {
    /// Starts on a fresh connection: sends our OPEN.
    pub(crate) fn start(
        now: Time,
        config: &Config,
        (conn, origin): (ConnId, Origin),
        out: &mut Vec<Action>,
    ) -> Self {
        out.push(Action::Send(conn, Box::new(Message::Open(config.open()))));
        let hold_at = now + OPEN_HOLD;
        Session {
            conn,
            origin,
            phase: Phase::OpenSent { hold_at },
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.phase {
            Phase::OpenSent { .. } => State::OpenSent,
            Phase::OpenConfirm { .. } => State::OpenConfirm,
            Phase::Established { .. } => State::Established,
        }
    }

    pub(crate) fn negotiated(&self) -> Option<&Negotiated> {
        match &self.phase {
            Phase::OpenSent { .. } => None,
            Phase::OpenConfirm { negotiated, .. } | Phase::Established { negotiated, .. } => {
                Some(negotiated)
            }
        }
    }

    pub(crate) fn established_since(&self) -> Option<Time> {
        match self.phase {
            Phase::OpenSent { .. } | Phase::OpenConfirm { .. } => None,
            Phase::Established { since, .. } => Some(since),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::OpenSent { hold_at } => Some(*hold_at),
            Phase::OpenConfirm { timers, .. } | Phase::Established { timers, .. } => {
                timers.deadline()
            }
        }
    }

    /// Feeds one input.
    pub(crate) fn handle(
        &mut self,
        now: Time,
        config: &Config,
        input: Input,
        out: &mut Vec<Action>,
    ) -> Outcome {
        match input {
            Input::Received(Received::Notification(notification)) => {
                out.push(Action::Close(self.conn));
                Outcome::Over(Reason::Received(notification))
            }
            Input::Malformed(notification) => self.refuse(notification, out),
            Input::Closed => {
                out.push(Action::Close(self.conn));
                Outcome::Over(Reason::Closed)
            }
            Input::Received(Received::Open(open)) => self.open(now, config, &open, out),
            Input::Received(Received::Keepalive) => self.keepalive(now, out),
            Input::Received(Received::Update | Received::RouteRefresh) => self.update(now, out),
            Input::Heard => {
                if let Some(timers) = self.timers() {
                    timers.heard(now);
                }
                Outcome::Stay
            }
            Input::Waiting => {
                if let Some(timers) = self.timers() {
                    timers.waiting(now);
                }
                Outcome::Stay
            }
            Input::Drained => {
                if let Some(timers) = self.timers() {
                    timers.send_hold_at = None;
                }
                Outcome::Stay
            }
            Input::Timer => self.timer(now, out),
        }
    }

    /// Accepts the peer's OPEN after collision resolution: the KEEPALIVE that confirms it.
    pub(crate) fn confirm(&self, out: &mut Vec<Action>) {
        out.push(Action::Send(self.conn, Box::new(Message::Keepalive)));
    }

    /// Ends the connection with a NOTIFICATION.
    pub(crate) fn refuse(&self, notification: Notification, out: &mut Vec<Action>) -> Outcome {
        let message = Message::Notification(notification.clone());
        out.push(Action::Send(self.conn, Box::new(message)));
        out.push(Action::Close(self.conn));
        Outcome::Over(Reason::Sent(notification))
    }

    fn timers(&mut self) -> Option<&mut Timers> {
        match &mut self.phase {
            Phase::OpenSent { .. } => None,
            Phase::OpenConfirm { timers, .. } | Phase::Established { timers, .. } => Some(timers),
        }
    }

    fn open(&mut self, now: Time, config: &Config, open: &Open, out: &mut Vec<Action>) -> Outcome {
        match &self.phase {
            Phase::OpenSent { .. } => match negotiate(config, open, self.origin) {
                Ok(negotiated) => {
                    let timers = Timers::new(now, config, &negotiated);
                    let negotiated = Box::new(negotiated);
                    self.phase = Phase::OpenConfirm { negotiated, timers };
                    Outcome::Opened
                }
                Err(notification) => self.refuse(notification, out),
            },
            Phase::OpenConfirm { .. } => {
                self.refuse(Notification::fsm_error(fsm::OPEN_CONFIRM), out)
            }
            Phase::Established { .. } => {
                self.refuse(Notification::fsm_error(fsm::ESTABLISHED), out)
            }
        }
    }

    fn keepalive(&mut self, now: Time, out: &mut Vec<Action>) -> Outcome {
        match &mut self.phase {
            Phase::OpenSent { .. } => self.refuse(Notification::fsm_error(fsm::OPEN_SENT), out),
            Phase::OpenConfirm { negotiated, timers } => {
                timers.heard(now);
                self.phase = Phase::Established {
                    negotiated: negotiated.clone(),
                    timers: timers.clone(),
                    since: now,
                };
                Outcome::Up
            }
            Phase::Established { timers, .. } => {
                timers.heard(now);
                Outcome::Stay
            }
        }
    }

    fn update(&mut self, now: Time, out: &mut Vec<Action>) -> Outcome {
        match &mut self.phase {
            Phase::OpenSent { .. } => self.refuse(Notification::fsm_error(fsm::OPEN_SENT), out),
            Phase::OpenConfirm { .. } => {
                self.refuse(Notification::fsm_error(fsm::OPEN_CONFIRM), out)
            }
            Phase::Established { timers, .. } => {
                timers.heard(now);
                Outcome::Stay
            }
        }
    }

    fn timer(&mut self, now: Time, out: &mut Vec<Action>) -> Outcome {
        let conn = self.conn;
        let expired = match &mut self.phase {
            Phase::OpenSent { hold_at } => (*hold_at <= now).then_some(Expired::Hold),
            Phase::OpenConfirm { timers, .. } | Phase::Established { timers, .. } => {
                timers.run(now, conn, out)
            }
        };
        let (notification, reason) = match expired {
            None => return Outcome::Stay,
            Some(Expired::Hold) => (Notification::hold_timer_expired(), Reason::HoldTimerExpired),
            Some(Expired::SendHold) => (
                Notification::send_hold_timer_expired(),
                Reason::SendHoldTimerExpired,
            ),
        };
        let message = Box::new(Message::Notification(notification));
        out.push(Action::Send(conn, message));
        out.push(Action::Close(conn));
        Outcome::Over(reason)
    }
}

enum Expired {
    Hold,
    SendHold,
}

impl Timers {
    fn new(now: Time, config: &Config, negotiated: &Negotiated) -> Self {
        let hold = Duration::from_secs(negotiated.hold_time_secs.into());
        let keepalive = Duration::from_secs(negotiated.keepalive_secs.into());
        let send_hold = config.send_hold.unwrap_or(SEND_HOLD.max(hold * 2));
        Timers {
            hold,
            hold_at: (!hold.is_zero()).then(|| now + hold),
            keepalive,
            keepalive_at: (!keepalive.is_zero()).then(|| now + keepalive),
            send_hold,
            send_hold_at: None,
        }
    }

    fn heard(&mut self, now: Time) {
        self.hold_at = (!self.hold.is_zero()).then(|| now + self.hold);
    }

    fn waiting(&mut self, now: Time) {
        self.send_hold_at = Some(now + self.send_hold);
    }

    fn deadline(&self) -> Option<Time> {
        let deadlines = [self.hold_at, self.keepalive_at, self.send_hold_at];
        deadlines.into_iter().flatten().min()
    }

    fn run(&mut self, now: Time, conn: ConnId, out: &mut Vec<Action>) -> Option<Expired> {
        if self.hold_at.is_some_and(|at| at <= now) {
            return Some(Expired::Hold);
        }
        if self.send_hold_at.is_some_and(|at| at <= now) {
            return Some(Expired::SendHold);
        }
        if self.keepalive_at.is_some_and(|at| at <= now) {
            self.keepalive_at = Some(now + self.keepalive);
            out.push(Action::Send(conn, Box::new(Message::Keepalive)));
        }
        None
    }
}
