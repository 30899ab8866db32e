//! What we know of the host: interfaces and addresses as last seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use felix_calc::{HostFacts, HostRoute, Interface};
use ipnet::IpNet;
use netlink::{Address, Link, Route, RouteKind};

/// Interfaces and addresses of the namespace.
#[derive(Debug, Default)]
pub(crate) struct Host {
    workload_prefixes: Vec<String>,
    links: BTreeMap<u32, Link>,
    indexes: HashMap<String, u32>,
    /// With whether it is secondary, that is, not the one packets leave with, or deprecated.
    addresses: BTreeMap<u32, BTreeMap<IpNet, bool>>,
    /// Names of interfaces through which no route may lead, up or not.
    barred: BTreeSet<String>,
}

impl Host {
    pub(crate) fn new(workload_prefixes: Vec<String>) -> Host {
        Host {
            workload_prefixes,
            ..Host::default()
        }
    }

    /// Whether an interface of this name leads to a pod.
    pub(crate) fn is_workload(&self, name: &str) -> bool {
        self.workload_prefixes
            .iter()
            .any(|prefix| name.starts_with(prefix.as_str()))
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.get(self.indexes.get(name)?)
    }

    pub(crate) fn by_index(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// The interface of this name, if a route may lead through it. Up is enough: the kernel accepts
    /// routes for an interface without carrier.
    pub(crate) fn passable(&self, name: &str) -> Option<&Link> {
        let link = self.by_name(name)?;
        (link.admin_up && !self.barred.contains(name)).then_some(link)
    }

    /// Lets routes lead through an interface of this name or not; whether that is news.
    pub(crate) fn bar(&mut self, name: &str, barred: bool) -> bool {
        match barred {
            true => self.barred.insert(name.to_owned()),
            false => self.barred.remove(name),
        }
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Addresses of an interface, those first that packets leave with.
    pub(crate) fn addresses(&self, index: u32) -> impl Iterator<Item = &IpNet> {
        let of = |secondary: bool| {
            let all = self.addresses.get(&index).into_iter().flatten();
            all.filter_map(move |(net, other)| (*other == secondary).then_some(net))
        };
        of(false).chain(of(true))
    }

    /// Notes an interface; returns how it was before.
    pub(crate) fn set_link(&mut self, link: Link) -> Option<Link> {
        let old = self.links.insert(link.index, link.clone());
        if let Some(old) = &old {
            self.forget_name(old);
        }
        self.indexes.insert(link.name, link.index);
        old
    }

    /// Forgets an interface and its addresses; returns how it was.
    pub(crate) fn remove_link(&mut self, index: u32) -> Option<Link> {
        let old = self.links.remove(&index)?;
        self.forget_name(&old);
        self.addresses.remove(&index);
        Some(old)
    }

    /// Another interface may have taken the name already.
    fn forget_name(&mut self, old: &Link) {
        if self.indexes.get(&old.name) == Some(&old.index) {
            self.indexes.remove(&old.name);
        }
    }

    pub(crate) fn add_address(&mut self, address: &Address) {
        self.addresses
            .entry(address.index)
            .or_default()
            .insert(address.net, address.secondary_or_deprecated);
    }

    pub(crate) fn remove_address(&mut self, address: &Address) {
        if let Some(addresses) = self.addresses.get_mut(&address.index) {
            addresses.remove(&address.net);
        }
    }

    /// Says all addresses of one interface.
    pub(crate) fn replace_addresses_of(&mut self, index: u32, list: &[Address]) {
        self.addresses.remove(&index);
        for address in list {
            self.add_address(address);
        }
    }

    pub(crate) fn replace_addresses(&mut self, list: &[Address]) {
        self.addresses.clear();
        for address in list {
            self.add_address(address);
        }
    }

    /// What the calculation wants to know, given the routes that are not ours.
    pub(crate) fn facts<'a>(&self, foreign: impl Iterator<Item = &'a Route>) -> HostFacts {
        let names: HashMap<u32, Arc<str>> = self
            .links
            .values()
            .map(|link| (link.index, Arc::from(link.name.as_str())))
            .collect();
        let interfaces = self
            .links
            .values()
            .filter(|link| !self.is_workload(&link.name))
            .filter_map(|link| {
                Some(Interface {
                    name: names.get(&link.index)?.clone(),
                    up: link.running,
                    addresses: self.addresses(link.index).copied().collect(),
                    mtu: link.mtu,
                })
            })
            .collect();
        let mut routes: Vec<HostRoute> = foreign
            .filter(|route| route.kind == RouteKind::Unicast && route.tos == 0)
            .flat_map(|route| {
                let names = &names;
                route.nexthops.iter().filter_map(move |nexthop| {
                    Some(HostRoute {
                        destination: route.destination,
                        via: nexthop.via,
                        interface: names.get(&nexthop.device?)?.clone(),
                        metric: route.metric,
                    })
                })
            })
            .filter(|route| !self.is_workload(&route.interface))
            .collect();
        routes.sort_by(|a, b| {
            let key = |r: &HostRoute| (r.destination, r.metric, r.via);
            key(a)
                .cmp(&key(b))
                .then_with(|| a.interface.cmp(&b.interface))
        });
        HostFacts { interfaces, routes }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use netlink::Nexthop;

    use super::*;

    /// An interface that is up and running.
    pub(crate) fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind: None,
            mac: None,
            mtu: 1500,
            admin_up: true,
            running: true,
            loopback: name == "lo",
            alias: None,
            peer_index: None,
            controller: None,
            tunnel: None,
        }
    }

    /// A host with these interfaces, numbered from one.
    pub(crate) fn host(names: &[&str]) -> Host {
        let mut host = Host::new(vec!["cali".to_owned()]);
        for (name, index) in names.iter().zip(1..) {
            host.set_link(link(index, name));
        }
        host
    }

    #[test]
    fn a_rename_frees_the_old_name_and_a_swap_loses_neither() {
        let mut host = host(&["cali1", "cali2"]);
        host.set_link(link(1, "spare"));
        assert!(host.by_name("cali1").is_none());
        host.set_link(link(2, "cali1"));
        host.set_link(link(1, "cali2"));
        assert_eq!(host.by_name("cali1").unwrap().index, 2);
        assert_eq!(host.by_name("cali2").unwrap().index, 1);
        host.remove_link(1);
        assert!(host.by_name("cali2").is_none());
        assert_eq!(host.by_name("cali1").unwrap().index, 2);
    }

    #[test]
    fn an_address_that_floats_comes_behind_the_one_of_the_host() {
        let mut host = host(&["eth0"]);
        let address = |net: &str, secondary| Address {
            index: 1,
            net: net.parse().unwrap(),
            scope: netlink::Scope::Universe,
            tentative: false,
            secondary_or_deprecated: secondary,
        };
        host.add_address(&address("192.0.2.5/24", true));
        host.add_address(&address("192.0.2.11/24", false));
        let facts = host.facts([].into_iter());
        let order: Vec<String> = facts.interfaces[0]
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(order, ["192.0.2.11/24", "192.0.2.5/24"]);
    }

    #[test]
    fn facts_leave_out_workloads_and_what_leads_nowhere() {
        let mut host = host(&["eth0", "cali1"]);
        host.replace_addresses(&[]);
        host.addresses.insert(
            1,
            BTreeMap::from([("192.0.2.1/24".parse().unwrap(), false)]),
        );
        let route = |destination: &str, device| {
            let mut route = Route::new(destination.parse().unwrap(), 2);
            route.nexthops = vec![Nexthop {
                device: Some(device),
                ..Nexthop::default()
            }];
            route
        };
        let mut hole = route("203.0.113.0/24", 1);
        hole.kind = RouteKind::Blackhole;
        let routes = [
            route("192.0.2.0/24", 1),
            route("169.254.0.0/16", 2),
            route("198.51.100.0/24", 99),
            hole,
        ];
        let facts = host.facts(routes.iter());
        assert_eq!(facts.interfaces.len(), 1);
        assert_eq!(&*facts.interfaces[0].name, "eth0");
        assert_eq!(facts.interfaces[0].addresses.len(), 1);
        let destinations: Vec<String> = facts
            .routes
            .iter()
            .map(|r| r.destination.to_string())
            .collect();
        assert_eq!(destinations, ["192.0.2.0/24"]);
    }
}
