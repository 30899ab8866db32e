//! Why a path is best and why the others are not.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp_wire::{Attributes, NextHop, Origin, Prefix};

use crate::Rib;
use crate::attrs::AttrSet;
use crate::decision::{Candidate, Reason, Selection, select};
use crate::export::{Treatment, Withheld};
use crate::import;
use crate::key::{FamilyIndex, Key};
use crate::path::{Ineligible, Path, PeerId, Said};
use crate::peer::Shared;
use crate::rib::ToldPath;
use crate::table::{PrefixTable, Slot};

/// All paths to a prefix and what became of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The prefix.
    pub prefix: Prefix,
    /// Its paths, those in use first and the best of them at the front.
    pub paths: Vec<ExplainedPath>,
}

/// A path and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedPath {
    /// Who sent it; `None` when it is originated here.
    pub peer: Option<PeerId>,
    /// The peer's path identifier (RFC 7911), 0 without ADD-PATH.
    pub path_id: u32,
    /// Where packets go; `None` when it is originated here without a next hop.
    pub next_hop: Option<NextHop>,
    /// Its attributes as received.
    pub received: Attributes,
    /// The attributes that count: as received, or as the import policy changed them, and with
    /// what its session adds to all paths (RFC 9234 §5, RFC 8326 §4.2).
    pub attributes: Attributes,
    /// The rule of the import policy that decided, or else the last that changed something; none
    /// where the policy was not asked or no rule had a say.
    pub rule: Option<Arc<str>>,
    /// Kept from an earlier session, and not yet announced again.
    pub is_stale: bool,
    /// What became of it.
    pub outcome: Outcome,
    /// What the decision process compared; `None` for a path that takes no part in it.
    pub compared: Option<Compared>,
}

/// What the decision process compares, in the order of its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// Originated here.
    pub local: bool,
    /// Degree of preference.
    pub local_pref: u32,
    /// Length of the AS_PATH.
    pub as_path_length: u32,
    /// ORIGIN.
    pub origin: Origin,
    /// MULTI_EXIT_DISC, 0 when absent.
    pub med: u32,
    /// MULTI_EXIT_DISC is compared between paths from the same AS only.
    pub neighbour_as: Option<u32>,
    /// From an external peer.
    pub external: bool,
    /// Interior cost to the next hop.
    pub igp_metric: u32,
    /// BGP identifier of the peer, or ORIGINATOR_ID.
    pub router_id: Ipv4Addr,
    /// Length of the CLUSTER_LIST.
    pub cluster_list_length: usize,
    /// Address of the peer; `None` when it is originated here.
    pub peer_address: Option<IpAddr>,
    /// Path identifier.
    pub path_id: u32,
}

/// What a peer is told about a path, or why it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedExport {
    /// Who sent the path; `None` when it is originated here.
    pub from: Option<PeerId>,
    /// How the peer is told it.
    pub told: Result<ToldPath, Withheld>,
    /// The rule of the export policy that decided, or else the last that changed something; none
    /// where the policy was not asked or no rule had a say.
    pub rule: Option<Arc<str>>,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is the best path; this step decided against the last of the others.
    Best(Reason),
    /// It shares the traffic with the best path, to which it lost only at this step.
    Shares(Reason),
    /// It lost at this step of the decision process.
    Lost(Reason),
    /// It takes no part in the decision process.
    Ineligible(Ineligible),
}

impl Rib {
    /// All paths to a prefix with the step that decided about each; `None` if there are none.
    pub fn explain(&mut self, prefix: Prefix) -> Option<Explanation> {
        self.settle();
        let paths = match prefix {
            Prefix::V4(key) => explain(&self.shared, &self.tables.v4.table, key)?,
            Prefix::V6(key) => explain(&self.shared, &self.tables.v6.table, key)?,
        };
        Some(Explanation { prefix, paths })
    }

    /// What a peer that is up is told about the best path of a prefix, and why; `None` where
    /// there is no best path or no such peer.
    pub fn explain_export(&mut self, peer: PeerId, prefix: Prefix) -> Option<ExplainedExport> {
        self.settle();
        let best = match prefix {
            Prefix::V4(key) => self.tables.v4.best(key),
            Prefix::V6(key) => self.tables.v6.best(key),
        };
        let known = self.shared.peer(peer).filter(|known| known.is_up)?;
        let treatment = Treatment::of(&known.session);
        let is_path = treatment.tells_paths(FamilyIndex::of(prefix.family())?);
        let best = best?;
        let id = if is_path { best.id } else { 0 };
        let told = (best.said(), id);
        Some(explained_export(
            &self.shared,
            &treatment,
            peer,
            prefix,
            told,
        ))
    }

    /// The same of every path that the peer might be told: with ADD-PATH all that can be used,
    /// else the best one.
    pub fn explain_exports(&mut self, peer: PeerId, prefix: Prefix) -> Vec<ExplainedExport> {
        let best = self.explain_export(peer, prefix);
        let known = self.shared.peer(peer).filter(|known| known.is_up);
        let family = FamilyIndex::of(prefix.family());
        let (Some(known), Some(family)) = (known, family) else {
            return Vec::new();
        };
        let treatment = Treatment::of(&known.session);
        if !treatment.tells_paths(family) {
            return best.into_iter().collect();
        }
        let tables = &self.tables;
        match prefix {
            Prefix::V4(key) => {
                explained_paths(&self.shared, &treatment, peer, &tables.v4.table, key)
            }
            Prefix::V6(key) => {
                explained_paths(&self.shared, &treatment, peer, &tables.v6.table, key)
            }
        }
    }
}

fn explained_paths<K: Key>(
    shared: &Shared,
    treatment: &Treatment,
    to: PeerId,
    table: &PrefixTable<K>,
    key: K,
) -> Vec<ExplainedExport> {
    let Some(slot) = table.find(key).map(|id| table.slot(id)) else {
        return Vec::new();
    };
    let told = treatment.told_paths(shared, slot);
    let usable = slot
        .paths
        .iter()
        .filter(|path| shared.candidate(path).is_ok());
    let explained = usable.map(|path| {
        let export = (path.said(), path.id);
        let explained = explained_export(shared, treatment, to, key.into(), export);
        let is_chosen = told.iter().any(|told| told.id == path.id);
        ExplainedExport {
            told: explained.told.and_then(|told| {
                let beyond = Withheld::BeyondLimit;
                is_chosen.then_some(told).ok_or(beyond)
            }),
            ..explained
        }
    });
    explained.collect()
}

fn explained_export(
    shared: &Shared,
    treatment: &Treatment,
    to: PeerId,
    prefix: Prefix,
    (said, id): (Said, u16),
) -> ExplainedExport {
    let unasked = if said.peer == to {
        Err(Withheld::OwnPath)
    } else {
        treatment.admits_unasked(shared, prefix, said)
    };
    let asked = unasked.map(|()| treatment.judge(shared, prefix, said).named());
    let admitted = unasked.and_then(|()| treatment.admits(shared, prefix, said));
    let told = admitted.and_then(|said| treatment.told_path(shared, prefix, said, id));
    ExplainedExport {
        from: (said.peer != PeerId::LOCAL).then_some(said.peer),
        told,
        rule: asked.ok().flatten().map(|rule| Arc::clone(&rule.name)),
    }
}

fn explain<K: Key>(shared: &Shared, table: &PrefixTable<K>, key: K) -> Option<Vec<ExplainedPath>> {
    let slot = table.slot(table.find(key)?);
    let explained = explain_slot(shared, slot);
    (!explained.is_empty()).then_some(explained)
}

/// All paths of a prefix as of the last decision.
pub(crate) fn explain_slot<K: Key>(shared: &Shared, slot: &Slot<K>) -> Vec<ExplainedPath> {
    let outcomes = outcomes(shared, slot);
    let explained = slot.paths.iter().zip(outcomes);
    explained
        .map(|(path, outcome)| explained_path(shared, slot.key.into(), path, outcome))
        .collect()
}

fn outcomes<K>(shared: &Shared, slot: &Slot<K>) -> Vec<Outcome> {
    let candidates: Vec<_> = slot
        .paths
        .iter()
        .map(|path| shared.candidate(path))
        .collect();
    let usable: Vec<_> = candidates.iter().flatten().copied().collect();
    let mut selection = Selection::default();
    select(&usable, &mut selection);
    let mut lost_at = selection.lost_at.iter();
    let sharing = usize::from(slot.best_count);
    let outcome = |(position, candidate)| match candidate {
        Err(reason) => Outcome::Ineligible(reason),
        Ok(_) => match lost_at.next().copied().flatten() {
            None => Outcome::Best(selection.reason()),
            Some(step) if position < sharing => Outcome::Shares(step),
            Some(step) => Outcome::Lost(step),
        },
    };
    candidates.into_iter().enumerate().map(outcome).collect()
}

fn explained_path(shared: &Shared, prefix: Prefix, path: &Path, outcome: Outcome) -> ExplainedPath {
    let set = shared.attrs.get(path.attrs);
    let received = shared.attrs.get(shared.attrs.received(path.attrs));
    let next_hop = shared.attrs.next_hops.get(set.next_hop);
    ExplainedPath {
        peer: (path.peer != PeerId::LOCAL).then_some(path.peer),
        path_id: path.path_id,
        next_hop,
        received: received.attributes.clone(),
        attributes: shared.counting(path.peer, set).into_owned(),
        rule: import_rule(shared, prefix, path, received),
        is_stale: path.is_stale(),
        outcome,
        compared: shared
            .candidate(path)
            .ok()
            .map(|c| compared(shared, path, &c)),
    }
}

fn compared(shared: &Shared, path: &Path, candidate: &Candidate) -> Compared {
    let peer = shared.peer(path.peer);
    Compared {
        local: candidate.local,
        local_pref: candidate.local_pref,
        as_path_length: candidate.as_path_length,
        origin: candidate.origin,
        med: candidate.med,
        neighbour_as: candidate.neighbour_as,
        external: candidate.external,
        igp_metric: candidate.igp_metric,
        router_id: candidate.router_id,
        cluster_list_length: candidate.cluster_list_length,
        peer_address: peer.map(|peer| peer.session.remote_addr),
        path_id: candidate.path_id,
    }
}

/// The rule of the import policy that had a say; asked again, as nobody keeps it.
fn import_rule(
    shared: &Shared,
    prefix: Prefix,
    path: &Path,
    received: &AttrSet,
) -> Option<Arc<str>> {
    let was_asked = match path.refused {
        None | Some(Ineligible::Policy | Ineligible::TooLong) => true,
        Some(_) => false,
    };
    let session = &shared.peer(path.peer).filter(|_| was_asked)?.session;
    let next_hop = shared.attrs.next_hops.get(received.next_hop);
    let subject = import::subject(session, prefix, received, next_hop);
    let rule = session.import.evaluate(&subject).named()?;
    Some(Arc::clone(&rule.name))
}
