//! Tunnels: the devices of this node and who is at their other ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::TunnelAddresses;

/// Name of the IPIP device (Calico behaviour).
pub const IPIP_DEVICE: &str = "tunl0";
/// Name of the VXLAN device for IPv4 (Calico behaviour).
pub const VXLAN_DEVICE: &str = "vxlan.calico";
/// Name of the VXLAN device for IPv6 (Calico behaviour).
pub const VXLAN_V6_DEVICE: &str = "vxlan-v6.calico";

/// The tunnels this node needs, as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// `tunl0`, when a pool asks for IPIP.
    pub ipip: Option<IpipDevice>,
    /// `vxlan.calico`, when an IPv4 pool asks for VXLAN.
    pub vxlan: Option<VxlanDevice>,
    /// `vxlan-v6.calico`, when an IPv6 pool asks for VXLAN.
    pub vxlan_v6: Option<VxlanDevice>,
    /// MTU of new pods in bytes: that of the host's link less the greatest overhead in use;
    /// nothing while the link of the node address is not known.
    pub pod_mtu: Option<u32>,
}

/// What is to be known of the tunnels of this node besides what the dataplane is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelFacts {
    /// A pool or a setting asks for the device, whether it can be made at present or not.
    pub wanted: TunnelsWanted,
    /// The addresses of this node's devices that are there: others may be told of them.
    pub in_place: TunnelAddresses,
    /// All addresses on devices of these names.
    pub on_devices: BTreeSet<IpAddr>,
    /// A pool cannot be read: addresses that there are stay, as they may be of that one.
    pub keep: bool,
}

/// Which tunnels are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelsWanted {
    /// `tunl0`.
    pub ipip: bool,
    /// `vxlan.calico`.
    pub vxlan: bool,
    /// `vxlan-v6.calico`.
    pub vxlan_v6: bool,
}

/// The IPIP device.
/// It knows no peers: the gateway of a route is the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpipDevice {
    /// Its only address; nothing before one is allocated. The device works without.
    pub address: Option<Ipv4Addr>,
    /// Address of this node, the source of what it sends.
    pub local: Ipv4Addr,
    /// In bytes.
    pub mtu: u32,
}

/// A VXLAN device (RFC 7348), one family inside and outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanDevice {
    /// Its only address; nothing before one is allocated.
    pub address: Option<IpAddr>,
    /// Its hardware address: 0x66, then the first five octets of SHA-1 of the node's name
    /// (Calico behaviour), or what the node's annotation says.
    pub mac: [u8; 6],
    /// Address of this node, the source of what it sends.
    pub local: IpAddr,
    /// Name of the interface that has `local`.
    pub parent: Arc<str>,
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// In bytes.
    pub mtu: u32,
    /// The other ends, by tunnel address.
    pub remotes: BTreeMap<IpAddr, Vtep>,
}

/// The other end of a VXLAN tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vtep {
    /// Hardware address of its device.
    pub mac: [u8; 6],
    /// Address of its node.
    pub node: IpAddr,
}
