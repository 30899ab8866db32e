//! What the calculation keeps of each object: parsed once, small, comparable.
//!
//! A Node changes every few seconds in a live cluster; its facts hardly ever do, and only a change
//! of facts marks anything dirty.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crds::block_affinity::AffinityState;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::Problem;

pub(crate) use bgp::{
    Advertisement, BgpDefaults, Filter, FilterRule, Peer, Remote, Scope, SecretKey, Services,
};
pub(crate) use felix::{Felix, Pattern};

mod bgp;
mod felix;

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) labels: BTreeMap<String, String>,
    /// Address with the length of its subnet; the length of a single address when none is given.
    pub(crate) ipv4: Option<Ipv4Net>,
    pub(crate) ipv6: Option<Ipv6Net>,
    pub(crate) asn: Option<u32>,
    /// Set when the node is a route reflector.
    pub(crate) cluster_id: Option<Ipv4Addr>,
    /// What the node says of its tunnel devices: that they are in place.
    pub(crate) tunnels: NodeTunnels,
    pub(crate) problems: Vec<Problem>,
}

impl Node {
    /// The address of one family, as that of another address.
    pub(crate) fn address_like(&self, other: IpAddr) -> Option<IpAddr> {
        match other {
            IpAddr::V4(_) => self.ipv4.map(|n| n.addr().into()),
            IpAddr::V6(_) => self.ipv6.map(|n| n.addr().into()),
        }
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.ipv4.map(|n| IpAddr::from(n.addr()));
        v4.into_iter()
            .chain(self.ipv6.map(|n| IpAddr::from(n.addr())))
    }

    /// The subnets of the node's addresses.
    pub(crate) fn subnets(&self) -> impl Iterator<Item = IpNet> {
        let v4 = self.ipv4.map(|n| IpNet::from(n.trunc()));
        v4.into_iter()
            .chain(self.ipv6.map(|n| IpNet::from(n.trunc())))
    }

    /// True when the address lies in the subnet of the node address of its family.
    pub(crate) fn shares_subnet(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.ipv4.is_some_and(|n| n.contains(&v4)),
            IpAddr::V6(v6) => self.ipv6.is_some_and(|n| n.contains(&v6)),
        }
    }
}

/// The tunnel devices of a node, as its annotations name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeTunnels {
    pub(crate) ipip: Option<Ipv4Addr>,
    pub(crate) vxlan: Option<Ipv4Addr>,
    pub(crate) vxlan_v6: Option<Ipv6Addr>,
    /// Hardware addresses, where they are not derived from the name of the node.
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) mac_v6: Option<[u8; 6]>,
}

/// When packets between nodes need a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encap {
    Never,
    CrossSubnet,
    Always,
    /// Cannot be read: nothing may be sent to other nodes, in a tunnel or in the open.
    Unknown,
}

/// What kind of tunnel a pool asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tunnel {
    Ipip,
    Vxlan,
}

/// An IPPool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) cidr: IpNet,
    /// Prefix length of its blocks.
    pub(crate) block_size: u8,
    pub(crate) encap: Encap,
    /// Which tunnel, where one is needed.
    pub(crate) tunnel: Tunnel,
    pub(crate) disabled: bool,
    /// `natOutgoing`.
    pub(crate) nat: bool,
    /// False with `disableBGPExport`.
    pub(crate) export: bool,
}

impl Pool {
    /// The field that sets `encap`.
    pub(crate) fn encap_field(&self) -> &'static str {
        match self.tunnel {
            Tunnel::Ipip => "spec.ipipMode",
            Tunnel::Vxlan => "spec.vxlanMode",
        }
    }

    /// The tunnel some nodes are behind.
    pub(crate) fn needs(&self) -> Option<Tunnel> {
        match self.encap {
            Encap::Never | Encap::Unknown => None,
            Encap::CrossSubnet | Encap::Always => Some(self.tunnel),
        }
    }
}

/// Whether there may be a pool of which not even the range can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hidden {
    #[default]
    No,
    /// Yes, and the routes that an earlier run left are kept, as they follow what it could read.
    Held,
    /// Yes.
    Yes,
}

/// Something stored that may be a pool and cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) name: Option<String>,
    /// What can be read of it; nothing when not even its range can.
    pub(crate) pool: Option<Pool>,
}

/// A confirmed BlockAffinity of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) cidr: IpNet,
    pub(crate) node: String,
}

/// A BlockAffinity of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Affinity {
    pub(crate) cidr: IpNet,
    /// Confirmed and not deleted.
    pub(crate) confirmed: bool,
    pub(crate) state: AffinityState,
}

/// An IPAMBlock affine to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) cidr: IpNet,
    /// Addresses handed to other nodes.
    pub(crate) lent: BTreeSet<IpAddr>,
}
