//! Between [`Route`] and the bytes of a route message.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteProtocol, RouteScope, RouteType, RouteVia,
};

use super::{Nexthop, Route, RouteFilter, RouteKind};
use crate::attribute::{Attribute, attributes};
use crate::{Family, Scope};

/// Bytes of `struct rtmsg` and of `struct rtnexthop`.
const HEADER_BYTES: usize = 12;
const NEXTHOP_HEADER_BYTES: usize = 8;
const RTNH_F_ONLINK: u32 = 4;
const RTAX_MTU: u16 = 2;
const RTA_VIA: u16 = 18;

/// A request to list.
pub(super) fn filter(family: Family, filter: &RouteFilter) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family.into();
    // The library's defaults for these are filters too.
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unspec;
    message.header.protocol = RouteProtocol::from(filter.protocol.unwrap_or(0));
    let attributes = &mut message.attributes;
    attributes.extend(filter.table.map(RouteAttribute::Table));
    attributes.extend(filter.device.map(RouteAttribute::Oif));
    message
}

/// A request to add or replace.
pub(crate) fn new(route: &Route) -> RouteMessage {
    let mut message = base(route);
    message.header.scope = RouteScope::from(u8::from(route.scope));
    let attributes = &mut message.attributes;
    attributes.extend(
        route
            .preferred_source
            .map(|source| RouteAttribute::PrefSource(source.into())),
    );
    attributes.extend(
        route
            .mtu
            .map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])),
    );
    message
}

/// A request to delete, whatever the scope.
pub(crate) fn delete(route: &Route) -> RouteMessage {
    let mut message = base(route);
    message.header.scope = RouteScope::NoWhere;
    message
}

/// What identifies a route, and where it leads.
fn base(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let family = Family::of(route.destination.addr());
    message.header = RouteHeader {
        address_family: family.into(),
        destination_prefix_length: route.destination.prefix_len(),
        tos: route.tos,
        // Numbers above 255 fit only the attribute.
        table: u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol: RouteProtocol::from(route.protocol),
        kind: RouteType::from(u8::from(route.kind)),
        ..RouteHeader::default()
    };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(
        route.destination.network().into(),
    ));
    if route.table > u32::from(u8::MAX) {
        attributes.push(RouteAttribute::Table(route.table));
    }
    if route.metric != 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    match route.nexthops.as_slice() {
        [] => {}
        [only] => {
            attributes.extend(only.via.map(|via| gateway(via, family)));
            attributes.extend(only.device.map(RouteAttribute::Oif));
            if only.onlink {
                message.header.flags |= RouteFlags::Onlink;
            }
        }
        several => attributes.push(RouteAttribute::MultiPath(
            several.iter().map(|hop| multipath(hop, family)).collect(),
        )),
    }
    message
}

fn multipath(nexthop: &Nexthop, family: Family) -> RouteNextHop {
    let mut hop = RouteNextHop::default();
    hop.interface_index = nexthop.device.unwrap_or(0);
    hop.hops = u8::try_from(nexthop.weight.max(1) - 1).unwrap_or(u8::MAX);
    if nexthop.onlink {
        hop.flags = RouteNextHopFlags::Onlink;
    }
    hop.attributes
        .extend(nexthop.via.map(|via| gateway(via, family)));
    hop
}

/// A gateway; one of the other family needs its own attribute (RFC 5549 routes).
fn gateway(via: IpAddr, family: Family) -> RouteAttribute {
    if Family::of(via) == family {
        return RouteAttribute::Gateway(RouteAddress::from(via));
    }
    RouteAttribute::Via(match via {
        IpAddr::V4(via) => RouteVia::Inet(via),
        IpAddr::V6(via) => RouteVia::Inet6(via),
    })
}

impl Route {
    /// Reads a route message; nothing if it is not about an IP route or only a cached one.
    pub(crate) fn read(payload: &[u8]) -> Option<Route> {
        let header = RouteHeader::parse(payload).ok()?;
        let family = match u8::from(header.address_family) {
            2 => Family::V4,
            10 => Family::V6,
            _ => return None,
        };
        let flags = header.flags.bits();
        if flags & libc::RTM_F_CLONED != 0 {
            return None;
        }
        let any = match family {
            Family::V4 => IpAddr::from([0_u8; 4]),
            Family::V6 => IpAddr::from([0_u8; 16]),
        };
        let mut destination = any;
        let mut route = Route {
            table: u32::from(header.table),
            protocol: header.protocol.into(),
            kind: RouteKind::from(u8::from(header.kind)),
            scope: Scope::from(u8::from(header.scope)),
            tos: header.tos,
            ..Route::new(IpNet::new(any, 0).ok()?, 0)
        };
        let mut single = Nexthop {
            onlink: flags & RTNH_F_ONLINK != 0,
            ..Nexthop::default()
        };
        for attribute in attributes(payload, HEADER_BYTES) {
            match attribute.kind {
                libc::RTA_DST => destination = attribute.address()?,
                libc::RTA_TABLE => route.table = attribute.u32()?,
                libc::RTA_PRIORITY => route.metric = attribute.u32()?,
                libc::RTA_PREFSRC => route.preferred_source = attribute.address(),
                libc::RTA_OIF => single.device = attribute.u32(),
                libc::RTA_GATEWAY | RTA_VIA => single.via = read_gateway(&attribute),
                libc::RTA_MULTIPATH => route.nexthops = read_multipath(attribute.value),
                libc::RTA_METRICS => route.mtu = read_mtu(attribute.value),
                _ => {}
            }
        }
        if route.nexthops.is_empty() && (single.via.is_some() || single.device.is_some()) {
            route.nexthops.push(single);
        }
        route.destination = IpNet::new(destination, header.destination_prefix_length).ok()?;
        Some(route.canonical())
    }
}

fn read_gateway(attribute: &Attribute<'_>) -> Option<IpAddr> {
    if attribute.kind != RTA_VIA {
        return attribute.address();
    }
    // `struct rtvia`: a family before the address.
    Attribute {
        nested: false,
        kind: RTA_VIA,
        value: attribute.value.get(2..)?,
    }
    .address()
}

fn read_mtu(metrics: &[u8]) -> Option<u32> {
    attributes(metrics, 0)
        .find(|metric| metric.kind == RTAX_MTU)
        .and_then(|metric| metric.u32())
}

fn read_multipath(mut bytes: &[u8]) -> Vec<Nexthop> {
    let mut nexthops = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<NEXTHOP_HEADER_BYTES>() {
        let [l0, l1, flags, hops, i0, i1, i2, i3] = *header;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(entry) = bytes.get(..length) else {
            break;
        };
        if length < NEXTHOP_HEADER_BYTES {
            break;
        }
        nexthops.push(Nexthop {
            via: attributes(entry, NEXTHOP_HEADER_BYTES)
                .find(|a| matches!(a.kind, libc::RTA_GATEWAY | RTA_VIA))
                .and_then(|a| read_gateway(&a)),
            device: Some(u32::from_ne_bytes([i0, i1, i2, i3])).filter(|index| *index != 0),
            onlink: u32::from(flags) & RTNH_F_ONLINK != 0,
            weight: u16::from(hops) + 1,
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    nexthops
}

impl From<u8> for RouteKind {
    fn from(number: u8) -> RouteKind {
        match number {
            libc::RTN_UNICAST => RouteKind::Unicast,
            libc::RTN_LOCAL => RouteKind::Local,
            libc::RTN_BLACKHOLE => RouteKind::Blackhole,
            libc::RTN_UNREACHABLE => RouteKind::Unreachable,
            libc::RTN_PROHIBIT => RouteKind::Prohibit,
            libc::RTN_THROW => RouteKind::Throw,
            other => RouteKind::Other(other),
        }
    }
}

impl From<RouteKind> for u8 {
    fn from(kind: RouteKind) -> u8 {
        match kind {
            RouteKind::Unicast => libc::RTN_UNICAST,
            RouteKind::Local => libc::RTN_LOCAL,
            RouteKind::Blackhole => libc::RTN_BLACKHOLE,
            RouteKind::Unreachable => libc::RTN_UNREACHABLE,
            RouteKind::Prohibit => libc::RTN_PROHIBIT,
            RouteKind::Throw => libc::RTN_THROW,
            RouteKind::Other(number) => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;

    fn through_bytes(route: &Route) -> Route {
        let message = new(route);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        Route::read(&bytes).unwrap()
    }

    fn hop(via: &str, device: u32) -> Nexthop {
        Nexthop {
            via: Some(via.parse().unwrap()),
            device: Some(device),
            onlink: false,
            weight: 1,
        }
    }

    #[test]
    fn every_field_survives_the_way_through_bytes() {
        let mut route = Route::new("10.0.1.0/26".parse().unwrap(), 80);
        route.metric = 512;
        route.table = 1000;
        route.mtu = Some(1400);
        route.preferred_source = Some("192.0.2.7".parse().unwrap());
        route.nexthops = vec![Nexthop {
            onlink: true,
            ..hop("192.0.2.1", 3)
        }];
        assert_eq!(through_bytes(&route), route);
    }

    #[test]
    fn multipath_keeps_weights_and_devices() {
        let mut route = Route::new("2001:db8:1::/122".parse().unwrap(), 80);
        route.nexthops = vec![
            hop("2001:db8::1", 3),
            Nexthop {
                weight: 256,
                ..hop("2001:db8::2", 4)
            },
        ];
        assert_eq!(through_bytes(&route), route.canonical());
    }

    #[test]
    fn an_ipv4_route_may_have_an_ipv6_gateway() {
        let mut route = Route::new("10.0.1.0/26".parse().unwrap(), 80);
        route.nexthops = vec![hop("2001:db8::1", 3)];
        assert_eq!(through_bytes(&route), route);
    }

    #[test]
    fn a_default_route_has_no_destination_attribute() {
        let mut message = RouteMessage::default();
        message.header.address_family = Family::V6.into();
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        assert_eq!(Route::read(&bytes).unwrap().destination.to_string(), "::/0");
    }

    #[test]
    fn cut_off_bytes_are_no_route_and_no_panic() {
        let mut route = Route::new("10.0.1.0/26".parse().unwrap(), 80);
        route.nexthops = vec![hop("192.0.2.1", 3), hop("192.0.2.2", 3)];
        let message = new(&route);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        for length in 0..bytes.len() {
            let _ = Route::read(&bytes[..length]);
        }
    }
}
