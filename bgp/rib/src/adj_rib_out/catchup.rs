//! Telling one peer the current state, prefix by prefix, until it can read the group's log.
//!
//! What is to be told is a position in the prefix table, for a dump, and a set of prefixes that
//! changed behind that position. Each prefix is in the set at most once, and what is said about it
//! is looked up when it is sent, so a slow peer costs memory in proportion to the table at most.

use bgp_wire::{Prefix4, Prefix6, RefreshSubtype};
use bytes::{Bytes, BytesMut};
use foldhash::fast::FixedState;
use hashbrown::HashSet;

use super::group::Changed;
use crate::export::Treatment;
use crate::key::{FamilyIndex, Key, PathOf, Tables, Unit, Units};
use crate::pack;
use crate::path::{PeerId, Said};
use crate::peer::Shared;
use crate::table::{Marks, PrefixId, Slot};

/// What one peer has yet to be told before it has caught up.
#[derive(Debug)]
pub(super) struct Catchup {
    /// Families to go through, the first one first.
    dumps: Vec<Dump>,
    /// Prefixes that changed since this peer stopped reading the log.
    pub(super) pending: Pending,
}

/// A walk over the table of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dump {
    family: FamilyIndex,
    next: PrefixId,
    has_begun: bool,
    /// The peer may know of prefixes it is not told now, so those are withdrawn.
    withdraws: bool,
    end: DumpEnd,
}

/// What follows a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DumpEnd {
    /// Nothing.
    Silent,
    /// End-of-RIB (RFC 4724 §2).
    EndOfRib,
    /// The end mark of an enhanced route refresh, whose begin mark precedes the dump (RFC 7313).
    EndOfRefresh,
}

impl DumpEnd {
    pub(super) fn of_refresh(treatment: &Treatment) -> Self {
        if treatment.params.enhanced_route_refresh {
            Self::EndOfRefresh
        } else {
            Self::Silent
        }
    }
}

impl Dump {
    pub(super) fn new(family: FamilyIndex, end: DumpEnd) -> Self {
        Self {
            family,
            next: 0,
            has_begun: false,
            withdraws: false,
            end,
        }
    }

    /// Whether the peer knows nothing of what lies ahead.
    fn is_first_contact(&self) -> bool {
        self.end == DumpEnd::EndOfRib && !self.withdraws
    }
}

impl Catchup {
    pub(super) fn new(seed: u64, dumps: Vec<Dump>) -> Self {
        Self {
            dumps,
            pending: Pending::new(seed),
        }
    }

    /// Takes note that what the peer is to be told changed.
    pub(super) fn changed<U: Unit>(&mut self, peer: PeerId, changes: &[Changed<U>]) {
        let mut dumps = self.dumps.iter();
        let dump = dumps.find(|dump| dump.family == U::Key::INDEX);
        let pending = U::pending(&mut self.pending);
        for change in changes {
            let is_told = change.now.is_some_and(|said| said.peer != peer);
            // The dump will tell what there is to tell, but not the end of what was told earlier.
            let is_left_to_dump = dump
                .is_some_and(|dump| dump.next <= change.id && (is_told || dump.is_first_contact()));
            if !is_left_to_dump {
                pending.changed.insert(change.unit);
            }
        }
    }

    /// Goes through all families from the start, withdrawing what is not told, because the peer
    /// may have been told more than it may know now. Owed marks stay owed.
    pub(super) fn restart_with_withdrawals(&mut self, treatment: &Treatment) {
        let families = FamilyIndex::ALL.into_iter();
        let old = std::mem::take(&mut self.dumps);
        for family in families.filter(|family| treatment.carries(*family)) {
            let owed = old.iter().find(|dump| dump.family == family);
            self.dumps.push(Dump {
                withdraws: true,
                ..Dump::new(family, owed.map_or(DumpEnd::Silent, |dump| dump.end))
            });
        }
    }

    /// The next messages, possibly none; `None` when the peer has caught up.
    pub(super) fn step(
        &mut self,
        shared: &Shared,
        tables: &Tables,
        treatment: &Treatment,
        peer: PeerId,
        max_octets: usize,
    ) -> Option<Bytes> {
        // Octets per prefix vary with how many share their attributes; 16 is a fair middle.
        let count = (max_octets / 16).clamp(1, 16_384);
        let teller = Teller {
            shared,
            tables,
            treatment,
            peer,
        };
        let mut out = BytesMut::new();
        if let Some(dump) = self.dumps.first_mut() {
            let is_done = match dump.family {
                FamilyIndex::V4 => teller.dump::<Prefix4>(dump, count, &mut out),
                FamilyIndex::V6 => teller.dump::<Prefix6>(dump, count, &mut out),
            };
            if !is_done {
                return Some(out.freeze());
            }
            // What changed behind the dump belongs to the state that the end mark closes.
            let more = match dump.family {
                FamilyIndex::V4 => teller.tell_family::<Prefix4>(self, count, &mut out),
                FamilyIndex::V6 => teller.tell_family::<Prefix6>(self, count, &mut out),
            };
            if !more {
                teller.end(self.dumps.remove(0), &mut out);
            }
            return Some(out.freeze());
        }
        let more = teller.tell_family::<Prefix4>(self, count, &mut out)
            | teller.tell_family::<Prefix6>(self, count, &mut out);
        (more || !out.is_empty()).then(|| out.freeze())
    }
}

/// Everything needed to say what one peer is told about a prefix.
struct Teller<'a> {
    shared: &'a Shared,
    tables: &'a Tables,
    treatment: &'a Treatment,
    peer: PeerId,
}

impl Teller<'_> {
    /// Tells up to `count` prefixes of a dump; true at its end.
    fn dump<K: Key>(&self, dump: &mut Dump, count: usize, out: &mut BytesMut) -> bool {
        let is_first = !std::mem::replace(&mut dump.has_begun, true);
        if is_first && dump.end == DumpEnd::EndOfRefresh {
            let begin = RefreshSubtype::BeginningOfRib;
            pack::refresh_mark(out, self.treatment, dump.family, begin);
        }
        let table = K::table(self.tables);
        let end = table.end().min(dump.next.saturating_add(count as PrefixId));
        let slots = (dump.next..end).map(|id| table.slot(id));
        let slots = slots.filter(|slot| !slot.marks.has(Marks::FREE));
        if self.treatment.tells_paths(K::INDEX) {
            self.dump_paths(slots, out);
        } else {
            self.dump_prefixes(dump, slots, out);
        }
        dump.next = end;
        end == table.end()
    }

    fn dump_prefixes<'s, K: Key + 's>(
        &self,
        dump: &Dump,
        slots: impl Iterator<Item = &'s Slot<K>>,
        out: &mut BytesMut,
    ) {
        let mut told = Told::default();
        for slot in slots {
            match self.treatment.tells(self.shared, slot) {
                Some(said) if said.peer != self.peer => told.announced.push((said, slot.key)),
                Some(_) | None if dump.withdraws => told.withdrawn.push(slot.key),
                Some(_) | None => (),
            }
        }
        told.encode(self, out);
    }

    /// With ADD-PATH withdrawals wait among what changed: only there it is known of which paths.
    fn dump_paths<'s, K: Key + 's>(
        &self,
        slots: impl Iterator<Item = &'s Slot<K>>,
        out: &mut BytesMut,
    ) {
        let mut told = Told::default();
        for slot in slots {
            let paths = self.treatment.told_paths(self.shared, slot).into_iter();
            for path in paths.filter(|path| path.said.peer != self.peer) {
                let unit = PathOf {
                    key: slot.key,
                    id: path.id,
                };
                told.announced.push((path.said, unit));
            }
        }
        told.encode(self, out);
    }

    /// Tells up to `count` changed prefixes or paths of a family; true if there are more.
    fn tell_family<K: Key>(&self, catchup: &mut Catchup, count: usize, out: &mut BytesMut) -> bool {
        if self.treatment.tells_paths(K::INDEX) {
            self.tell_pending::<PathOf<K>>(catchup, count, out)
        } else {
            self.tell_pending::<K>(catchup, count, out)
        }
    }

    fn tell_pending<U: Unit>(
        &self,
        catchup: &mut Catchup,
        count: usize,
        out: &mut BytesMut,
    ) -> bool {
        let pending = U::pending(&mut catchup.pending);
        if pending.sorted.is_empty() {
            // Sorted by what is said, so that each message has as many prefixes as possible.
            pending.sorted.extend(pending.changed.drain());
            pending
                .sorted
                .sort_by_cached_key(|&unit| (self.said(unit), unit));
        }
        let start = pending.sorted.len().saturating_sub(count);
        let mut told = Told::default();
        for unit in pending.sorted.drain(start..) {
            match self.said(unit) {
                Some(said) => told.announced.push((said, unit)),
                None => told.withdrawn.push(unit),
            }
        }
        told.encode(self, out);
        pending.shrink_if_empty()
    }

    fn said<U: Unit>(&self, unit: U) -> Option<Said> {
        let table = <U::Key as Key>::table(self.tables);
        let slot = table.slot(table.find(unit.key())?);
        self.treatment
            .says(self.shared, slot, unit)
            .filter(|said| said.peer != self.peer)
    }

    fn end(&self, dump: Dump, out: &mut BytesMut) {
        match dump.end {
            DumpEnd::Silent => (),
            DumpEnd::EndOfRib => pack::end_of_rib(out, dump.family),
            DumpEnd::EndOfRefresh => {
                let end = RefreshSubtype::EndOfRib;
                pack::refresh_mark(out, self.treatment, dump.family, end);
            }
        }
    }
}

/// What is to be encoded next.
struct Told<U> {
    announced: Vec<(Said, U)>,
    withdrawn: Vec<U>,
}

impl<U> Default for Told<U> {
    fn default() -> Self {
        Self {
            announced: Vec::new(),
            withdrawn: Vec::new(),
        }
    }
}

impl<U: Unit> Told<U> {
    fn encode(mut self, teller: &Teller<'_>, out: &mut BytesMut) {
        self.announced.sort_unstable();
        for run in self.announced.chunk_by(|a, b| a.0 == b.0) {
            let units = run.iter().map(|&(_, unit)| unit);
            pack::announce(out, teller.shared, teller.treatment, run[0].0, units);
        }
        pack::withdraw(out, teller.treatment, self.withdrawn.into_iter());
    }
}

/// Prefixes of both families that a peer is to be told about, with ADD-PATH paths of them.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) v4: PendingOf<Prefix4>,
    pub(crate) v6: PendingOf<Prefix6>,
    pub(crate) paths_v4: PendingOf<PathOf<Prefix4>>,
    pub(crate) paths_v6: PendingOf<PathOf<Prefix6>>,
}

/// Prefixes of one family that a peer is to be told about, or paths.
#[derive(Debug)]
pub(crate) struct PendingOf<U> {
    changed: HashSet<U, FixedState>,
    /// Taken from `changed` to be told next, from the back.
    sorted: Vec<U>,
}

impl<U: Unit> PendingOf<U> {
    fn new(seed: u64) -> Self {
        Self {
            changed: HashSet::with_hasher(FixedState::with_seed(seed)),
            sorted: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, units: impl IntoIterator<Item = U>) {
        self.changed.extend(units);
    }

    /// Gives memory back when there is nothing left; true if there is something.
    fn shrink_if_empty(&mut self) -> bool {
        if !self.sorted.is_empty() || !self.changed.is_empty() {
            return true;
        }
        self.sorted = Vec::new();
        self.changed.shrink_to_fit();
        false
    }
}

impl Pending {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            v4: PendingOf::new(seed),
            v6: PendingOf::new(seed),
            paths_v4: PendingOf::new(seed),
            paths_v6: PendingOf::new(seed),
        }
    }

    pub(super) fn add_all(&mut self, units: &Units) {
        match units {
            Units::V4(keys) => self.v4.changed.extend(keys),
            Units::V6(keys) => self.v6.changed.extend(keys),
            Units::PathsV4(paths) => self.paths_v4.changed.extend(paths),
            Units::PathsV6(paths) => self.paths_v6.changed.extend(paths),
        }
    }

    pub(super) fn append(&mut self, other: Self) {
        self.v4.changed.extend(other.v4.changed);
        self.v6.changed.extend(other.v6.changed);
        self.paths_v4.changed.extend(other.paths_v4.changed);
        self.paths_v6.changed.extend(other.paths_v6.changed);
    }
}
