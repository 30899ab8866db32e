//! From a route of the calculation, which speaks of interface names, to one of the kernel.

use std::fmt::Write;

use felix_calc::Target;
use netlink::{Nexthop, Route, RouteKind, Scope};

use crate::host::Host;
use crate::overlay;

/// Whether packets to a target leave by an interface.
pub(super) fn leaves_by(target: &Target, name: &str) -> bool {
    match target {
        Target::Local { interface } => &**interface == name,
        Target::Via(nexthops) | Target::Hold(nexthops) => {
            nexthops.iter().any(|nexthop| &*nexthop.interface == name)
        }
        Target::Blackhole => false,
    }
}

/// The kernel's route, or nothing while no interface it needs is there and up.
///
/// Of several next hops those are used whose interface is up: the kernel takes all or none.
/// A route through a tunnel says the size that fits (Calico behaviour); of several the least.
pub(super) fn route(wanted: &felix_calc::Route, protocol: u8, host: &Host) -> Option<Route> {
    let mut route = Route::new(wanted.destination, protocol);
    match &wanted.target {
        Target::Local { interface } => {
            route.scope = Scope::Link;
            route.nexthops = vec![Nexthop {
                device: Some(host.passable(interface)?.index),
                ..Nexthop::default()
            }];
        }
        Target::Via(nexthops) | Target::Hold(nexthops) => {
            route.nexthops = nexthops
                .iter()
                .filter_map(|nexthop| {
                    Some(Nexthop {
                        via: Some(nexthop.gateway),
                        device: Some(host.passable(&nexthop.interface)?.index),
                        onlink: nexthop.onlink,
                        weight: 1,
                    })
                })
                .collect();
            if route.nexthops.is_empty() {
                return None;
            }
            let tunnels = nexthops.iter().filter_map(|nexthop| {
                let link = host.passable(&nexthop.interface)?;
                overlay::is_tunnel(&nexthop.interface).then_some(link.mtu)
            });
            route.mtu = tunnels.min();
        }
        Target::Blackhole => route.kind = RouteKind::Blackhole,
    }
    Some(route.canonical())
}

/// For people: `route 10.0.2.0/26 via 192.0.2.9 dev eth0`.
pub(super) fn describe(wanted: &felix_calc::Route) -> String {
    let mut text = format!("route {}", wanted.destination);
    match &wanted.target {
        Target::Local { interface } => {
            let _ = write!(text, " dev {interface}");
        }
        Target::Via(nexthops) | Target::Hold(nexthops) => {
            for nexthop in nexthops.iter() {
                let _ = write!(text, " via {} dev {}", nexthop.gateway, nexthop.interface);
            }
        }
        Target::Blackhole => text.push_str(" blackhole"),
    }
    if let Target::Hold(_) = wanted.target {
        text.push_str(" (the other end of the tunnel is not ready)");
    }
    text
}
