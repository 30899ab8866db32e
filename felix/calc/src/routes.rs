//! One answer per destination: the route of ours, if any.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::facts::{Block, Encap, Node, Pool};
use crate::host::Resolver;
use crate::{NextHop, Nexthop, Route, RouteClass, Target};

/// Everything a route depends on, except what was learned for its destination.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// Interface of each pod address.
    pub(crate) owners: BTreeMap<IpAddr, Arc<str>>,
    /// Confirmed blocks of this node.
    pub(crate) blocks: BTreeMap<IpNet, Block>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) node: Node,
    pub(crate) resolver: Resolver,
    /// Gateways on the way to BGP peers.
    pub(crate) ways: BTreeMap<IpAddr, IpAddr>,
    /// Ranges of service addresses, which the service proxy of the node handles.
    pub(crate) services: Vec<IpNet>,
    pub(crate) allow_default_route: bool,
}

/// The answer for one destination.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) route: Option<Route>,
    /// Next hops that would have been used if the host could reach them.
    pub(crate) unreachable: Vec<NextHop>,
}

/// The most specific pool that holds the prefix.
pub(crate) fn pool_of(pools: &[Pool], prefix: IpNet) -> Option<&Pool> {
    pools
        .iter()
        .filter(|p| p.cidr.contains(&prefix))
        .max_by_key(|p| p.cidr.prefix_len())
}

/// True for a single address.
pub(crate) fn is_host(prefix: IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

impl Tables {
    /// The route for a destination, given the next hops BGP has learned for it.
    pub(crate) fn answer(&mut self, destination: IpNet, learned: Option<&[NextHop]>) -> Verdict {
        let mut candidates = Vec::new();
        let mut unreachable = Vec::new();
        if is_host(destination)
            && let Some(interface) = self.owners.get(&destination.addr())
        {
            let target = Target::Local {
                interface: interface.clone(),
            };
            candidates.push((RouteClass::LocalWorkload, target));
        }
        // The drop route of a single address would be in the way of the pod route.
        if self.blocks.contains_key(&destination) && !is_host(destination) {
            candidates.push((RouteClass::IpamBlockDrop, Target::Blackhole));
        }
        if let Some((gateway, nexthops)) = self.resolver.way(destination) {
            if nexthops.is_empty() {
                unreachable.push(gateway.into());
            } else {
                candidates.push((RouteClass::PeerGateway, Target::Via(nexthops)));
            }
        }
        if let Some(next_hops) = learned
            && let Some((class, usable)) = self.accept(destination, next_hops)
        {
            let nexthops = self.gateways(class, &usable, &mut unreachable);
            if !nexthops.is_empty() {
                candidates.push((class, Target::Via(nexthops)));
            }
        }
        let route =
            candidates
                .into_iter()
                .min_by_key(|(class, _)| *class)
                .map(|(class, target)| Route {
                    destination,
                    class,
                    target,
                });
        Verdict { route, unreachable }
    }

    /// The gateways behind next hops; those that cannot be reached are added to `unreachable`.
    fn gateways(
        &mut self,
        class: RouteClass,
        next_hops: &[NextHop],
        unreachable: &mut Vec<NextHop>,
    ) -> Arc<[Nexthop]> {
        if let ([next_hop], true) = (next_hops, class != RouteClass::SameSubnet) {
            let found = self.resolver.resolve(next_hop);
            unreachable.extend(found.is_empty().then(|| next_hop.clone()));
            return found;
        }
        let mut nexthops = Vec::new();
        for next_hop in next_hops {
            let found = self.resolver.resolve(next_hop);
            unreachable.extend(found.is_empty().then(|| next_hop.clone()));
            // What needs no tunnel is delivered on the link, not through a router.
            let direct =
                |n: &&Nexthop| class != RouteClass::SameSubnet || n.gateway == next_hop.address;
            nexthops.extend(found.iter().filter(direct).cloned());
        }
        nexthops.sort();
        nexthops.dedup();
        nexthops.into()
    }

    /// Whether a learned prefix may be installed, why, and through which of its next hops.
    fn accept(
        &self,
        destination: IpNet,
        next_hops: &[NextHop],
    ) -> Option<(RouteClass, Vec<NextHop>)> {
        let refused = is_martian(destination)
            || (destination.prefix_len() == 0 && !self.allow_default_route)
            || self.is_ours(destination)
            || self.services.iter().any(|range| range.contains(&destination))
            // A route of the host or of its administrator is never replaced.
            || self.resolver.has_route(destination)
            || (is_host(destination) && self.resolver.is_own(destination.addr()));
        if refused {
            return None;
        }
        let v4 = destination.addr().is_ipv4();
        // A router on the link carries both families, whichever its address is of.
        let fitting = next_hops
            .iter()
            .filter(|n| n.address.is_ipv4() == v4 || n.link().is_some())
            .cloned();
        let (class, usable): (_, Vec<NextHop>) = match pool_of(&self.pools, destination) {
            None => (RouteClass::Learned, fitting.collect()),
            Some(pool) => match pool.encap {
                Encap::Never => (RouteClass::NoEncap, fitting.collect()),
                Encap::CrossSubnet => (
                    RouteClass::SameSubnet,
                    fitting
                        .filter(|n| n.link().is_none() && self.node.shares_subnet(n.address))
                        .collect(),
                ),
                // No tunnel, no route: never without encapsulation where it is asked for.
                Encap::Always => return None,
            },
        };
        Some((class, usable))
    }

    /// True for a pod address or block of this node, and for anything inside such a block unless
    /// it is an address that another node has borrowed.
    fn is_ours(&self, destination: IpNet) -> bool {
        if is_host(destination) && self.owners.contains_key(&destination.addr()) {
            return true;
        }
        self.blocks
            .values()
            .filter(|b| b.cidr.contains(&destination))
            .any(|block| !is_host(destination) || !block.lent.contains(&destination.addr()))
    }
}

/// Destinations that never belong to a routing protocol.
fn is_martian(destination: IpNet) -> bool {
    match destination.addr() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_multicast() || v4.is_link_local(),
        IpAddr::V6(v6) => {
            v6.is_multicast()
                || v6.is_unicast_link_local()
                || (v6.is_loopback() || v6.is_unspecified()) && destination.prefix_len() == 128
        }
    }
}
