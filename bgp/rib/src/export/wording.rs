//! The words in which a peer is told a path (RFC 4271 §5.1, RFC 4456 §8).

use std::net::IpAddr;

use bgp_wire::attribute::ExtCommunity;
use bgp_wire::capability::Role;
use bgp_wire::{
    Attributes, AttributesBuilder, Community, EncodeError, NextHop, Prefix, ReachBlock,
};
use bytes::BytesMut;

use super::{Treatment, Withheld};
use crate::path::{PeerId, Said};
use crate::peer::{LongLived, NextHopMode, Peer, Shared, mark_leaving};
use crate::reflection;
use crate::rib::ToldPath;

impl Treatment {
    /// The next hop a peer treated so is told (RFC 4271 §5.1.3).
    pub(crate) fn next_hop(&self, shared: &Shared, prefix: Prefix, said: Said) -> Option<NextHop> {
        let family = self.params.family(prefix.family())?;
        let received = shared
            .attrs
            .next_hops
            .get(shared.attrs.get(said.attrs).next_hop)
            .and_then(beyond_link);
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
                let is_reflected = |source: &Peer| self.reflects(shared, &source.session);
                if shared.peer(said.peer).is_some_and(is_reflected) {
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
            (_, NextHop::V6 { .. }) => Some(next_hop),
        }
    }

    /// Whether an external peer sends directly to a next hop: both are on the link we share.
    fn reaches(&self, next_hop: IpAddr) -> bool {
        self.recipient != Some(next_hop) && self.shared_subnets.iter().any(|s| s.contains(next_hop))
    }

    fn own_next_hop(&self, prefix: Prefix) -> Option<NextHop> {
        let link_local = self.link.map(|link| link.own);
        // RFC 2545 §3 has a global address first; BIRD and FRR take a link-local one alone too.
        let v6 = match (self.local_v6, link_local) {
            (Some(global), link_local) => Some(NextHop::V6 { global, link_local }),
            (None, Some(global)) => Some(NextHop::from(IpAddr::V6(global))),
            (None, None) => None,
        };
        let v4 = self.local_v4.map(NextHop::V4);
        match prefix {
            // On a link with link-local addresses there need be no IPv4 address at all.
            Prefix::V4(_) if link_local.is_some() && self.takes_v6(prefix) => v6,
            Prefix::V4(_) => v4.or(v6),
            Prefix::V6(_) => v6,
        }
    }

    /// The peer takes IPv6 next hops for IPv4 routes (RFC 8950).
    fn takes_v6(&self, prefix: Prefix) -> bool {
        let family = self.params.family(prefix.family());
        family.is_some_and(|family| family.extended_next_hop)
    }

    /// The attributes a peer treated so is told (RFC 4271 §5.1, RFC 4456 §8).
    pub(crate) fn attributes(
        &self,
        shared: &Shared,
        said: Said,
    ) -> Result<Attributes, EncodeError> {
        let set = shared.attrs.get(said.attrs);
        let mut told = shared.counting(said.peer, set).to_builder();
        if !self.kind.is_external() {
            told.local_pref = Some(shared.local_pref(said.peer, set));
        }
        if let Some(Peer { session, .. }) = shared.peer(said.peer) {
            let left = self.leaves_as(shared, session);
            if self.kind.is_external() || left.is_some() {
                strip_for_another_as(&mut told);
            } else if !session.kind.is_external() {
                reflection::mark(&mut told, &shared.config, session.remote_router_id);
            }
            if let Some(left) = left {
                told.as_path.prepend(left, 1);
            }
        }
        self.changes.apply(said.changes, &mut told);
        self.finish(shared, said, &mut told);
        told.build()
    }

    /// A path that is admitted as a peer treated so is told it, with this identifier of ours.
    ///
    /// # Errors
    /// It has no next hop for the session, or does not fit into a message.
    pub(crate) fn told_path(
        &self,
        shared: &Shared,
        prefix: Prefix,
        said: Said,
        id: u16,
    ) -> Result<ToldPath, Withheld> {
        let next_hop = self.next_hop(shared, prefix, said);
        let next_hop = next_hop.ok_or(Withheld::NoNextHop)?;
        let too_long = |_: EncodeError| Withheld::TooLong;
        let attributes = self.attributes(shared, said).map_err(too_long)?;
        ReachBlock::new(&attributes, next_hop, prefix.family(), &self.params)
            .and_then(|block| block.pack(&[prefix.into()], &mut BytesMut::new()))
            .map_err(too_long)?;
        Ok(ToldPath {
            prefix,
            path_id: id.into(),
            from: (said.peer != PeerId::LOCAL).then_some(said.peer),
            next_hop,
            attributes,
        })
    }

    /// What no policy has a say in.
    fn finish(&self, shared: &Shared, said: Said, told: &mut AttributesBuilder) {
        if self.kind.is_external() {
            let count = 1 + usize::from(self.prepend);
            told.as_path.prepend(self.own_as(shared), count);
            told.local_pref = None;
        }
        // RFC 9234 §5: whoever is told from above, or from the side, tells only customers.
        let is_downward = matches!(
            self.role,
            Some(Role::Provider | Role::Peer | Role::RouteServer)
        );
        if is_downward && told.only_to_customer.is_none() {
            told.only_to_customer = Some(self.own_as(shared));
        }
        if self.long_lived == LongLived::LeastPreferred && shared.is_long_lived(said) {
            // Who does not know the mark must not prefer the path, nor pass it on (RFC 9494 §4.6).
            told.local_pref = Some(0);
            if !told.communities.contains(&Community::NO_EXPORT) {
                told.communities.push(Community::NO_EXPORT);
            }
        }
        if self.graceful_shutdown {
            mark_leaving(told);
            if !self.kind.is_external() {
                told.local_pref = Some(0);
            }
        }
    }
}

/// Takes away what a peer said for one AS only.
fn strip_for_another_as(told: &mut AttributesBuilder) {
    // RFC 4271 §5.1.4: a received MED goes no further than our own AS.
    told.med = None;
    told.originator_id = None;
    told.cluster_list.clear();
    // RFC 4360 §6.
    told.ext_communities
        .retain(|community: &ExtCommunity| community.is_transitive());
}

/// What of a received next hop means something beyond the link it was received on (RFC 2545 §3).
fn beyond_link(received: NextHop) -> Option<NextHop> {
    match received {
        NextHop::V4(_) => Some(received),
        NextHop::V6 { global, .. } => {
            let is_link_local = global.is_unicast_link_local() || global.is_unspecified();
            (!is_link_local).then_some(NextHop::V6 {
                global,
                link_local: None,
            })
        }
    }
}
