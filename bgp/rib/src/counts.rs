//! How many routes come from and go to each peer, counted as they change.

use std::ops::{Add, AddAssign};

use crate::path::{Path, PeerId};

/// How many routes of one family a peer has to do with. Where it sends path identifiers
/// (RFC 7911), each of its paths to a prefix counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PeerCounts {
    /// Held from the peer (its Adj-RIB-In), stale ones included.
    pub received: usize,
    /// Of these, taken on import: no loop, not one of our own addresses as next hop, not rejected
    /// by the import policy. Whether the next hop can be reached at present does not matter.
    pub accepted: usize,
    /// Of these, in use, alone or sharing the traffic with others.
    pub best: usize,
    /// What the peer is told (its Adj-RIB-Out), messages on their way included; without what came
    /// from itself.
    pub advertised: usize,
}

impl AddAssign for PeerCounts {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.accepted += other.accepted;
        self.best += other.best;
        self.advertised += other.advertised;
    }
}

impl Add for PeerCounts {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

/// What is held from each peer in one family, by number. Our own paths are not counted.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<HeldFrom>);

#[derive(Debug, Clone, Copy, Default)]
struct HeldFrom {
    received: u32,
    accepted: u32,
    best: u32,
    /// Above the prefix limit; received, but not accepted.
    surplus: u32,
}

impl Held {
    /// How many paths are above the prefix limit.
    pub(crate) fn surplus(&self, peer: PeerId) -> u32 {
        self.0.get(peer.0 as usize).map_or(0, |held| held.surplus)
    }

    /// How many are not.
    pub(crate) fn within_limit(&self, peer: PeerId) -> u32 {
        let held = self.0.get(peer.0 as usize);
        held.map_or(0, |held| held.received - held.surplus)
    }

    /// Everything but what the peer is told.
    pub(crate) fn of(&self, peer: PeerId) -> PeerCounts {
        let held = self.0.get(peer.0 as usize).copied().unwrap_or_default();
        PeerCounts {
            received: held.received as usize,
            accepted: held.accepted as usize,
            best: held.best as usize,
            advertised: 0,
        }
    }

    pub(crate) fn is_empty(&self, peer: PeerId) -> bool {
        self.of(peer).received == 0
    }

    pub(crate) fn added(&mut self, path: &Path) {
        let index = path.peer.0 as usize;
        if path.peer != PeerId::LOCAL && self.0.len() <= index {
            self.0.resize(index + 1, HeldFrom::default());
        }
        self.change(path, |held| {
            held.received += 1;
            held.accepted += u32::from(path.refused.is_none());
            held.surplus += u32::from(path.is_surplus());
        });
    }

    pub(crate) fn removed(&mut self, path: &Path) {
        self.change(path, |held| {
            held.received -= 1;
            held.accepted -= u32::from(path.refused.is_none());
            held.surplus -= u32::from(path.is_surplus());
        });
    }

    /// A path was judged again or replaced by another one of the same peer.
    pub(crate) fn judged(&mut self, old: &Path, new: &Path) {
        self.change(new, |held| {
            held.accepted += u32::from(new.refused.is_none());
            held.accepted -= u32::from(old.refused.is_none());
            held.surplus += u32::from(new.is_surplus());
            held.surplus -= u32::from(old.is_surplus());
        });
    }

    pub(crate) fn chosen(&mut self, path: &Path) {
        self.change(path, |held| held.best += 1);
    }

    pub(crate) fn no_longer_chosen(&mut self, path: &Path) {
        self.change(path, |held| held.best -= 1);
    }

    fn change(&mut self, path: &Path, change: impl FnOnce(&mut HeldFrom)) {
        if let Some(held) = self.0.get_mut(path.peer.0 as usize) {
            change(held);
        }
    }
}
