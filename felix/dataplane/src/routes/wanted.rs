//! What the calculation wants, in its terms, and what that depends on.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use felix_calc::{Route, Target};
use ipnet::IpNet;

use super::resolve;
use crate::delta::Map;

/// Wanted routes by destination.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    routes: Map<IpNet, Route>,
    /// Destinations of pods by interface: pods come and go all the time.
    pods: HashMap<Arc<str>, HashSet<IpNet>>,
    /// How many gateways there are by interface; who they are is looked up, cards seldom change.
    gateways: HashMap<Arc<str>, usize>,
    /// Destinations of pods and blocks.
    local: BTreeSet<IpNet>,
    /// How many destinations are IPv6.
    ipv6: usize,
}

impl Wanted {
    pub(super) fn reserve(&mut self, more: usize) {
        self.routes.reserve(more);
    }

    pub(super) fn set(&mut self, destination: IpNet, route: Option<Route>) {
        match route.as_ref().map(|route| &route.target) {
            Some(Target::Local { .. } | Target::Blackhole) => self.local.insert(destination),
            Some(Target::Via(_) | Target::Hold(_)) | None => self.local.remove(&destination),
        };
        let old = match route {
            Some(route) => {
                self.count_in(&route);
                self.routes.insert(destination, route)
            }
            None => self.routes.remove(&destination),
        };
        if let Some(old) = old {
            self.count_out(&old);
        }
    }

    fn count_in(&mut self, route: &Route) {
        self.ipv6 += usize::from(is_ipv6(route));
        match &route.target {
            Target::Local { interface } => {
                let destinations = self.pods.entry(interface.clone()).or_default();
                destinations.insert(route.destination);
            }
            Target::Via(nexthops) | Target::Hold(nexthops) => {
                for nexthop in nexthops.iter() {
                    *self.gateways.entry(nexthop.interface.clone()).or_default() += 1;
                }
            }
            Target::Blackhole => {}
        }
    }

    fn count_out(&mut self, route: &Route) {
        self.ipv6 -= usize::from(is_ipv6(route));
        match &route.target {
            Target::Local { interface } => {
                let replaced = self.routes.get(&route.destination).map(|new| &new.target);
                if replaced == Some(&route.target) {
                    return;
                }
                if let Some(destinations) = self.pods.get_mut(interface) {
                    destinations.remove(&route.destination);
                    if destinations.is_empty() {
                        self.pods.remove(interface);
                    }
                }
            }
            Target::Via(nexthops) | Target::Hold(nexthops) => {
                for nexthop in nexthops.iter() {
                    if let Some(count) = self.gateways.get_mut(&nexthop.interface) {
                        *count -= 1;
                        if *count == 0 {
                            self.gateways.remove(&nexthop.interface);
                        }
                    }
                }
            }
            Target::Blackhole => {}
        }
    }

    pub(super) fn get(&self, destination: &IpNet) -> Option<&Route> {
        self.routes.get(destination)
    }

    /// Everything that is wanted.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = &IpNet> {
        self.routes.keys()
    }

    /// Whether any route for IPv6 is wanted.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.ipv6 > 0
    }

    /// Destinations of pods and blocks.
    pub(super) fn local(&self) -> impl Iterator<Item = &IpNet> {
        self.local.iter()
    }

    /// Destinations whose route leaves by an interface.
    pub(super) fn depending_on(&self, interface: &str) -> Vec<IpNet> {
        let pods = self.pods.get(interface).into_iter().flatten().copied();
        if !self.gateways.contains_key(interface) {
            return pods.collect();
        }
        let learned = self
            .routes
            .iter()
            .filter(|(_, route)| resolve::leaves_by(&route.target, interface))
            .map(|(destination, _)| *destination);
        learned.collect()
    }
}

fn is_ipv6(route: &Route) -> bool {
    matches!(route.destination, IpNet::V6(_))
}

#[cfg(test)]
mod tests {
    use felix_calc::{Nexthop, RouteClass};

    use super::*;

    fn set(wanted: &mut Wanted, destination: &str, target: Option<Target>) {
        let destination = destination.parse().unwrap();
        let class = RouteClass::Learned;
        wanted.set(
            destination,
            target.map(|target| Route {
                destination,
                class,
                target,
            }),
        );
    }

    fn pod(interface: &str) -> Option<Target> {
        Some(Target::Local {
            interface: interface.into(),
        })
    }

    fn via(interface: &str) -> Option<Target> {
        Some(Target::Via(Arc::new([Nexthop {
            gateway: "192.0.2.9".parse().unwrap(),
            interface: interface.into(),
            onlink: false,
        }])))
    }

    #[test]
    fn what_depends_on_an_interface_follows_every_change() {
        let mut wanted = Wanted::default();
        set(&mut wanted, "10.0.1.5/32", pod("cali1"));
        set(&mut wanted, "10.0.1.5/32", pod("cali1"));
        set(&mut wanted, "10.0.2.0/26", via("eth0"));
        assert_eq!(wanted.depending_on("cali1").len(), 1);
        assert_eq!(wanted.depending_on("eth0").len(), 1);
        set(&mut wanted, "10.0.1.5/32", pod("cali2"));
        set(&mut wanted, "10.0.2.0/26", via("eth1"));
        assert!(wanted.depending_on("cali1").is_empty());
        assert!(wanted.depending_on("eth0").is_empty());
        assert_eq!(wanted.depending_on("cali2").len(), 1);
        set(&mut wanted, "10.0.1.5/32", None);
        set(&mut wanted, "10.0.2.0/26", Some(Target::Blackhole));
        assert!(wanted.pods.is_empty() && wanted.gateways.is_empty());
        assert_eq!(wanted.local().count(), 1);
        set(&mut wanted, "2001:db8:1::/122", Some(Target::Blackhole));
        assert!(wanted.has_ipv6());
        set(&mut wanted, "2001:db8:1::/122", None);
        assert!(!wanted.has_ipv6());
    }
}
