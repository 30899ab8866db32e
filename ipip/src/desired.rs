//! What a tunnel shall be like.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use netlink::TunnelKind;

/// A tunnel device of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Name of the device: `tunl0`, `vxlan.calico`, `vxlan-v6.calico`.
    pub name: Arc<str>,
    /// Its only address but for IPv6 link-local ones; while there is none, those it has stay.
    pub address: Option<IpAddr>,
    /// Address of this node, the source of what it sends. Its family is that of the outer packets.
    pub local: IpAddr,
    /// Of the device, in bytes.
    pub mtu: u32,
    /// How packets are wrapped.
    pub encapsulation: Encapsulation,
}

/// How packets are wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// IPv4 in IPv4. The other end is the gateway of the route, so that there is nothing to know
    /// about it. The device of the kernel takes its source from the route to the other end.
    Ipip,
    /// Ethernet in UDP.
    Vxlan(Vxlan),
}

/// What a VXLAN device has besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Network identifier, 24 bits.
    pub vni: u32,
    /// UDP port, here and at the other ends.
    pub port: u16,
    /// Hardware address of the device.
    pub mac: [u8; 6],
    /// Name of the interface that it sends by.
    pub parent: Arc<str>,
    /// The other ends, by their tunnel address.
    pub remotes: BTreeMap<IpAddr, Remote>,
}

/// The other end of a VXLAN tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Hardware address of its device.
    pub mac: [u8; 6],
    /// Address of its node, of the family of [`Tunnel::local`].
    pub node: IpAddr,
}

impl Tunnel {
    /// The kind of device that the kernel has for it.
    pub fn kind(&self) -> TunnelKind {
        match self.encapsulation {
            Encapsulation::Ipip => TunnelKind::Ipip,
            Encapsulation::Vxlan(_) => TunnelKind::Vxlan,
        }
    }
}
