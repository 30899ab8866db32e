//! What an update group remembers of the prefixes of one family.

use crate::path::PeerId;
use crate::table::PrefixId;

/// Per prefix, the source of the path that was told to everybody but the source.
#[derive(Debug, Default)]
pub(super) struct Told {
    sources: Vec<PeerId>,
    /// Prefixes that are told.
    total: usize,
    /// Of these, by the number of the peer they came from.
    from: Vec<u32>,
}

impl Told {
    /// Makes room for prefix ids below `end`.
    pub(super) fn grow(&mut self, end: PrefixId) {
        if self.sources.len() < end as usize {
            self.sources.resize(end as usize, PeerId::NONE);
        }
    }

    /// Records from whom the told path of a prefix is, [`PeerId::NONE`] when none is told; returns
    /// what was recorded before. The id must be below what [`Told::grow`] made room for.
    pub(super) fn record(&mut self, id: PrefixId, source: PeerId) -> PeerId {
        let before = std::mem::replace(&mut self.sources[id as usize], source);
        if before != source {
            self.uncount(before);
            self.count(source);
        }
        before
    }

    /// How many prefixes a member is told: all but its own.
    pub(super) fn told_to(&self, member: PeerId) -> usize {
        let own = self.from.get(member.0 as usize).copied().unwrap_or(0);
        self.total - own as usize
    }

    fn count(&mut self, source: PeerId) {
        if source == PeerId::NONE {
            return;
        }
        self.total += 1;
        if source != PeerId::LOCAL {
            let index = source.0 as usize;
            if self.from.len() <= index {
                self.from.resize(index + 1, 0);
            }
            self.from[index] += 1;
        }
    }

    fn uncount(&mut self, source: PeerId) {
        if source == PeerId::NONE {
            return;
        }
        self.total -= 1;
        if let Some(from) = self.from.get_mut(source.0 as usize) {
            *from -= 1;
        }
    }
}
