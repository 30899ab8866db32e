//! How long a start waits for its peers (RFC 4724 §4.1, Selection Deferral).
//!
//! Waiting for every configured peer makes one dead node hold up all others for minutes. So only
//! peers that come up are waited for, and not for ever: until `settle` a configured peer, or, where
//! it is known who was up before, one of those, may still come up; whoever did has until `limit`
//! after the last of them for its end-of-RIB.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bgp_rib::PeerId;
use bgp_wire::Family;
use tokio::time::Instant;

/// A peer that will send no end-of-RIB has told everything once it has told nothing for so long.
const SILENCE: Duration = Duration::from_secs(2);

/// What tells that a peer has told everything.
#[derive(Debug)]
pub(crate) enum Expected {
    /// An end-of-RIB of each of these families.
    EndOfRib(BTreeSet<Family>),
    /// Silence for a while.
    Silence,
}

/// A peer that is waited for.
#[derive(Debug)]
enum Waiting {
    EndOfRib(BTreeSet<Family>),
    Silence { until: Instant },
}

/// The wait of one start.
#[derive(Debug)]
pub(crate) struct Deferral {
    settle_at: Instant,
    limit: Duration,
    limit_at: Instant,
    /// Configured peers that are not up.
    missing: BTreeSet<PeerId>,
    /// Peers that are up and have not told everything.
    waiting: BTreeMap<PeerId, Waiting>,
    over: bool,
}

impl Deferral {
    pub(crate) fn new(now: Instant, settle: Duration, limit: Duration) -> Self {
        Deferral {
            settle_at: now + settle,
            limit,
            limit_at: now + limit,
            missing: BTreeSet::new(),
            waiting: BTreeMap::new(),
            over: false,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Peers that are up and have not told everything; nobody once the wait is over.
    pub(crate) fn waiting_for(&self) -> impl Iterator<Item = PeerId> {
        let waits = !self.over;
        self.waiting.keys().copied().filter(move |_| waits)
    }

    /// Configured peers that may still come up in time; nobody once they may not.
    pub(crate) fn missing(&self, now: Instant) -> impl Iterator<Item = PeerId> {
        let waits = !self.over && now < self.settle_at;
        self.missing.iter().copied().filter(move |_| waits)
    }

    /// When the wait ends at the latest as things stand, none once it is over.
    pub(crate) fn ends_by(&self, now: Instant) -> Option<Instant> {
        let settle_at = (!self.missing.is_empty()).then_some(self.settle_at);
        let limit_at = (!self.waiting.is_empty()).then_some(self.limit_at);
        let last = settle_at.max(limit_at);
        (!self.over).then(|| last.unwrap_or(now).max(now))
    }

    pub(crate) fn added(&mut self, peer: PeerId) {
        self.missing.insert(peer);
    }

    pub(crate) fn removed(&mut self, peer: PeerId) {
        self.missing.remove(&peer);
        self.waiting.remove(&peer);
    }

    /// A session came up.
    pub(crate) fn up(&mut self, now: Instant, peer: PeerId, expected: Expected) {
        self.missing.remove(&peer);
        if now >= self.settle_at {
            return;
        }
        let waiting = match expected {
            Expected::EndOfRib(families) => Waiting::EndOfRib(families),
            Expected::Silence => Waiting::Silence {
                until: now + SILENCE,
            },
        };
        self.waiting.insert(peer, waiting);
        self.limit_at = now + self.limit;
    }

    /// A peer told something.
    pub(crate) fn heard(&mut self, now: Instant, peer: PeerId) {
        if let Some(Waiting::Silence { until }) = self.waiting.get_mut(&peer) {
            *until = now + SILENCE;
        }
    }

    pub(crate) fn down(&mut self, peer: PeerId) {
        self.waiting.remove(&peer);
        self.missing.insert(peer);
    }

    pub(crate) fn end_of_rib(&mut self, peer: PeerId, family: Family) {
        if let Some(Waiting::EndOfRib(families)) = self.waiting.get_mut(&peer) {
            families.remove(&family);
        }
    }

    /// Whether the wait ends now; true once.
    pub(crate) fn ends(&mut self, now: Instant) -> bool {
        self.waiting.retain(|_, waiting| match waiting {
            Waiting::EndOfRib(families) => !families.is_empty(),
            Waiting::Silence { until } => *until > now,
        });
        let settled = self.missing.is_empty() || now >= self.settle_at;
        let heard = self.waiting.is_empty() || now >= self.limit_at;
        let ends = settled && heard && !self.over;
        self.over |= ends;
        ends
    }

    /// When to ask again if nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let silences = self.waiting.values().filter_map(|waiting| match waiting {
            Waiting::EndOfRib(_) => None,
            Waiting::Silence { until } => Some(*until),
        });
        let deadlines = silences.chain([self.settle_at, self.limit_at]);
        let next = deadlines.filter(|at| *at > now).min();
        next.filter(|_| !self.over)
    }
}

#[cfg(test)]
mod tests;
