//! Dialling: the states of RFC 4271 §8.2.2 in which a peer has no connection yet.

use std::time::Duration;

use crate::event::{ConnId, Time};

/// What is being done to get a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Dial {
    /// The peer is stopped: Idle.
    Off,
    /// Held after an error: Idle, connections are refused (DampPeerOscillations).
    Held { until: Time },
    /// Waiting for the peer to dial, or to dial again: Active. A passive peer never dials.
    Active { retry_at: Option<Time> },
    /// Dialling: Connect.
    Connect { conn: ConnId, give_up_at: Time },
    /// There is a connection; its own state counts.
    Parked,
}

impl Dial {
    pub(crate) fn deadline(&self) -> Option<Time> {
        match self {
            Dial::Off | Dial::Parked => None,
            Dial::Held { until } => Some(*until),
            Dial::Active { retry_at } => *retry_at,
            Dial::Connect { give_up_at, .. } => Some(*give_up_at),
        }
    }
}

/// A wait that doubles with each failure and is shortened by a random part of up to a quarter
/// (RFC 4271 §10), so that peers that failed together do not come back together.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    failures: u32,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Backoff {
            failures: 0,
            // Xorshift stays at zero for ever if it starts there.
            random: seed | 1,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn next(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let doubled = shortest.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.jitter(doubled.min(longest))
    }

    pub(crate) fn jitter(&mut self, wait: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let parts = 768 + (self.random % 257) as u32;
        wait.saturating_mul(parts) / 1024
    }
}
