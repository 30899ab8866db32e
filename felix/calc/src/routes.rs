//! One answer per destination: the route of ours, if any.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::encap::{Devices, End};
use crate::facts::{Block, Encap, Hidden, Node, Pool, Tunnel};
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
    /// Other nodes by address, and what they say of their tunnels.
    pub(crate) ends: HashMap<IpAddr, End>,
    pub(crate) devices: Devices,
    /// Tunnels that the settings switch off.
    pub(crate) switched_off: Vec<Tunnel>,
    /// Addresses of this node's tunnel devices that are in place.
    pub(crate) own_tunnels: Vec<IpAddr>,
    /// Nodes of blocks and borrowed addresses, as address management has them.
    pub(crate) remote: BTreeMap<IpNet, IpAddr>,
    /// Blocks and borrowed addresses of other nodes, known where or not.
    pub(crate) far: BTreeSet<IpNet>,
    pub(crate) hidden_pool: Hidden,
    /// BGP says whose blocks are where, unless a pool is not exported.
    pub(crate) bgp: bool,
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
        if let Some(device) = self.far_end(destination) {
            candidates.push((RouteClass::Tunnel, Target::Local { interface: device }));
        }
        if self.is_guarded(destination) {
            candidates.push((RouteClass::PoolDrop, Target::Blackhole));
        }
        if let Some((gateway, nexthops)) = self.resolver.way(destination) {
            if nexthops.is_empty() {
                unreachable.push(gateway.into());
            } else {
                candidates.push((RouteClass::PeerGateway, Target::Via(nexthops)));
            }
        }
        let remote = self.remote.get(&destination);
        let remote = remote.filter(|_| self.is_told_by_blocks(destination));
        let remote = remote.copied().map(NextHop::from);
        let next_hops = learned.or(remote.as_ref().map(std::slice::from_ref));
        if let Some(next_hops) = next_hops
            && !self.refuses(destination)
            && !self.is_doubtful(destination, next_hops)
        {
            candidates.extend(self.through(destination, next_hops, &mut unreachable));
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

    /// Whether a destination is a pool that asks for a tunnel: what no better route leads away from
    /// there is dropped, so that nothing leaves in the open while a device is missing and its routes
    /// with it. The host's own route for the range is left in charge.
    ///
    /// A disabled pool is one while it has addresses on other nodes; else it stands for a range that
    /// is not of this cluster. Where a pool cannot be read, the blocks that may lie in it are guarded
    /// one by one, once the routes of an earlier run are no longer in charge: a drop route would take
    /// their place.
    fn is_guarded(&self, destination: IpNet) -> bool {
        let asks = |pool: &Pool| {
            let in_use = || self.far.iter().any(|range| pool.cidr.contains(range));
            pool.cidr == destination && pool.encap != Encap::Never && (!pool.disabled || in_use())
        };
        let pool = !is_host(destination) && self.pools.iter().any(asks);
        let hidden = || {
            self.hidden_pool == Hidden::Yes
                && self.far.contains(&destination)
                && pool_of(&self.pools, destination).is_none()
        };
        (pool || hidden()) && !self.resolver.has_route(destination)
    }

    /// Whether address management says where a destination is, and BGP does not: it is off, or the
    /// pool is not exported and asks for VXLAN (Calico behaviour).
    fn is_told_by_blocks(&self, destination: IpNet) -> bool {
        let unsaid = |pool: &Pool| !pool.export && pool.needs() == Some(Tunnel::Vxlan);
        !self.bgp || pool_of(&self.pools, destination).is_some_and(unsaid)
    }

    /// Addresses of pods and tunnel devices of this node that lie in none of its own blocks, where address management
    /// says where they are.
    pub(crate) fn borrowed(&self, own: &BTreeSet<IpNet>) -> BTreeSet<IpAddr> {
        let addresses = self.owners.keys().chain(&self.own_tunnels);
        let borrowed = addresses.filter(|address| {
            let host = IpNet::from(**address);
            let of_cluster = self.hidden_pool != Hidden::No || pool_of(&self.pools, host).is_some();
            of_cluster
                && self.is_told_by_blocks(host)
                && !own.iter().any(|block| block.contains(&host))
        });
        borrowed.copied().collect()
    }

    /// Whether a destination may lie in a pool that cannot be read: it is in no other one, and other
    /// nodes have it. Nobody knows whether it needs a tunnel.
    fn is_doubtful(&self, destination: IpNet, next_hops: &[NextHop]) -> bool {
        if self.hidden_pool == Hidden::No || pool_of(&self.pools, destination).is_some() {
            return false;
        }
        let wider = std::iter::successors(Some(destination), IpNet::supernet);
        let mut nodes = next_hops.iter();
        wider.into_iter().any(|range| self.far.contains(&range))
            || nodes.any(|next_hop| self.ends.contains_key(&next_hop.address))
    }

    /// The device behind which an IPv6 address of another node's VXLAN device is. With IPv6 a gateway
    /// must not be reached by another device than the route's, `onlink` or not, and the block it lies
    /// in may still go that other way.
    fn far_end(&self, destination: IpNet) -> Option<Arc<str>> {
        let address = destination.addr();
        let is_end = is_host(destination)
            && address.is_ipv6()
            && self.ends.values().any(|end| end.vxlan == Some(address));
        let pool = pool_of(&self.pools, destination)?;
        let used =
            pool.needs() == Some(Tunnel::Vxlan) && !self.switched_off.contains(&Tunnel::Vxlan);
        (is_end && used).then(|| self.devices.of(Tunnel::Vxlan, address))
    }

    /// Destinations that have a route whatever is learned, beside pods and blocks.
    pub(crate) fn standing(&self) -> impl Iterator<Item = IpNet> {
        let pools = self.pools.iter().map(|pool| pool.cidr);
        let ends = self.ends.values().filter_map(|end| end.vxlan);
        pools.chain(ends.filter(IpAddr::is_ipv6).map(IpNet::from))
    }

    /// Why and through which gateways a destination that may be installed is reached; next hops
    /// that cannot be used are added to `unreachable`.
    fn through(
        &mut self,
        destination: IpNet,
        next_hops: &[NextHop],
        unreachable: &mut Vec<NextHop>,
    ) -> Option<(RouteClass, Target)> {
        let pool = pool_of(&self.pools, destination).map(|pool| (pool.encap, pool.tunnel));
        let v4 = destination.addr().is_ipv4();
        // A router on the link carries both families, whichever its address is of.
        let fits = |n: &&NextHop| n.address.is_ipv4() == v4 || n.link().is_some();
        let fitting = next_hops.iter().filter(fits);
        let class = match pool {
            None => RouteClass::Learned,
            Some((Encap::Never, _)) => RouteClass::NoEncap,
            Some((Encap::Unknown, _)) => return None,
            Some(pool @ (Encap::CrossSubnet | Encap::Always, _)) => {
                return self.encapsulated(pool, fitting, unreachable);
            }
        };
        let gateways = self.gateways(fitting, unreachable);
        (!gateways.is_empty()).then_some((class, Target::Via(gateways)))
    }

    /// The gateways behind next hops; those that cannot be reached are added to `unreachable`.
    fn gateways<'a>(
        &mut self,
        next_hops: impl Iterator<Item = &'a NextHop>,
        unreachable: &mut Vec<NextHop>,
    ) -> Arc<[Nexthop]> {
        let mut first: Option<Arc<[Nexthop]>> = None;
        let mut several = Vec::new();
        for next_hop in next_hops {
            let found = self.resolver.resolve(next_hop);
            unreachable.extend(found.is_empty().then(|| next_hop.clone()));
            match &first {
                None => first = Some(found),
                Some(one) if several.is_empty() => {
                    several.extend(one.iter().chain(&*found).cloned())
                }
                Some(_) => several.extend(found.iter().cloned()),
            }
        }
        if several.is_empty() {
            return first.unwrap_or_default();
        }
        several.sort();
        several.dedup();
        several.into()
    }

    /// Whether a prefix must not be installed, wherever it leads.
    fn refuses(&self, destination: IpNet) -> bool {
        is_martian(destination)
            || (destination.prefix_len() == 0 && !self.allow_default_route)
            || self.is_ours(destination)
            || self.services.iter().any(|range| range.contains(&destination))
            // A route of the host or of its administrator is never replaced.
            || self.resolver.has_route(destination)
            || (is_host(destination) && self.resolver.is_own(destination.addr()))
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
