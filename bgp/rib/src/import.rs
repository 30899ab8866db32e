//! What is checked before a path takes part in the decision process (RFC 4271 §9.1.2, §6.3), and
//! what the import policy makes of it.
//!
//! A path refers to the attributes that count. Where a policy changed them, the set they are in
//! remembers which one was received, so a new policy starts from what the peer said and a path
//! that no policy changes costs nothing for it.

use std::net::IpAddr;

use bgp_wire::capability::Role;
use bgp_wire::{Attributes, NextHop, Prefix};

use crate::attrs::{AttrSet, Attrs};
use crate::nexthop::link_local;
use crate::path::{AttrId, Ineligible};
use crate::peer::{PeerSession, RibConfig};
use crate::policy::{Change, Subject};
use crate::reflection;

/// Judges the paths of one peer. What holds for a received set is worked out once for as long as
/// the same set comes again, as it does within an UPDATE.
#[derive(Debug)]
pub(crate) struct Importer<'a> {
    config: &'a RibConfig,
    session: &'a PeerSession,
    received: AttrId,
    refused: Option<Ineligible>,
    /// What the policy's changes made of the received set; none where that is too long.
    rewritten: Vec<(Vec<&'a Change>, Option<Attributes>)>,
}

impl<'a> Importer<'a> {
    pub(crate) fn new(config: &'a RibConfig, session: &'a PeerSession) -> Self {
        Self {
            config,
            session,
            received: AttrId::NONE,
            refused: None,
            rewritten: Vec::new(),
        }
    }

    /// The set that counts for a path to this prefix, with one reference counted, and why the path
    /// must not be used. `received` must be in use.
    pub(crate) fn judge(
        &mut self,
        attrs: &mut Attrs,
        prefix: Prefix,
        received: AttrId,
    ) -> (AttrId, Option<Ineligible>) {
        let as_received = |attrs: &mut Attrs, refused| {
            attrs.add_reference(received);
            (received, refused)
        };
        let set = attrs.get(received);
        let next_hop = attrs.next_hops.get(set.next_hop);
        if self.received != received {
            self.received = received;
            self.refused = check(self.config, self.session, &set.attributes, next_hop);
            self.rewritten.clear();
        }
        let session = self.session;
        if self.refused.is_some() || !session.import.is_given() {
            return as_received(attrs, self.refused);
        }
        let subject = subject(session, prefix, set, next_hop);
        let judgement = session.import.evaluate(&subject);
        if !judgement.is_accepted() {
            return as_received(attrs, Some(Ineligible::Policy));
        }
        if judgement.changes.is_empty() {
            return as_received(attrs, None);
        }
        match self.rewrite(set, judgement.changes) {
            Some(attributes) => (attrs.acquire_rewritten(attributes, received), None),
            None => as_received(attrs, Some(Ineligible::TooLong)),
        }
    }

    fn rewrite(&mut self, set: &AttrSet, changes: Vec<&'a Change>) -> Option<&Attributes> {
        let known = self.rewritten.iter().position(|(c, _)| *c == changes);
        let index = known.unwrap_or_else(|| {
            let attributes = rewritten(self.session, set, &changes);
            self.rewritten.push((changes, attributes));
            self.rewritten.len() - 1
        });
        self.rewritten[index].1.as_ref()
    }
}

/// What an import policy is asked about a path of this session.
pub(crate) fn subject<'a>(
    session: &PeerSession,
    prefix: Prefix,
    received: &'a AttrSet,
    next_hop: Option<NextHop>,
) -> Subject<'a> {
    let is_external = session.kind.is_external();
    Subject {
        prefix,
        is_local: false,
        peer_is_external: is_external,
        attributes: &received.attributes,
        local_pref: received.local_pref(is_external),
        next_hop: next_hop.map(NextHop::addr),
    }
}

fn rewritten(session: &PeerSession, set: &AttrSet, changes: &[&Change]) -> Option<Attributes> {
    let mut fields = set.attributes.to_builder();
    if session.kind.is_external() {
        // Only what the policy sets counts (RFC 4271 §5.1.5).
        fields.local_pref = None;
    }
    for change in changes {
        change.apply(&mut fields);
    }
    fields.build().ok()
}

/// What holds for all paths of one announcement, whatever their prefix.
fn check(
    config: &RibConfig,
    session: &PeerSession,
    attributes: &Attributes,
    next_hop: Option<NextHop>,
) -> Option<Ineligible> {
    if has_own_as(config, session, attributes) {
        return Some(Ineligible::AsLoop);
    }
    if session.kind.is_external() {
        if let Some(reason) = check_external(session, attributes) {
            return Some(reason);
        }
    } else if let Some(reason) = reflection::check_loop(config, attributes) {
        return Some(reason);
    }
    let own_link_local = session.link.map(|link| link.own);
    let is_own = next_hop.is_some_and(|next_hop| {
        let on_link = link_local(next_hop);
        is_own(config, session, next_hop.addr()) || on_link.is_some() && on_link == own_link_local
    });
    is_own.then_some(Ineligible::OwnNextHop)
}

/// Either of the two AS numbers that we may have counts (RFC 4271 §9.1.2).
fn has_own_as(config: &RibConfig, session: &PeerSession, attributes: &Attributes) -> bool {
    let (mut main, mut local) = (0, 0);
    for asn in attributes.as_path().asns() {
        main += usize::from(asn == config.asn);
        local += usize::from(Some(asn) == session.local_as);
    }
    main.max(local) > usize::from(session.allow_own_as)
}

fn check_external(session: &PeerSession, attributes: &Attributes) -> Option<Ineligible> {
    let role = session.role();
    let is_first_checked = session.enforce_first_as && role != Some(Role::RouteServerClient);
    if is_first_checked && attributes.neighbor_as() != Some(session.remote_as) {
        return Some(Ineligible::FirstAs);
    }
    // RFC 9234 §5: what a customer has from above, or a peer from another one, is a leak.
    let marked_by = attributes.only_to_customer();
    let is_leak = match role {
        Some(Role::Provider | Role::RouteServer) => marked_by.is_some(),
        Some(Role::Peer) => marked_by.is_some_and(|asn| asn != session.remote_as),
        Some(Role::Customer | Role::RouteServerClient) | None => false,
    };
    if is_leak {
        return Some(Ineligible::RouteLeak);
    }
    session
        .lacks(&session.import)
        .then_some(Ineligible::NoPolicy)
}

fn is_own(config: &RibConfig, session: &PeerSession, address: IpAddr) -> bool {
    // A peer on this very host means the host and not us, where we forward nothing ourselves: a reflector beside the
    // agent of its node.
    if session.remote_addr == address && !config.forwards {
        return false;
    }
    session.local_v4.map(IpAddr::V4) == Some(address)
        || session.local_v6.map(IpAddr::V6) == Some(address)
        || config.own_addresses.contains(&address)
}

#[cfg(test)]
mod tests;
