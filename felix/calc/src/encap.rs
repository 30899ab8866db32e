//! Which next hops are reached through a tunnel, and through which.
//!
//! Inside a pool that asks for a tunnel a next hop is reached directly only in mode CrossSubnet, on
//! a link of the subnet of this node's address; everything else goes through the tunnel or not at
//! all.
//! IPIP goes to any next hop, a plain router included; VXLAN needs a Node that says the address of
//! its device.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::facts::{Encap, Node, Pool, Tunnel};
use crate::routes::Tables;
use crate::{IPIP_DEVICE, NextHop, Nexthop, RouteClass, Target, VXLAN_DEVICE, VXLAN_V6_DEVICE};

/// What another node says of its tunnel devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// It takes IPIP.
    pub(crate) ipip: bool,
    /// Address of its VXLAN device, of the family of the node's address.
    pub(crate) vxlan: Option<IpAddr>,
}

/// The other nodes by address; of two with one address the lowest name counts.
pub(crate) fn ends(this: &str, nodes: &BTreeMap<String, Node>) -> HashMap<IpAddr, End> {
    let mut ends = HashMap::new();
    for (_, node) in nodes.iter().filter(|(name, _)| *name != this) {
        if let Some(address) = node.ipv4 {
            let end = End {
                ipip: node.tunnels.ipip.is_some(),
                vxlan: node.tunnels.vxlan.map(IpAddr::from),
            };
            ends.entry(address.addr().into()).or_insert(end);
        }
        if let Some(address) = node.ipv6 {
            let end = End {
                ipip: false,
                vxlan: node.tunnels.vxlan_v6.map(IpAddr::from),
            };
            ends.entry(address.addr().into()).or_insert(end);
        }
    }
    ends
}

/// The names of the devices, shared by all routes.
#[derive(Debug)]
pub(crate) struct Devices {
    ipip: Arc<str>,
    vxlan: Arc<str>,
    vxlan_v6: Arc<str>,
}

impl Default for Devices {
    fn default() -> Devices {
        Devices {
            ipip: IPIP_DEVICE.into(),
            vxlan: VXLAN_DEVICE.into(),
            vxlan_v6: VXLAN_V6_DEVICE.into(),
        }
    }
}

impl Devices {
    pub(crate) fn of(&self, tunnel: Tunnel, address: IpAddr) -> Arc<str> {
        match (tunnel, address) {
            (Tunnel::Ipip, _) => self.ipip.clone(),
            (Tunnel::Vxlan, IpAddr::V4(_)) => self.vxlan.clone(),
            (Tunnel::Vxlan, IpAddr::V6(_)) => self.vxlan_v6.clone(),
        }
    }
}

/// How one next hop is reached.
enum Way {
    /// On the link.
    Direct(Vec<Nexthop>),
    /// Through a tunnel whose other end is in place, or does not say such things.
    Ready(Nexthop),
    /// Its node has not said that its device is in place; the tunnel may work already.
    Waiting(Option<Nexthop>),
    /// Not before it has a tunnel or the host a route to it.
    Nowhere,
    /// Through a tunnel that the settings switch off.
    Off,
}

impl Tables {
    /// The way to a destination inside a pool that asks for a tunnel; next hops that cannot be
    /// used for want of something are added to `missing`.
    ///
    /// Next hops that are ready are used and others are left out; when none is, the answer is to
    /// wait for them (make before break).
    pub(crate) fn encapsulated<'a>(
        &mut self,
        pool: (Encap, Tunnel),
        next_hops: impl Iterator<Item = &'a NextHop>,
        missing: &mut Vec<NextHop>,
    ) -> Option<(RouteClass, Target)> {
        let (mut usable, mut waiting) = (Vec::new(), Vec::new());
        let (mut class, mut waits) = (RouteClass::SameSubnet, false);
        for next_hop in next_hops {
            match self.way_to(pool, next_hop) {
                Way::Direct(found) => usable.extend(found),
                Way::Ready(found) => {
                    class = RouteClass::Tunnel;
                    usable.push(found);
                }
                Way::Waiting(found) => {
                    waits = true;
                    waiting.extend(found);
                }
                Way::Nowhere => missing.push(next_hop.clone()),
                Way::Off => {}
            }
        }
        if !usable.is_empty() {
            return Some((class, Target::Via(sorted(usable))));
        }
        waits.then(|| (RouteClass::Tunnel, Target::Hold(sorted(waiting))))
    }

    fn way_to(&mut self, (encap, tunnel): (Encap, Tunnel), next_hop: &NextHop) -> Way {
        // A router on the link of which only the link is known is no end of a tunnel.
        if next_hop.link().is_some() {
            return Way::Nowhere;
        }
        let address = next_hop.address;
        let found = self.resolver.resolve(next_hop);
        if found.is_empty() {
            return Way::Nowhere;
        }
        if encap == Encap::CrossSubnet && self.node.shares_subnet(address) {
            let on_link = found.iter().filter(|found| found.gateway == address);
            let on_link: Vec<Nexthop> = on_link.cloned().collect();
            if !on_link.is_empty() {
                return Way::Direct(on_link);
            }
        }
        if self.switched_off.contains(&tunnel) {
            return Way::Off;
        }
        let end = self.ends.get(&address);
        let interface = self.devices.of(tunnel, address);
        let through = |gateway: IpAddr| Nexthop {
            gateway,
            interface,
            onlink: true,
        };
        match (tunnel, end) {
            (Tunnel::Ipip, Some(End { ipip: false, .. })) => Way::Waiting(Some(through(address))),
            (Tunnel::Ipip, Some(End { ipip: true, .. }) | None) => Way::Ready(through(address)),
            (
                Tunnel::Vxlan,
                Some(End {
                    vxlan: Some(end), ..
                }),
            ) => Way::Ready(through(*end)),
            (Tunnel::Vxlan, Some(End { vxlan: None, .. })) => Way::Waiting(None),
            (Tunnel::Vxlan, None) => Way::Nowhere,
        }
    }
}

fn sorted(mut nexthops: Vec<Nexthop>) -> Arc<[Nexthop]> {
    nexthops.sort();
    nexthops.dedup();
    nexthops.into()
}

/// Whether any pool asks for a tunnel of this kind, for one family.
pub(crate) fn in_use(pools: &BTreeMap<String, Pool>, tunnel: Tunnel, v4: bool) -> bool {
    // Pods keep addresses of a disabled pool, so it counts.
    let mut asking = pools.values().filter(|pool| pool.needs() == Some(tunnel));
    asking.any(|pool| pool.cidr.addr().is_ipv4() == v4)
}
