//! The full mesh between nodes.

use std::net::IpAddr;

use super::policies::Both;
use super::sessions::Sessions;
use super::{Cluster, in_name, waits_for};
use crate::facts::Node;
use crate::{NextHopMode, PeerKind, PeerSpec, Problem, SessionOptions};

impl Cluster<'_> {
    /// One session with every other node, for every family that both have an address of
    /// (RFC 4760); over IPv4 where both have it. Route reflectors are outside the mesh, on both
    /// sides (Calico behaviour). Filters have no part in it.
    pub(super) fn mesh(&self, this: &Node, sessions: &mut Sessions<'_>) {
        if !self.mesh_enabled() || this.cluster_id.is_some() {
            return;
        }
        let policies = sessions.policies.with(&[]);
        let password = self.defaults.mesh_password.as_ref();
        let password = password.map(|at| (at, "spec.nodeMeshPassword"));
        for (name, node) in self.nodes.iter().filter(|(name, _)| *name != self.name) {
            if node.cluster_id.is_some() {
                continue;
            }
            if node.addresses().next().is_none() {
                sessions.problems.push(without_address(name));
            }
            let shared = shared_addresses(this, node);
            if let Some((own, address)) = shared.first().copied() {
                let spec = PeerSpec {
                    ipv4: shared.iter().any(|(_, theirs)| theirs.is_ipv4()),
                    ipv6: shared.iter().any(|(_, theirs)| theirs.is_ipv6()),
                    ..self.mesh_peer((name, node), own, address, &policies)
                };
                sessions.add(format!("Mesh_{}", in_name(address)), spec, password);
            }
        }
    }

    fn mesh_peer(
        &self,
        (name, node): (&str, &Node),
        own: IpAddr,
        address: IpAddr,
        policies: &Both,
    ) -> PeerSpec {
        PeerSpec {
            object: format!("Node/{name}"),
            kind: PeerKind::NodeMesh,
            address,
            port: self.listen_port_of(name),
            remote_as: self.asn_of(node),
            local_as: None,
            ipv4: address.is_ipv4(),
            ipv6: address.is_ipv6(),
            passive: waits_for(own, address),
            source: Some(own),
            keepalive: None,
            restart_time: self.defaults.mesh_restart,
            multihop: false,
            ttl_security: None,
            reflector_client: false,
            allow_own_as: 0,
            next_hop: NextHopMode::Auto,
            password: None,
            options: SessionOptions {
                add_path: true,
                ..SessionOptions::default()
            },
            import: policies.import.clone(),
            export: policies.export.clone(),
        }
    }
}

/// Pairs of addresses of one family, own and theirs, IPv4 first.
/// A node that claims our own address is a problem told elsewhere, not a peer.
pub(super) fn shared_addresses(this: &Node, node: &Node) -> Vec<(IpAddr, IpAddr)> {
    node.addresses()
        .filter_map(|theirs| Some((this.address_like(theirs)?, theirs)))
        .filter(|(own, theirs)| own != theirs)
        .collect()
}

fn without_address(node: &str) -> Problem {
    Problem {
        object: format!("Node/{node}"),
        field: "metadata.annotations".to_owned(),
        problem: "the node has no address, so there is no mesh session with it".to_owned(),
        remedy: "start the agent there, or annotate the node with projectcalico.org/IPv4Address"
            .to_owned(),
    }
}
