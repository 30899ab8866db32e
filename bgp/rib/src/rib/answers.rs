//! The side of the [`Rib`] that is asked about its tables, a bounded part at a time: a million
//! routes must not keep who owns it from its peers.

use bgp_wire::{Attributes, NextHop, Prefix};

use super::Rib;
use crate::explain::{Explanation, explain_slot};
use crate::export::Treatment;
use crate::key::Key;
use crate::path::PeerId;
use crate::table::{Marks, PrefixId, PrefixTable, Slot};

/// Prefixes looked at in one call, whether they are in the answer or not.
const SCAN: PrefixId = 1 << 15;

/// Where a walk over both families is: 0 at the start, then what the last part says.
pub type Position = u64;

/// Where the prefixes of IPv6 begin; those of IPv4 come before.
pub const V6: Position = 1 << 32;

/// A part of a long answer, and where the next one begins; `None` at the end.
pub type Part<T> = (Vec<T>, Option<Position>);

/// A path as a peer is told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldPath {
    /// The prefix.
    pub prefix: Prefix,
    /// Path identifier it is told with, 0 without ADD-PATH.
    pub path_id: u32,
    /// Who sent it to us; `None` when it is originated here.
    pub from: Option<PeerId>,
    /// The next hop it is told.
    pub next_hop: NextHop,
    /// The attributes it is told.
    pub attributes: Attributes,
}

impl Rib {
    /// Prefixes with what became of their paths, up to `max` of them from a position on.
    pub fn explain_from(&mut self, position: Position, max: usize) -> Part<Explanation> {
        self.settle();
        let mut found = Vec::new();
        let next = self.walk(position, &mut |rib, entry| {
            let explained = entry.explain(rib);
            if !explained.paths.is_empty() {
                found.push(explained);
            }
            found.len() < max
        });
        (found, next)
    }

    /// Prefixes of which a peer sent a path, up to `max` of them from a position on, with all their
    /// paths.
    pub fn received_from(
        &mut self,
        peer: PeerId,
        position: Position,
        max: usize,
    ) -> Part<Explanation> {
        self.settle();
        let mut found = Vec::new();
        let next = self.walk(position, &mut |rib, entry| {
            if entry.has_path_of(peer) {
                found.push(entry.explain(rib));
            }
            found.len() < max
        });
        (found, next)
    }

    /// What a peer that is up is told, messages on their way included, up to about `max` paths
    /// from a position on.
    pub fn told_from(&mut self, peer: PeerId, position: Position, max: usize) -> Part<ToldPath> {
        self.settle();
        let Some(known) = self.shared.peer(peer).filter(|known| known.is_up) else {
            return (Vec::new(), None);
        };
        let treatment = Treatment::of(&known.session);
        let mut found = Vec::new();
        let next = self.walk(position, &mut |rib, entry| {
            let told = match entry {
                Entry::V4(slot) => treatment.tells_all(&rib.shared, slot),
                Entry::V6(slot) => treatment.tells_all(&rib.shared, slot),
            };
            let told = told.into_iter().filter(|(said, _)| said.peer != peer);
            let path = |(said, id)| treatment.told_path(&rib.shared, entry.prefix(), said, id);
            found.extend(told.filter_map(|told| path(told).ok()));
            found.len() < max
        });
        (found, next)
    }

    /// What a peer that is up is told about the best path of a prefix; `None` if it is told nothing, see
    /// [`Rib::explain_export`] for the reason.
    pub fn told(&mut self, peer: PeerId, prefix: Prefix) -> Option<ToldPath> {
        self.explain_export(peer, prefix)?.told.ok()
    }

    /// The prefixes with a path that cover this one, itself included, the longest first.
    pub fn covering(&mut self, prefix: Prefix) -> Vec<Prefix> {
        let lengths = (0..=prefix.prefix_len()).rev();
        lengths
            .filter_map(|length| Prefix::new(prefix.addr(), length))
            .filter(|shorter| match *shorter {
                Prefix::V4(key) => has_paths(&self.tables.v4.table, key),
                Prefix::V6(key) => has_paths(&self.tables.v6.table, key),
            })
            .collect()
    }

    /// Whether a peer is up.
    #[must_use]
    pub fn is_peer_up(&self, peer: PeerId) -> bool {
        self.is_up(peer)
    }

    /// Visits prefixes until one says that it was the last, but no more than [`SCAN`].
    fn walk(
        &self,
        position: Position,
        visit: &mut dyn FnMut(&Self, Entry<'_>) -> bool,
    ) -> Option<Position> {
        let mut left = SCAN;
        if position < V6 {
            let from = position as PrefixId;
            let each = &mut |slot: &Slot<_>| visit(self, Entry::V4(slot));
            if let Some(next) = walk_table(&self.tables.v4.table, from, &mut left, each) {
                return Some(next.into());
            }
        }
        let from = position.saturating_sub(V6) as PrefixId;
        let each = &mut |slot: &Slot<_>| visit(self, Entry::V6(slot));
        walk_table(&self.tables.v6.table, from, &mut left, each).map(|next| V6 + u64::from(next))
    }
}

/// A prefix of one family, whichever.
#[derive(Clone, Copy)]
enum Entry<'a> {
    V4(&'a Slot<bgp_wire::Prefix4>),
    V6(&'a Slot<bgp_wire::Prefix6>),
}

impl Entry<'_> {
    fn prefix(&self) -> Prefix {
        match self {
            Self::V4(slot) => slot.key.into(),
            Self::V6(slot) => slot.key.into(),
        }
    }

    fn explain(&self, rib: &Rib) -> Explanation {
        Explanation {
            prefix: self.prefix(),
            paths: match self {
                Self::V4(slot) => explain_slot(&rib.shared, slot),
                Self::V6(slot) => explain_slot(&rib.shared, slot),
            },
        }
    }

    fn has_path_of(&self, peer: PeerId) -> bool {
        match self {
            Self::V4(slot) => slot.paths.iter().any(|path| path.peer == peer),
            Self::V6(slot) => slot.paths.iter().any(|path| path.peer == peer),
        }
    }
}

/// Where to go on; `None` when the table is at its end.
fn walk_table<K: Key>(
    table: &PrefixTable<K>,
    from: PrefixId,
    left: &mut PrefixId,
    visit: &mut dyn FnMut(&Slot<K>) -> bool,
) -> Option<PrefixId> {
    for id in from..table.end() {
        if *left == 0 {
            return Some(id);
        }
        *left -= 1;
        let slot = table.slot(id);
        if !slot.marks.has(Marks::FREE) && !visit(slot) {
            return Some(id + 1);
        }
    }
    None
}

fn has_paths<K: Key>(table: &PrefixTable<K>, key: K) -> bool {
    let found = table.find(key);
    found.is_some_and(|id| !table.slot(id).paths.is_empty())
}

#[cfg(test)]
mod tests;
