//! What this node announces as its own.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::Origin;
use crate::facts::{Node, Services};
use crate::routes::{Tables, pool_of};

/// Label of nodes that announce no service addresses (Calico behaviour).
const NO_SERVICES: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The prefixes this node announces: confirmed blocks whose drop route is in the kernel, blocks of
/// one address whose pod route is, pod and tunnel addresses no block of this node covers, and the
/// ranges of service addresses, which never are in the kernel.
///
/// Nothing inside an own block is announced (Calico behaviour: its export filter, aggregation).
/// What `disableBGPExport` hides is the business of the policies, because a filter may show it.
pub(crate) fn originate(
    tables: &Tables,
    programmed: &BTreeSet<IpNet>,
    services: &Services,
) -> BTreeMap<IpNet, Origin> {
    let blocks = tables.blocks.keys().map(|block| (*block, Origin::Block));
    let borrowed = |host: &IpNet| {
        !tables.blocks.keys().any(|block| block.contains(host))
            && pool_of(&tables.pools, *host).is_some_and(|p| !p.disabled)
    };
    let pods = tables.owners.keys().map(|address| IpNet::from(*address));
    let pods = pods.filter(borrowed).map(|host| (host, Origin::Borrowed));
    let in_kernel = blocks
        .chain(pods)
        .filter(|(prefix, _)| programmed.contains(prefix));
    // These are on a device, which needs no route of ours.
    let tunnels = tables
        .own_tunnels
        .iter()
        .map(|address| IpNet::from(*address));
    let tunnels = tunnels
        .filter(borrowed)
        .map(|host| (host, Origin::Borrowed));
    let services = services
        .announced
        .iter()
        .filter(|_| announces_services(&tables.node))
        .map(|range| (*range, Origin::Services));
    services.chain(tunnels).chain(in_kernel).collect()
}

fn announces_services(node: &Node) -> bool {
    node.labels.get(NO_SERVICES).map(String::as_str) != Some("true")
}
