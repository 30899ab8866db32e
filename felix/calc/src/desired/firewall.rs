//! Packet rules: outgoing NAT, and who may use the tunnels.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

/// What the packet rules of this node depend on, as a whole.
/// Both families are in the same sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Every pool, disabled ones too: what goes there keeps its source address
    /// (set `cali40all-ipam-pools` and `cali60…`).
    pub all_pools: BTreeSet<IpNet>,
    /// Pools with natOutgoing: what comes from there and leaves for no pool is translated
    /// (set `cali40masq-ipam-pools` and `cali60…`).
    pub masq_pools: BTreeSet<IpNet>,
    /// How outgoing packets are translated.
    pub nat: NatOptions,
    /// Who may send tunnel packets to this node: the addresses of all nodes, and
    /// `externalNodesList` (set `cali40all-hosts-net`).
    pub hosts: BTreeSet<IpNet>,
    /// IPIP is in use: protocol 4 is taken from `hosts` only.
    pub ipip: bool,
    /// VXLAN is in use on this UDP port: it is taken from `hosts` only, and not tracked.
    pub vxlan: Option<u16>,
    /// Addresses of this node that its VXLAN devices have for their own: what comes for another
    /// one of the host is treated the same, at the price of a look-up.
    pub vxlan_ends: BTreeSet<IpAddr>,
    /// Pods may send IPIP packets (`allowIPIPPacketsFromWorkloads`).
    pub workload_ipip: bool,
    /// Pods may send VXLAN packets (`allowVXLANPacketsFromWorkloads`).
    pub workload_vxlan: bool,
    /// Tunnel devices and their addresses: what this host sends through one with another
    /// source of its own gets that of the device.
    pub tunnels: Vec<(&'static str, IpAddr)>,
}

/// How outgoing packets are translated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatOptions {
    /// `natOutgoingAddress`: this source instead of that of the interface, for its family.
    pub address: Option<IpAddr>,
    /// `natPortRange`: source ports of TCP and UDP, first and last.
    pub ports: Option<(u16, u16)>,
    /// `iptablesNATOutgoingInterfaceFilter`: only what leaves by this interface; a trailing `+`
    /// stands for any rest of the name.
    pub out_interface: Option<String>,
    /// `natOutgoingExclusions: IPPoolsAndHostIPs`: what goes to a node is left alone too.
    pub exclude_hosts: bool,
}
