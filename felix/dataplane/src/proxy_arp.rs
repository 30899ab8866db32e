//! Makes the host answer for 169.254.1.1, the gateway of every IPv4 pod.
//!
//! Nobody has that address. The kernel answers the pod's ARP request by proxy when it would route
//! the address out of *another* interface, which normally the default route does. A host without
//! a default route stays silent, and its pods are cut off. So that it answers, we add
//! `169.254.1.1/32` out of one of the host's own interfaces; a blackhole or unreachable route does
//! not do (tried). No packet is ever meant for the address itself.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use netlink::{Link, Nexthop, Route, RouteKind, Scope};

use crate::host::Host;

/// The gateway address in every pod (Calico behaviour).
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The route that is needed, if any, given the routes of others.
pub(crate) fn gateway_route(protocol: u8, host: &Host, foreign: &[Route]) -> Option<Route> {
    if foreign_route_answers(host, foreign) {
        return None;
    }
    let mut route = Route::new(destination(), protocol);
    route.scope = Scope::Link;
    route.nexthops = vec![Nexthop {
        device: Some(way_out(host)?.index),
        ..Nexthop::default()
    }];
    Some(route.canonical())
}

/// The address, as the destination of a route.
pub(crate) fn destination() -> IpNet {
    IpNet::V4(Ipv4Net::from(GATEWAY))
}

/// Whether the longest foreign match leaves by an interface that is not a pod's.
fn foreign_route_answers(host: &Host, foreign: &[Route]) -> bool {
    foreign
        .iter()
        .filter(|route| route.tos == 0 && route.destination.contains(&destination()))
        .max_by_key(|route| (route.destination.prefix_len(), u32::MAX - route.metric))
        .is_some_and(|route| {
            route.kind == RouteKind::Unicast
                && route
                    .nexthops
                    .iter()
                    .filter_map(|nexthop| host.by_index(nexthop.device?))
                    .any(|link| link.admin_up && !host.is_workload(&link.name))
        })
}

/// The first interface with an IPv4 address, or loopback on a host that has none.
fn way_out(host: &Host) -> Option<&Link> {
    let usable = || {
        host.links()
            .filter(|link| link.admin_up && !host.is_workload(&link.name))
            // Those come and go.
            .filter(|link| link.tunnel.is_none())
    };
    let has_address = |link: &&Link| {
        host.addresses(link.index)
            .any(|net| matches!(net, IpNet::V4(_)))
    };
    usable()
        .filter(|link| !link.loopback)
        .find(has_address)
        .or_else(|| usable().find(|link| link.loopback))
}

#[cfg(test)]
mod tests {
    use netlink::Address;

    use super::*;
    use crate::host::tests::{host, link};

    fn with_address(mut host: Host, index: u32, net: &str) -> Host {
        host.add_address(&Address {
            index,
            net: net.parse().unwrap(),
            scope: Scope::Universe,
            tentative: false,
            secondary_or_deprecated: false,
        });
        host
    }

    fn route(destination: &str, device: u32) -> Route {
        let mut route = Route::new(destination.parse().unwrap(), 3);
        route.nexthops = vec![Nexthop {
            device: Some(device),
            ..Nexthop::default()
        }];
        route.canonical()
    }

    fn device(host: &Host, foreign: &[Route]) -> Option<u32> {
        gateway_route(80, host, foreign)?.nexthops[0].device
    }

    #[test]
    fn a_default_route_is_enough() {
        let host = with_address(host(&["lo", "eth0", "cali1"]), 2, "192.0.2.1/24");
        assert_eq!(device(&host, &[route("0.0.0.0/0", 2)]), None);
        assert_eq!(device(&host, &[route("169.254.0.0/16", 2)]), None);
    }

    #[test]
    fn without_one_the_address_leaves_by_the_card_with_an_address() {
        let host = with_address(host(&["lo", "spare", "eth0", "cali1"]), 3, "192.0.2.1/24");
        assert_eq!(device(&host, &[route("192.0.2.0/24", 3)]), Some(3));
        let made = gateway_route(80, &host, &[]).unwrap();
        assert_eq!(made.to_string(), "169.254.1.1/32 dev 3 proto 80");
    }

    #[test]
    fn a_route_to_the_pod_itself_or_into_a_hole_does_not_answer() {
        let host = with_address(host(&["lo", "eth0", "cali1"]), 2, "192.0.2.1/24");
        assert_eq!(device(&host, &[route("169.254.0.0/16", 3)]), Some(2));
        let mut hole = route("169.254.0.0/16", 2);
        hole.kind = RouteKind::Blackhole;
        assert_eq!(device(&host, &[route("0.0.0.0/0", 2), hole]), Some(2));
    }

    #[test]
    fn a_default_route_by_an_interface_that_is_down_does_not_answer() {
        let mut host = with_address(host(&["lo", "eth0", "eth1"]), 3, "192.0.2.1/24");
        let mut down = link(2, "eth0");
        down.admin_up = false;
        host.set_link(down);
        assert_eq!(device(&host, &[route("0.0.0.0/0", 2)]), Some(3));
    }

    #[test]
    fn a_host_without_addresses_falls_back_to_loopback() {
        assert_eq!(device(&host(&["lo", "eth0", "cali1"]), &[]), Some(1));
    }
}
