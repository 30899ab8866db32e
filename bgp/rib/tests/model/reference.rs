//! What the RIB should do, written as directly as the RFCs have it and without regard to cost.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use bgp_rib::{
    LocalPath, LongLived, NextHopMode, PeerCounts, PeerKind, PeerSession, Reachability, RibConfig,
};
use bgp_wire::capability::Role;
use bgp_wire::{Attributes, AttributesBuilder, Community, Family, NextHop, Prefix};

use crate::policies::{Asked, PolicyModel, make};

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
    pub(crate) import: PolicyModel,
    pub(crate) export: PolicyModel,
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

    fn own_as(&self, session: &PeerSession) -> u32 {
        session.local_as.unwrap_or(self.config.asn)
    }

    /// What counts of a path, none where it is refused, and the rule of the policy to name.
    pub(crate) fn imported(
        &self,
        prefix: Prefix,
        path: &Path,
    ) -> (Option<AttributesBuilder>, Option<&'static str>) {
        let Some(peer) = path.peer.map(|peer| &self.peers[&peer]) else {
            return (Some(path.fields.clone()), None);
        };
        let session = &peer.session;
        if !self.is_sound(peer, path) {
            return (None, None);
        }
        let is_external = session.kind == PeerKind::Ebgp;
        let leaving = Community::GRACEFUL_SHUTDOWN;
        let local_pref = if is_external && path.fields.communities.contains(&leaving) {
            0
        } else {
            path.fields.local_pref.unwrap_or(100)
        };
        let (changes, rule) = peer.import.decide(Asked {
            prefix,
            is_local: false,
            is_external,
            fields: path.fields.clone(),
            local_pref,
            next_hop: path.next_hop.map(NextHop::addr),
        });
        let fields = changes.map(|changes| {
            let mut fields = path.fields.clone();
            changes.iter().for_each(|change| make(change, &mut fields));
            if is_external && session.graceful_shutdown && !fields.communities.contains(&leaving) {
                fields.communities.push(leaving);
            }
            if is_external && faces_up(session.role) {
                fields.only_to_customer.get_or_insert(session.remote_as);
            }
            fields
        });
        (fields, rule)
    }

    /// Everything that is asked of a path before the policy.
    fn is_sound(&self, peer: &Peer, path: &Path) -> bool {
        let (session, fields) = (&peer.session, &path.fields);
        let often = |asn: u32| {
            let count = fields.as_path.view().asns().filter(|a| *a == asn).count();
            count > usize::from(session.allow_own_as)
        };
        let cluster = self.config.cluster_id.unwrap_or(self.config.router_id);
        let own_addresses = [
            session.local_v4.map(IpAddr::from),
            session.local_v6.map(IpAddr::from),
        ];
        let via = path.next_hop.map(NextHop::addr);
        let via_self = own_addresses.contains(&via)
            || via.is_some_and(|via| self.config.own_addresses.contains(&via));
        if often(self.config.asn) || session.local_as.is_some_and(often) || via_self {
            return false;
        }
        if session.kind != PeerKind::Ebgp {
            return fields.originator_id != Some(self.config.router_id)
                && !fields.cluster_list.contains(&cluster);
        }
        let leaked = match (session.role, fields.only_to_customer) {
            (Some(Role::Provider | Role::RouteServer), Some(_)) => true,
            (Some(Role::Peer), Some(asn)) => asn != session.remote_as,
            _ => false,
        };
        let first = fields.as_path.view().asns().next();
        let is_first_wrong = session.enforce_first_as
            && session.role != Some(Role::RouteServerClient)
            && first != Some(session.remote_as);
        let lacks_policy = session.require_policy && !peer.import.is_given();
        !leaked && !is_first_wrong && !lacks_policy
    }

    pub(crate) fn local_pref(&self, path: &Path) -> u32 {
        let leaving = Community::GRACEFUL_SHUTDOWN;
        match self.kind_of(path) {
            Some(PeerKind::Ebgp) if path.fields.communities.contains(&leaving) => 0,
            _ => path.fields.local_pref.unwrap_or(100),
        }
    }

    fn is_long_lived(&self, path: &Path) -> bool {
        let marked = path.fields.communities.contains(&Community::LLGR_STALE);
        let source = path.peer.map(|peer| &self.peers[&peer].session);
        marked && source.is_some_and(|session| session.long_lived_offered)
    }

    /// The paths that share the traffic of a prefix, best first, with what counts of them.
    pub(crate) fn best(&self, prefix: Prefix) -> Vec<Path> {
        let usable = self.usable(prefix);
        let best = self.best_of(usable.iter().collect());
        best.into_iter().cloned().collect()
    }

    fn accepted(&self, prefix: Prefix) -> Vec<Path> {
        let all = self.paths.get(&prefix).map_or(&[][..], Vec::as_slice);
        let accepted = all.iter().filter_map(|path| {
            let fields = self.imported(prefix, path).0?;
            Some(Path {
                fields,
                ..path.clone()
            })
        });
        accepted.collect()
    }

    fn usable(&self, prefix: Prefix) -> Vec<Path> {
        let mut usable = self.accepted(prefix);
        usable.retain(|path| self.metric(path).is_some());
        usable
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
        if !self.peers.contains_key(&id) {
            return counts;
        }
        for (&prefix, paths) in self.paths.iter().filter(|(p, _)| p.family() == family) {
            let its = |path: &&Path| path.peer == Some(id);
            counts.received += paths.iter().filter(its).count();
            counts.accepted += self.accepted(prefix).iter().filter(its).count();
            counts.best += self.best(prefix).iter().filter(its).count();
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
        if !family.is_some_and(|family| family.add_path_send) {
            return self.told_of_best(id, prefix).into_iter().collect();
        }
        let limit = session
            .add_path_limit
            .map_or(usize::MAX, |l| l.get().into());
        let usable = self.usable(prefix);
        let mut left: Vec<&Path> = usable.iter().collect();
        left.retain(|path| self.words(id, prefix, path).is_some());
        let mut told = Vec::new();
        while told.len() < limit && !left.is_empty() {
            let best = self.best_of(left.clone())[0];
            left.retain(|path| *path != best);
            told.push(best);
        }
        told.retain(|path| path.peer != Some(id));
        let words = told.iter().map(|path| self.words(id, prefix, path));
        words.flatten().collect()
    }

    /// How a peer is told the best path, unless it is its own.
    pub(crate) fn told_of_best(&self, id: u32, prefix: Prefix) -> Option<(NextHop, Attributes)> {
        let best = self.best(prefix).into_iter().next()?;
        if best.peer == Some(id) {
            return None;
        }
        self.words(id, prefix, &best)
    }

    /// How a peer is told of a path, if it may know it.
    fn words(&self, id: u32, prefix: Prefix, best: &Path) -> Option<(NextHop, Attributes)> {
        let to = &self.peers[&id];
        let from = best.peer.map(|peer| &self.peers[&peer].session);
        let is_external = to.session.kind == PeerKind::Ebgp;
        let role = to.session.role.filter(|_| is_external);
        // An internal source, and whether it is in the AS that the peer is in.
        let inside = from.filter(|from| from.kind != PeerKind::Ebgp && !is_external);
        let of_other_as = inside.filter(|from| self.own_as(from) != self.own_as(&to.session));
        let reflected = inside.filter(|from| self.own_as(from) == self.own_as(&to.session));
        let carries = |community| best.fields.communities.contains(&community);
        let stays = carries(Community::NO_EXPORT) || carries(Community::NO_EXPORT_SUBCONFED);
        let is_bound = carries(Community::NO_ADVERTISE)
            || stays && (is_external || of_other_as.is_some())
            || role == Some(Role::Peer) && carries(Community::NO_PEER)
            || faces_up(role) && best.fields.only_to_customer.is_some();
        let between_others = to.session.kind == PeerKind::Ibgp
            && reflected.is_some_and(|from| from.kind == PeerKind::Ibgp);
        let lacks_policy = is_external && to.session.require_policy && !to.export.is_given();
        if from.is_some() && is_bound || between_others || lacks_policy {
            return None;
        }
        let told = match to.session.long_lived {
            LongLived::Told => true,
            LongLived::LeastPreferred => !is_external,
            LongLived::Withheld => false,
        };
        if self.is_long_lived(best) && !told {
            return None;
        }
        let next_hop = self.next_hop(&to.session, prefix, best, reflected.is_some())?;
        let asked = Asked {
            prefix,
            is_local: from.is_none(),
            is_external,
            fields: best.fields.clone(),
            local_pref: self.local_pref(best),
            next_hop: best.next_hop.map(NextHop::addr),
        };
        let mut fields = best.fields.clone();
        if from.is_some() && (is_external || of_other_as.is_some()) {
            fields.med = None;
            fields.originator_id = None;
            fields.cluster_list = Vec::new();
            fields.ext_communities.retain(|c| c.0[0] & 0x40 == 0);
        }
        fields.local_pref = Some(asked.local_pref);
        if let Some(from) = of_other_as {
            fields.as_path.prepend(self.own_as(from), 1);
        }
        if let Some(from) = reflected {
            fields.originator_id = fields.originator_id.or(Some(from.remote_router_id));
            let cluster = self.config.cluster_id.unwrap_or(self.config.router_id);
            fields.cluster_list.insert(0, cluster);
        }
        // The policy matches what is held and changes what is told.
        let changes = to.export.decide(asked).0?;
        changes.iter().for_each(|change| make(change, &mut fields));
        self.finish(&to.session, self.is_long_lived(best), &mut fields);
        Some((next_hop, fields.build().unwrap()))
    }

    fn finish(&self, to: &PeerSession, long_lived: bool, fields: &mut AttributesBuilder) {
        let is_external = to.kind == PeerKind::Ebgp;
        let role = to.role.filter(|_| is_external);
        if is_external {
            let count = 1 + usize::from(to.prepend);
            fields.as_path.prepend(self.own_as(to), count);
            fields.local_pref = None;
        }
        if matches!(role, Some(Role::Provider | Role::Peer | Role::RouteServer)) {
            fields.only_to_customer.get_or_insert(self.own_as(to));
        }
        if long_lived && to.long_lived == LongLived::LeastPreferred {
            fields.local_pref = Some(0);
            if !fields.communities.contains(&Community::NO_EXPORT) {
                fields.communities.push(Community::NO_EXPORT);
            }
        }
        if to.graceful_shutdown {
            if !fields.communities.contains(&Community::GRACEFUL_SHUTDOWN) {
                fields.communities.push(Community::GRACEFUL_SHUTDOWN);
            }
            if !is_external {
                fields.local_pref = Some(0);
            }
        }
    }

    fn next_hop(
        &self,
        to: &PeerSession,
        prefix: Prefix,
        best: &Path,
        is_reflected: bool,
    ) -> Option<NextHop> {
        to.params.family(prefix.family())?;
        let own = match prefix {
            Prefix::V4(_) => to.local_v4.map(IpAddr::from),
            Prefix::V6(_) => to.local_v6.map(IpAddr::from),
        };
        let is_external = to.kind == PeerKind::Ebgp;
        let keeps = match to.next_hop {
            NextHopMode::Keep => true,
            NextHopMode::Default => !is_external,
            NextHopMode::OwnAddress => is_reflected,
        };
        let next_hop = match best.next_hop {
            Some(received) if keeps => received,
            Some(_) | None => NextHop::from(own?),
        };
        (next_hop.addr().is_ipv4() == prefix.addr().is_ipv4()).then_some(next_hop)
    }
}

/// Towards a provider, a lateral peer or a route server.
fn faces_up(role: Option<Role>) -> bool {
    matches!(
        role,
        Some(Role::Customer | Role::Peer | Role::RouteServerClient)
    )
}

fn keep_lowest<K: Ord>(paths: &mut Vec<&Path>, key: impl Fn(&Path) -> K) {
    if let Some(lowest) = paths.iter().map(|path| key(path)).min() {
        paths.retain(|path| key(path) == lowest);
    }
}
