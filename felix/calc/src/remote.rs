//! Whose addresses are where, from the objects of address management: the source of routes where
//! BGP does not tell them.
//!
//! Blocks are where their confirmed affinity says. An address of a block that is in use on another
//! node has a way of its own (Calico behaviour); which these are the node that has them says itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::facts::{Claim, Node};

/// What other nodes have.
pub(crate) struct Known<'a> {
    pub(crate) this: &'a str,
    pub(crate) nodes: &'a BTreeMap<String, Node>,
    /// Blocks of other nodes.
    pub(crate) claims: &'a BTreeMap<String, Claim>,
    /// What other nodes say they have besides.
    pub(crate) borrowed: &'a BTreeMap<String, BTreeSet<IpAddr>>,
    /// Ranges of all pools, if all are known.
    pub(crate) pools: Option<Vec<IpNet>>,
}

impl<'a> Known<'a> {
    /// What is in use on other nodes, and on which, whether or not it is known where these are.
    ///
    /// Nobody has borrowed what lies in no pool, or in a block of its own.
    pub(crate) fn places(&self) -> Vec<(IpNet, &'a str)> {
        let claims = self.claims.values();
        let mut places: Vec<(IpNet, &str)> = claims
            .map(|claim| (claim.cidr, claim.node.as_str()))
            .collect();
        if self.borrowed.is_empty() {
            return places;
        }
        let mut blocks: BTreeMap<&str, Vec<IpNet>> = BTreeMap::new();
        for (cidr, node) in &places {
            blocks.entry(node).or_default().push(*cidr);
        }
        let within =
            |ranges: &[IpNet], host: &IpNet| ranges.iter().any(|range| range.contains(host));
        let others = self.borrowed.iter().filter(|(node, _)| *node != self.this);
        for (node, addresses) in others {
            let own = blocks.get(node.as_str()).map_or(&[][..], Vec::as_slice);
            let hosts = addresses.iter().map(|address| IpNet::from(*address));
            let hosts = hosts.filter(|host| {
                let pools = self.pools.as_ref();
                pools.is_none_or(|pools| within(pools, host)) && !within(own, host)
            });
            places.extend(hosts.map(|host| (host, node.as_str())));
        }
        places
    }

    /// The next hops to these. Of two nodes that say they have the same address, the last by name
    /// counts, on every node.
    pub(crate) fn next_hops(&self, places: &[(IpNet, &str)]) -> BTreeMap<IpNet, IpAddr> {
        let hop = |(destination, node): &(IpNet, &str)| {
            let node = self.nodes.get(*node).filter(|_| *node != self.this)?;
            Some((*destination, node.address_like(destination.addr())?))
        };
        places.iter().filter_map(hop).collect()
    }
}
