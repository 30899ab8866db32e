//! How we recognise what is ours. After a restart the kernel is the only memory.
//!
//! | Route of the main table | Owner | Replaced when we want its key | Removed |
//! |---|---|---|---|
//! | our protocol (80) | [`Owner::Ours`] | yes | when not desired; with a gateway, not before the speaker has converged |
//! | any other protocol but `kernel` and `ra`, out of a workload interface | [`Owner::External`] | yes | only with `remove_external_routes`, and not in the first seconds of the interface |
//! | protocol `bird` (12) at the metric we would use | [`Owner::Predecessor`] | yes | never |
//! | everything else | [`Owner::Foreign`] | never | never |
//!
//! Routes of other tables are never looked at. Key of a route: destination, metric, type of service.
//! Interfaces are never created, changed or removed, but for tunnel devices (`ipip`: by name and
//! kind); their sysctls are ours on workload interfaces that have an endpoint.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netlink::{IPV6_DEFAULT_METRIC, Route, RouteKind};

/// `RTPROT_KERNEL`: routes that come and go with addresses.
const PROTOCOL_KERNEL: u8 = 2;
/// `RTPROT_RA`: from router advertisements.
const PROTOCOL_RA: u8 = 9;
/// `RTPROT_BIRD`: Calico's BIRD wrote remote blocks and blackholes with it.
const PROTOCOL_BIRD: u8 = 12;

/// What the kernel identifies a route by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) destination: IpNet,
    pub(crate) metric: u32,
    pub(crate) tos: u8,
}

impl Key {
    pub(crate) fn of(route: &Route) -> Key {
        Key {
            destination: route.destination,
            metric: route.metric,
            tos: route.tos,
        }
    }

    /// The key we use for a destination.
    pub(crate) fn wanted(destination: IpNet) -> Key {
        let metric = match destination {
            IpNet::V4(_) => 0,
            IpNet::V6(_) => IPV6_DEFAULT_METRIC,
        };
        Key {
            destination,
            metric,
            tos: 0,
        }
    }
}

/// Whose a route is; see the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Ours,
    External,
    Predecessor,
    Foreign,
}

/// What may be done with a route that is not desired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    Now,
    /// Not before this moment.
    After(Instant),
    Never,
}

/// The facts that decide who owns what.
#[derive(Clone, Debug)]
pub(crate) struct Ownership {
    pub(crate) protocol: u8,
    pub(crate) remove_external_routes: bool,
    pub(crate) grace: Duration,
    /// Routes learned by an earlier run stay until the speaker knows better.
    pub(crate) hold_learned: bool,
    /// When each workload interface was first seen, by index.
    pub(crate) workloads: HashMap<u32, Instant>,
}

impl Ownership {
    /// Of routes with our protocol alone, whatever the interfaces.
    pub(crate) fn by_protocol(protocol: u8) -> Ownership {
        Ownership {
            protocol,
            remove_external_routes: false,
            grace: Duration::ZERO,
            hold_learned: false,
            workloads: HashMap::new(),
        }
    }

    pub(crate) fn owner(&self, route: &Route) -> Owner {
        if route.protocol == self.protocol {
            return Owner::Ours;
        }
        match route.protocol {
            PROTOCOL_KERNEL | PROTOCOL_RA => Owner::Foreign,
            _ if self.workload_of(route).is_some() => Owner::External,
            PROTOCOL_BIRD if self.is_predecessor(route) => Owner::Predecessor,
            _ => Owner::Foreign,
        }
    }

    pub(crate) fn removal(&self, route: &Route) -> Removal {
        match self.owner(route) {
            Owner::Ours if self.hold_learned && is_learned(route) => Removal::Never,
            Owner::Ours => Removal::Now,
            Owner::External if self.remove_external_routes => match self.workload_of(route) {
                Some(seen) => Removal::After(seen + self.grace),
                None => Removal::Never,
            },
            Owner::External | Owner::Predecessor | Owner::Foreign => Removal::Never,
        }
    }

    /// When the workload interface was first seen that is the only way out of this route.
    fn workload_of(&self, route: &Route) -> Option<Instant> {
        match route.nexthops.as_slice() {
            [only] => self.workloads.get(&only.device?).copied(),
            _ => None,
        }
    }

    fn is_predecessor(&self, route: &Route) -> bool {
        matches!(route.kind, RouteKind::Unicast | RouteKind::Blackhole)
            && Key::of(route) == Key::wanted(route.destination)
    }
}

/// Whether a route of ours came from a BGP peer: only those have gateways.
fn is_learned(route: &Route) -> bool {
    route.nexthops.iter().any(|nexthop| nexthop.via.is_some())
}

#[cfg(test)]
mod tests {
    use netlink::Nexthop;

    use super::*;

    const WORKLOAD: u32 = 7;
    const CARD: u32 = 2;

    fn ownership(seen: Instant) -> Ownership {
        Ownership {
            protocol: 80,
            remove_external_routes: true,
            grace: Duration::from_secs(10),
            hold_learned: false,
            workloads: HashMap::from([(WORKLOAD, seen)]),
        }
    }

    fn route(destination: &str, protocol: u8, via: Option<&str>, device: u32) -> Route {
        let mut route = Route::new(destination.parse().unwrap(), protocol);
        route.nexthops = vec![Nexthop {
            via: via.map(|via| via.parse().unwrap()),
            device: Some(device),
            ..Nexthop::default()
        }];
        route.canonical()
    }

    #[test]
    fn the_table_of_owners() {
        let ownership = ownership(Instant::now());
        let gateway = Some("192.0.2.9");
        let cases = [
            ("10.0.1.5/32", 80, None, WORKLOAD, Owner::Ours),
            ("10.0.2.0/26", 80, gateway, CARD, Owner::Ours),
            ("10.0.1.5/32", 3, None, WORKLOAD, Owner::External),
            ("10.0.1.5/32", 4, None, WORKLOAD, Owner::External),
            ("169.254.0.0/16", 2, None, WORKLOAD, Owner::Foreign),
            ("fe80::/64", 2, None, WORKLOAD, Owner::Foreign),
            ("10.0.2.0/26", 12, gateway, CARD, Owner::Predecessor),
            ("0.0.0.0/0", 3, gateway, CARD, Owner::Foreign),
            ("192.0.2.0/24", 2, None, CARD, Owner::Foreign),
            ("10.0.2.0/26", 186, gateway, CARD, Owner::Foreign),
        ];
        for (destination, protocol, via, device, owner) in cases {
            let route = route(destination, protocol, via, device);
            assert_eq!(ownership.owner(&route), owner, "{route}");
        }
    }

    #[test]
    fn a_bird_that_uses_its_own_metric_is_not_calicos() {
        let mut other = route("10.0.2.0/26", 12, Some("192.0.2.9"), CARD);
        other.metric = 32;
        assert_eq!(ownership(Instant::now()).owner(&other), Owner::Foreign);
    }

    #[test]
    fn external_routes_have_a_grace_and_can_be_left_alone() {
        let seen = Instant::now();
        let mut ownership = ownership(seen);
        let external = route("10.0.1.5/32", 3, None, WORKLOAD);
        let after = seen + Duration::from_secs(10);
        assert_eq!(ownership.removal(&external), Removal::After(after));
        ownership.remove_external_routes = false;
        assert_eq!(ownership.removal(&external), Removal::Never);
    }

    #[test]
    fn learned_routes_of_ours_are_held_and_local_ones_are_not() {
        let mut ownership = ownership(Instant::now());
        ownership.hold_learned = true;
        let learned = route("10.0.2.0/26", 80, Some("192.0.2.9"), CARD);
        let local = route("10.0.1.5/32", 80, None, WORKLOAD);
        assert_eq!(ownership.removal(&learned), Removal::Never);
        assert_eq!(ownership.removal(&local), Removal::Now);
        ownership.hold_learned = false;
        assert_eq!(ownership.removal(&learned), Removal::Now);
    }

    #[test]
    fn what_is_not_ours_is_never_removed() {
        let ownership = ownership(Instant::now());
        for (destination, protocol) in [("10.0.2.0/26", 12), ("0.0.0.0/0", 3)] {
            let route = route(destination, protocol, Some("192.0.2.9"), CARD);
            assert_eq!(ownership.removal(&route), Removal::Never);
        }
    }
}
