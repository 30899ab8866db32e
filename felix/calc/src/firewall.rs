//! The firewall section: outgoing NAT, and who may use the tunnels.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::overlay::Basis;
use crate::{Firewall, IPIP_DEVICE, NatOptions, Overlay, VXLAN_DEVICE, VXLAN_V6_DEVICE};

/// The section, given the tunnels.
pub(crate) fn firewall(basis: &Basis<'_>, overlay: &Overlay) -> Firewall {
    let felix = basis.felix;
    let pools = basis.pools.values();
    let masq = pools.clone().filter(|pool| pool.nat);
    let nodes = basis.nodes.values().flat_map(|node| node.addresses());
    let others = felix.external_nodes.iter().flatten().copied();
    let vxlan = [&overlay.vxlan, &overlay.vxlan_v6];
    let ipip = overlay.ipip.as_ref().and_then(|device| device.address);
    let [v4, v6] = vxlan.map(|device| device.as_ref().and_then(|device| device.address));
    let tunnels = [
        (IPIP_DEVICE, ipip.map(IpAddr::from)),
        (VXLAN_DEVICE, v4),
        (VXLAN_V6_DEVICE, v6),
    ];
    let tunnels = tunnels
        .into_iter()
        .filter_map(|(name, address)| Some((name, address?)));
    Firewall {
        // A disabled pool counts: what goes there keeps its source address (Calico behaviour).
        all_pools: pools.map(|pool| pool.cidr).collect(),
        masq_pools: masq.map(|pool| pool.cidr).collect(),
        nat: NatOptions {
            address: felix.nat_address,
            ports: felix.nat_ports,
            out_interface: felix.nat_interface.clone(),
            exclude_hosts: felix.nat_exclude_hosts.unwrap_or(false),
        },
        hosts: nodes.map(IpNet::from).chain(others).collect(),
        ipip: overlay.ipip.is_some(),
        vxlan: vxlan.into_iter().flatten().map(|device| device.port).next(),
        vxlan_ends: vxlan
            .into_iter()
            .flatten()
            .map(|device| device.local)
            .collect(),
        workload_ipip: felix.workload_ipip.unwrap_or(false),
        workload_vxlan: felix.workload_vxlan.unwrap_or(false),
        tunnels: tunnels.collect(),
    }
}
