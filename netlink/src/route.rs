//! Routes: what they are, how they are listed and changed one at a time.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;

use crate::{Error, Family, Scope, Socket};

pub(crate) mod message;

/// The main routing table.
pub const TABLE_MAIN: u32 = 254;
/// The metric the kernel gives to an IPv6 route that asks for none.
pub const IPV6_DEFAULT_METRIC: u32 = 1024;

/// What happens to packets that match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// Forwarded to a next hop.
    #[default]
    Unicast,
    /// Delivered here.
    Local,
    /// Dropped in silence.
    Blackhole,
    /// Dropped with an ICMP "unreachable".
    Unreachable,
    /// Dropped with an ICMP "prohibited".
    Prohibit,
    /// Looked up in the next table.
    Throw,
    /// Another number (`RTN_*`); 0 in a deletion matches every kind.
    Other(u8),
}

/// One way out of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nexthop {
    /// The gateway; nothing if destinations are on the link itself.
    pub via: Option<IpAddr>,
    /// Index of the interface; if it is not given, the kernel finds it from the gateway.
    pub device: Option<u32>,
    /// Believe that the gateway is on the link, whatever the addresses say.
    pub onlink: bool,
    /// Share of the traffic, 1 to 256; 0 means 1.
    pub weight: u16,
}

/// A route of the kernel, IPv4 or IPv6.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// Destination; its host bits are zero.
    pub destination: IpNet,
    /// Table number, [`TABLE_MAIN`] mostly.
    pub table: u32,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
    /// Preference among routes to the same destination, lowest wins. 0 is 1024 for IPv6.
    pub metric: u32,
    /// What happens to packets.
    pub kind: RouteKind,
    /// Reach of the destinations; always [`Scope::Universe`] for IPv6.
    pub scope: Scope,
    /// Ways out, several for multipath; empty for blackholes and their like.
    pub nexthops: Vec<Nexthop>,
    /// Source address of packets from this host.
    pub preferred_source: Option<IpAddr>,
    /// Limit of the packet size in bytes.
    pub mtu: Option<u32>,
    /// Type of service it is restricted to; part of the kernel's key.
    pub tos: u8,
}

/// Which routes to list; the kernel does the filtering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteFilter {
    /// One family, or both.
    pub family: Option<Family>,
    /// One table, or all.
    pub table: Option<u32>,
    /// One protocol, or all.
    pub protocol: Option<u8>,
    /// Routes with a next hop on this interface, or all.
    pub device: Option<u32>,
}

impl Route {
    /// A unicast route of the main table without next hops yet.
    pub fn new(destination: IpNet, protocol: u8) -> Route {
        Route {
            destination: destination.trunc(),
            table: TABLE_MAIN,
            protocol,
            metric: 0,
            kind: RouteKind::Unicast,
            scope: Scope::Universe,
            nexthops: Vec::new(),
            preferred_source: None,
            mtu: None,
            tos: 0,
        }
    }

    /// The same route the way the kernel lists it, so that two can be compared.
    #[must_use]
    pub fn canonical(mut self) -> Route {
        self.destination = self.destination.trunc();
        if Family::of(self.destination.addr()) == Family::V6 {
            self.scope = Scope::Universe;
            if self.metric == 0 {
                self.metric = IPV6_DEFAULT_METRIC;
            }
        }
        if !matches!(self.kind, RouteKind::Unicast | RouteKind::Local) {
            // IPv6 lists blackholes as going out of the loopback interface.
            self.nexthops.clear();
        }
        let alone = self.nexthops.len() == 1;
        for nexthop in &mut self.nexthops {
            if alone || nexthop.weight == 0 {
                nexthop.weight = 1;
            }
        }
        self.nexthops.sort();
        self
    }

    /// Whether packets may leave by this interface.
    pub fn uses_device(&self, index: u32) -> bool {
        self.nexthops
            .iter()
            .any(|nexthop| nexthop.device == Some(index))
    }
}

impl Socket {
    /// The routes that pass the filter, each in [canonical](Route::canonical) form.
    pub fn routes(&mut self, filter: &RouteFilter) -> Result<Vec<Route>, Error> {
        self.routes_as(filter, |route| route)
    }

    /// As [`Socket::routes`], but each route is handed over as it is read, and what is made of it
    /// is returned: with many routes their full description takes much memory.
    ///
    /// When the table changes under the listing, it starts again, and routes are handed over anew.
    pub fn routes_as<T>(
        &mut self,
        filter: &RouteFilter,
        make: impl Fn(Route) -> T,
    ) -> Result<Vec<T>, Error> {
        let mut list = Vec::new();
        for family in Family::selected(filter.family) {
            let request = || RouteNetlinkMessage::GetRoute(message::filter(family, filter));
            let routes = self.dump(request, "list routes", |answer| {
                // Without IPv6 in the kernel, a question for its routes returns the others.
                (answer.kind == libc::RTM_NEWROUTE)
                    .then(|| Route::read(answer.payload))
                    .flatten()
                    .filter(|route| Family::of(route.destination.addr()) == family)
                    .map(&make)
            });
            match routes {
                Ok(routes) => list.extend(routes),
                // A table that was never used does not exist.
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(list)
    }

    /// Adds a route; [`Error::Exists`] if its destination and metric are taken.
    pub fn add_route(&mut self, route: &Route) -> Result<(), Error> {
        self.request(
            RouteNetlinkMessage::NewRoute(message::new(route)),
            NLM_F_CREATE | NLM_F_EXCL,
            "add route",
            route,
        )
    }

    /// Adds a route, or puts it in the place of the one with the same destination and metric,
    /// whoever made that.
    pub fn replace_route(&mut self, route: &Route) -> Result<(), Error> {
        self.request(
            RouteNetlinkMessage::NewRoute(message::new(route)),
            NLM_F_CREATE | NLM_F_REPLACE,
            "replace route",
            route,
        )
    }

    /// Deletes the route with this destination, table, metric, kind and protocol.
    ///
    /// The scope does not matter, and next hops only if there are any. Protocol 0, kind
    /// `Other(0)` and (for the kernel) metric 0 match everything.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), Error> {
        self.request(
            RouteNetlinkMessage::DelRoute(message::delete(route)),
            0,
            "delete route",
            route,
        )
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteKind::Unicast => f.write_str("unicast"),
            RouteKind::Local => f.write_str("local"),
            RouteKind::Blackhole => f.write_str("blackhole"),
            RouteKind::Unreachable => f.write_str("unreachable"),
            RouteKind::Prohibit => f.write_str("prohibit"),
            RouteKind::Throw => f.write_str("throw"),
            RouteKind::Other(number) => write!(f, "kind {number}"),
        }
    }
}

/// In the words of `ip route`, with interface indexes instead of names.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind != RouteKind::Unicast {
            write!(f, "{} ", self.kind)?;
        }
        write!(f, "{}", self.destination)?;
        let several = self.nexthops.len() > 1;
        for nexthop in &self.nexthops {
            if several {
                f.write_str(" nexthop")?;
            }
            if let Some(via) = nexthop.via {
                write!(f, " via {via}")?;
            }
            if let Some(device) = nexthop.device {
                write!(f, " dev {device}")?;
            }
            if nexthop.onlink {
                f.write_str(" onlink")?;
            }
        }
        write!(f, " proto {}", self.protocol)?;
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        if self.table != TABLE_MAIN {
            write!(f, " table {}", self.table)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str) -> Route {
        Route::new(destination.parse().unwrap(), 80)
    }

    #[test]
    fn canonical_form_fills_in_what_the_kernel_fills_in() {
        let mut v6 = route("2001:db8::1/64");
        v6.scope = Scope::Link;
        let v6 = v6.canonical();
        assert_eq!(v6.destination.to_string(), "2001:db8::/64");
        assert_eq!((v6.metric, v6.scope), (1024, Scope::Universe));

        let v4 = route("192.0.2.0/24").canonical();
        assert_eq!(v4.metric, 0);
    }

    #[test]
    fn canonical_form_ignores_the_order_of_next_hops() {
        let hop = |via: &str| Nexthop {
            via: Some(via.parse().unwrap()),
            device: Some(2),
            ..Nexthop::default()
        };
        let mut one = route("10.0.1.0/26");
        one.nexthops = vec![hop("192.0.2.1"), hop("192.0.2.2")];
        let mut other = one.clone();
        other.nexthops.reverse();
        assert_ne!(one, other);
        assert_eq!(one.canonical(), other.canonical());
    }

    #[test]
    fn a_blackhole_has_no_next_hop() {
        let mut hole = route("2001:db8:1::/122");
        hole.kind = RouteKind::Blackhole;
        hole.nexthops = vec![Nexthop {
            device: Some(1),
            ..Nexthop::default()
        }];
        assert_eq!(hole.canonical().nexthops, []);
    }

    #[test]
    fn is_shown_like_ip_route_shows_it() {
        let mut route = route("10.0.1.0/26");
        route.nexthops = vec![Nexthop {
            via: Some("192.0.2.1".parse().unwrap()),
            device: Some(2),
            onlink: true,
            weight: 1,
        }];
        assert_eq!(
            route.to_string(),
            "10.0.1.0/26 via 192.0.2.1 dev 2 onlink proto 80"
        );
    }
}
