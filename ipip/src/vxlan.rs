//! The VXLAN device, where hardware addresses are, and which one a gateway has.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink::{Link, Tunnel as Settings};

use crate::plan::{Observed, Op, Plan};
use crate::{Carrier, Problem, Tunnel, Vxlan};

/// Whether the device differs in something that only a new one can have.
pub(crate) fn must_be_new(tunnel: &Tunnel, wanted: &Vxlan, link: &Link) -> bool {
    let Some(Settings::Vxlan(is)) = link.tunnel else {
        return true;
    };
    let other_family = is
        .local
        .is_none_or(|local| local.is_ipv4() != tunnel.local.is_ipv4());
    is.vni != wanted.vni
        || is.port != wanted.port
        || is.external
        || is.group.is_some()
        || other_family
}

/// Plans what can be changed while the device runs; nothing when it cannot be told what to be.
pub(crate) fn change(
    tunnel: &Tunnel,
    wanted: &Vxlan,
    observed: &Observed,
    link: &Link,
    plan: &mut Plan,
) -> Option<()> {
    let Some(parent) = &observed.parent else {
        let parent = wanted.parent.clone();
        plan.problems.push(Problem::NoParent { parent });
        return None;
    };
    if link.tunnel != Some(Settings::Vxlan(settings(tunnel, wanted, parent.index))) {
        plan.ops.push(Op::ChangeVxlan);
    }
    if link.mac != Some(wanted.mac) {
        // The kernel forgets the neighbours of the device with this.
        plan.ops.push(Op::SetMac(wanted.mac));
    }
    Some(())
}

/// The device as the kernel describes it when it is right.
pub(crate) fn settings(tunnel: &Tunnel, wanted: &Vxlan, parent: u32) -> netlink::Vxlan {
    netlink::Vxlan {
        vni: wanted.vni,
        port: wanted.port,
        local: Some(tunnel.local),
        parent: Some(parent),
        ..netlink::Vxlan::default()
    }
}

/// Plans new and changed entries for the other ends: first where they are, then who they are.
/// A tunnel in user space knows by itself where they are.
pub(crate) fn other_ends(wanted: &Vxlan, carrier: Carrier, observed: &Observed, plan: &mut Plan) {
    let (mut nodes, shared) = nodes(wanted);
    plan.problems.extend(shared);
    if carrier == Carrier::User {
        nodes.clear();
    }
    let known: BTreeMap<[u8; 6], IpAddr> = observed
        .forwarding
        .iter()
        .filter(|entry| entry.permanent)
        .filter_map(|entry| Some((entry.mac, entry.node?)))
        .collect();
    let new = nodes
        .iter()
        .filter(|(mac, node)| known.get(*mac) != Some(node));
    plan.ops
        .extend(new.map(|(mac, node)| Op::SetForwarding(*mac, *node)));
    let known: BTreeMap<IpAddr, [u8; 6]> = observed
        .neighbours
        .iter()
        .filter(|neighbour| neighbour.permanent)
        .filter_map(|neighbour| Some((neighbour.address, neighbour.mac?)))
        .collect();
    let new = wanted
        .remotes
        .iter()
        .filter(|(address, remote)| known.get(*address) != Some(&remote.mac));
    plan.ops
        .extend(new.map(|(address, remote)| Op::SetNeighbour(*address, remote.mac)));
}

/// Permanent entries that are nobody's: first who they are, then where.
///
/// What the kernel learned by itself comes and goes by itself.
pub(crate) fn strangers(wanted: &Vxlan, observed: &Observed) -> Vec<Op> {
    let (nodes, _) = nodes(wanted);
    let neighbours = observed
        .neighbours
        .iter()
        .filter(|neighbour| neighbour.permanent)
        .filter(|neighbour| !wanted.remotes.contains_key(&neighbour.address))
        .map(|neighbour| Op::RemoveNeighbour(neighbour.address));
    let forwarding = observed
        .forwarding
        .iter()
        .filter(|entry| !nodes.contains_key(&entry.mac))
        .map(|entry| Op::RemoveForwarding(*entry));
    neighbours.chain(forwarding).collect()
}

/// Which node has which hardware address; of two that claim one, the first by tunnel address.
fn nodes(wanted: &Vxlan) -> (BTreeMap<[u8; 6], IpAddr>, Vec<Problem>) {
    let mut nodes = BTreeMap::new();
    let mut shared = Vec::new();
    for remote in wanted.remotes.values() {
        let first = *nodes.entry(remote.mac).or_insert(remote.node);
        if first != remote.node {
            shared.push(Problem::SharedMac {
                first,
                second: remote.node,
            });
        }
    }
    (nodes, shared)
}
