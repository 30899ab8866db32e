//! An update group: peers that are told the same in the same words.

use bytes::{Bytes, BytesMut};

use super::log::{Chunk, Log, Own};
use super::told::{PathTold, Told};
use super::{Catchup, Member, Progress};
use crate::export::{ToldPath, Treatment};
use crate::key::{Key, PathOf, Tables, Unit, Units};
use crate::pack;
use crate::path::{PeerId, Said};
use crate::peer::Shared;
use crate::table::{PrefixId, PrefixTable};

/// Octets after which a new chunk is begun, so that a long burst is freed piece by piece.
const CHUNK_OCTETS: usize = 128 << 10;

/// One update group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) treatment: Treatment,
    pub(super) members: Vec<PeerId>,
    pub(super) log: Log<Units>,
    /// What members that read the whole log have been told, per family.
    pub(super) told: [Told; 2],
}

impl Group {
    /// A group whose members are yet to come, and to be told the state that is assumed as told.
    pub(super) fn new(shared: &Shared, tables: &Tables, treatment: Treatment) -> Self {
        let told = [
            told_of(shared, &tables.v4.table, &treatment),
            told_of(shared, &tables.v6.table, &treatment),
        ];
        Self {
            treatment,
            members: Vec::new(),
            log: Log::new(),
            told,
        }
    }

    /// Puts the changes of a burst into the log, and onto the lists of members not reading it.
    pub(super) fn changed<K: Key>(
        &mut self,
        shared: &Shared,
        table: &PrefixTable<K>,
        changed: ChangedPrefixes<'_>,
        members: &mut [Option<Member>],
    ) {
        if !self.treatment.carries(K::INDEX) {
            return;
        }
        if self.treatment.tells_paths(K::INDEX) {
            let changes = self.changed_paths(shared, table, changed.any_path);
            self.tell(shared, &changes, members);
        } else {
            let changes = self.changed_prefixes(shared, table, changed.best_path);
            self.tell(shared, &changes, members);
        }
    }

    fn changed_prefixes<K: Key>(
        &mut self,
        shared: &Shared,
        table: &PrefixTable<K>,
        changed: &[PrefixId],
    ) -> Vec<Changed<K>> {
        let told = &mut self.told[K::INDEX as usize];
        told.grow(table.end());
        let mut changes = Vec::with_capacity(changed.len());
        for &id in changed {
            let slot = table.slot(id);
            let now = self.treatment.tells(shared, slot);
            let source = now.map_or(PeerId::NONE, |said| said.peer);
            let before = told.record(id, source);
            changes.push(Changed {
                id,
                unit: slot.key,
                before,
                now,
            });
        }
        changes
    }

    fn changed_paths<K: Key>(
        &mut self,
        shared: &Shared,
        table: &PrefixTable<K>,
        changed: &[PrefixId],
    ) -> Vec<Changed<PathOf<K>>> {
        let told = &mut self.told[K::INDEX as usize];
        told.grow(table.end());
        let mut changes = Vec::new();
        for &id in changed {
            let slot = table.slot(id);
            let now = self.treatment.told_paths(shared, slot);
            let before = told.record_paths(id, now.iter().map(ToldPath::as_told).collect());
            let mut change = |path, before, now| {
                let unit = PathOf {
                    key: slot.key,
                    id: path,
                };
                changes.push(Changed {
                    id,
                    unit,
                    before,
                    now,
                });
            };
            for path in &before {
                if now.iter().all(|now| now.id != path.id) {
                    change(path.id, path.source, None);
                }
            }
            for path in now {
                let before = before.iter().find(|before| before.id == path.id);
                if path.is_changed || before.is_none() {
                    let before = before.map_or(PeerId::NONE, |before| before.source);
                    change(path.id, before, Some(path.said));
                }
            }
        }
        changes
    }

    fn tell<U: Unit>(
        &mut self,
        shared: &Shared,
        changes: &[Changed<U>],
        members: &mut [Option<Member>],
    ) {
        if changes.is_empty() {
            return;
        }
        self.detach_slow_members(shared, members);
        let mut readers = Vec::new();
        for &peer in &self.members {
            match members[peer.0 as usize].as_mut().map(|m| &mut m.progress) {
                Some(Progress::Stream(_)) => readers.push(peer),
                Some(Progress::Catchup(catchup)) => catchup.changed(peer, changes),
                None => (),
            }
        }
        if !readers.is_empty() {
            let burst = Burst::new(&readers, changes);
            burst.encode(shared, &self.treatment, readers.len() as u32, &mut self.log);
        }
    }

    /// The paths of a family that members other than their sources have been told, and that are
    /// not told to peers treated in another way.
    pub(super) fn paths_beyond<K: Key>(
        &self,
        shared: &Shared,
        table: &PrefixTable<K>,
        other: &Treatment,
    ) -> Vec<(PathOf<K>, PeerId)> {
        let mut beyond = Vec::new();
        for (id, before) in self.told[K::INDEX as usize].paths() {
            let slot = table.slot(id);
            let now = other.told_paths(shared, slot);
            let gone = before
                .iter()
                .filter(|before| now.iter().all(|now| now.id != before.id));
            beyond.extend(gone.map(|path| {
                let unit = PathOf {
                    key: slot.key,
                    id: path.id,
                };
                (unit, path.source)
            }));
        }
        beyond
    }

    /// Takes members that have not read earlier bursts off the log, once too much waits for them.
    fn detach_slow_members(&mut self, shared: &Shared, members: &mut [Option<Member>]) {
        if self.log.octets() <= shared.config.backlog_octets {
            return;
        }
        for &peer in &self.members {
            let Some(member) = members[peer.0 as usize].as_mut() else {
                continue;
            };
            let Progress::Stream(position) = member.progress else {
                continue;
            };
            if position < self.log.end() {
                let mut catchup = Catchup::new(shared.config.seed, Vec::new());
                self.log
                    .skip(position, |units| catchup.pending.add_all(units));
                member.progress = Progress::Catchup(Box::new(catchup));
            }
        }
    }
}

fn told_of<K: Key>(shared: &Shared, table: &PrefixTable<K>, treatment: &Treatment) -> Told {
    let tells_paths = treatment.tells_paths(K::INDEX);
    let mut told = Told::new(tells_paths);
    if treatment.carries(K::INDEX) {
        told.grow(table.end());
        for (id, slot) in table.iter() {
            if tells_paths {
                let paths = treatment.told_paths(shared, slot);
                told.record_paths(id, paths.iter().map(ToldPath::as_told).collect());
            } else if let Some(said) = treatment.tells(shared, slot) {
                told.record(id, said.peer);
            }
        }
    }
    told
}

impl ToldPath {
    fn as_told(&self) -> PathTold {
        PathTold {
            id: self.id,
            source: self.said.peer,
        }
    }
}

/// The prefixes of a burst.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChangedPrefixes<'a> {
    /// Those with another best path than before.
    pub(crate) best_path: &'a [PrefixId],
    /// Those with any change, and perhaps more.
    pub(crate) any_path: &'a [PrefixId],
}

/// A prefix whose best path changed, or with ADD-PATH one path.
pub(super) struct Changed<U> {
    /// Of the prefix.
    pub(super) id: PrefixId,
    pub(super) unit: U,
    /// Source of the path that had been told, [`PeerId::NONE`] if none.
    before: PeerId,
    /// What is told now.
    pub(super) now: Option<Said>,
}

/// What a burst changes for those who read the log.
struct Burst<U> {
    /// For everybody.
    withdrawn: Vec<U>,
    /// For everybody but the one who said it.
    announced: Vec<(Said, U)>,
    /// For the one who says it now and had been told somebody else's path before.
    own: Vec<(PeerId, U)>,
    /// The only reader, if there is just one: nothing is encoded for nobody.
    sole_reader: Option<PeerId>,
}

impl<U: Unit> Burst<U> {
    fn new(readers: &[PeerId], changes: &[Changed<U>]) -> Self {
        let sole_reader = match readers {
            [peer] => Some(*peer),
            _ => None,
        };
        let mut burst = Self {
            withdrawn: Vec::new(),
            announced: Vec::new(),
            own: Vec::new(),
            sole_reader,
        };
        for change in changes {
            burst.add(change);
        }
        burst
    }

    fn add(&mut self, change: &Changed<U>) {
        let &Changed {
            unit, before, now, ..
        } = change;
        let told_sole_reader = before != PeerId::NONE && Some(before) != self.sole_reader;
        let is_for_nobody = now.is_none_or(|said| Some(said.peer) == self.sole_reader);
        match now {
            Some(said) if !is_for_nobody => {
                self.announced.push((said, unit));
                if before != PeerId::NONE && before != said.peer {
                    self.own.push((said.peer, unit));
                }
            }
            Some(_) | None if told_sole_reader => self.withdrawn.push(unit),
            Some(_) | None => (),
        }
    }

    fn encode(
        mut self,
        shared: &Shared,
        treatment: &Treatment,
        readers: u32,
        log: &mut Log<Units>,
    ) {
        self.announced.sort_unstable();
        self.own.sort_unstable();
        let mut chunk = ChunkBuilder::default();
        if !U::IS_PATH {
            self.withdraw(treatment, &mut chunk, (readers, log));
        }
        let mut last_source = PeerId::NONE;
        for run in self.announced.chunk_by(|a, b| a.0 == b.0) {
            let said = run[0].0;
            let units = run.iter().map(|&(_, unit)| unit);
            let start = chunk.bytes.len();
            pack::announce(&mut chunk.bytes, shared, treatment, said, units.clone());
            chunk.extend_own(said.peer, start);
            if last_source != said.peer {
                last_source = said.peer;
                chunk.replace_own(treatment, self.own_of(said.peer));
            }
            chunk.units.extend(units);
            chunk.finish_if_long(readers, log);
        }
        if U::IS_PATH {
            // A path that takes the place of another comes first: the prefix never has none.
            self.withdraw(treatment, &mut chunk, (readers, log));
        }
        chunk.finish(readers, log);
    }

    fn withdraw(
        &self,
        treatment: &Treatment,
        chunk: &mut ChunkBuilder<U>,
        (readers, log): (u32, &mut Log<Units>),
    ) {
        for part in self.withdrawn.chunks(CHUNK_OCTETS / 4) {
            pack::withdraw(&mut chunk.bytes, treatment, part.iter().copied());
            chunk.units.extend_from_slice(part);
            chunk.finish_if_long(readers, log);
        }
    }

    fn own_of(&self, peer: PeerId) -> impl Iterator<Item = U> {
        let start = self.own.partition_point(|(other, _)| *other < peer);
        self.own[start..]
            .iter()
            .take_while(move |(other, _)| *other == peer)
            .map(|&(_, unit)| unit)
    }
}

/// A chunk in the making.
struct ChunkBuilder<U> {
    bytes: BytesMut,
    own: Vec<Own>,
    units: Vec<U>,
}

impl<U> Default for ChunkBuilder<U> {
    fn default() -> Self {
        Self {
            bytes: BytesMut::new(),
            own: Vec::new(),
            units: Vec::new(),
        }
    }
}

impl<U: Unit> ChunkBuilder<U> {
    /// What was appended since `start` must not go to the peer it came from.
    fn extend_own(&mut self, peer: PeerId, start: usize) {
        let end = self.bytes.len();
        match self.own.last_mut() {
            Some(own) if own.peer == peer => own.end = end,
            Some(_) | None => self.own.push(Own {
                peer,
                start,
                end,
                instead: Bytes::new(),
            }),
        }
    }

    /// Withdrawals for the peer the last part came from.
    fn replace_own(&mut self, treatment: &Treatment, units: impl Iterator<Item = U>) {
        if let Some(own) = self.own.last_mut() {
            let mut bytes = BytesMut::new();
            pack::withdraw(&mut bytes, treatment, units);
            own.instead = bytes.freeze();
        }
    }

    fn finish_if_long(&mut self, readers: u32, log: &mut Log<Units>) {
        if self.bytes.len() >= CHUNK_OCTETS {
            std::mem::take(self).finish(readers, log);
        }
    }

    fn finish(self, readers: u32, log: &mut Log<Units>) {
        if self.bytes.is_empty() {
            return;
        }
        let chunk = Chunk {
            bytes: self.bytes.freeze(),
            own: self.own,
            units: U::units(self.units),
        };
        log.push(chunk, readers);
    }
}
