//! One session: RFC 5880 §6.2, §6.8.

use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use crate::Time;
use crate::packet::{Diagnostic, Packet, State};
use crate::timing::{Timing, jitter, times};

/// Settings of a session; intervals in microseconds, 0 counts as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Shortest interval at which we would like to send while Up.
    pub min_tx_micros: u32,
    /// Shortest interval between the neighbour's packets that we can take.
    pub min_rx_micros: u32,
    /// Packets in a row that may be missing.
    pub multiplier: NonZeroU8,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send(Packet),
    /// The state of the session, or what is known of the neighbour's, changed.
    Changed {
        /// State before.
        from: State,
        /// State now.
        to: State,
    },
}

/// What the neighbour last said; the values of RFC 5880 §6.8.1 before it says anything.
#[derive(Clone, Copy, Debug)]
struct Remote {
    discriminator: Option<NonZeroU32>,
    state: State,
    diagnostic: Diagnostic,
    min_tx: u32,
    min_rx: u32,
    multiplier: u8,
    demand: bool,
    independent: bool,
    heard_at: Time,
}

const UNHEARD: Remote = Remote {
    discriminator: None,
    state: State::Down,
    diagnostic: Diagnostic::NONE,
    min_tx: 0,
    min_rx: 1,
    multiplier: 0,
    demand: false,
    independent: false,
    heard_at: Time::ZERO,
};

/// A session with one neighbour, in the active role.
#[derive(Clone, Debug)]
pub struct Session {
    config: Config,
    discriminator: NonZeroU32,
    state: State,
    diagnostic: Diagnostic,
    remote: Remote,
    timing: Timing,
    /// When the last periodic packet went out, and which share of the interval the next waits.
    sent_at: Option<Time>,
    share: u32,
    random: u64,
    /// When a session that was taken down falls silent.
    silent_at: Option<Time>,
    transitions: u64,
}

impl Session {
    /// A session that is Down; its first packet is due at once. `discriminator` is ours and
    /// unique, `seed` makes its jitter differ from that of others.
    #[must_use]
    pub fn new(config: Config, discriminator: NonZeroU32, seed: u64) -> Self {
        // Xorshift stays at zero for ever if it starts there.
        let mut random = seed | 1;
        Session {
            config,
            discriminator,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote: UNHEARD,
            timing: Timing::new(config),
            sent_at: None,
            share: jitter(&mut random, config.multiplier),
            random,
            silent_at: None,
            transitions: 0,
        }
    }

    /// Our state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The state the neighbour last told; Down when it is not heard.
    #[must_use]
    pub fn remote_state(&self) -> State {
        self.remote.state
    }

    /// Why the session last left the state Up.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// Why the neighbour's last did, as it says.
    #[must_use]
    pub fn remote_diagnostic(&self) -> Diagnostic {
        self.remote.diagnostic
    }

    /// Our name for the session.
    #[must_use]
    pub fn discriminator(&self) -> NonZeroU32 {
        self.discriminator
    }

    /// The neighbour's name for the session, while it is heard.
    #[must_use]
    pub fn remote_discriminator(&self) -> Option<NonZeroU32> {
        self.remote.discriminator
    }

    /// The neighbour's packets do not depend on its control plane (RFC 5882 §4.3), as it last said.
    #[must_use]
    pub fn remote_independent(&self) -> bool {
        self.remote.independent
    }

    /// How often the state changed.
    #[must_use]
    pub fn transitions(&self) -> u64 {
        self.transitions
    }

    /// Interval of our packets before jitter; `None` while none are sent periodically.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        let demanded = self.remote.demand
            && (self.state, self.remote.state) == (State::Up, State::Up)
            && !self.timing.waits();
        if self.remote.min_rx == 0 || demanded || self.is_over() {
            return None;
        }
        let (tx, _) = self.timing.used();
        Some(times(tx.max(self.remote.min_rx), 1))
    }

    /// For how long the neighbour may be silent; `None` while it is not heard.
    #[must_use]
    pub fn detection_time(&self) -> Option<Duration> {
        self.remote.discriminator?;
        let (_, rx) = self.timing.used();
        Some(times(rx.max(self.remote.min_tx), self.remote.multiplier))
    }

    /// When [`Session::timer`] is due, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let deadlines = [self.send_at(), self.expires_at(), self.pending_silence()];
        deadlines.into_iter().flatten().min()
    }

    /// Taken down, and has said so for long enough.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state == State::AdminDown && self.silent_at.is_none()
    }

    /// Replaces the settings without taking the session down (RFC 5880 §6.8.3, §6.8.12).
    pub fn configure(&mut self, now: Time, config: Config, out: &mut Vec<Output>) {
        self.config = config;
        if self.state != State::AdminDown && self.retime() {
            self.send(now, false, out);
        }
    }

    /// Takes the session down and says so for a detection time (RFC 5880 §6.8.16). The session
    /// ends with it.
    pub fn shut_down(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.state == State::AdminDown {
            return;
        }
        let (tx, _) = self.timing.said();
        let detection = times(tx.max(self.remote.min_rx), self.config.multiplier.get());
        let heard = self.remote.discriminator.is_some();
        self.silent_at = heard.then(|| now + detection);
        self.enter(State::AdminDown, Diagnostic::ADMINISTRATIVE, out);
        if heard {
            self.send(now, false, out);
        }
    }

    /// A packet came for this session (RFC 5880 §6.8.6, after demultiplexing).
    pub fn receive(&mut self, now: Time, packet: &Packet, out: &mut Vec<Output>) {
        let remote_before = self.remote.state;
        self.remote = Remote {
            discriminator: Some(packet.my_discriminator),
            state: packet.state,
            diagnostic: packet.diagnostic,
            min_tx: packet.desired_min_tx,
            min_rx: packet.required_min_rx,
            multiplier: packet.multiplier.get(),
            demand: packet.demand,
            independent: packet.control_plane_independent,
            heard_at: now,
        };
        if self.state == State::AdminDown {
            return;
        }
        if packet.is_final {
            self.timing.confirmed();
        }
        let before = self.state;
        let (after, why) = transition(before, packet.state);
        if after != before {
            self.enter(after, why.unwrap_or(self.diagnostic), out);
        } else if remote_before != packet.state {
            let (from, to) = (before, before);
            out.push(Output::Changed { from, to });
        }
        if packet.poll {
            self.send(now, true, out);
        } else if after != before {
            self.send(now, false, out);
        }
    }

    /// Time has passed.
    pub fn timer(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.expires_at().is_some_and(|at| at <= now) {
            self.expire(now, out);
        }
        if self.pending_silence().is_some_and(|at| at <= now) {
            self.silent_at = None;
        }
        if self.send_at().is_some_and(|at| at <= now) {
            self.send(now, false, out);
        }
    }

    /// The neighbour was silent for the detection time (RFC 5880 §6.8.4, §6.8.1).
    fn expire(&mut self, now: Time, out: &mut Vec<Output>) {
        let independent = self.remote.independent;
        let unheard = Remote {
            independent,
            ..UNHEARD
        };
        let remote_before = std::mem::replace(&mut self.remote, unheard).state;
        match self.state {
            State::Init | State::Up => {
                self.enter(State::Down, Diagnostic::TIME_EXPIRED, out);
                self.send(now, false, out);
            }
            State::Down => {
                self.retime();
                if remote_before != State::Down {
                    let (from, to) = (State::Down, State::Down);
                    out.push(Output::Changed { from, to });
                }
            }
            State::AdminDown => {}
        }
    }

    fn enter(&mut self, state: State, why: Diagnostic, out: &mut Vec<Output>) {
        let from = std::mem::replace(&mut self.state, state);
        self.diagnostic = why;
        self.transitions += 1;
        self.retime();
        out.push(Output::Changed { from, to: state });
    }

    fn retime(&mut self) -> bool {
        let heard = self.remote.discriminator.is_some();
        let up = self.state == State::Up;
        self.timing.update(self.config, up, heard)
    }

    fn send_at(&self) -> Option<Time> {
        let interval = self.interval()?;
        let Some(sent_at) = self.sent_at else {
            return Some(Time::ZERO);
        };
        Some(sent_at + interval * self.share / 1024)
    }

    fn expires_at(&self) -> Option<Time> {
        match self.state {
            State::AdminDown => None,
            State::Down | State::Init | State::Up => {
                Some(self.remote.heard_at + self.detection_time()?)
            }
        }
    }

    fn pending_silence(&self) -> Option<Time> {
        self.silent_at
    }

    /// Sends; an answer to a poll leaves the pace of the periodic packets alone, so that one who
    /// polls without end cannot keep ours from being sent.
    fn send(&mut self, now: Time, answer: bool, out: &mut Vec<Output>) {
        out.push(Output::Send(self.packet(answer)));
        if !answer {
            self.timing.sent();
            self.sent_at = Some(now);
            self.share = jitter(&mut self.random, self.config.multiplier);
        }
    }

    fn packet(&self, answer: bool) -> Packet {
        let (desired_min_tx, required_min_rx) = self.timing.said();
        Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: !answer && self.timing.polls(),
            is_final: answer,
            // Whoever stops the speaker stops these packets.
            control_plane_independent: false,
            demand: false,
            multiplier: self.config.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx,
            required_min_rx,
            required_min_echo_rx: 0,
        }
    }
}

/// RFC 5880 §6.2: our next state, and why when it is a loss.
fn transition(ours: State, theirs: State) -> (State, Option<Diagnostic>) {
    let lost = (State::Down, Some(Diagnostic::NEIGHBOR_DOWN));
    match (ours, theirs) {
        (State::AdminDown, _) => (State::AdminDown, None),
        (State::Down, State::Down) => (State::Init, None),
        (State::Down, State::Init) => (State::Up, None),
        (State::Down, State::AdminDown | State::Up) => (State::Down, None),
        (State::Init, State::AdminDown) => lost,
        (State::Init, State::Down) => (State::Init, None),
        (State::Init, State::Init | State::Up) => (State::Up, None),
        (State::Up, State::AdminDown | State::Down) => lost,
        (State::Up, State::Init | State::Up) => (State::Up, None),
    }
}
