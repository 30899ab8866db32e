//! What a kind of peer is told about a path, and in which words (RFC 4271 §9.1.3, §5.1; RFC 1997).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::sync::Arc;

use bgp_wire::capability::Role;
use bgp_wire::{NextHop, Params, Prefix};

use crate::attrs::Communities;
use crate::decision::best_of;
use crate::key::{FamilyIndex, Key, Unit};
use crate::path::{PathFlags, PeerId, Said};
use crate::peer::{Link, LongLived, NextHopMode, PeerKind, PeerSession, Shared, reaches_upward};
use crate::policy::{Judgement, Policy, Subject};
use crate::reflection;
use crate::table::Slot;

mod changes;
mod withheld;
mod wording;

use changes::ChangeLists;
pub use withheld::Withheld;

/// Everything about a peer that changes what it is sent. Peers with equal treatment form an
/// update group and get the same octets, except for the paths they sent themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Treatment {
    pub(crate) kind: PeerKind,
    pub(crate) params: Params,
    local_v4: Option<Ipv4Addr>,
    local_v6: Option<Ipv6Addr>,
    link: Option<Link>,
    next_hop: NextHopMode,
    /// Empty for internal peers, to whom it makes no difference, so that it splits no group.
    shared_subnets: Arc<[Prefix]>,
    /// The peer itself, which is never told its own address as next hop; only where that could
    /// happen, for the same reason.
    recipient: Option<IpAddr>,
    prepend: u8,
    /// How many paths per prefix are told with ADD-PATH, all when absent; absent without it.
    path_limit: Option<NonZeroU8>,
    local_as: Option<u32>,
    role: Option<Role>,
    graceful_shutdown: bool,
    /// It is told nothing for want of a policy.
    lacks_policy: bool,
    long_lived: LongLived,
    pub(crate) policy: Arc<Policy>,
    changes: ChangeLists,
}

/// A path that is told with ADD-PATH.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToldPath {
    /// Our path identifier.
    pub(crate) id: u16,
    pub(crate) said: Said,
    /// New, or in other words than at the last decision.
    pub(crate) is_changed: bool,
}

impl Treatment {
    pub(crate) fn of(session: &PeerSession) -> Self {
        let shared_subnets = if session.kind.is_external() {
            Arc::clone(&session.shared_subnets)
        } else {
            Arc::default()
        };
        let mut families = session.params.families.iter();
        let path_limit = session
            .add_path_limit
            .filter(|_| families.any(|family| family.add_path_send));
        Self {
            kind: session.kind,
            params: session.params.clone(),
            local_v4: session.local_v4,
            local_v6: session.local_v6,
            link: session.link,
            next_hop: session.next_hop,
            recipient: (!shared_subnets.is_empty()).then_some(session.remote_addr),
            shared_subnets,
            prepend: session.prepend,
            path_limit,
            local_as: session.local_as,
            role: session.role(),
            graceful_shutdown: session.graceful_shutdown,
            lacks_policy: session.lacks(&session.export),
            long_lived: session.long_lived,
            policy: Arc::clone(&session.export),
            changes: ChangeLists::default(),
        }
    }

    /// Whether the session carries a family at all.
    pub(crate) fn carries(&self, family: FamilyIndex) -> bool {
        self.params.family(family.family()).is_some()
    }

    /// Whether a peer treated so is told several paths to a prefix of a family (RFC 7911).
    pub(crate) fn tells_paths(&self, family: FamilyIndex) -> bool {
        let family = self.params.family(family.family());
        family.is_some_and(|family| family.add_path_send)
    }

    /// The paths to a prefix that a peer treated so is told with ADD-PATH, except for those that
    /// it said itself: the best ones up to its limit of those that it may know, in no order.
    ///
    /// A path of its own counts for the limit too, or the members of a group would be told
    /// different ones.
    pub(crate) fn told_paths<K: Key>(&self, shared: &Shared, slot: &Slot<K>) -> Vec<ToldPath> {
        let (mut told, mut candidates) = (Vec::new(), Vec::new());
        let prefix = slot.key.into();
        for path in slot.paths.iter().filter(|path| path.id != 0) {
            let said = path.said();
            let Ok(candidate) = shared.candidate(path) else {
                continue;
            };
            if let Ok(said) = self.admits(shared, prefix, said) {
                let is_changed = path.flags.has(PathFlags::CHANGED);
                candidates.push(candidate);
                told.push(ToldPath {
                    id: path.id,
                    said,
                    is_changed,
                });
            }
        }
        match self.path_limit.map(|limit| usize::from(limit.get())) {
            Some(limit) if limit < told.len() => {
                let best = best_of(&candidates, limit).into_iter();
                best.map(|index| told[index]).collect()
            }
            Some(_) | None => told,
        }
    }

    /// Everything a peer treated so is told about a prefix, each path with its identifier, 0
    /// without ADD-PATH.
    pub(crate) fn tells_all<K: Key>(&self, shared: &Shared, slot: &Slot<K>) -> Vec<(Said, u16)> {
        if self.tells_paths(K::INDEX) {
            let told = self.told_paths(shared, slot).into_iter();
            return told.map(|path| (path.said, path.id)).collect();
        }
        let said = self.tells(shared, slot);
        said.map(|said| (said, 0)).into_iter().collect()
    }

    /// What a peer treated so is told about a prefix or one path to it, unless it said so itself.
    pub(crate) fn says<U: Unit>(
        &self,
        shared: &Shared,
        slot: &Slot<U::Key>,
        unit: U,
    ) -> Option<Said> {
        let Some(id) = unit.path_id() else {
            return self.tells(shared, slot);
        };
        let mut paths = self.told_paths(shared, slot).into_iter();
        paths.find(|told| told.id == id).map(|told| told.said)
    }

    /// Our AS as a peer treated so sees it.
    fn own_as(&self, shared: &Shared) -> u32 {
        self.local_as.unwrap_or(shared.config.asn)
    }

    /// What a peer treated so is told about a prefix, unless it said so itself.
    pub(crate) fn tells<K: Key>(&self, shared: &Shared, slot: &Slot<K>) -> Option<Said> {
        let said = slot.best()?.said();
        self.admits(shared, slot.key.into(), said).ok()
    }

    /// What a peer treated so is told about a path, or why it is not.
    pub(crate) fn admits(
        &self,
        shared: &Shared,
        prefix: Prefix,
        said: Said,
    ) -> Result<Said, Withheld> {
        self.admits_unasked(shared, prefix, said)?;
        if !self.policy.is_given() {
            return Ok(said);
        }
        let judgement = self.judge(shared, prefix, said);
        if !judgement.is_accepted() {
            return Err(Withheld::Policy);
        }
        let changes = self.changes.number(&judgement.changes);
        Ok(Said { changes, ..said })
    }

    /// The export policy's word on a path.
    pub(crate) fn judge(&self, shared: &Shared, prefix: Prefix, said: Said) -> Judgement<'_> {
        let set = shared.attrs.get(said.attrs);
        let next_hop = shared.attrs.next_hops.get(set.next_hop);
        self.policy.evaluate(&Subject {
            prefix,
            is_local: said.peer == PeerId::LOCAL,
            peer_is_external: self.kind.is_external(),
            attributes: &shared.counting(said.peer, set),
            local_pref: shared.local_pref(said.peer, set),
            next_hop: next_hop.map(NextHop::addr),
        })
    }

    /// Everything but the policy.
    pub(crate) fn admits_unasked(
        &self,
        shared: &Shared,
        prefix: Prefix,
        said: Said,
    ) -> Result<(), Withheld> {
        if said.peer != PeerId::LOCAL {
            self.admits_learned(shared, said)?;
        }
        if self.next_hop(shared, prefix, said).is_none() {
            return Err(Withheld::NoNextHop);
        }
        if self.lacks_policy {
            return Err(Withheld::NoPolicy);
        }
        Ok(())
    }

    /// Communities bind who receives them; what is originated here carries them for others.
    fn admits_learned(&self, shared: &Shared, said: Said) -> Result<(), Withheld> {
        let Some(source) = shared.peer(said.peer) else {
            return Err(Withheld::NotReflected);
        };
        if !reflection::passes(source.session.kind, self.kind)
            && self.leaves_as(shared, &source.session).is_none()
        {
            return Err(Withheld::NotReflected);
        }
        let set = shared.attrs.get(said.attrs);
        if set.communities.has(Communities::NO_ADVERTISE) {
            return Err(Withheld::NoAdvertise);
        }
        let stays_inside = set.communities.has(Communities::NO_EXPORT)
            || set.communities.has(Communities::NO_EXPORT_SUBCONFED);
        let leaves = self.kind.is_external() || self.leaves_as(shared, &source.session).is_some();
        if stays_inside && leaves {
            return Err(Withheld::NoExport);
        }
        if self.role == Some(Role::Peer) && set.communities.has(Communities::NO_PEER) {
            return Err(Withheld::NoPeer);
        }
        if self.role.is_some_and(reaches_upward)
            && shared.only_to_customer(said.peer, set).is_some()
        {
            return Err(Withheld::OnlyToCustomer);
        }
        let knows = match self.long_lived {
            LongLived::Told => true,
            LongLived::LeastPreferred => !self.kind.is_external(),
            LongLived::Withheld => false,
        };
        if !knows && shared.is_long_lived(said) {
            return Err(Withheld::LongLived);
        }
        Ok(())
    }

    /// The AS that a path from this internal source leaves on its way to an internal peer treated
    /// so, where the two sessions are not of the same AS.
    fn leaves_as(&self, shared: &Shared, source: &PeerSession) -> Option<u32> {
        let is_internal = !source.kind.is_external() && !self.kind.is_external();
        let source_as = source.own_as(&shared.config);
        (is_internal && source_as != self.own_as(shared)).then_some(source_as)
    }

    /// Whether a path is passed on within one AS, from an internal peer to an internal one.
    fn reflects(&self, shared: &Shared, source: &PeerSession) -> bool {
        let is_internal = !source.kind.is_external() && !self.kind.is_external();
        is_internal && self.leaves_as(shared, source).is_none()
    }
}

#[cfg(test)]
mod tests;
