//! Route reflection: who hears of what from whom, and how loops are prevented (RFC 4456).

use std::net::Ipv4Addr;

use bgp_wire::{Attributes, AttributesBuilder};

use crate::path::Ineligible;
use crate::peer::{PeerKind, RibConfig};

/// Whether a path from one kind of peer is passed to another (RFC 4456 §6, RFC 4271 §9.2.1).
///
/// External paths go to everybody, clients' paths too, those of non-clients to clients and
/// external peers.
pub(crate) fn passes(from: PeerKind, to: PeerKind) -> bool {
    match (from, to) {
        (PeerKind::Ebgp | PeerKind::IbgpClient, _)
        | (PeerKind::Ibgp, PeerKind::Ebgp | PeerKind::IbgpClient) => true,
        (PeerKind::Ibgp, PeerKind::Ibgp) => false,
    }
}

/// Whether a path from an internal peer has been here before (RFC 4456 §8).
pub(crate) fn check_loop(config: &RibConfig, attributes: &Attributes) -> Option<Ineligible> {
    if attributes.originator_id() == Some(config.router_id) {
        return Some(Ineligible::OriginatorLoop);
    }
    let cluster_id = config.cluster_id();
    attributes
        .cluster_list()
        .any(|cluster| cluster == cluster_id)
        .then_some(Ineligible::ClusterLoop)
}

/// Adds to reflected attributes who brought the path into the AS, and our cluster (RFC 4456 §8).
pub(crate) fn mark(told: &mut AttributesBuilder, config: &RibConfig, source: Ipv4Addr) {
    told.originator_id.get_or_insert(source);
    told.cluster_list.insert(0, config.cluster_id());
}

#[cfg(test)]
mod tests;
