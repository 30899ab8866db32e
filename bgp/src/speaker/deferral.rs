//! How long a start waits for its peers (RFC 4724 §4.1, Selection Deferral).
//!
//! Waiting for every configured peer makes one dead node hold up all others for minutes. So only
//! peers that come up are waited for, and not for ever: until `settle` a configured peer may still
//! come up; whoever did has until `limit` after the last of them for its end-of-RIB.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bgp_rib::PeerId;
use bgp_wire::Family;
use tokio::time::Instant;

/// The wait of one start.
#[derive(Debug)]
pub(crate) struct Deferral {
    settle_at: Instant,
    limit: Duration,
    limit_at: Instant,
    /// Configured peers that are not up.
    missing: BTreeSet<PeerId>,
    /// Peers that are up and owe us an end-of-RIB.
    waiting: BTreeMap<PeerId, BTreeSet<Family>>,
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

    pub(crate) fn added(&mut self, peer: PeerId) {
        self.missing.insert(peer);
    }

    pub(crate) fn removed(&mut self, peer: PeerId) {
        self.missing.remove(&peer);
        self.waiting.remove(&peer);
    }

    /// A session came up; `owed` are the families whose end-of-RIB will come.
    pub(crate) fn up(&mut self, now: Instant, peer: PeerId, owed: BTreeSet<Family>) {
        self.missing.remove(&peer);
        if !owed.is_empty() && now < self.settle_at {
            self.waiting.insert(peer, owed);
            self.limit_at = now + self.limit;
        }
    }

    pub(crate) fn down(&mut self, peer: PeerId) {
        self.waiting.remove(&peer);
        self.missing.insert(peer);
    }

    pub(crate) fn end_of_rib(&mut self, peer: PeerId, family: Family) {
        if let Some(owed) = self.waiting.get_mut(&peer) {
            owed.remove(&family);
            if owed.is_empty() {
                self.waiting.remove(&peer);
            }
        }
    }

    /// Whether the wait ends now; true once.
    pub(crate) fn ends(&mut self, now: Instant) -> bool {
        let settled = self.missing.is_empty() || now >= self.settle_at;
        let heard = self.waiting.is_empty() || now >= self.limit_at;
        let ends = settled && heard && !self.over;
        self.over |= ends;
        ends
    }

    /// When to ask again if nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let deadlines = [self.settle_at, self.limit_at];
        let next = deadlines.into_iter().filter(|at| *at > now).min();
        next.filter(|_| !self.over)
    }
}

#[cfg(test)]
mod tests;
