//! What an update group remembers of the prefixes of one family.

use crate::path::PeerId;
use crate::table::PrefixId;

/// What was told to everybody but the one who said it.
#[derive(Debug)]
pub(super) struct Told {
    memory: Memory,
    /// Prefixes that are told, with ADD-PATH paths.
    total: usize,
    /// Of these, by the number of the peer they came from.
    from: Vec<u32>,
}

/// By prefix id. Four octets where a prefix has one path, and with ADD-PATH a list of its own.
#[derive(Debug)]
enum Memory {
    /// The source of the told path, [`PeerId::NONE`] when none is told.
    One(Vec<PeerId>),
    /// Our identifier and the source of each told path.
    Several(Vec<Box<[PathTold]>>),
}

/// A path that was told with ADD-PATH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PathTold {
    pub(super) id: u16,
    pub(super) source: PeerId,
}

impl Told {
    pub(super) fn new(tells_paths: bool) -> Self {
        let memory = if tells_paths {
            Memory::Several(Vec::new())
        } else {
            Memory::One(Vec::new())
        };
        Self {
            memory,
            total: 0,
            from: Vec::new(),
        }
    }

    /// Makes room for prefix ids below `end`.
    pub(super) fn grow(&mut self, end: PrefixId) {
        let end = end as usize;
        match &mut self.memory {
            Memory::One(sources) if sources.len() < end => sources.resize(end, PeerId::NONE),
            Memory::Several(paths) if paths.len() < end => paths.resize_with(end, Box::default),
            Memory::One(_) | Memory::Several(_) => (),
        }
    }

    /// Records from whom the told path of a prefix is, [`PeerId::NONE`] when none is told; returns
    /// what was recorded before. The id must be below what [`Told::grow`] made room for.
    pub(super) fn record(&mut self, id: PrefixId, source: PeerId) -> PeerId {
        let Memory::One(sources) = &mut self.memory else {
            return PeerId::NONE;
        };
        let before = std::mem::replace(&mut sources[id as usize], source);
        if before != source {
            self.uncount(before);
            self.count(source);
        }
        before
    }

    /// The same with ADD-PATH.
    pub(super) fn record_paths(&mut self, id: PrefixId, paths: Box<[PathTold]>) -> Box<[PathTold]> {
        let Memory::Several(memory) = &mut self.memory else {
            return Box::default();
        };
        let place = &mut memory[id as usize];
        if *place == paths {
            return paths;
        }
        let before = std::mem::replace(place, paths.clone());
        before.iter().for_each(|path| self.uncount(path.source));
        paths.iter().for_each(|path| self.count(path.source));
        before
    }

    /// The prefixes of which paths are told with ADD-PATH, and these paths.
    pub(super) fn paths(&self) -> impl Iterator<Item = (PrefixId, &[PathTold])> {
        let memory = match &self.memory {
            Memory::One(_) => &[],
            Memory::Several(memory) => memory.as_slice(),
        };
        let told = memory
            .iter()
            .zip(0..)
            .filter(|(paths, _)| !paths.is_empty());
        told.map(|(paths, id)| (id, &**paths))
    }

    /// How many prefixes or paths a member is told: all but its own.
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
