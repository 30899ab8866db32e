//! What is checked before a path takes part in the decision process (RFC 4271 §9.1.2, §6.3).

use std::net::IpAddr;

use bgp_wire::{Attributes, NextHop, Prefix};

use crate::path::Ineligible;
use crate::peer::{DEFAULT_LOCAL_PREF, PeerSession, RibConfig};
use crate::policy::Subject;
use crate::reflection;

/// What holds for all paths of one announcement, whatever their prefix.
pub(crate) fn check(
    config: &RibConfig,
    session: &PeerSession,
    attributes: &Attributes,
    next_hop: NextHop,
) -> Option<Ineligible> {
    let own_as = |asn: &u32| *asn == config.asn;
    let own_as_count = attributes.as_path().asns().filter(own_as).count();
    if own_as_count > usize::from(session.allow_own_as) {
        return Some(Ineligible::AsLoop);
    }
    if !session.kind.is_external()
        && let Some(reason) = reflection::check_loop(config, attributes)
    {
        return Some(reason);
    }
    is_own(config, session, next_hop.addr()).then_some(Ineligible::OwnNextHop)
}

fn is_own(config: &RibConfig, session: &PeerSession, address: IpAddr) -> bool {
    session.local_v4.map(IpAddr::V4) == Some(address)
        || session.local_v6.map(IpAddr::V6) == Some(address)
        || config.own_addresses.contains(&address)
}

/// The import policy's word on one prefix, unless the path is refused for another reason.
pub(crate) fn apply_policy(
    session: &PeerSession,
    prefix: Prefix,
    (attributes, next_hop): (&Attributes, Option<IpAddr>),
    refused: Option<Ineligible>,
) -> Option<Ineligible> {
    match refused {
        None | Some(Ineligible::Policy) => {
            let subject = Subject {
                prefix,
                is_local: false,
                peer_is_external: session.kind.is_external(),
                attributes,
                local_pref: attributes.local_pref().unwrap_or(DEFAULT_LOCAL_PREF),
                next_hop,
            };
            let is_accepted = session.import.evaluate(&subject).is_accepted();
            (!is_accepted).then_some(Ineligible::Policy)
        }
        Some(
            Ineligible::AsLoop
            | Ineligible::OriginatorLoop
            | Ineligible::ClusterLoop
            | Ineligible::OwnNextHop
            | Ineligible::UnreachableNextHop,
        ) => refused,
    }
}

#[cfg(test)]
mod tests;
