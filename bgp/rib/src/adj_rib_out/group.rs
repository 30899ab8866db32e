//! An update group: peers that are told the same in the same words.

use bytes::{Bytes, BytesMut};

use super::log::{Chunk, Log, Own};
use super::told::Told;
use super::{Catchup, Member, Progress};
use crate::export::Treatment;
use crate::key::{Key, Prefixes, Tables};
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
    pub(super) log: Log<Prefixes>,
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
        changed: &[PrefixId],
        members: &mut [Option<Member>],
    ) {
        if !self.treatment.carries(K::INDEX) || changed.is_empty() {
            return;
        }
        self.detach_slow_members(shared, members);
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
                key: slot.key,
                before,
                now,
            });
        }
        let mut readers = Vec::new();
        for &peer in &self.members {
            match members[peer.0 as usize].as_mut().map(|m| &mut m.progress) {
                Some(Progress::Stream(_)) => readers.push(peer),
                Some(Progress::Catchup(catchup)) => catchup.changed(peer, &changes),
                None => (),
            }
        }
        if !readers.is_empty() {
            let burst = Burst::new(&readers, &changes);
            burst.encode(shared, &self.treatment, readers.len() as u32, &mut self.log);
        }
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
                    .skip(position, |prefixes| catchup.pending.add_all(prefixes));
                member.progress = Progress::Catchup(Box::new(catchup));
            }
        }
    }
}

fn told_of<K: Key>(shared: &Shared, table: &PrefixTable<K>, treatment: &Treatment) -> Told {
    let mut told = Told::default();
    if treatment.carries(K::INDEX) {
        told.grow(table.end());
        for (id, slot) in table.iter() {
            if let Some(said) = treatment.tells(shared, slot) {
                told.record(id, said.peer);
            }
        }
    }
    told
}

/// A prefix whose best path changed.
pub(super) struct Changed<K> {
    pub(super) id: PrefixId,
    pub(super) key: K,
    /// Source of the path that had been told, [`PeerId::NONE`] if none.
    before: PeerId,
    /// What is told now.
    pub(super) now: Option<Said>,
}

/// What a burst changes for those who read the log.
struct Burst<K> {
    /// For everybody.
    withdrawn: Vec<K>,
    /// For everybody but the one who said it.
    announced: Vec<(Said, K)>,
    /// For the one who says it now and had been told somebody else's path before.
    own: Vec<(PeerId, K)>,
    /// The only reader, if there is just one: nothing is encoded for nobody.
    sole_reader: Option<PeerId>,
}

impl<K: Key> Burst<K> {
    fn new(readers: &[PeerId], changes: &[Changed<K>]) -> Self {
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

    fn add(&mut self, change: &Changed<K>) {
        let &Changed {
            key, before, now, ..
        } = change;
        let told_sole_reader = before != PeerId::NONE && Some(before) != self.sole_reader;
        let is_for_nobody = now.is_none_or(|said| Some(said.peer) == self.sole_reader);
        match now {
            Some(said) if !is_for_nobody => {
                self.announced.push((said, key));
                if before != PeerId::NONE && before != said.peer {
                    self.own.push((said.peer, key));
                }
            }
            Some(_) | None if told_sole_reader => self.withdrawn.push(key),
            Some(_) | None => (),
        }
    }

    fn encode(
        mut self,
        shared: &Shared,
        treatment: &Treatment,
        readers: u32,
        log: &mut Log<Prefixes>,
    ) {
        self.announced.sort_unstable();
        self.own.sort_unstable();
        let mut chunk = ChunkBuilder::default();
        for part in self.withdrawn.chunks(CHUNK_OCTETS / 4) {
            pack::withdraw(&mut chunk.bytes, treatment, part.iter().copied());
            chunk.prefixes.extend_from_slice(part);
            chunk.finish_if_long(readers, log);
        }
        let mut last_source = PeerId::NONE;
        for run in self.announced.chunk_by(|a, b| a.0 == b.0) {
            let said = run[0].0;
            let keys = run.iter().map(|&(_, key)| key);
            let start = chunk.bytes.len();
            pack::announce(&mut chunk.bytes, shared, treatment, said, keys.clone());
            chunk.extend_own(said.peer, start);
            if last_source != said.peer {
                last_source = said.peer;
                chunk.replace_own(treatment, self.own_of(said.peer));
            }
            chunk.prefixes.extend(keys);
            chunk.finish_if_long(readers, log);
        }
        chunk.finish(readers, log);
    }

    fn own_of(&self, peer: PeerId) -> impl Iterator<Item = K> {
        let start = self.own.partition_point(|(other, _)| *other < peer);
        self.own[start..]
            .iter()
            .take_while(move |(other, _)| *other == peer)
            .map(|&(_, key)| key)
    }
}

/// A chunk in the making.
struct ChunkBuilder<K> {
    bytes: BytesMut,
    own: Vec<Own>,
    prefixes: Vec<K>,
}

impl<K> Default for ChunkBuilder<K> {
    fn default() -> Self {
        Self {
            bytes: BytesMut::new(),
            own: Vec::new(),
            prefixes: Vec::new(),
        }
    }
}

impl<K: Key> ChunkBuilder<K> {
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
    fn replace_own(&mut self, treatment: &Treatment, keys: impl Iterator<Item = K>) {
        if let Some(own) = self.own.last_mut() {
            let mut bytes = BytesMut::new();
            pack::withdraw(&mut bytes, treatment, keys);
            own.instead = bytes.freeze();
        }
    }

    fn finish_if_long(&mut self, readers: u32, log: &mut Log<Prefixes>) {
        if self.bytes.len() >= CHUNK_OCTETS {
            std::mem::take(self).finish(readers, log);
        }
    }

    fn finish(self, readers: u32, log: &mut Log<Prefixes>) {
        if self.bytes.is_empty() {
            return;
        }
        let chunk = Chunk {
            bytes: self.bytes.freeze(),
            own: self.own,
            prefixes: K::prefixes(self.prefixes),
        };
        log.push(chunk, readers);
    }
}
