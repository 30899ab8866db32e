//! The overlay section: which tunnel devices this node has, and who is at their other ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use sha1::{Digest, Sha1};

use crate::encap::in_use;
use crate::facts::{Encap, Felix, Node, Pool, Tunnel};
use crate::{
    HostFacts, IPIP_DEVICE, Interface, IpipDevice, Overlay, Problem, TunnelAddresses,
    TunnelsWanted, VXLAN_DEVICE, VXLAN_V6_DEVICE, Vtep, VxlanDevice,
};

/// Octets that IPIP adds: an IPv4 header (RFC 2003).
const IPIP_OVERHEAD: u32 = 20;
/// Octets that VXLAN adds: IPv4, UDP, VXLAN and Ethernet headers (RFC 7348).
const VXLAN_OVERHEAD: u32 = 50;
/// The same with IPv6.
const VXLAN_V6_OVERHEAD: u32 = 70;
/// MTU when no interface is known that decides about it (Calico behaviour).
const DEFAULT_MTU: u32 = 1500;
/// Default network identifier and UDP port of VXLAN (Calico behaviour).
const DEFAULT_VNI: u32 = 4096;
const DEFAULT_PORT: u16 = 4789;

/// What the section is computed from.
#[derive(Clone, Copy)]
pub(crate) struct Basis<'a> {
    /// Name of this node.
    pub(crate) name: &'a str,
    pub(crate) nodes: &'a BTreeMap<String, Node>,
    pub(crate) pools: &'a BTreeMap<String, Pool>,
    /// There may be another one that cannot be used as it is written.
    pub(crate) unread_pool: bool,
    pub(crate) felix: &'a Felix,
    pub(crate) host: &'a HostFacts,
    pub(crate) addresses: TunnelAddresses,
}

impl<'a> Basis<'a> {
    fn this(&self) -> Option<&'a Node> {
        self.nodes.get(self.name)
    }

    /// The address of this node, of one family.
    fn local(&self, v4: bool) -> Option<IpAddr> {
        let node = self.this()?;
        match v4 {
            true => node.ipv4.map(|net| net.addr().into()),
            false => node.ipv6.map(|net| net.addr().into()),
        }
    }

    /// The interface that has an address; the lowest name when several have it.
    fn parent(&self, address: IpAddr) -> Option<&'a Interface> {
        let has = |i: &&Interface| i.addresses.iter().any(|net| net.addr() == address);
        let found = self.host.interfaces.iter().filter(has);
        found.min_by(|a, b| a.name.cmp(&b.name))
    }

    /// MTU of packets of this node on the wire.
    fn link_mtu(&self, local: IpAddr) -> Option<u32> {
        if let Some(pattern) = &self.felix.mtu_interfaces {
            let matching = self.host.interfaces.iter().filter(|interface| {
                interface.up && !is_tunnel(interface) && pattern.0.is_match(&interface.name)
            });
            if let Some(mtu) = matching.map(|interface| interface.mtu).min() {
                return Some(mtu);
            }
        }
        let parent = self.parent(local)?;
        let loopback = parent.addresses.iter().any(|net| net.addr().is_loopback());
        if !loopback {
            return Some(parent.mtu);
        }
        // An address that is on no card leaves by those with a gateway.
        let leaves = |interface: &&Interface| {
            let routes = &mut self.host.routes.iter();
            routes.any(|route| route.via.is_some() && route.interface == interface.name)
        };
        let cards = self.host.interfaces.iter().filter(|i| !is_tunnel(i));
        cards.filter(leaves).map(|interface| interface.mtu).min()
    }

    /// What FelixConfiguration says, or else whether a pool asks for it.
    pub(crate) fn wants(&self, tunnel: Tunnel, v4: bool) -> bool {
        let set = match tunnel {
            Tunnel::Ipip => self.felix.ipip_enabled,
            Tunnel::Vxlan => self.felix.vxlan_enabled,
        };
        match set {
            Some(true) if v4 => true,
            Some(false) => false,
            // What cannot be read may ask for what there was.
            Some(true) | None => {
                in_use(self.pools, tunnel, v4) || self.unread_pool && self.has(tunnel, v4)
            }
        }
    }

    /// Whether the device has an address from an earlier time.
    fn has(&self, tunnel: Tunnel, v4: bool) -> bool {
        match (tunnel, v4) {
            (Tunnel::Ipip, true) => self.addresses.ipip.is_some(),
            (Tunnel::Ipip, false) => false,
            (Tunnel::Vxlan, true) => self.addresses.vxlan.is_some(),
            (Tunnel::Vxlan, false) => self.addresses.vxlan_v6.is_some(),
        }
    }

    /// Which tunnels are asked for.
    pub(crate) fn wanted(&self) -> TunnelsWanted {
        TunnelsWanted {
            ipip: self.wants(Tunnel::Ipip, true),
            vxlan: self.wants(Tunnel::Vxlan, true),
            vxlan_v6: self.wants(Tunnel::Vxlan, false),
        }
    }

    /// The section.
    pub(crate) fn overlay(&self) -> Overlay {
        let wanted = self.wanted();
        let ipip = wanted.ipip.then(|| self.ipip()).flatten();
        let vxlan = wanted.vxlan.then(|| self.vxlan(true)).flatten();
        let vxlan_v6 = wanted.vxlan_v6.then(|| self.vxlan(false)).flatten();
        let links = [true, false].map(|v4| self.link_mtu(self.local(v4)?));
        let tunnels = [
            ipip.as_ref().map(|device| device.mtu),
            vxlan.as_ref().map(|device| device.mtu),
            vxlan_v6.as_ref().map(|device| device.mtu),
        ];
        let known = links.iter().flatten().next();
        let all = links.iter().chain(&tunnels).flatten();
        Overlay {
            pod_mtu: known.and(all.min().copied()),
            ipip,
            vxlan,
            vxlan_v6,
        }
    }

    fn ipip(&self) -> Option<IpipDevice> {
        let local = self.this()?.ipv4?.addr();
        Some(IpipDevice {
            address: self.addresses.ipip,
            local,
            mtu: self.mtu(self.felix.ipip_mtu, local.into(), IPIP_OVERHEAD),
        })
    }

    fn vxlan(&self, v4: bool) -> Option<VxlanDevice> {
        let local = self.local(v4)?;
        let this = self.this()?;
        let mac = match v4 {
            true => this.tunnels.mac,
            false => this.tunnels.mac_v6,
        };
        let (set, overhead) = match v4 {
            true => (self.felix.vxlan_mtu, VXLAN_OVERHEAD),
            false => (self.felix.vxlan_mtu_v6, VXLAN_V6_OVERHEAD),
        };
        Some(VxlanDevice {
            address: match v4 {
                true => self.addresses.vxlan.map(IpAddr::from),
                false => self.addresses.vxlan_v6.map(IpAddr::from),
            },
            mac: mac.unwrap_or_else(|| mac_of(self.name)),
            local,
            parent: self.parent(local)?.name.clone(),
            vni: self.felix.vxlan_vni.unwrap_or(DEFAULT_VNI),
            port: self.felix.vxlan_port.unwrap_or(DEFAULT_PORT),
            mtu: self.mtu(set, local, overhead),
            remotes: self.remotes(v4),
        })
    }

    fn mtu(&self, set: Option<u32>, local: IpAddr, overhead: u32) -> u32 {
        let link = self.link_mtu(local).unwrap_or(DEFAULT_MTU);
        set.unwrap_or_else(|| link.saturating_sub(overhead))
    }

    /// The other ends; of two with one tunnel address the lowest name counts.
    fn remotes(&self, v4: bool) -> BTreeMap<IpAddr, Vtep> {
        let mut remotes = BTreeMap::new();
        for (name, node) in self.nodes.iter().filter(|(name, _)| *name != self.name) {
            let (address, end, mac) = match v4 {
                true => (
                    node.ipv4.map(|net| IpAddr::from(net.addr())),
                    node.tunnels.vxlan.map(IpAddr::from),
                    node.tunnels.mac,
                ),
                false => (
                    node.ipv6.map(|net| IpAddr::from(net.addr())),
                    node.tunnels.vxlan_v6.map(IpAddr::from),
                    node.tunnels.mac_v6,
                ),
            };
            if let (Some(node), Some(end)) = (address, end) {
                let mac = mac.unwrap_or_else(|| mac_of(name));
                remotes.entry(end).or_insert(Vtep { mac, node });
            }
        }
        remotes
    }

    /// What is wrong with pools, settings and nodes in view of the tunnels.
    pub(crate) fn check(&self, overlay: &Overlay, problems: &mut Vec<Problem>) {
        for (name, pool) in self.pools {
            problems.extend(self.pool(name, pool));
        }
        problems.extend(self.too_big(overlay));
        problems.extend(self.no_card());
        problems.extend(self.twice());
    }

    fn pool(&self, name: &str, pool: &Pool) -> Option<Problem> {
        let tunnel = pool.needs()?;
        let v4 = pool.cidr.addr().is_ipv4();
        let problem = |problem: String, remedy: String| Problem {
            object: format!("IPPool/{name}"),
            field: pool.encap_field().to_owned(),
            problem,
            remedy,
        };
        if !self.wants(tunnel, v4) {
            let field = match tunnel {
                Tunnel::Ipip => "ipipEnabled",
                Tunnel::Vxlan => "vxlanEnabled",
            };
            return Some(problem(
                "the pool asks for a tunnel that FelixConfiguration switches off, so there is no route to its addresses behind one".to_owned(),
                format!(
                    "remove spec.{field} from FelixConfiguration, or set {} to Never",
                    pool.encap_field()
                ),
            ));
        }
        let node = self.this()?;
        let single = match v4 {
            true => node.ipv4.is_some_and(|net| net.prefix_len() == 32),
            false => node.ipv6.is_some_and(|net| net.prefix_len() == 128),
        };
        (single && pool.encap == Encap::CrossSubnet).then(|| {
            problem(
                "the address of this node has no subnet, so every other node is reached through the tunnel".to_owned(),
                format!("write the length of the subnet into the annotation of Node {}, or set {} to Always", self.name, pool.encap_field()),
            )
        })
    }

    /// Configured sizes that do not fit on the wire.
    fn too_big(&self, overlay: &Overlay) -> Vec<Problem> {
        let v4 = overlay.vxlan.as_ref();
        let v6 = overlay.vxlan_v6.as_ref();
        let ipip = overlay.ipip.as_ref();
        let devices = [
            (
                ipip.map(|d| (d.mtu, d.local.into())),
                IPIP_OVERHEAD,
                "ipipMTU",
            ),
            (v4.map(|d| (d.mtu, d.local)), VXLAN_OVERHEAD, "vxlanMTU"),
            (
                v6.map(|d| (d.mtu, d.local)),
                VXLAN_V6_OVERHEAD,
                "vxlanMTUV6",
            ),
        ];
        let problems = devices.into_iter().filter_map(|(device, overhead, field)| {
            let (mtu, local): (u32, IpAddr) = device?;
            let link = self.link_mtu(local)?;
            (mtu.saturating_add(overhead) > link).then(|| Problem {
                object: "FelixConfiguration".to_owned(),
                field: format!("spec.{field}"),
                problem: format!("{mtu} and the {overhead} octets of the tunnel are more than the {link} of the link of this node, so full packets are lost or cut"),
                remedy: format!("set it to {} or less, or to 0", link.saturating_sub(overhead)),
            })
        });
        problems.collect()
    }

    /// The pattern finds nothing.
    fn no_card(&self) -> Option<Problem> {
        let pattern = self.felix.mtu_interfaces.as_ref()?;
        let mut interfaces = self.host.interfaces.iter();
        let found = interfaces.any(|i| i.up && !is_tunnel(i) && pattern.0.is_match(&i.name));
        (!found).then(|| Problem {
            object: "FelixConfiguration".to_owned(),
            field: "spec.mtuIfacePattern".to_owned(),
            problem: format!("no interface of this node that is up matches {:?}, so the one with the node's address decides about the MTU", pattern.0.as_str()),
            remedy: "correct it, or remove it".to_owned(),
        })
    }

    /// Two nodes with one tunnel address.
    fn twice(&self) -> Vec<Problem> {
        let mut holders: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
        for (name, node) in self.nodes {
            let tunnels = &node.tunnels;
            let v4 = [tunnels.ipip, tunnels.vxlan].map(|a| a.map(IpAddr::from));
            let all = v4.into_iter().chain([tunnels.vxlan_v6.map(IpAddr::from)]);
            for address in all.flatten() {
                holders.entry(address).or_default().push(name);
            }
        }
        let shared = holders.into_iter().filter(|(_, names)| names.len() > 1);
        let problems = shared.map(|(address, names)| Problem {
            object: format!("Node/{}", names.join(", Node/")),
            field: "metadata.annotations".to_owned(),
            problem: format!(
                "several tunnel devices have the address {address}: those of {}",
                names.join(" and ")
            ),
            remedy: "delete the annotation of all but one; its agent then takes another address"
                .to_owned(),
        });
        problems.collect()
    }
}

fn is_tunnel(interface: &Interface) -> bool {
    [IPIP_DEVICE, VXLAN_DEVICE, VXLAN_V6_DEVICE].contains(&&*interface.name)
}

/// Hardware address of a node's VXLAN device: 0x66, then the first five octets of the SHA-1 of the
/// node's name (Calico behaviour).
fn mac_of(node: &str) -> [u8; 6] {
    let digest = Sha1::digest(node.as_bytes());
    [0x66, digest[0], digest[1], digest[2], digest[3], digest[4]]
}

/// The addresses of `wanted` that are on their devices, which are up.
pub(crate) fn in_place(host: &HostFacts, wanted: TunnelAddresses) -> TunnelAddresses {
    let there = |device: &str, address: IpAddr| {
        host.interfaces.iter().any(|interface| {
            let mut addresses = interface.addresses.iter();
            &*interface.name == device && interface.up && addresses.any(|net| net.addr() == address)
        })
    };
    TunnelAddresses {
        ipip: wanted.ipip.filter(|a| there(IPIP_DEVICE, (*a).into())),
        vxlan: wanted.vxlan.filter(|a| there(VXLAN_DEVICE, (*a).into())),
        vxlan_v6: wanted
            .vxlan_v6
            .filter(|a| there(VXLAN_V6_DEVICE, (*a).into())),
    }
}

/// All addresses on devices of the names of tunnels, but those every device has.
pub(crate) fn on_devices(host: &HostFacts) -> BTreeSet<IpAddr> {
    let devices = host.interfaces.iter().filter(|i| is_tunnel(i));
    devices
        .flat_map(|device| &device.addresses)
        .map(IpNet::addr)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_address_is_the_one_calico_computes() {
        // printf node-1 | sha1sum
        assert_eq!(mac_of("node-1"), [0x66, 0xb3, 0x68, 0x28, 0x39, 0x8e]);
    }
}
