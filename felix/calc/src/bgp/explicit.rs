//! Peers named by BGPPeer objects.

use std::net::IpAddr;

use super::{Cluster, DEFAULT_PORT, Sessions, in_name, waits_for};
use crate::facts::{Node, Peer, Scope};
use crate::{PeerKind, PeerSpec, Problem};

impl Cluster<'_> {
    /// Peers of this node that objects ask for.
    /// Global ones come first: they win over those for this node only, and over the mesh
    /// (Calico behaviour).
    pub(super) fn explicit(
        &self,
        this: &Node,
        sessions: &mut Sessions,
        problems: &mut Vec<Problem>,
    ) {
        let (global, own): (Vec<_>, Vec<_>) = self
            .peers
            .iter()
            .filter(|(_, peer)| self.concerns_us(this, &peer.scope))
            .partition(|(_, peer)| matches!(peer.scope, Scope::Global));
        for (object, peer) in global.into_iter().chain(own) {
            // A peering for all nodes with one of them is no peering for that one.
            if this.address_like(peer.address) == Some(peer.address) {
                continue;
            }
            match self.explicit_peer(this, object, peer) {
                Ok((name, spec)) => sessions.add(name, spec),
                Err(Refusal {
                    field,
                    problem,
                    remedy,
                }) => problems.push(Problem {
                    object: format!("BGPPeer/{object}"),
                    field: field.to_owned(),
                    problem,
                    remedy: remedy.to_owned(),
                }),
            }
        }
    }

    fn concerns_us(&self, this: &Node, scope: &Scope) -> bool {
        match scope {
            Scope::Global => true,
            Scope::Node(name) => name == self.name,
            Scope::Selector(selector) => selector.matches(&this.labels),
        }
    }

    fn explicit_peer(
        &self,
        this: &Node,
        object: &str,
        peer: &Peer,
    ) -> Result<(String, PeerSpec), Refusal> {
        let own = this.address_like(peer.address).ok_or_else(|| Refusal {
            field: "spec.peerIP",
            problem: format!("this node has no address of the family of {}", peer.address),
            remedy: "give the node one, or select other nodes",
        })?;
        let node = self.node_at(peer.address);
        let asn = peer.asn.or_else(|| node.map(|(_, n)| self.asn_of(n)));
        let remote_as = asn.ok_or_else(|| Refusal {
            field: "spec.asNumber",
            problem: format!(
                "the AS number of {} is not known, it is no node",
                peer.address
            ),
            remedy: "set asNumber",
        })?;
        let port = peer
            .port
            .or_else(|| node.map(|(name, _)| self.listen_port_of(name)));
        let global = matches!(peer.scope, Scope::Global);
        let internal = remote_as == self.asn_of(this);
        let peer_cluster = node.and_then(|(_, n)| n.cluster_id);
        let spec = PeerSpec {
            object: format!("BGPPeer/{object}"),
            kind: if global {
                PeerKind::GlobalPeer
            } else {
                PeerKind::NodePeer
            },
            address: peer.address,
            port: port.unwrap_or(DEFAULT_PORT),
            remote_as,
            // A router with one session should get the routes of both families.
            ipv4: this.ipv4.is_some(),
            ipv6: this.ipv6.is_some(),
            // Both ends of a peering between nodes that is for all nodes have it.
            passive: global && node.is_some() && waits_for(own, peer.address),
            source: peer.use_node_address.then_some(own),
            keepalive: peer.keepalive,
            restart_time: peer.restart_time,
            multihop: peer.ttl_security.is_none(),
            ttl_security: peer.ttl_security,
            reflector_client: internal
                && this.cluster_id.is_some()
                && peer_cluster != this.cluster_id,
            allow_own_as: peer.allow_own_as,
        };
        Ok((name(global, peer.address, peer.port), spec))
    }
}

struct Refusal {
    field: &'static str,
    problem: String,
    remedy: &'static str,
}

fn name(global: bool, address: IpAddr, port: Option<u16>) -> String {
    let prefix = if global { "Global" } else { "Node" };
    match port {
        Some(port) => format!("{prefix}_{}_port_{port}", in_name(address)),
        None => format!("{prefix}_{}", in_name(address)),
    }
}
