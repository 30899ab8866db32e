//! What each peer has been told (RFC 4271 §3.2, §9.2), without keeping a copy per peer.
//!
//! Peers that are told the same in the same words form an update [`Group`]. A group remembers per
//! prefix only which peer the told path came from, and encodes each burst once. A member is a
//! position in the group's log. A member that is new, asked for a refresh or fell behind is taken
//! off the log and told the current state prefix by prefix ([`Catchup`]) until it has caught up.

use bytes::Bytes;

use crate::export::Treatment;
use crate::key::{FamilyIndex, Key, PathOf, Tables, Unit, Units};
use crate::path::PeerId;
use crate::peer::Shared;
use crate::table::PrefixTable;

mod catchup;
mod group;
mod log;
mod told;

use catchup::{Catchup, Dump, DumpEnd};
pub(crate) use catchup::{Pending, PendingOf};
pub(crate) use group::ChangedPrefixes;
use group::Group;

/// All update groups and their members.
#[derive(Debug, Default)]
pub(crate) struct AdjRibOut {
    groups: Vec<Option<Group>>,
    /// By peer number.
    members: Vec<Option<Member>>,
}

/// One peer that is up.
#[derive(Debug)]
struct Member {
    group: usize,
    progress: Progress,
    /// Families to be told again once the log is read.
    refresh: Vec<FamilyIndex>,
}

/// Where a member is.
#[derive(Debug)]
enum Progress {
    /// Reading the group's log, next from this position.
    Stream(u64),
    /// Being told the current state.
    Catchup(Box<Catchup>),
}

impl AdjRibOut {
    /// Adds a peer, which is told everything and then End-of-RIB for each family.
    ///
    /// The Loc-RIB must be settled: the new group's memory is read from it.
    pub(crate) fn join(&mut self, shared: &Shared, tables: &Tables, peer: PeerId) {
        let Some(session) = shared.peer(peer).map(|peer| &peer.session) else {
            return;
        };
        let treatment = Treatment::of(session);
        let dumps = FamilyIndex::ALL
            .into_iter()
            .filter(|family| treatment.carries(*family))
            .map(|family| Dump::new(family, DumpEnd::EndOfRib));
        let catchup = Catchup::new(shared.config.seed, dumps.collect());
        self.enter(shared, tables, peer, treatment, catchup);
    }

    fn enter(
        &mut self,
        shared: &Shared,
        tables: &Tables,
        peer: PeerId,
        treatment: Treatment,
        catchup: Catchup,
    ) {
        let group = self.group_for(shared, tables, treatment);
        if let Some(group) = self.groups[group].as_mut() {
            group.members.push(peer);
        }
        let index = peer.0 as usize;
        if self.members.len() <= index {
            self.members.resize_with(index + 1, || None);
        }
        self.members[index] = Some(Member {
            group,
            progress: Progress::Catchup(Box::new(catchup)),
            refresh: Vec::new(),
        });
    }

    fn group_for(&mut self, shared: &Shared, tables: &Tables, treatment: Treatment) -> usize {
        let same = |group: &Option<Group>| {
            group
                .as_ref()
                .is_some_and(|group| group.treatment == treatment)
        };
        if let Some(index) = self.groups.iter().position(same) {
            return index;
        }
        let group = Some(Group::new(shared, tables, treatment));
        match self.groups.iter().position(Option::is_none) {
            Some(index) => {
                self.groups[index] = group;
                index
            }
            None => {
                self.groups.push(group);
                self.groups.len() - 1
            }
        }
    }

    /// Removes a peer that is down; its group goes with the last member.
    pub(crate) fn leave(&mut self, peer: PeerId) {
        self.detach(peer, |_| ());
    }

    /// Removes a peer from its group, naming the prefixes it has not been told about.
    fn detach(&mut self, peer: PeerId, missed: impl FnMut(&Units)) -> Option<Member> {
        let member = self.members.get_mut(peer.0 as usize)?.take()?;
        let place = &mut self.groups[member.group];
        if let Some(group) = place {
            if let Progress::Stream(position) = member.progress {
                group.log.skip(position, missed);
            }
            group.members.retain(|&other| other != peer);
            if group.members.is_empty() {
                *place = None;
            }
        }
        Some(member)
    }

    /// Puts a peer whose export policy changed where it belongs now. It is told everything again,
    /// withdrawals of what it may no longer know included.
    pub(crate) fn regroup(&mut self, shared: &Shared, tables: &Tables, peer: PeerId) {
        let Some(session) = shared.peer(peer).map(|peer| &peer.session) else {
            return;
        };
        let treatment = Treatment::of(session);
        if self.treatment_of(peer) == Some(&treatment) {
            return;
        }
        let mut pending = Pending::new(shared.config.seed);
        if let Some(group) = self.group_of(peer) {
            let table = &tables.v4.table;
            add_paths(
                &mut pending,
                peer,
                group.paths_beyond(shared, table, &treatment),
            );
            let table = &tables.v6.table;
            add_paths(
                &mut pending,
                peer,
                group.paths_beyond(shared, table, &treatment),
            );
        }
        let Some(member) = self.detach(peer, |units| pending.add_all(units)) else {
            return;
        };
        let mut catchup = match member.progress {
            Progress::Stream(_) => Catchup::new(shared.config.seed, Vec::new()),
            Progress::Catchup(catchup) => *catchup,
        };
        catchup.pending.append(pending);
        catchup.restart_with_withdrawals(&treatment);
        self.enter(shared, tables, peer, treatment, catchup);
        if let Some(Some(entered)) = self.members.get_mut(peer.0 as usize) {
            entered.refresh = member.refresh;
        }
    }

    fn treatment_of(&self, peer: PeerId) -> Option<&Treatment> {
        Some(&self.group_of(peer)?.treatment)
    }

    fn group_of(&self, peer: PeerId) -> Option<&Group> {
        let member = self.members.get(peer.0 as usize)?.as_ref()?;
        self.groups[member.group].as_ref()
    }

    /// Has a peer told a family again (RFC 2918 §4).
    pub(crate) fn refresh(&mut self, peer: PeerId, family: FamilyIndex) {
        if let Some(Some(member)) = self.members.get_mut(peer.0 as usize)
            && !member.refresh.contains(&family)
        {
            member.refresh.push(family);
        }
    }

    /// Tells all groups that the paths of these prefixes changed.
    pub(crate) fn changed<K: Key>(
        &mut self,
        shared: &Shared,
        table: &PrefixTable<K>,
        changed: ChangedPrefixes<'_>,
    ) {
        for group in self.groups.iter_mut().flatten() {
            group.changed(shared, table, changed, &mut self.members);
        }
    }

    /// How many prefixes, or paths with ADD-PATH, of a family a peer is told, as of the last change.
    pub(crate) fn told_to(&self, peer: PeerId, family: FamilyIndex) -> usize {
        let group = self.group_of(peer);
        group.map_or(0, |group| group.told[family as usize].told_to(peer))
    }

    /// Whether there is something to be sent to a peer.
    pub(crate) fn has_pending(&self, peer: PeerId) -> bool {
        let Some(Some(member)) = self.members.get(peer.0 as usize) else {
            return false;
        };
        match (&member.progress, &self.groups[member.group]) {
            (Progress::Stream(position), Some(group)) => {
                *position < group.log.end() || !member.refresh.is_empty()
            }
            (Progress::Stream(_), None) => false,
            (Progress::Catchup(_), _) => true,
        }
    }

    /// What the log of its group has for a peer, about `max_octets` of it.
    pub(crate) fn ready_messages(&mut self, peer: PeerId, max_octets: usize) -> Vec<Bytes> {
        let mut out = Vec::new();
        let Some(Some(member)) = self.members.get_mut(peer.0 as usize) else {
            return out;
        };
        let Some(group) = self.groups[member.group].as_mut() else {
            return out;
        };
        let mut octets = 0;
        while let Progress::Stream(position) = &mut member.progress
            && *position < group.log.end()
            && octets < max_octets
        {
            octets += group.log.read(*position, peer, &mut out);
            *position += 1;
        }
        out
    }

    /// Messages for a peer, about `max_octets` of them; the Loc-RIB must be settled.
    pub(crate) fn next_messages(
        &mut self,
        shared: &Shared,
        tables: &Tables,
        peer: PeerId,
        max_octets: usize,
    ) -> Vec<Bytes> {
        let mut out = Vec::new();
        let Some(Some(member)) = self.members.get_mut(peer.0 as usize) else {
            return out;
        };
        let Some(group) = self.groups[member.group].as_mut() else {
            return out;
        };
        let mut octets = 0;
        while octets < max_octets {
            match &mut member.progress {
                Progress::Stream(position) if *position < group.log.end() => {
                    octets += group.log.read(*position, peer, &mut out);
                    *position += 1;
                }
                Progress::Stream(_) if member.refresh.is_empty() => break,
                Progress::Stream(_) => {
                    let end = DumpEnd::of_refresh(&group.treatment);
                    let dumps = member.refresh.drain(..);
                    let dumps = dumps.filter(|family| group.treatment.carries(*family));
                    let dumps = dumps.map(|family| Dump::new(family, end)).collect();
                    let catchup = Catchup::new(shared.config.seed, dumps);
                    member.progress = Progress::Catchup(Box::new(catchup));
                }
                Progress::Catchup(catchup) => {
                    match catchup.step(shared, tables, &group.treatment, peer, max_octets) {
                        Some(bytes) if bytes.is_empty() => (),
                        Some(bytes) => {
                            octets += bytes.len();
                            out.push(bytes);
                        }
                        None => member.progress = Progress::Stream(group.log.end()),
                    }
                }
            }
        }
        out
    }
}

/// Paths that a peer may have been told and must hear the end of; its own it never was.
fn add_paths<K: Key>(pending: &mut Pending, peer: PeerId, paths: Vec<(PathOf<K>, PeerId)>) {
    let others = paths.into_iter().filter(|(_, source)| *source != peer);
    PathOf::pending(pending).add(others.map(|(path, _)| path));
}

#[cfg(test)]
mod tests;
