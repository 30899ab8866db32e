//! Whose addresses are where, from the objects of address management: the source of routes where
//! BGP is switched off.

use std::collections::BTreeMap;
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
