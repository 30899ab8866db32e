//! The decision process: RFC 4271 §9.1 with the tie-breakers of RFC 4456 §9.
//!
//! The order of steps and what each step compares is written in [`STEPS`] and [`rank`], and for the
//! steps before MED once more in [`Standing`](crate::standing::Standing), which spares most
//! prefixes the rest. Choosing among equals, multipath and explaining all go through [`select`],
//! which works by elimination over the whole set as the RFC does. A pairwise sort would be wrong:
//! MED only compares paths of the same neighbouring AS, so "better than" is not transitive (RFC
//! 4271 §9.1.2.2 c).

use std::cmp::Ordering;
use std::fmt;
use std::net::Ipv4Addr;

use bgp_wire::Origin;

use crate::nexthop::NextHopId;

/// The step of the decision process at which one path beat another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// There was no other usable path.
    OnlyPath,
    /// The other is long-lived stale, kept for a peer that has been away for long (RFC 9494 §4.3).
    LongLived,
    /// Originated here; what we know about ourselves beats what others say.
    Local,
    /// Higher LOCAL_PREF (RFC 4271 §9.1.1, §5.1.5).
    LocalPref,
    /// Shorter AS_PATH (RFC 4271 §9.1.2.2 a).
    AsPathLength,
    /// Lower ORIGIN: IGP, EGP, INCOMPLETE (RFC 4271 §9.1.2.2 b).
    Origin,
    /// Lower MULTI_EXIT_DISC from the same neighbouring AS (RFC 4271 §9.1.2.2 c).
    Med,
    /// Learned from an external peer, the other from an internal one (RFC 4271 §9.1.2.2 d).
    ExternalPeer,
    /// Lower interior cost to the next hop (RFC 4271 §9.1.2.2 e).
    IgpMetric,
    /// Lower BGP identifier, or ORIGINATOR_ID where present (RFC 4271 §9.1.2.2 f, RFC 4456 §9).
    RouterId,
    /// Shorter CLUSTER_LIST (RFC 4456 §9).
    ClusterListLength,
    /// Lower peer address (RFC 4271 §9.1.2.2 g).
    PeerAddress,
    /// Lower path identifier, for several paths of one peer (RFC 7911).
    PathId,
}

impl Reason {
    /// A short name for people: `AS path length`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnlyPath => "only path",
            Self::LongLived => "not long-lived stale",
            Self::Local => "local",
            Self::LocalPref => "local preference",
            Self::AsPathLength => "AS path length",
            Self::Origin => "origin",
            Self::Med => "MED",
            Self::ExternalPeer => "external peer",
            Self::IgpMetric => "IGP metric",
            Self::RouterId => "router id",
            Self::ClusterListLength => "cluster list length",
            Self::PeerAddress => "peer address",
            Self::PathId => "path id",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The steps in order. Paths that are still equal after [`LAST_MULTIPATH_STEP`] share traffic.
pub(crate) const STEPS: [Reason; 12] = [
    Reason::LongLived,
    Reason::Local,
    Reason::LocalPref,
    Reason::AsPathLength,
    Reason::Origin,
    Reason::Med,
    Reason::ExternalPeer,
    Reason::IgpMetric,
    Reason::RouterId,
    Reason::ClusterListLength,
    Reason::PeerAddress,
    Reason::PathId,
];

/// Everything up to this step must be equal for multipath.
pub(crate) const LAST_MULTIPATH_STEP: Reason = Reason::IgpMetric;

/// What the decision process looks at in one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) long_lived: bool,
    pub(crate) local: bool,
    pub(crate) local_pref: u32,
    pub(crate) as_path_length: u32,
    pub(crate) origin: Origin,
    pub(crate) med: u32,
    /// The AS the path was received from, none for a path from within our own AS.
    pub(crate) neighbour_as: Option<u32>,
    pub(crate) external: bool,
    pub(crate) igp_metric: u32,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) cluster_list_length: usize,
    pub(crate) peer_address: u128,
    pub(crate) path_id: u32,
    /// Not compared: multipath takes one path per next hop.
    pub(crate) next_hop: NextHopId,
}

/// What a step compares, as a number: lower wins.
#[inline(always)]
fn rank(step: Reason, candidate: &Candidate) -> u128 {
    match step {
        Reason::OnlyPath => 0,
        Reason::LongLived => u128::from(candidate.long_lived),
        Reason::Local => u128::from(!candidate.local),
        Reason::LocalPref => u128::from(u32::MAX - candidate.local_pref),
        Reason::AsPathLength => u128::from(candidate.as_path_length),
        Reason::Origin => candidate.origin as u128,
        Reason::Med => u128::from(candidate.med),
        Reason::ExternalPeer => u128::from(!candidate.external),
        Reason::IgpMetric => u128::from(candidate.igp_metric),
        Reason::RouterId => u128::from(candidate.router_id.to_bits()),
        Reason::ClusterListLength => candidate.cluster_list_length as u128,
        Reason::PeerAddress => candidate.peer_address,
        Reason::PathId => u128::from(candidate.path_id),
    }
}

/// The outcome of [`select`], reusable so that a burst of decisions allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// Per candidate: the step that eliminated it, none for the best one.
    pub(crate) lost_at: Vec<Option<Reason>>,
    /// Indices of the candidates still in the race; after [`select`] the best one.
    alive: Vec<u32>,
    /// Lowest MED per neighbouring AS, scratch space of the MED step.
    lowest_med: Vec<(Option<u32>, u32)>,
}

impl Selection {
    /// Index of the best candidate, none if there were no candidates.
    pub(crate) fn best(&self) -> Option<usize> {
        self.alive.first().map(|&index| index as usize)
    }

    /// The step that decided between the best path and the last one to fall.
    pub(crate) fn reason(&self) -> Reason {
        self.lost_at
            .iter()
            .flatten()
            .max()
            .copied()
            .unwrap_or(Reason::OnlyPath)
    }

    /// Whether a candidate is the best one or equal to it as far as multipath is concerned.
    pub(crate) fn shares_traffic(&self, index: usize) -> bool {
        self.lost_at[index].is_none_or(|step| step > LAST_MULTIPATH_STEP)
    }
}

/// Runs the decision process over the candidates, which must all be usable (RFC 4271 §9.1.2).
pub(crate) fn select(candidates: &[Candidate], selection: &mut Selection) {
    selection.lost_at.clear();
    selection.lost_at.resize(candidates.len(), None);
    selection.alive.clear();
    selection.alive.extend(0..candidates.len() as u32);
    for eliminate in ELIMINATE {
        if selection.alive.len() <= 1 {
            return;
        }
        eliminate(candidates, selection);
    }
    // Two paths equal in every step cannot come from one table: peer and path id differ there.
    selection.alive.truncate(1);
}

/// The `count` best candidates, best first: the best of all, the best of the others, and so on.
///
/// MED makes more of it than a sort: who is out of the way may have hidden another one.
pub(crate) fn best_of(candidates: &[Candidate], count: usize) -> Vec<usize> {
    let mut left = candidates.to_vec();
    let mut positions: Vec<usize> = (0..candidates.len()).collect();
    let mut selection = Selection::default();
    let mut best = Vec::with_capacity(count);
    while best.len() < count {
        select(&left, &mut selection);
        let Some(index) = selection.best() else { break };
        left.remove(index);
        best.push(positions.remove(index));
    }
    best
}

/// Orders two paths of one multipath set: the steps that are left for them.
pub(crate) fn tie_break(a: &Candidate, b: &Candidate) -> Ordering {
    STEPS
        .iter()
        .filter(|step| **step > LAST_MULTIPATH_STEP)
        .map(|step| rank(*step, a).cmp(&rank(*step, b)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// One function per step, so that each compares just what it is about.
const ELIMINATE: [fn(&[Candidate], &mut Selection); STEPS.len()] = [
    eliminate::<0>,
    eliminate::<1>,
    eliminate::<2>,
    eliminate::<3>,
    eliminate::<4>,
    eliminate::<5>,
    eliminate::<6>,
    eliminate::<7>,
    eliminate::<8>,
    eliminate::<9>,
    eliminate::<10>,
    eliminate::<11>,
];

fn eliminate<const STEP: usize>(candidates: &[Candidate], selection: &mut Selection) {
    let step = STEPS[STEP];
    if step == Reason::Med {
        eliminate_by_med(candidates, selection);
        return;
    }
    let Selection { lost_at, alive, .. } = selection;
    let rank_of = |index: u32| rank(step, &candidates[index as usize]);
    let Some((&first, others)) = alive.split_first() else {
        return;
    };
    let first = rank_of(first);
    let mut lowest = first;
    let mut differ = false;
    for &index in others {
        let rank = rank_of(index);
        differ |= rank != first;
        lowest = lowest.min(rank);
    }
    if !differ {
        return;
    }
    alive.retain(|&index| {
        let stays = rank_of(index) == lowest;
        if !stays {
            lost_at[index as usize] = Some(step);
        }
        stays
    });
}

fn eliminate_by_med(candidates: &[Candidate], selection: &mut Selection) {
    let Selection {
        lost_at,
        alive,
        lowest_med,
    } = selection;
    let med_of = |index: u32| candidates[index as usize].med;
    if alive.iter().all(|&index| med_of(index) == med_of(alive[0])) {
        return;
    }
    lowest_med.clear();
    for &index in alive.iter() {
        let Candidate {
            neighbour_as, med, ..
        } = candidates[index as usize];
        match lowest_med.iter_mut().find(|(asn, _)| *asn == neighbour_as) {
            Some((_, lowest)) => *lowest = med.min(*lowest),
            None => lowest_med.push((neighbour_as, med)),
        }
    }
    alive.retain(|&index| {
        let candidate = &candidates[index as usize];
        let stays = lowest_med.contains(&(candidate.neighbour_as, candidate.med));
        if !stays {
            lost_at[index as usize] = Some(Reason::Med);
        }
        stays
    });
}

#[cfg(test)]
mod tests;
