//! Interned attribute sets: each distinct set of attributes and next hop is held once.
//!
//! The key is the canonical encoding that `bgp-wire` makes, so nothing is decoded to compare two
//! sets and nothing is lost that we do not understand. References are counted by hand, one per
//! path: an index of four bytes instead of a pointer in each of a million paths.

use std::hash::BuildHasher;

use bgp_wire::{Attributes, Community};
use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::nexthop::{NextHopId, NextHops, Via};
use crate::path::AttrId;
use crate::peer::DEFAULT_LOCAL_PREF;

/// The well-known communities of a set that change what we do with a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Communities(u8);

impl Communities {
    pub(crate) const NO_EXPORT: Self = Self(1);
    pub(crate) const NO_ADVERTISE: Self = Self(2);
    pub(crate) const NO_EXPORT_SUBCONFED: Self = Self(4);
    pub(crate) const GRACEFUL_SHUTDOWN: Self = Self(8);
    pub(crate) const NO_PEER: Self = Self(16);
    pub(crate) const LLGR_STALE: Self = Self(32);
    pub(crate) const NO_LLGR: Self = Self(64);

    fn of(attributes: &Attributes) -> Self {
        let bits = attributes.communities().map(|community| match community {
            Community::NO_EXPORT => Self::NO_EXPORT.0,
            Community::NO_ADVERTISE => Self::NO_ADVERTISE.0,
            Community::NO_EXPORT_SUBCONFED => Self::NO_EXPORT_SUBCONFED.0,
            Community::GRACEFUL_SHUTDOWN => Self::GRACEFUL_SHUTDOWN.0,
            Community::NO_PEER => Self::NO_PEER.0,
            Community::LLGR_STALE => Self::LLGR_STALE.0,
            Community::NO_LLGR => Self::NO_LLGR.0,
            _ => 0,
        });
        Self(bits.fold(0, |all, bit| all | bit))
    }

    pub(crate) fn has(self, community: Self) -> bool {
        self.0 & community.0 != 0
    }
}

/// One interned set.
#[derive(Debug)]
pub(crate) struct AttrSet {
    pub(crate) attributes: Attributes,
    pub(crate) next_hop: NextHopId,
    pub(crate) communities: Communities,
    /// The set as it was received, where an import policy made this one of it; else
    /// [`AttrId::NONE`]. Sets made of different ones are never the same, so a path refers to what
    /// it is and to what it was with one index.
    origin: AttrId,
    references: u32,
    /// Of all that makes it a set of its own: asked for whenever the index grows.
    hash: u64,
}

impl AttrSet {
    /// Whether an import policy made it of another one.
    pub(crate) fn is_rewritten(&self) -> bool {
        self.origin != AttrId::NONE
    }

    /// LOCAL_PREF as far as it counts for paths from external or other peers.
    pub(crate) fn local_pref(&self, is_external: bool) -> u32 {
        if is_external && self.communities.has(Communities::GRACEFUL_SHUTDOWN) {
            return 0;
        }
        // What an external peer says of it is nothing to us, what we made of it is (RFC 4271 §5.1.5).
        let counts = !is_external || self.is_rewritten();
        let local_pref = self.attributes.local_pref().filter(|_| counts);
        local_pref.unwrap_or(DEFAULT_LOCAL_PREF)
    }
}

fn hash(hasher: &FixedState, next_hop: NextHopId, origin: AttrId, attributes: &Attributes) -> u64 {
    hasher.hash_one((next_hop, origin, attributes.wire()))
}

/// All attribute sets in use, with their next hops.
#[derive(Debug)]
pub(crate) struct Attrs {
    /// None where the index is free.
    sets: Vec<Option<AttrSet>>,
    index: HashTable<AttrId>,
    free: Vec<AttrId>,
    hasher: FixedState,
    pub(crate) next_hops: NextHops,
}

impl Attrs {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            sets: Vec::new(),
            index: HashTable::new(),
            free: Vec::new(),
            hasher: FixedState::with_seed(seed),
            next_hops: NextHops::new(seed),
        }
    }

    /// Finds or adds a set and counts one reference; without next hop it is originated here.
    pub(crate) fn acquire(&mut self, attributes: &Attributes, via: impl Into<Via>) -> AttrId {
        self.acquire_from(attributes, via.into(), AttrId::NONE)
    }

    /// Finds or adds what an import policy made of a received set in use and counts one reference.
    pub(crate) fn acquire_rewritten(
        &mut self,
        attributes: &Attributes,
        received: AttrId,
    ) -> AttrId {
        let via = self.next_hops.via(self.get(received).next_hop);
        self.acquire_from(attributes, via, received)
    }

    fn acquire_from(&mut self, attributes: &Attributes, via: Via, origin: AttrId) -> AttrId {
        let next_hop = self.next_hops.acquire(via);
        let hash = hash(&self.hasher, next_hop, origin, attributes);
        let Self {
            sets,
            index,
            free,
            next_hops,
            ..
        } = self;
        let found = index.find(hash, |&id| {
            set(sets, id).is_some_and(|set| {
                (set.next_hop, set.origin) == (next_hop, origin) && set.attributes == *attributes
            })
        });
        if let Some(&id) = found {
            next_hops.release(next_hop);
            self.add_reference(id);
            return id;
        }
        let new = Some(AttrSet {
            attributes: attributes.clone(),
            next_hop,
            communities: Communities::of(attributes),
            origin,
            references: 1,
            hash,
        });
        let id = match free.pop() {
            Some(id) => {
                sets[id.0 as usize] = new;
                id
            }
            None => {
                sets.push(new);
                AttrId((sets.len() - 1) as u32)
            }
        };
        index.insert_unique(hash, id, |&id| {
            // Every indexed set is in use; a free one would be found under hash 0 and never match.
            set(sets, id).map_or(0, |set| set.hash)
        });
        if origin != AttrId::NONE {
            self.add_reference(origin);
        }
        id
    }

    /// What a set was when it was received: itself, unless an import policy made it of another.
    pub(crate) fn received(&self, id: AttrId) -> AttrId {
        let origin = self.get(id).origin;
        if origin == AttrId::NONE { id } else { origin }
    }

    /// Counts one more reference to a set in use.
    pub(crate) fn add_reference(&mut self, id: AttrId) {
        if let Some(set) = self.sets[id.0 as usize].as_mut() {
            set.references += 1;
        }
    }

    /// Counts one reference less; the set goes with the last one.
    pub(crate) fn release(&mut self, id: AttrId) {
        let Some(set) = self.sets[id.0 as usize].as_mut() else {
            return;
        };
        set.references -= 1;
        if set.references > 0 {
            return;
        }
        let hash = set.hash;
        let origin = set.origin;
        self.next_hops.release(set.next_hop);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
        self.sets[id.0 as usize] = None;
        self.free.push(id);
        if origin != AttrId::NONE {
            // Received sets have no origin themselves, so this goes no deeper.
            self.release(origin);
        }
    }

    /// A set that a path refers to.
    ///
    /// # Panics
    /// If nothing refers to it: the counting is broken and any answer would be a wrong route.
    pub(crate) fn get(&self, id: AttrId) -> &AttrSet {
        match set(&self.sets, id) {
            Some(set) => set,
            None => unreachable!("attribute set {} is used after it was released", id.0),
        }
    }

    /// Number of distinct sets.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }
}

fn set(sets: &[Option<AttrSet>], id: AttrId) -> Option<&AttrSet> {
    sets[id.0 as usize].as_ref()
}

#[cfg(test)]
mod tests;
