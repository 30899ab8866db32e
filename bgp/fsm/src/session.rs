//! One connection from our OPEN to its end: OpenSent, OpenConfirm, Established
//! (RFC 4271 §8.2.2), total over state and input.

use std::time::Duration;

use bgp_wire::notification::subcode::fsm;
use bgp_wire::{Message, Notification, Open};

use crate::action::{Action, Reason};
use crate::config::Config;
use crate::event::{ConnId, Origin, Received, State, Time};
use crate::negotiate::{Negotiated, keepalive, negotiate};

/// How long the peer's OPEN is awaited. RFC 4271 suggests four minutes; a node that accepts and
/// goes away would then hold up a new session for as long.
const OPEN_HOLD: Duration = Duration::from_secs(60);

/// How long a connection that would lose a collision waits for the OPEN on the other one.
const COLLISION_WAIT: Duration = Duration::from_secs(1);

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
        confirmation: Confirmation,
    },
    Established {
        negotiated: Box<Negotiated>,
        timers: Timers,
        since: Time,
    },
}

/// Our KEEPALIVE that answers the peer's OPEN.
#[derive(Clone, Copy, Debug)]
enum Confirmation {
    Sent,
    /// Another connection may still win the collision.
    Held {
        until: Time,
        /// The peer has confirmed already.
        heard: bool,
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
    /// The other connection had its time; [`Session::confirm`] is next.
    Waited,
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
            Phase::OpenConfirm {
                confirmation: Confirmation::Held { until, .. },
                ..
            } => Some(*until),
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
    pub(crate) fn confirm(&mut self, now: Time, out: &mut Vec<Action>) -> Outcome {
        let Phase::OpenConfirm {
            timers,
            confirmation,
            ..
        } = &mut self.phase
        else {
            return Outcome::Stay;
        };
        let before = std::mem::replace(confirmation, Confirmation::Sent);
        timers.start(now);
        self.send_keepalive(out);
        match before {
            Confirmation::Held { heard: true, .. } => self.establish(now),
            Confirmation::Held { heard: false, .. } | Confirmation::Sent => Outcome::Stay,
        }
    }

    /// The peer's OPEN is good, and not confirmed yet.
    pub(crate) fn is_held(&self) -> bool {
        match self.phase {
            Phase::OpenConfirm { confirmation, .. } => match confirmation {
                Confirmation::Held { .. } => true,
                Confirmation::Sent => false,
            },
            Phase::OpenSent { .. } | Phase::Established { .. } => false,
        }
    }

    /// Sends KEEPALIVEs at another interval from now on; the hold time stays agreed.
    pub(crate) fn change_keepalive(&mut self, now: Time, wanted: Option<u16>) {
        let (negotiated, timers) = match &mut self.phase {
            Phase::OpenSent { .. } => return,
            Phase::OpenConfirm {
                negotiated, timers, ..
            }
            | Phase::Established {
                negotiated, timers, ..
            } => (negotiated, timers),
        };
        let secs = keepalive(wanted, negotiated.hold_time_secs);
        if secs == negotiated.keepalive_secs {
            return;
        }
        negotiated.keepalive_secs = secs;
        timers.keepalive = Duration::from_secs(secs.into());
        if let Some(at) = &mut timers.keepalive_at {
            *at = now + timers.keepalive;
        }
    }

    pub(crate) fn send_keepalive(&self, out: &mut Vec<Action>) {
        out.push(Action::Send(self.conn, Box::new(Message::Keepalive)));
    }

    fn establish(&mut self, now: Time) -> Outcome {
        let Phase::OpenConfirm {
            negotiated, timers, ..
        } = &self.phase
        else {
            return Outcome::Stay;
        };
        self.phase = Phase::Established {
            negotiated: negotiated.clone(),
            timers: timers.clone(),
            since: now,
        };
        Outcome::Up
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
                    self.phase = Phase::OpenConfirm {
                        timers: Timers::new(config, &negotiated),
                        negotiated: Box::new(negotiated),
                        confirmation: Confirmation::Held {
                            until: now + COLLISION_WAIT,
                            heard: false,
                        },
                    };
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
            Phase::OpenConfirm {
                timers,
                confirmation,
                ..
            } => {
                if let Confirmation::Held { heard, .. } = confirmation {
                    *heard = true;
                    return Outcome::Stay;
                }
                timers.heard(now);
                self.establish(now)
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
            Phase::OpenConfirm {
                confirmation: Confirmation::Held { until, .. },
                ..
            } => {
                return if *until <= now {
                    Outcome::Waited
                } else {
                    Outcome::Stay
                };
            }
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
    /// Timers that do not run yet.
    fn new(config: &Config, negotiated: &Negotiated) -> Self {
        let hold = Duration::from_secs(negotiated.hold_time_secs.into());
        Timers {
            hold,
            hold_at: None,
            keepalive: Duration::from_secs(negotiated.keepalive_secs.into()),
            keepalive_at: None,
            send_hold: config.send_hold.unwrap_or(SEND_HOLD.max(hold * 2)),
            send_hold_at: None,
        }
    }

    fn start(&mut self, now: Time) {
        self.heard(now);
        self.keepalive_at = (!self.keepalive.is_zero()).then(|| now + self.keepalive);
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
