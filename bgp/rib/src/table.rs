//! Exact-match prefix table of one address family.
//!
//! A prefix gets a dense id for as long as it has paths or somebody has yet to hear of its end;
//! everything that is kept per prefix elsewhere is a vector indexed by that id. Slots live in
//! blocks of fixed size, so growth never copies them and wastes at most one block.

mod index;
mod sources;

use std::hint::black_box;

use crate::path::Paths;
use index::Index;
pub(crate) use index::Near;
pub(crate) use sources::{Peers, Sources};

/// Slots per block; a power of two.
const BLOCK: usize = 4096;

/// Prefixes that are looked up ahead of their turn; what they touch fits the nearest caches.
pub(crate) const NEAR: usize = 32;

/// Number of a prefix within its family's table, reused after the prefix is gone.
pub(crate) type PrefixId = u32;

/// One prefix and the paths to it.
#[derive(Debug)]
pub(crate) struct Slot<K> {
    pub(crate) key: K,
    pub(crate) paths: Paths,
    pub(crate) marks: Marks,
    /// How many paths at the front are the current multipath set; the first is the best path.
    pub(crate) best_count: u8,
}

/// What is still to be done for a prefix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Marks(u8);

impl Marks {
    /// In the list of prefixes to decide.
    pub(crate) const DIRTY: Self = Self(1);
    /// The best path was replaced or removed since the last decision.
    pub(crate) const BEST_GONE: Self = Self(2);
    /// Another path of the multipath set was replaced or removed since the last decision.
    pub(crate) const SHARE_GONE: Self = Self(4);
    /// In the list of changes for the forwarding table.
    pub(crate) const QUEUED: Self = Self(8);
    /// Not in use, its id is in the free list.
    pub(crate) const FREE: Self = Self(16);
    /// Some path is new, or in other words than at the last decision.
    pub(crate) const CHANGED: Self = Self(32);
    /// Another path is gone that may have made a difference, or all paths may be better or worse
    /// than they were.
    pub(crate) const REOPENED: Self = Self(64);
    /// All paths are to be compared, not just the new ones with the best of the others.
    pub(crate) const OPEN: Self = Self(Self::BEST_GONE.0 | Self::SHARE_GONE.0 | Self::REOPENED.0);

    /// Whether it is there, of several any.
    pub(crate) fn has(self, mark: Self) -> bool {
        self.0 & mark.0 != 0
    }

    /// Sets a mark and says whether it was clear before.
    pub(crate) fn set(&mut self, mark: Self) -> bool {
        let was_clear = !self.has(mark);
        self.0 |= mark.0;
        was_clear
    }

    pub(crate) fn clear(&mut self, mark: Self) {
        self.0 &= !mark.0;
    }
}

/// The prefixes of one family.
#[derive(Debug)]
pub(crate) struct PrefixTable<K> {
    blocks: Vec<Vec<Slot<K>>>,
    index: Index,
    free: Vec<PrefixId>,
}

impl<K: Near> PrefixTable<K> {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            blocks: Vec::new(),
            index: Index::new(seed),
            free: Vec::new(),
        }
    }

    /// Number of prefixes.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// One more than the highest id ever given out.
    pub(crate) fn end(&self) -> PrefixId {
        match self.blocks.split_last() {
            Some((last, full)) => (full.len() * BLOCK + last.len()) as PrefixId,
            None => 0,
        }
    }

    pub(crate) fn find(&self, key: K) -> Option<PrefixId> {
        let blocks = &self.blocks;
        let home = self.index.home(key);
        self.index.find(home, |id| slot(blocks, id).key == key)
    }

    /// Looks a prefix up for its memory, that of its paths included, to be near when there is work
    /// on it: several of these in a row wait for memory together, lookups with work between them
    /// one by one.
    pub(crate) fn touch(&self, key: K) -> Option<PrefixId> {
        let id = self.find(key)?;
        black_box(self.slot(id).paths.are_several());
        Some(id)
    }

    pub(crate) fn find_or_insert(&mut self, key: K) -> PrefixId {
        let Self {
            blocks,
            index,
            free,
        } = self;
        let home = index.home(key);
        if let Some(id) = index.find(home, |id| slot(blocks, id).key == key) {
            return id;
        }
        let new = Slot {
            key,
            paths: Paths::default(),
            marks: Marks::default(),
            best_count: 0,
        };
        let id = match free.pop() {
            Some(id) => {
                *slot_mut(blocks, id) = new;
                id
            }
            None => push(blocks, new),
        };
        index.insert(home, id, |homes, id| homes.home(slot(blocks, id).key));
        id
    }

    pub(crate) fn slot(&self, id: PrefixId) -> &Slot<K> {
        slot(&self.blocks, id)
    }

    pub(crate) fn slot_mut(&mut self, id: PrefixId) -> &mut Slot<K> {
        slot_mut(&mut self.blocks, id)
    }

    /// Forgets prefixes without paths whose end everybody has heard of; their ids may be reused.
    pub(crate) fn remove_all(&mut self, ids: &[PrefixId]) {
        for ids in ids.chunks(NEAR) {
            for &id in ids {
                self.touch(self.slot(id).key);
            }
            for &id in ids {
                self.remove(id);
            }
        }
    }

    fn remove(&mut self, id: PrefixId) {
        let home = self.index.home(self.slot(id).key);
        if self.index.remove(home, id) {
            self.slot_mut(id).marks = Marks::FREE;
            self.free.push(id);
        }
    }

    /// The prefixes in use.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PrefixId, &Slot<K>)> {
        self.blocks
            .iter()
            .flatten()
            .zip(0..)
            .filter(|(slot, _)| !slot.marks.has(Marks::FREE))
            .map(|(slot, id)| (id, slot))
    }
}

fn slot<K>(blocks: &[Vec<Slot<K>>], id: PrefixId) -> &Slot<K> {
    &blocks[id as usize / BLOCK][id as usize % BLOCK]
}

fn slot_mut<K>(blocks: &mut [Vec<Slot<K>>], id: PrefixId) -> &mut Slot<K> {
    &mut blocks[id as usize / BLOCK][id as usize % BLOCK]
}

fn push<K>(blocks: &mut Vec<Vec<Slot<K>>>, slot: Slot<K>) -> PrefixId {
    if blocks.last().is_none_or(|block| block.len() == BLOCK) {
        blocks.push(Vec::with_capacity(BLOCK));
    }
    let full = blocks.len() - 1;
    let block = &mut blocks[full];
    block.push(slot);
    (full * BLOCK + block.len() - 1) as PrefixId
}

#[cfg(test)]
mod tests;
