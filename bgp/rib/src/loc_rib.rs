//! Adj-RIB-In and Loc-RIB of one family in one table (RFC 4271 §3.2).
//!
//! The paths of a prefix are what its peers said (Adj-RIB-In), the ones at the front are the
//! choice (Loc-RIB). Changes mark prefixes dirty, each at most once; the decision process runs
//! once per dirty prefix and burst, however many paths changed.

use std::cmp::Ordering;

use crate::attrs::Attrs;
use crate::counts::Held;
use crate::decision::{Candidate, Reason, Selection, select, tie_break};
use crate::key::Key;
use crate::path::{Ineligible, Path, PathFlags, Paths, PeerId};
use crate::peer::{Peers, Shared};
use crate::standing::Standing;
use crate::table::{self, Marks, PrefixId, PrefixTable, Slot, Sources};

/// The routes of one family.
#[derive(Debug)]
pub(crate) struct LocRib<K> {
    pub(crate) table: PrefixTable<K>,
    /// How many paths are held from whom.
    pub(crate) held: Held,
    /// Where in the table from whom.
    sources: Sources,
    /// Prefixes to decide, each at most once.
    dirty: Vec<PrefixId>,
    /// Prefixes whose multipath set changed and was not asked for yet, each at most once.
    queued: Vec<PrefixId>,
    /// Prefixes to be forgotten, empty but while they are collected.
    unused: Vec<PrefixId>,
    scratch: Scratch,
}

/// Buffers of the decision process, kept so that a burst allocates nothing.
#[derive(Debug, Default)]
struct Scratch {
    /// Positions in the prefix's paths of those that no other is better than in the steps before
    /// MED.
    leading: Vec<usize>,
    /// The same paths, where there are several.
    candidates: Vec<Candidate>,
    selection: Selection,
    /// Positions of the multipath set, best first.
    sharing: Vec<usize>,
}

impl<K: Key> LocRib<K> {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            table: PrefixTable::new(seed),
            held: Held::default(),
            sources: Sources::default(),
            dirty: Vec::new(),
            queued: Vec::new(),
            unused: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// Adds or replaces a path, taking over one reference to its attribute set. A new one is not
    /// used when its peer has as many as `limit` without it.
    pub(crate) fn announce(
        &mut self,
        (peers, attrs): (&Peers, &mut Attrs),
        key: K,
        mut path: Path,
        limit: u32,
    ) {
        let id = self.table.find_or_insert(key);
        let slot = self.table.slot_mut(id);
        let is_full = self.held.within_limit(path.peer) >= limit;
        let Some(position) = slot.paths.position(path.peer, path.path_id) else {
            if is_full {
                path.refused = Some(Ineligible::MaxPrefixes);
            }
            slot.paths.push(path);
            slot.marks.set(Marks::CHANGED);
            self.held.added(&path);
            self.sources.add(id, path.peer);
            self.mark_dirty(id);
            return;
        };
        let Some(place) = slot.paths.get_mut(position) else {
            return;
        };
        let old = *place;
        if is_full && old.is_surplus() {
            path.refused = old.refused;
        }
        self.held.judged(&old, &path);
        let unchanged = (old.attrs, old.refused) == (path.attrs, path.refused);
        path.id = old.id;
        if old.flags.has(PathFlags::CHANGED) {
            path.flags.set(PathFlags::CHANGED);
        }
        if !unchanged {
            slot.reopen_without(peers, attrs, position);
        }
        if let Some(place) = slot.paths.get_mut(position) {
            *place = path;
        }
        attrs.release(old.attrs);
        if !unchanged {
            slot.mark_lost(position);
            self.mark_dirty(id);
        }
    }

    /// Removes a path of a prefix if there is one.
    pub(crate) fn withdraw(
        &mut self,
        shared: &mut Shared,
        id: PrefixId,
        peer: PeerId,
        path_id: u32,
    ) {
        let slot = self.table.slot_mut(id);
        if let Some(position) = slot.paths.position(peer, path_id) {
            slot.reopen_without(&shared.peers, &shared.attrs, position);
            slot.remove(&mut shared.attrs, &mut self.held, position);
            self.mark_dirty(id);
        }
    }

    /// Changes or removes the paths of a peer, all of them in one walk over the parts of the table
    /// where it has some.
    ///
    /// `change` gets each path and says what became of it.
    pub(crate) fn change_paths(
        &mut self,
        attrs: &mut Attrs,
        peer: PeerId,
        mut change: impl FnMut(&mut Attrs, K, &mut Path) -> Change,
    ) {
        if self.held.is_empty(peer) {
            return;
        }
        let mut from = 0;
        while let Some(part) = self.sources.next(from, peer) {
            let mut left = table::Peers::default();
            for id in Sources::ids(part) {
                if id >= self.table.end() {
                    break;
                }
                self.change_paths_of(id, attrs, peer, &mut change);
                let slot = self.table.slot(id);
                slot.paths.iter().for_each(|path| left.add(path.peer));
            }
            self.sources.set(part, left);
            from = part + 1;
        }
    }

    fn change_paths_of(
        &mut self,
        id: PrefixId,
        attrs: &mut Attrs,
        peer: PeerId,
        change: &mut impl FnMut(&mut Attrs, K, &mut Path) -> Change,
    ) {
        let slot = self.table.slot_mut(id);
        let key = slot.key;
        let mut position = 0;
        let mut touched = false;
        while let Some(path) = slot.paths.get_mut(position) {
            if path.peer != peer {
                position += 1;
                continue;
            }
            let old = *path;
            let changed = change(attrs, key, path);
            self.held.judged(&old, path);
            match changed {
                Change::None => position += 1,
                Change::Ranking => {
                    touched = true;
                    position += 1;
                }
                Change::Wording => {
                    slot.mark_lost(position);
                    touched = true;
                    position += 1;
                }
                Change::Remove => {
                    slot.remove(attrs, &mut self.held, position);
                    touched = true;
                }
            }
        }
        if touched {
            slot.marks.set(Marks::REOPENED);
            self.mark_dirty(id);
        }
    }

    /// Has every prefix decided again, as after a change of interior costs.
    pub(crate) fn mark_all_dirty(&mut self) {
        for id in 0..self.table.end() {
            let marks = &mut self.table.slot_mut(id).marks;
            if !marks.has(Marks::FREE) {
                marks.set(Marks::REOPENED);
                self.mark_dirty(id);
            }
        }
    }

    fn mark_dirty(&mut self, id: PrefixId) {
        if self.table.slot_mut(id).marks.set(Marks::DIRTY) {
            self.dirty.push(id);
        }
    }

    /// Runs the decision process for the dirty prefixes; those with another best path than before
    /// are added to `changed`.
    pub(crate) fn decide(&mut self, shared: &Shared, changed: &mut Vec<PrefixId>) {
        for index in 0..self.dirty.len() {
            let id = self.dirty[index];
            let slot = self.table.slot_mut(id);
            let outcome = slot.decide(shared, &mut self.held, &mut self.scratch);
            if outcome.best_changed {
                changed.push(id);
            }
            let told = shared.config.forwards && outcome.share_changed;
            if told && slot.marks.set(Marks::QUEUED) {
                self.queued.push(id);
            }
        }
    }

    /// The prefixes of this burst: everything that peers with ADD-PATH may have to be told of.
    pub(crate) fn dirty(&self) -> &[PrefixId] {
        &self.dirty
    }

    /// Ends a burst: forgets dirty prefixes that have no paths and nobody waiting for their end.
    pub(crate) fn finish_burst(&mut self) {
        for id in self.dirty.drain(..) {
            let slot = self.table.slot_mut(id);
            slot.marks.clear(Marks::DIRTY);
            if slot.marks.has(Marks::CHANGED) {
                slot.marks.clear(Marks::CHANGED);
                for path in slot.paths.iter_mut() {
                    path.flags.clear(PathFlags::CHANGED);
                }
            }
            if slot.is_unused() {
                self.unused.push(id);
            }
        }
        self.forget_unused();
    }

    fn forget_unused(&mut self) {
        self.table.remove_all(&self.unused);
        self.unused.clear();
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Takes up to `max` prefixes whose multipath set changed since they were last taken.
    pub(crate) fn take_queued(&mut self, max: usize, mut each: impl FnMut(&Slot<K>)) -> usize {
        let count = max.min(self.queued.len());
        // From the back, as taking from the front would move the rest each time.
        for id in self.queued.drain(self.queued.len() - count..) {
            let slot = self.table.slot_mut(id);
            slot.marks.clear(Marks::QUEUED);
            each(slot);
            if slot.is_unused() {
                self.unused.push(id);
            }
        }
        self.forget_unused();
        if self.queued.is_empty() {
            self.queued.shrink_to(1024);
        }
        count
    }

    /// The best path of a prefix.
    pub(crate) fn best(&self, key: K) -> Option<Path> {
        self.table.slot(self.table.find(key)?).best()
    }
}

/// What [`LocRib::change_paths`] did to a path, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Nothing the decision process looks at.
    None,
    /// Something the decision process looks at.
    Ranking,
    /// Something that changes what other peers are told about it.
    Wording,
    /// It is to be removed.
    Remove,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Outcome {
    best_changed: bool,
    share_changed: bool,
}

impl<K> Slot<K> {
    /// No path, and nobody waits to hear of it.
    fn is_unused(&self) -> bool {
        self.paths.is_empty() && self.marks == Marks::default()
    }

    /// The best path as of the last decision.
    pub(crate) fn best(&self) -> Option<Path> {
        (self.best_count > 0).then(|| self.paths.first()).flatten()
    }

    /// The multipath set as of the last decision, best first.
    pub(crate) fn sharing(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().take(usize::from(self.best_count))
    }

    /// Takes note that a path was replaced, is about to go, or is told in other words.
    fn mark_lost(&mut self, position: usize) {
        if let Some(path) = self.paths.get_mut(position) {
            path.flags.set(PathFlags::CHANGED);
            self.marks.set(Marks::CHANGED);
        }
        if position == 0 {
            self.marks.set(Marks::BEST_GONE);
        } else if position < usize::from(self.best_count) {
            self.marks.set(Marks::SHARE_GONE);
        }
    }

    /// Has all paths compared anew if the one at this position, which is about to go or to be
    /// another one, may have made a difference to the last decision.
    fn reopen_without(&mut self, peers: &Peers, attrs: &Attrs, position: usize) {
        if position == 0 || self.marks.has(Marks::OPEN) {
            // That the best path is gone is marked anyway.
            return;
        }
        let Some(path) = self.paths.get(position) else {
            return;
        };
        if path.flags.has(PathFlags::CHANGED) {
            // It came, or became what it is, after that.
            return;
        }
        let best = self.best();
        let best = best.and_then(|best| Standing::of(peers, attrs, &best));
        let standing = Standing::of(peers, attrs, path);
        if standing.is_some_and(|standing| best.is_none_or(|best| standing <= best)) {
            self.marks.set(Marks::REOPENED);
        }
    }

    fn remove(&mut self, attrs: &mut Attrs, held: &mut Held, position: usize) {
        self.mark_lost(position);
        let Some(path) = self.paths.remove(position) else {
            return;
        };
        attrs.release(path.attrs);
        held.removed(&path);
        if position < usize::from(self.best_count) {
            self.best_count -= 1;
            held.no_longer_chosen(&path);
        }
    }

    fn decide(&mut self, shared: &Shared, held: &mut Held, scratch: &mut Scratch) -> Outcome {
        let before = usize::from(self.best_count);
        let best_gone = self.marks.has(Marks::BEST_GONE);
        let share_gone = self.marks.has(Marks::SHARE_GONE);
        let is_open = self.marks.has(Marks::OPEN);
        self.marks.clear(Marks::OPEN);
        if !is_open && self.stays(shared, scratch) {
            return Outcome::default();
        }
        if is_open || scratch.leading.len() != 1 {
            scratch.lead(shared, self.paths.iter().enumerate());
        }
        scratch.choose(shared, &self.paths);
        let best_kept = match scratch.sharing.first() {
            Some(&best) => best == 0 && before > 0,
            None => before == 0,
        };
        let share_kept = scratch.sharing.len() == before
            && scratch.sharing.iter().all(|&position| position < before);
        if !share_kept {
            self.sharing().for_each(|path| held.no_longer_chosen(path));
        }
        self.best_count = scratch.sharing.len() as u8;
        bring_to_front(&mut self.paths, &mut scratch.sharing);
        if !share_kept {
            self.sharing().for_each(|path| held.chosen(path));
        }

        let best_changed = best_gone || !best_kept;
        Outcome {
            best_changed,
            share_changed: best_changed || share_gone || !share_kept,
        }
    }

    /// Whether the new paths, compared with nothing but the best of the others, leave the choice as
    /// it is; if not, those that lead are in `scratch`.
    fn stays(&self, shared: &Shared, scratch: &mut Scratch) -> bool {
        if !self.marks.has(Marks::CHANGED) {
            return true;
        }
        let has_best = self.best_count > 0;
        let paths = self.paths.iter().enumerate();
        let considered = paths.filter(|(position, path)| {
            has_best && *position == 0 || path.flags.has(PathFlags::CHANGED)
        });
        scratch.lead(shared, considered);
        has_best && scratch.leading == [0]
    }

    /// Why the best path is the best one.
    pub(crate) fn reason(&self, shared: &Shared) -> Reason {
        if !self.paths.are_several() {
            return Reason::OnlyPath;
        }
        let paths = self.paths.iter();
        let candidates: Vec<_> = paths.flat_map(|path| shared.candidate(path)).collect();
        let mut selection = Selection::default();
        select(&candidates, &mut selection);
        selection.reason()
    }
}

impl Scratch {
    /// Finds those of some paths that no other of them is better than in the steps before MED.
    fn lead<'a>(&mut self, shared: &Shared, paths: impl Iterator<Item = (usize, &'a Path)>) {
        self.leading.clear();
        let mut best = None;
        for (position, path) in paths {
            let Some(standing) = Standing::of(&shared.peers, &shared.attrs, path) else {
                continue;
            };
            match best.map_or(Ordering::Less, |best| standing.cmp(&best)) {
                Ordering::Less => {
                    best = Some(standing);
                    self.leading.clear();
                }
                Ordering::Equal => {}
                Ordering::Greater => continue,
            }
            self.leading.push(position);
        }
    }

    /// Runs the rest of the decision process over the leading paths; leaves in `sharing` the
    /// positions of the multipath set, best first, one per next hop and no more than the configured
    /// number.
    fn choose(&mut self, shared: &Shared, paths: &Paths) {
        let Self {
            leading,
            candidates,
            selection,
            sharing,
        } = self;
        sharing.clear();
        if leading.len() <= 1 {
            sharing.extend_from_slice(leading);
            return;
        }
        candidates.clear();
        let leaders = leading.iter().filter_map(|&position| paths.get(position));
        candidates.extend(leaders.flat_map(|path| shared.candidate(path)));
        select(candidates, selection);
        let limit = shared.config.multipath.get();
        if limit == 1 {
            sharing.extend(selection.best());
        } else {
            sharing.extend((0..candidates.len()).filter(|&index| selection.shares_traffic(index)));
            sharing.sort_unstable_by(|&a, &b| tie_break(&candidates[a], &candidates[b]));
            keep_one_per_next_hop(candidates, sharing);
            sharing.truncate(usize::from(limit));
        }
        for index in sharing {
            *index = leading[*index];
        }
    }
}

fn keep_one_per_next_hop(candidates: &[Candidate], sharing: &mut Vec<usize>) {
    let mut kept = 0;
    for index in 0..sharing.len() {
        let next_hop = candidates[sharing[index]].next_hop;
        let is_new = sharing[..kept]
            .iter()
            .all(|&other| candidates[other].next_hop != next_hop);
        if is_new {
            sharing.swap(kept, index);
            kept += 1;
        }
    }
    sharing.truncate(kept);
}

/// Moves the paths at these positions to the front, in this order.
fn bring_to_front(paths: &mut Paths, positions: &mut [usize]) {
    for target in 0..positions.len() {
        let from = positions[target];
        paths.swap(target, from);
        for later in &mut positions[target + 1..] {
            if *later == target {
                *later = from;
            }
        }
    }
}

#[cfg(test)]
mod tests;
