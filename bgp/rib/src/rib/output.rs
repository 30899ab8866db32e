//! The side of the [`Rib`] that answers: best paths for the forwarding table, messages for peers.

use bgp_wire::{Family, Prefix};
use bytes::Bytes;

use super::{Best, Rib};
use crate::adj_rib_out::ChangedPrefixes;
use crate::key::{FamilyIndex, Key};
use crate::loc_rib::LocRib;
use crate::path::PeerId;
use crate::peer::Shared;
use crate::table::Slot;

impl Rib {
    /// Decides what changed since the last call and hands it to the update groups.
    ///
    /// Everything that answers a question does this first; a burst of updates costs one decision
    /// per prefix.
    pub(crate) fn settle(&mut self) {
        if self.tables.v4.is_dirty() {
            self.changed.clear();
            self.tables.v4.decide(&self.shared, &mut self.changed);
            let changed = ChangedPrefixes {
                best_path: &self.changed,
                any_path: self.tables.v4.dirty(),
            };
            let table = &self.tables.v4.table;
            self.out.changed(&self.shared, table, changed);
            self.tables.v4.finish_burst();
        }
        if self.tables.v6.is_dirty() {
            self.changed.clear();
            self.tables.v6.decide(&self.shared, &mut self.changed);
            let changed = ChangedPrefixes {
                best_path: &self.changed,
                any_path: self.tables.v6.dirty(),
            };
            let table = &self.tables.v6.table;
            self.out.changed(&self.shared, table, changed);
            self.tables.v6.finish_burst();
        }
    }

    /// Takes up to `max` prefixes whose best paths changed since they were last taken here, each
    /// once with its best paths of now, `None` if it has none. May repeat what was said before.
    ///
    /// Call until it returns nothing. A caller that never does keeps the memory of prefixes that
    /// are gone, unless [`RibConfig::forwards`](crate::RibConfig::forwards) says that nobody will.
    pub fn best_changes(&mut self, max: usize) -> Vec<(Prefix, Option<Best>)> {
        self.settle();
        let mut changes = Vec::new();
        take(&mut self.tables.v4, &self.shared, max, &mut changes);
        let left = max - changes.len();
        take(&mut self.tables.v6, &self.shared, left, &mut changes);
        changes
    }

    /// The best paths of a prefix.
    pub fn best(&mut self, prefix: Prefix) -> Option<Best> {
        self.settle();
        match prefix {
            Prefix::V4(key) => {
                let table = &self.tables.v4.table;
                best_of(&self.shared, table.slot(table.find(key)?))
            }
            Prefix::V6(key) => {
                let table = &self.tables.v6.table;
                best_of(&self.shared, table.slot(table.find(key)?))
            }
        }
    }

    /// All prefixes with their best paths, in no particular order.
    pub fn routes(&mut self) -> impl Iterator<Item = (Prefix, Best)> {
        self.settle();
        let shared = &self.shared;
        let v4 = self.tables.v4.table.iter();
        let v6 = self.tables.v6.table.iter();
        let v4 = v4.filter_map(|(_, slot)| Some((slot.key.into(), best_of(shared, slot)?)));
        let v6 = v6.filter_map(|(_, slot)| Some((slot.key.into(), best_of(shared, slot)?)));
        v4.chain(v6)
    }

    /// Messages for a peer, about `max_octets` octets of them and at times a multiple of it, in
    /// the order they must be sent. A buffer may hold many messages and is shared between peers.
    ///
    /// Empty when the peer has been told everything. Ask only for what can be sent soon: what has
    /// not been asked for is always told in its newest form.
    pub fn next_messages(&mut self, peer: PeerId, max_octets: usize) -> Vec<Bytes> {
        self.settle();
        self.out
            .next_messages(&self.shared, &self.tables, peer, max_octets.max(1))
    }

    /// The part of [`Rib::next_messages`] that is encoded already: what came since is not decided
    /// for it. Empty does not mean that the peer has been told everything.
    pub fn ready_messages(&mut self, peer: PeerId, max_octets: usize) -> Vec<Bytes> {
        self.out.ready_messages(peer, max_octets.max(1))
    }

    /// Whether [`Rib::next_messages`] has something for a peer.
    pub fn has_pending(&mut self, peer: PeerId) -> bool {
        self.settle();
        self.out.has_pending(peer)
    }

    /// Tells a peer all routes of a family again, as it asked for (RFC 2918 §4), between the marks
    /// of RFC 7313 if negotiated. Withdrawals are not repeated.
    pub fn refresh(&mut self, peer: PeerId, family: Family) {
        if let Some(family) = FamilyIndex::of(family) {
            self.out.refresh(peer, family);
        }
    }
}

fn take<K: Key>(
    loc_rib: &mut LocRib<K>,
    shared: &Shared,
    max: usize,
    changes: &mut Vec<(Prefix, Option<Best>)>,
) {
    loc_rib.take_queued(max, |slot| {
        changes.push((slot.key.into(), best_of(shared, slot)));
    });
}

fn best_of<K>(shared: &Shared, slot: &Slot<K>) -> Option<Best> {
    let best = slot.best()?;
    let next_hops = slot.sharing().filter_map(|path| {
        let next_hop = shared.attrs.get(path.attrs).next_hop;
        shared.attrs.next_hops.via(next_hop).hop()
    });
    Some(Best {
        peer: (best.peer != PeerId::LOCAL).then_some(best.peer),
        next_hops: next_hops.collect(),
        reason: slot.reason(shared),
    })
}
