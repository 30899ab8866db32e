//! From a BGP next hop to the gateway the kernel accepts: recursion through the host's own routes.
//!
//! Learned routes take no part in it, so no answer can depend on itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::calc::{Map, Set};
use crate::{HostFacts, Interface, NextHop, Nexthop};

/// Answers where a next hop is, for one state of the host.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    table: Map<IpNet, Vec<Hop>>,
    /// Prefix lengths in the table, longest last.
    lengths_v4: BTreeSet<u8>,
    lengths_v6: BTreeSet<u8>,
    own: Set<IpAddr>,
    /// Interfaces that can carry packets, with their link-local addresses.
    links: HashMap<Arc<str>, Vec<IpAddr>>,
    known: Map<NextHop, Arc<[Nexthop]>>,
    /// Routes of ours to BGP peers: the gateway that was asked for, and how it is reached.
    ways: BTreeMap<IpNet, (IpAddr, Arc<[Nexthop]>)>,
}

#[derive(Clone, Debug)]
struct Hop {
    via: Option<IpAddr>,
    interface: Arc<str>,
    metric: u32,
}

impl Resolver {
    /// The table of the host, and on top of it the ways to peers that objects give, by peer and
    /// gateway. A route of the host to exactly that peer wins.
    pub(crate) fn new(host: &HostFacts, ways: &BTreeMap<IpAddr, IpAddr>) -> Resolver {
        let down: HashSet<&str> = host
            .interfaces
            .iter()
            .filter(|i| !i.up)
            .map(|i| &*i.name)
            .collect();
        let mut resolver = Resolver {
            own: host
                .interfaces
                .iter()
                .flat_map(|i| &i.addresses)
                .map(IpNet::addr)
                .collect(),
            links: host.interfaces.iter().filter(|i| i.up).map(link).collect(),
            ..Resolver::default()
        };
        for route in host.routes.iter().filter(|r| !down.contains(&*r.interface)) {
            resolver.add(
                route.destination,
                Hop {
                    via: route.via,
                    interface: route.interface.clone(),
                    metric: route.metric,
                },
            );
        }
        resolver.add_ways(ways);
        resolver
    }

    fn add_ways(&mut self, ways: &BTreeMap<IpAddr, IpAddr>) {
        let new = ways
            .iter()
            .map(|(peer, gateway)| (IpNet::from(*peer), *gateway));
        let new = new.filter(|(peer, _)| !self.table.contains_key(peer));
        let new: BTreeMap<IpNet, (IpAddr, Arc<[Nexthop]>)> = new
            .map(|(peer, gateway)| (peer, (gateway, self.look_up(&gateway.into()).into())))
            .collect();
        for (peer, (_, nexthops)) in &new {
            for nexthop in nexthops.iter() {
                let hop = Hop {
                    via: Some(nexthop.gateway),
                    interface: nexthop.interface.clone(),
                    metric: 0,
                };
                self.add(*peer, hop);
            }
        }
        self.ways = new;
    }

    /// Our route to a peer whose way an object gives: the gateway, and how it is reached.
    pub(crate) fn way(&self, destination: IpNet) -> Option<(IpAddr, Arc<[Nexthop]>)> {
        let (gateway, nexthops) = self.ways.get(&destination)?;
        Some((*gateway, nexthops.clone()))
    }

    fn add(&mut self, destination: IpNet, hop: Hop) {
        match destination {
            IpNet::V4(net) => self.lengths_v4.insert(net.prefix_len()),
            IpNet::V6(net) => self.lengths_v6.insert(net.prefix_len()),
        };
        let hops = self.table.entry(destination.trunc()).or_default();
        // Only the best metric counts; equal ones are multipath.
        match hops.first().map(|h| h.metric) {
            Some(best) if best < hop.metric => {}
            Some(best) if best == hop.metric => hops.push(hop),
            Some(_) | None => *hops = vec![hop],
        }
    }

    /// True when the host has a route of its own for exactly this destination.
    pub(crate) fn has_route(&self, destination: IpNet) -> bool {
        self.table.contains_key(&destination)
    }

    /// True for an address of the host itself.
    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    /// The directly connected gateways behind a next hop, sorted; empty when there are none.
    ///
    /// A link-local next hop says nothing without its interface and is not resolved then.
    pub(crate) fn resolve(&mut self, next_hop: &NextHop) -> Arc<[Nexthop]> {
        if let Some(known) = self.known.get(next_hop) {
            return known.clone();
        }
        let answer: Arc<[Nexthop]> = self.look_up(next_hop).into();
        self.known.insert(next_hop.clone(), answer.clone());
        answer
    }

    /// Whether there is a gateway on the way to a next hop.
    pub(crate) fn reaches(&self, next_hop: &NextHop) -> bool {
        match self.known.get(next_hop) {
            Some(known) => !known.is_empty(),
            None => !self.look_up(next_hop).is_empty(),
        }
    }

    /// The metric of the route that leads to a next hop, `None` when there is none.
    pub(crate) fn metric(&mut self, next_hop: &NextHop) -> Option<u32> {
        if self.resolve(next_hop).is_empty() {
            return None;
        }
        let route = match next_hop.link() {
            Some(_) => None,
            None => self.best(next_hop.address).first(),
        };
        Some(route.map_or(0, |hop| hop.metric))
    }

    fn look_up(&self, next_hop: &NextHop) -> Vec<Nexthop> {
        if let Some(interface) = next_hop.link() {
            return self.neighbour(next_hop.address, interface);
        }
        let next_hop = next_hop.address;
        if self.own.contains(&next_hop) || is_link_local(next_hop) || next_hop.is_unspecified() {
            return Vec::new();
        }
        let mut answer: Vec<Nexthop> = self
            .best(next_hop)
            .iter()
            .map(|hop| Nexthop {
                gateway: hop.via.unwrap_or(next_hop),
                interface: hop.interface.clone(),
                onlink: hop
                    .via
                    .is_some_and(|gateway| !self.on_link(gateway, &hop.interface)),
            })
            .collect();
        answer.sort();
        answer.dedup();
        answer
    }

    /// A router on a link; what the address means on other links does not matter.
    fn neighbour(&self, address: IpAddr, interface: &Arc<str>) -> Vec<Nexthop> {
        let own = self.links.get(interface);
        let found = own.filter(|own| !own.contains(&address));
        let gateway = found.map(|_| Nexthop {
            gateway: address,
            interface: interface.clone(),
            onlink: false,
        });
        gateway.into_iter().collect()
    }

    /// What is different in a later state of the host: next hops that are reached otherwise, and
    /// destinations for which the host has a route or an address in one state only.
    pub(crate) fn difference(&self, later: &mut Resolver) -> (HashSet<NextHop>, Vec<IpNet>) {
        let moved = self
            .known
            .iter()
            .filter(|(next_hop, before)| later.resolve(next_hop) != **before);
        let moved = moved.map(|(next_hop, _)| next_hop.clone()).collect();
        let theirs = |table: &Resolver, other: &Resolver| -> Vec<IpNet> {
            let routes = table
                .table
                .keys()
                .filter(|net| !other.table.contains_key(net))
                .copied();
            let own = table
                .own
                .difference(&other.own)
                .map(|address| IpNet::from(*address));
            let ways = table
                .ways
                .iter()
                .filter(|(peer, way)| other.ways.get(*peer) != Some(*way));
            routes
                .chain(own)
                .chain(ways.map(|(peer, _)| *peer))
                .collect()
        };
        let mut destinations = theirs(self, later);
        destinations.extend(theirs(later, self));
        (moved, destinations)
    }

    /// Hops of the longest prefix that holds the address.
    fn best(&self, address: IpAddr) -> &[Hop] {
        let lengths = match address {
            IpAddr::V4(_) => &self.lengths_v4,
            IpAddr::V6(_) => &self.lengths_v6,
        };
        lengths
            .iter()
            .rev()
            .filter_map(|length| IpNet::new(address, *length).ok())
            .find_map(|net| self.table.get(&net.trunc()))
            .map_or(&[], Vec::as_slice)
    }

    fn on_link(&self, gateway: IpAddr, interface: &str) -> bool {
        is_link_local(gateway)
            || self
                .best(gateway)
                .iter()
                .any(|hop| hop.via.is_none() && &*hop.interface == interface)
    }
}

fn link(interface: &Interface) -> (Arc<str>, Vec<IpAddr>) {
    let addresses = interface.addresses.iter().map(IpNet::addr);
    let own = addresses.filter(|address| is_link_local(*address));
    (interface.name.clone(), own.collect())
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostRoute;

    fn route(destination: &str, via: Option<&str>, interface: &str, metric: u32) -> HostRoute {
        HostRoute {
            destination: destination.parse().unwrap(),
            via: via.map(|v| v.parse().unwrap()),
            interface: interface.into(),
            metric,
        }
    }

    fn host(routes: Vec<HostRoute>) -> Resolver {
        let interface = |name: &str, up, address: &str| Interface {
            name: name.into(),
            up,
            addresses: vec![address.parse().unwrap()],
            mtu: 1500,
        };
        Resolver::new(
            &HostFacts {
                interfaces: vec![
                    interface("eth0", true, "192.0.2.1/24"),
                    interface("eth1", false, "198.51.100.1/24"),
                ],
                routes,
            },
            &BTreeMap::new(),
        )
    }

    fn answer(resolver: &mut Resolver, next_hop: &str) -> String {
        resolver
            .resolve(&next_hop.parse::<IpAddr>().unwrap().into())
            .iter()
            .map(|n| {
                format!(
                    "{}%{}{} ",
                    n.gateway,
                    n.interface,
                    if n.onlink { " onlink" } else { "" }
                )
            })
            .collect()
    }

    #[test]
    fn a_neighbour_is_its_own_gateway_and_others_are_behind_the_best_route() {
        let mut r = host(vec![
            route("0.0.0.0/0", Some("192.0.2.254"), "eth0", 100),
            route("0.0.0.0/0", Some("192.0.2.253"), "eth0", 50),
            route("192.0.2.0/24", None, "eth0", 0),
            route("203.0.113.0/24", Some("192.0.2.7"), "eth0", 0),
            route("203.0.113.0/24", Some("192.0.2.6"), "eth0", 0),
        ]);
        assert_eq!(answer(&mut r, "192.0.2.9"), "192.0.2.9%eth0 ");
        assert_eq!(answer(&mut r, "10.0.0.1"), "192.0.2.253%eth0 ");
        assert_eq!(
            answer(&mut r, "203.0.113.5"),
            "192.0.2.6%eth0 192.0.2.7%eth0 "
        );
    }

    #[test]
    fn own_link_local_and_unreachable_next_hops_have_no_gateway() {
        let mut r = host(vec![
            route("192.0.2.0/24", None, "eth0", 0),
            route("198.51.100.0/24", None, "eth1", 0),
            route("fe80::/64", None, "eth0", 0),
        ]);
        assert_eq!(answer(&mut r, "192.0.2.1"), "", "own address");
        assert_eq!(answer(&mut r, "198.51.100.9"), "", "interface is down");
        assert_eq!(answer(&mut r, "203.0.113.1"), "", "no route");
        assert_eq!(answer(&mut r, "fe80::1"), "", "link-local");
    }

    #[test]
    fn a_gateway_outside_every_connected_subnet_is_marked_onlink() {
        let mut r = host(vec![route("0.0.0.0/0", Some("169.254.1.9"), "eth0", 0)]);
        assert_eq!(answer(&mut r, "10.0.0.1"), "169.254.1.9%eth0 onlink ");
        let mut r = host(vec![
            route("0.0.0.0/0", Some("169.254.1.9"), "eth0", 0),
            route("169.254.1.9/32", None, "eth0", 0),
        ]);
        assert_eq!(answer(&mut r, "10.0.0.1"), "169.254.1.9%eth0 ");
    }
}
