//! The full mesh between nodes.

use std::net::IpAddr;

use super::{Cluster, Sessions, in_name, waits_for};
use crate::facts::Node;
use crate::{PeerKind, PeerSpec, Problem};

impl Cluster<'_> {
    /// One session with every other node, for every family that both have an address of
    /// (RFC 4760); over IPv4 where both have it. Route reflectors are outside the mesh, on both sides (Calico behaviour).
    pub(super) fn mesh(&self, this: &Node, sessions: &mut Sessions, problems: &mut Vec<Problem>) {
        if !self.mesh_enabled() || this.cluster_id.is_some() {
            return;
        }
        if self.defaults.mesh_password {
            problems.push(Problem {
                object: "BGPConfiguration/default".to_owned(),
                field: "spec.nodeMeshPassword".to_owned(),
                problem: "this version has no BGP passwords, so there is no mesh".to_owned(),
                remedy: "remove the password".to_owned(),
            });
            return;
        }
        for (name, node) in self.nodes.iter().filter(|(name, _)| *name != self.name) {
            if node.cluster_id.is_some() {
                continue;
            }
            if node.addresses().next().is_none() {
                problems.push(without_address(name));
            }
            // A node that claims our own address is a problem told elsewhere, not a peer.
            let shared: Vec<_> = node
                .addresses()
                .filter_map(|theirs| Some((this.address_like(theirs)?, theirs)))
                .filter(|(own, theirs)| own != theirs)
                .collect();
            if let Some((own, address)) = shared.first().copied() {
                let spec = PeerSpec {
                    ipv4: shared.iter().any(|(_, theirs)| theirs.is_ipv4()),
                    ipv6: shared.iter().any(|(_, theirs)| theirs.is_ipv6()),
                    ..self.mesh_peer(name, node, own, address)
                };
                sessions.add(format!("Mesh_{}", in_name(address)), spec);
            }
        }
    }

    fn mesh_peer(&self, name: &str, node: &Node, own: IpAddr, address: IpAddr) -> PeerSpec {
        PeerSpec {
            object: format!("Node/{name}"),
            kind: PeerKind::NodeMesh,
            address,
            port: self.listen_port_of(name),
            remote_as: self.asn_of(node),
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
        }
    }
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
