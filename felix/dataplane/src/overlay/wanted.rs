//! From the tunnels of the calculation to those of `ipip`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use felix_calc::{IPIP_DEVICE, IpipDevice, Overlay, VXLAN_DEVICE, VXLAN_V6_DEVICE, VxlanDevice};
use ipip::{Encapsulation, Remote, Tunnel, Vxlan};

/// All wanted tunnels by the name of their device.
pub(super) fn tunnels(overlay: &Overlay) -> BTreeMap<Arc<str>, Tunnel> {
    let vxlans = [
        (VXLAN_DEVICE, &overlay.vxlan),
        (VXLAN_V6_DEVICE, &overlay.vxlan_v6),
    ];
    let vxlans = vxlans
        .into_iter()
        .filter_map(|(name, wanted)| Some(vxlan(name, wanted.as_ref()?)));
    let ipip = overlay.ipip.as_ref().map(ipip);
    ipip.into_iter()
        .chain(vxlans)
        .map(|tunnel| (tunnel.name.clone(), tunnel))
        .collect()
}

fn ipip(wanted: &IpipDevice) -> Tunnel {
    Tunnel {
        name: IPIP_DEVICE.into(),
        address: wanted.address.map(IpAddr::V4),
        local: IpAddr::V4(wanted.local),
        mtu: wanted.mtu,
        encapsulation: Encapsulation::Ipip,
    }
}

fn vxlan(name: &str, wanted: &VxlanDevice) -> Tunnel {
    let remotes = wanted.remotes.iter().map(|(address, vtep)| {
        let remote = Remote {
            mac: vtep.mac,
            node: vtep.node,
        };
        (*address, remote)
    });
    Tunnel {
        name: name.into(),
        address: wanted.address,
        local: wanted.local,
        mtu: wanted.mtu,
        encapsulation: Encapsulation::Vxlan(Vxlan {
            vni: wanted.vni,
            port: wanted.port,
            mac: wanted.mac,
            parent: wanted.parent.clone(),
            remotes: remotes.collect(),
        }),
    }
}

/// Name of the interface that a tunnel sends by, where it is bound to one.
pub(super) fn parent(tunnel: &Tunnel) -> Option<&str> {
    match &tunnel.encapsulation {
        Encapsulation::Ipip => None,
        Encapsulation::Vxlan(vxlan) => Some(&vxlan.parent),
    }
}

/// Whether this is the tunnel address of another end.
pub(super) fn knows(tunnel: &Tunnel, address: IpAddr) -> bool {
    match &tunnel.encapsulation {
        Encapsulation::Ipip => false,
        Encapsulation::Vxlan(vxlan) => vxlan.remotes.contains_key(&address),
    }
}

/// Whether other ends of a tunnel are neighbours of its device.
pub(super) fn has_remotes(tunnel: &Tunnel) -> bool {
    matches!(tunnel.encapsulation, Encapsulation::Vxlan(_))
}
