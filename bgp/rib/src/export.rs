//! What a kind of peer is told about a path, and in which words (RFC 4271 §9.1.3, §5.1; RFC 1997).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::sync::Arc;

use bgp_wire::{Attributes, EncodeError, NextHop, Params, Prefix};

use crate::attrs::Communities;
use crate::decision::best_of;
use crate::key::{FamilyIndex, Key, Unit};
use crate::path::{PathFlags, PeerId, Said};
use crate::peer::{NextHopMode, PeerKind, PeerSession, Shared};
use crate::policy::{Policy, Subject};
use crate::reflection;
use crate::table::Slot;

/// Why a peer is not told a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Withheld {
    /// It came from this peer.
    OwnPath,
    /// From an internal peer to an internal peer, neither of them a client (RFC 4271 §9.2.1).
    NotReflected,
    /// The path carries NO_ADVERTISE (RFC 1997).
    NoAdvertise,
    /// The path carries NO_EXPORT or NO_EXPORT_SUBCONFED, the peer is external (RFC 1997).
    NoExport,
    /// There is no next hop that the session can carry.
    NoNextHop,
    /// The peer's export policy rejects it.
    Policy,
}

impl Withheld {
    /// A short sentence part for people: `path carries NO_EXPORT`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OwnPath => "learned from this peer",
            Self::NotReflected => "learned from an internal peer, and neither is a client",
            Self::NoAdvertise => "path carries NO_ADVERTISE",
            Self::NoExport => "path carries NO_EXPORT",
            Self::NoNextHop => "no next hop that the session can carry",
            Self::Policy => "rejected by export policy",
        }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Everything about a peer that changes what it is sent. Peers with equal treatment form an
/// update group and get the same octets, except for the paths they sent themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Treatment {
    pub(crate) kind: PeerKind,
    pub(crate) params: Params,
    local_v4: Option<Ipv4Addr>,
    local_v6: Option<Ipv6Addr>,
    next_hop: NextHopMode,
    /// Empty for internal peers, to whom it makes no difference, so that it splits no group.
    shared_subnets: Arc<[Prefix]>,
    /// The peer itself, which is never told its own address as next hop; only where that could
    /// happen, for the same reason.
    recipient: Option<IpAddr>,
    prepend: u8,
    /// How many paths per prefix are told with ADD-PATH, all when absent; absent without it.
    path_limit: Option<NonZeroU8>,
    pub(crate) policy: Arc<Policy>,
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
            next_hop: session.next_hop,
            recipient: (!shared_subnets.is_empty()).then_some(session.remote_addr),
            shared_subnets,
            prepend: session.prepend,
            path_limit,
            policy: Arc::clone(&session.export),
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
            if self.admits(shared, prefix, said).is_ok() {
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

    /// What a peer treated so is told about a prefix, unless it said so itself.
    pub(crate) fn tells<K: Key>(&self, shared: &Shared, slot: &Slot<K>) -> Option<Said> {
        let said = slot.best()?.said();
        self.admits(shared, slot.key.into(), said)
            .is_ok()
            .then_some(said)
    }

    /// Whether a peer treated so is told the path.
    pub(crate) fn admits(
        &self,
        shared: &Shared,
        prefix: Prefix,
        said: Said,
    ) -> Result<(), Withheld> {
        let is_local = said.peer == PeerId::LOCAL;
        if !is_local {
            self.admits_learned(shared, said)?;
        }
        if self.next_hop(shared, prefix, said).is_none() {
            return Err(Withheld::NoNextHop);
        }
        let set = shared.attrs.get(said.attrs);
        let next_hop = shared.attrs.next_hops.get(set.next_hop);
        let subject = Subject {
            prefix,
            is_local,
            peer_is_external: self.kind.is_external(),
            attributes: &set.attributes,
            local_pref: shared.local_pref(said.peer, set),
            next_hop: next_hop.map(NextHop::addr),
        };
        if self.policy.evaluate(&subject).is_accepted() {
            Ok(())
        } else {
            Err(Withheld::Policy)
        }
    }

    /// Communities bind who receives them; what is originated here carries them for others.
    fn admits_learned(&self, shared: &Shared, said: Said) -> Result<(), Withheld> {
        let Some(source) = shared.peer(said.peer) else {
            return Err(Withheld::NotReflected);
        };
        if !reflection::passes(source.session.kind, self.kind) {
            return Err(Withheld::NotReflected);
        }
        let communities = shared.attrs.get(said.attrs).communities;
        if communities.has(Communities::NO_ADVERTISE) {
            return Err(Withheld::NoAdvertise);
        }
        let stays_inside = communities.has(Communities::NO_EXPORT)
            || communities.has(Communities::NO_EXPORT_SUBCONFED);
        if stays_inside && self.kind.is_external() {
            return Err(Withheld::NoExport);
        }
        Ok(())
    }

    /// The next hop a peer treated so is told (RFC 4271 §5.1.3).
    pub(crate) fn next_hop(&self, shared: &Shared, prefix: Prefix, said: Said) -> Option<NextHop> {
        let family = self.params.family(prefix.family())?;
        let received = shared
            .attrs
            .next_hops
            .get(shared.attrs.get(said.attrs).next_hop);
        let next_hop = match (received, self.next_hop) {
            (None, _) => self.own_next_hop(prefix)?,
            (Some(received), NextHopMode::Keep) => received,
            (Some(received), NextHopMode::Default) if self.reaches(received.addr()) => received,
            (Some(_), NextHopMode::Default | NextHopMode::OwnAddress)
                if self.kind.is_external() =>
            {
                self.own_next_hop(prefix)?
            }
            (Some(received), NextHopMode::Default) => received,
            (Some(received), NextHopMode::OwnAddress) => {
                let is_reflected = shared
                    .peer(said.peer)
                    .is_some_and(|source| !source.session.kind.is_external());
                if is_reflected {
                    received
                } else {
                    self.own_next_hop(prefix)?
                }
            }
        };
        match (prefix, next_hop) {
            (Prefix::V4(_), NextHop::V4(_)) => Some(next_hop),
            (Prefix::V4(_), NextHop::V6 { .. }) if !family.extended_next_hop => None,
            (Prefix::V6(_), NextHop::V4(_)) => None,
            // A link-local address means nothing beyond the link it was received on (RFC 2545 §3).
            (_, NextHop::V6 { global, .. }) => Some(NextHop::V6 {
                global,
                link_local: None,
            }),
        }
    }

    /// Whether an external peer sends directly to a next hop: both are on the link we share.
    fn reaches(&self, next_hop: IpAddr) -> bool {
        self.recipient != Some(next_hop) && self.shared_subnets.iter().any(|s| s.contains(next_hop))
    }

    fn own_next_hop(&self, prefix: Prefix) -> Option<NextHop> {
        let v6 = self.local_v6.map(|global| NextHop::V6 {
            global,
            link_local: None,
        });
        match prefix {
            Prefix::V4(_) => self.local_v4.map(NextHop::V4).or(v6),
            Prefix::V6(_) => v6,
        }
    }

    /// The attributes a peer treated so is told (RFC 4271 §5.1, RFC 4456 §8).
    pub(crate) fn attributes(
        &self,
        shared: &Shared,
        said: Said,
    ) -> Result<Attributes, EncodeError> {
        let set = shared.attrs.get(said.attrs);
        let mut told = set.attributes.to_builder();
        if self.kind.is_external() {
            told.as_path
                .prepend(shared.config.asn, 1 + usize::from(self.prepend));
            told.local_pref = None;
            told.originator_id = None;
            told.cluster_list.clear();
            if said.peer != PeerId::LOCAL {
                // RFC 4271 §5.1.4: a received MED goes no further than our own AS.
                told.med = None;
            }
            return told.build();
        }
        told.local_pref = Some(shared.local_pref(said.peer, set));
        if let Some(source) = shared.peer(said.peer)
            && !source.session.kind.is_external()
        {
            reflection::mark(&mut told, &shared.config, source.session.remote_router_id);
        }
        told.build()
    }
}

#[cfg(test)]
mod tests;
