//! What the RIB should do, written as directly as the RFCs have it and without regard to cost.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use bgp_rib::{
    LocalPath, LongLived, NextHopMode, PeerCounts, PeerKind, PeerSession, Reachability, RibConfig,
};
use bgp_wire::{Attributes, AttributesBuilder, Community, Family, NextHop, Prefix};

use crate::policies::PolicyChoice;

/// A path as somebody said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) peer: Option<u32>,
    pub(crate) path_id: u32,
    pub(crate) fields: AttributesBuilder,
    pub(crate) next_hop: Option<NextHop>,
    pub(crate) stale: bool,
}

/// A peer, up or with paths that are kept for it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) session: PeerSession,
    pub(crate) import: PolicyChoice,
    pub(crate) export: PolicyChoice,
}

pub(crate) struct Reference {
    pub(crate) config: RibConfig,
    pub(crate) peers: BTreeMap<u32, Peer>,
    pub(crate) paths: BTreeMap<Prefix, Vec<Path>>,
    pub(crate) reachability: HashMap<IpAddr, Reachability>,
}

/// What a peer holds: where packets go and what it was told about each path.
pub(crate) type Held = BTreeMap<Prefix, Vec<(NextHop, Attributes)>>;

/// Puts paths to a prefix into an order that does not depend on their identifiers.
pub(crate) fn sort(told: &mut [(NextHop, Attributes)]) {
    told.sort_by_key(|(next_hop, attributes)| (*next_hop, attributes.wire().to_vec()));
}

impl Reference {
    pub(crate) fn new(config: RibConfig) -> Self {
        Self {
            config,
            peers: BTreeMap::new(),
            paths: BTreeMap::new(),
            reachability: HashMap::new(),
        }
    }

    pub(crate) fn announce(&mut self, prefix: Prefix, path: Path) {
        let paths = self.paths.entry(prefix).or_default();
        paths.retain(|old| (old.peer, old.path_id) != (path.peer, path.path_id));
        paths.push(path);
    }

    pub(crate) fn withdraw(&mut self, prefix: Prefix, peer: Option<u32>, path_id: u32) {
        if let Some(paths) = self.paths.get_mut(&prefix) {
            paths.retain(|path| (path.peer, path.path_id) != (peer, path_id));
        }
    }

    pub(crate) fn originate(&mut self, prefix: Prefix, local: Option<&LocalPath>) {
        self.withdraw(prefix, None, 0);
        if let Some(local) = local {
            let fields = AttributesBuilder {
                origin: local.origin,
                med: local.med,
                local_pref: local.local_pref,
                communities: local.communities.clone(),
                large_communities: local.large_communities.clone(),
                ..AttributesBuilder::default()
            };
            let path = Path {
                peer: None,
                path_id: 0,
                fields,
                next_hop: local.next_hop.map(NextHop::from),
                stale: false,
            };
            self.announce(prefix, path);
        }
    }

    pub(crate) fn retain_paths(&mut self, mut keep: impl FnMut(Prefix, &mut Path) -> bool) {
        for (prefix, paths) in &mut self.paths {
            paths.retain_mut(|path| keep(*prefix, path));
        }
    }

    fn kind_of(&self, path: &Path) -> Option<PeerKind> {
        Some(self.peers[&path.peer?].session.kind)
    }

    fn metric(&self, path: &Path) -> Option<u32> {
        let reachability = path
            .next_hop
            .and_then(|next_hop| self.reachability.get(&next_hop.addr()));
        match reachability {
            Some(Reachability::Reachable { metric }) => Some(*metric),
            Some(Reachability::Unreachable) => None,
            None => Some(0),
        }
    }

    fn is_usable(&self, prefix: Prefix, path: &Path) -> bool {
        self.is_accepted(prefix, path) && self.metric(path).is_some()
    }

    fn is_accepted(&self, prefix: Prefix, path: &Path) -> bool {
        let Some(peer) = path.peer.map(|peer| &self.peers[&peer]) else {
            return true;
        };
        let session = &peer.session;
        let path_as = path.fields.as_path.view();
        let own_as = path_as.asns().filter(|asn| *asn == self.config.asn);
        let cluster = self.config.cluster_id.unwrap_or(self.config.router_id);
        let looped = session.kind != PeerKind::Ebgp
            && (path.fields.originator_id == Some(self.config.router_id)
                || path.fields.cluster_list.contains(&cluster));
        let own_addresses = [
            session.local_v4.map(IpAddr::from),
            session.local_v6.map(IpAddr::from),
        ];
        let via = path.next_hop.map(NextHop::addr);
        let via_self = own_addresses.contains(&via)
            || via.is_some_and(|via| self.config.own_addresses.contains(&via));
        own_as.count() <= usize::from(session.allow_own_as)
            && !looped
            && !via_self
            && peer.import.accepts(prefix, false)
    }

    pub(crate) fn local_pref(&self, path: &Path) -> u32 {
        match self.kind_of(path) {
            Some(PeerKind::Ebgp) => {
                let leaving = path
                    .fields
                    .communities
                    .contains(&Community::GRACEFUL_SHUTDOWN);
                if leaving { 0 } else { 100 }
            }
            Some(PeerKind::Ibgp | PeerKind::IbgpClient) | None => {
                path.fields.local_pref.unwrap_or(100)
            }
        }
    }

    fn is_long_lived(&self, path: &Path) -> bool {
        let marked = path.fields.communities.contains(&Community::LLGR_STALE);
        let source = path.peer.map(|peer| &self.peers[&peer].session);
        marked && source.is_some_and(|session| session.long_lived_offered)
    }

    /// The paths that share the traffic of a prefix, best first.
    pub(crate) fn best(&self, prefix: Prefix) -> Vec<&Path> {
        self.best_of(self.usable(prefix))
    }

    fn usable(&self, prefix: Prefix) -> Vec<&Path> {
        let all = self.paths.get(&prefix).map_or(&[][..], Vec::as_slice);
        let usable = all.iter().filter(|path| self.is_usable(prefix, path));
        usable.collect()
    }

    /// RFC 4271 §9.1.2.2 step by step.
    fn best_of<'a>(&self, mut left: Vec<&'a Path>) -> Vec<&'a Path> {
        keep_lowest(&mut left, |path| self.is_long_lived(path));
        keep_lowest(&mut left, |path| path.peer.is_some());
        keep_lowest(&mut left, |path| u32::MAX - self.local_pref(path));
        keep_lowest(&mut left, |path| path.fields.as_path.view().hops());
        keep_lowest(&mut left, |path| path.fields.origin);
        let neighbor = |path: &Path| path.fields.as_path.view().neighbor_as();
        let med = |path: &Path| path.fields.med.unwrap_or(0);
        let before_med = left.clone();
        left.retain(|path| {
            let beats = |other: &&Path| neighbor(other) == neighbor(path) && med(other) < med(path);
            !before_med.iter().any(beats)
        });
        keep_lowest(&mut left, |path| self.kind_of(path) != Some(PeerKind::Ebgp));
        keep_lowest(&mut left, |path| self.metric(path));
        left.sort_by_key(|path| {
            let session = path.peer.map(|peer| &self.peers[&peer].session);
            let router_id = session.map(|session| session.remote_router_id);
            (
                path.fields.originator_id.or(router_id),
                path.fields.cluster_list.len(),
                session.map(|session| session.remote_addr),
                path.path_id,
            )
        });
        let mut next_hops = Vec::new();
        left.retain(|path| {
            let is_new = !next_hops.contains(&path.next_hop);
            next_hops.push(path.next_hop);
            is_new
        });
        left.truncate(self.config.multipath.get().into());
        left
    }

    /// How much a peer has to do with, by counting.
    pub(crate) fn counts(&self, id: u32, is_up: bool, family: Family) -> PeerCounts {
        let mut counts = PeerCounts::default();
        for (&prefix, paths) in self.paths.iter().filter(|(p, _)| p.family() == family) {
            let its = |path: &&Path| path.peer == Some(id);
            let accepted = |path: &&Path| self.is_accepted(prefix, path);
            counts.received += paths.iter().filter(its).count();
            counts.accepted += paths.iter().filter(its).filter(accepted).count();
            counts.best += self.best(prefix).into_iter().filter(its).count();
            if is_up {
                counts.advertised += self.told(id, prefix).len();
            }
        }
        counts
    }

    /// What a peer that is up should hold.
    pub(crate) fn held_by(&self, id: u32) -> Held {
        let told = self.paths.keys().map(|prefix| {
            let mut told = self.told(id, *prefix);
            sort(&mut told);
            (*prefix, told)
        });
        told.filter(|(_, told)| !told.is_empty()).collect()
    }

    /// The best path, or with ADD-PATH the best ones of those that may be told up to the limit;
    /// the peer's own are left out last.
    fn told(&self, id: u32, prefix: Prefix) -> Vec<(NextHop, Attributes)> {
        let session = &self.peers[&id].session;
        let family = session.params.family(prefix.family());
        let mut told = Vec::new();
        if family.is_some_and(|family| family.add_path_send) {
            let limit = session
                .add_path_limit
                .map_or(usize::MAX, |l| l.get().into());
            let mut left = self.usable(prefix);
            left.retain(|path| self.words(id, prefix, path).is_some());
            while told.len() < limit && !left.is_empty() {
                let best = self.best_of(left.clone())[0];
                left.retain(|path| *path != best);
                told.push(best);
            }
        } else {
            told.extend(self.best(prefix).first());
        }
        told.retain(|path| path.peer != Some(id));
        let words = told.iter().map(|path| self.words(id, prefix, path));
        words.flatten().collect()
    }

    /// How a peer is told of a path, if it may know it.
    fn words(&self, id: u32, prefix: Prefix, best: &Path) -> Option<(NextHop, Attributes)> {
        let to = &self.peers[&id];
        let from = self.kind_of(best);
        let external = to.session.kind == PeerKind::Ebgp;
        let internal_source = from.is_some_and(|from| from != PeerKind::Ebgp);
        if from == Some(PeerKind::Ibgp) && to.session.kind == PeerKind::Ibgp
            || !to.export.accepts(prefix, best.peer.is_none())
        {
            return None;
        }
        to.session.params.family(prefix.family())?;
        let carries = |community| best.fields.communities.contains(&community);
        let bound = carries(Community::NO_ADVERTISE)
            || external && carries(Community::NO_EXPORT)
            || external && carries(Community::NO_EXPORT_SUBCONFED);
        if bound && best.peer.is_some() {
            return None;
        }
        let long_lived = self.is_long_lived(best);
        let told = match to.session.long_lived {
            LongLived::Told => true,
            LongLived::LeastPreferred => !external,
            LongLived::Withheld => false,
        };
        if long_lived && !told {
            return None;
        }
        let own = match prefix {
            Prefix::V4(_) => to.session.local_v4.map(IpAddr::from),
            Prefix::V6(_) => to.session.local_v6.map(IpAddr::from),
        };
        let keeps = match to.session.next_hop {
            NextHopMode::Keep => true,
            NextHopMode::Default => !external,
            NextHopMode::OwnAddress => !external && internal_source,
        };
        let next_hop = match best.next_hop {
            Some(received) if keeps => received,
            Some(_) | None => NextHop::from(own?),
        };
        if next_hop.addr().is_ipv4() != prefix.addr().is_ipv4() {
            return None;
        }
        let mut fields = best.fields.clone();
        if external {
            fields
                .as_path
                .prepend(self.config.asn, 1 + usize::from(to.session.prepend));
            fields.local_pref = None;
            fields.originator_id = None;
            fields.cluster_list = Vec::new();
            if best.peer.is_some() {
                fields.med = None;
            }
        } else {
            fields.local_pref = Some(self.local_pref(best));
            if long_lived && to.session.long_lived == LongLived::LeastPreferred {
                fields.local_pref = Some(0);
                if !carries(Community::NO_EXPORT) {
                    fields.communities.push(Community::NO_EXPORT);
                }
            }
            if internal_source {
                let source: Ipv4Addr = self.peers[&best.peer?].session.remote_router_id;
                fields.originator_id = fields.originator_id.or(Some(source));
                let cluster = self.config.cluster_id.unwrap_or(self.config.router_id);
                fields.cluster_list.insert(0, cluster);
            }
        }
        Some((next_hop, fields.build().unwrap()))
    }
}

fn keep_lowest<K: Ord>(paths: &mut Vec<&Path>, key: impl Fn(&Path) -> K) {
    if let Some(lowest) = paths.iter().map(|path| key(path)).min() {
        paths.retain(|path| key(path) == lowest);
    }
}
