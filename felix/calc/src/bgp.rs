//! The BGP section: who we are, whom we talk to, what we announce.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use sha2::{Digest, Sha256};

use crate::facts::{Advertisement, BgpDefaults, Node, Peer};
use crate::{Local, Password, PeerSpec, Problem, Refused, RouterIdRule};
use policies::{Policies, own_rules};
use sessions::Sessions;

pub(crate) use originate::originate;
pub(crate) use policies::Ingredients;

mod explicit;
mod interface;
mod mesh;
mod originate;
mod policies;
mod sessions;

/// AS number of the cluster when nothing sets one (Calico behaviour).
const DEFAULT_ASN: u32 = 64512;
/// Port of BGP (RFC 4271 §8.2.1).
const DEFAULT_PORT: u16 = 179;

/// What the section is computed from, besides routes.
#[derive(Clone, Copy)]
pub(crate) struct Cluster<'a> {
    /// Name of this node.
    pub(crate) name: &'a str,
    pub(crate) nodes: &'a BTreeMap<String, Node>,
    pub(crate) defaults: &'a BgpDefaults,
    /// BGPConfiguration `node.<name>` by node name.
    pub(crate) overrides: &'a BTreeMap<String, BgpDefaults>,
    pub(crate) peers: &'a BTreeMap<String, Peer>,
    pub(crate) policies: Ingredients<'a>,
    /// Passwords by name of the Secret and key.
    pub(crate) secrets: &'a BTreeMap<String, BTreeMap<String, Password>>,
    /// Where the Secrets are.
    pub(crate) namespace: &'a str,
}

/// The peers of this node.
pub(crate) struct Peers {
    pub(crate) specs: BTreeMap<String, PeerSpec>,
    pub(crate) refused: BTreeMap<String, Refused>,
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Cluster<'a> {
    /// This node's facts; empty ones when its Node is not known.
    fn this(&self) -> Node {
        self.nodes.get(self.name).cloned().unwrap_or_default()
    }

    fn asn_of(&self, node: &Node) -> u32 {
        node.asn.or(self.defaults.asn).unwrap_or(DEFAULT_ASN)
    }

    fn listen_port_of(&self, node: &str) -> u16 {
        let own = self.overrides.get(node).and_then(|o| o.listen_port);
        own.or(self.defaults.listen_port).unwrap_or(DEFAULT_PORT)
    }

    fn mesh_enabled(&self) -> bool {
        self.defaults.mesh.unwrap_or(true)
    }

    /// The node that has an address, the lowest name if several claim it.
    fn node_at(&self, address: IpAddr) -> Option<(&'a str, &'a Node)> {
        self.nodes
            .iter()
            .find(|(_, node)| node.address_like(address) == Some(address))
            .map(|(name, node)| (name.as_str(), node))
    }

    /// Communities of what is told; those of the node replace those of the cluster (Calico
    /// behaviour).
    fn advertisements(&self) -> &'a [Advertisement] {
        let own = self.overrides.get(self.name);
        let own = own.and_then(|own| own.advertisements.as_deref());
        own.or(self.defaults.advertisements.as_deref())
            .unwrap_or_default()
    }

    /// The local side of all sessions.
    pub(crate) fn local(&self, rule: RouterIdRule) -> Local {
        let this = self.this();
        let ipv4 = this.ipv4.map(|n| n.addr());
        Local {
            asn: self.asn_of(&this),
            router_id: match (rule, ipv4) {
                (RouterIdRule::Fixed(id), _) => id,
                (RouterIdRule::NodeAddress, Some(address)) => address,
                (RouterIdRule::NodeAddress, None) | (RouterIdRule::Hash, _) => hashed_id(self.name),
            },
            ipv4,
            ipv6: this.ipv6.map(|n| n.addr()),
            subnets: this.subnets().collect(),
            listen_port: self.listen_port_of(self.name),
            bind: self.defaults.bind,
            cluster_id: this.cluster_id,
        }
    }

    /// All peers of this node.
    pub(crate) fn peers(&self) -> Peers {
        let this = self.this();
        let own = own_rules(
            self.policies.pools,
            self.advertisements(),
            &self.defaults.services,
            this.cluster_id.is_some(),
        );
        let policies = Policies::new(self.policies, own);
        let mut sessions = Sessions::new(policies, self.secrets, self.namespace);
        self.check_nodes(&this, &mut sessions.problems);
        if this.addresses().next().is_some() {
            self.explicit(&this, &mut sessions);
            self.mesh(&this, &mut sessions);
        }
        Peers {
            specs: sessions.specs,
            refused: sessions.refused,
            problems: sessions.problems,
        }
    }

    fn check_nodes(&self, this: &Node, problems: &mut Vec<Problem>) {
        if this.addresses().next().is_none() {
            problems.push(Problem {
                object: format!("Node/{}", self.name),
                field: "metadata.annotations".to_owned(),
                problem: "this node has no address, so it has no BGP session".to_owned(),
                remedy: "annotate it with projectcalico.org/IPv4Address or projectcalico.org/IPv6Address"
                    .to_owned(),
            });
        }
        let mut holders: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
        for (name, node) in self.nodes {
            for address in node.addresses() {
                holders.entry(address).or_default().push(name);
            }
        }
        for (address, names) in holders.into_iter().filter(|(_, names)| names.len() > 1) {
            problems.push(Problem {
                object: format!("Node/{}", names.join(", Node/")),
                field: "metadata.annotations".to_owned(),
                problem: format!("{} have the address {address}", names.join(" and ")),
                remedy: "give every node an address of its own".to_owned(),
            });
        }
    }
}

/// Router id of a node without IPv4 address: the first four bytes of the SHA-256 of its name, kept
/// below the multicast range (Calico behaviour: `CALICO_ROUTER_ID=hash`).
fn hashed_id(node: &str) -> Ipv4Addr {
    let digest = Sha256::digest(node.as_bytes());
    let first = if digest[0] > 223 {
        digest[0] - 32
    } else {
        digest[0]
    };
    Ipv4Addr::new(first, digest[1], digest[2], digest[3])
}

/// An address as part of a name: `192_0_2_1`.
fn in_name(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "_")
}

/// The passive side of a pair of nodes is the one whose peer has the greater address as text.
/// Any total order would do among ourselves; this one is Calico's, so that nodes of both can mesh.
fn waits_for(own: IpAddr, peer: IpAddr) -> bool {
    peer.to_string() > own.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashed_router_id_is_the_one_calico_computes() {
        assert_eq!(hashed_id("kube-master"), Ipv4Addr::new(25, 79, 212, 8));
    }

    #[test]
    fn hashed_router_id_stays_below_multicast() {
        for i in 0..500 {
            assert!(hashed_id(&format!("node-{i}")).octets()[0] < 224);
        }
    }

    #[test]
    fn passive_rule_compares_text() {
        let (nine, ten) = ("10.0.0.9".parse().unwrap(), "10.0.0.10".parse().unwrap());
        assert!(waits_for(ten, nine));
        assert!(!waits_for(nine, ten));
    }
}
