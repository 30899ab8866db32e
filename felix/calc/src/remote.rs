//! Whose addresses are where, from the objects of address management: the source of routes where
//! BGP does not tell them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::facts::{Claim, Holders, Node};

/// The nodes that have blocks and borrowed addresses, as next hops by destination.
///
/// Blocks are where their confirmed affinity says; an address of a block that is in use on another
/// node has a way of its own (Calico behaviour).
pub(crate) fn next_hops(
    this: &str,
    nodes: &BTreeMap<String, Node>,
    claims: &BTreeMap<String, Claim>,
    holders: &BTreeMap<String, Holders>,
) -> BTreeMap<IpNet, IpAddr> {
    let at = |node: &str, destination: IpNet| {
        let node = nodes.get(node).filter(|_| node != this)?;
        Some((destination, node.address_like(destination.addr())?))
    };
    let blocks = claims
        .values()
        .filter_map(|claim| at(&claim.node, claim.cidr));
    let borrowed = holders.values().flat_map(|block| &block.nodes);
    let borrowed = borrowed.filter_map(|(address, node)| at(node, IpNet::from(*address)));
    blocks.chain(borrowed).collect()
}

/// What is in use on other nodes, whether or not it is known where they are.
pub(crate) fn ranges(
    this: &str,
    claims: &BTreeMap<String, Claim>,
    holders: &BTreeMap<String, Holders>,
) -> BTreeSet<IpNet> {
    let blocks = claims.values().map(|claim| claim.cidr);
    let borrowed = holders.values().flat_map(|block| &block.nodes);
    let borrowed = borrowed.filter(|(_, node)| *node != this);
    blocks
        .chain(borrowed.map(|(address, _)| IpNet::from(*address)))
        .collect()
}
