//! Outputs: what the node should look like.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crds::block_affinity::AffinityState;
use ipnet::IpNet;

use crate::{EndpointId, NextHops};

pub use bgp::{
    Bfd, Bgp, Bind, Local, NextHopMode, Origin, Password, PeerKind, PeerSpec, Refused,
    SessionOptions,
};

pub use firewall::{Firewall, NatOptions};
pub use overlay::{
    IPIP_DEVICE, IpipDevice, Overlay, TunnelFacts, TunnelsWanted, VXLAN_DEVICE, VXLAN_V6_DEVICE,
    Vtep, VxlanDevice,
};

mod bgp;
mod firewall;
mod overlay;
pub mod policy;

/// What changed since the previous flush; a section that did not change is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Grows by one with every flush that says something.
    pub generation: u64,
    /// Local endpoints, as a whole, when they changed.
    pub endpoints: Option<Arc<Endpoints>>,
    /// Routes by destination: the new answer, or `None` where there shall be no route of ours.
    pub routes: Vec<(IpNet, Option<Route>)>,
    /// `routes` is the whole desired set, not a change of it: true in the first output only.
    /// Routes of ours that it does not list are leftovers.
    pub complete: bool,
    /// Leftover routes that have a gateway must stay for now: they were learned by an earlier run
    /// and the speaker has not heard its peers yet.
    /// Leftover pod and blackhole routes may go at once.
    pub hold_learned: bool,
    /// Tunnels, as a whole, when they changed. In place before the routes through them are.
    pub overlay: Option<Arc<Overlay>>,
    /// Packet rules, as a whole, when they changed. In place before the routes are.
    pub firewall: Option<Arc<Firewall>>,
    /// BGP, as a whole, when it changed.
    /// Stays `None` until the dataplane has reported a first programmed state.
    pub bgp: Option<Arc<Bgp>>,
    /// How the next hops of BGP paths are reached, as a whole, when it changed.
    pub next_hops: Option<Arc<NextHops>>,
    /// Everything that is wrong with the inputs, as a whole, when it changed.
    pub problems: Option<Arc<Vec<Problem>>>,
}

/// The local workload interfaces, by interface name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// One entry per host side interface; an interface that is not here gets nothing from us.
    pub interfaces: BTreeMap<Arc<str>, EndpointInterface>,
}

/// A host side workload interface and what lives behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointInterface {
    /// The endpoint that owns the interface.
    pub id: EndpointId,
    /// Container the endpoint belongs to.
    pub container_id: String,
    /// Addresses of the pod, sorted; those another endpoint owns are left out.
    pub addresses: Vec<IpAddr>,
    /// MAC address of the pod side, when known.
    pub pod_mac: Option<[u8; 6]>,
}

impl EndpointInterface {
    /// True when the pod has an IPv4 address, so IPv4 settings of the interface matter.
    pub fn has_ipv4(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv4)
    }

    /// True when the pod has an IPv6 address, so IPv6 settings of the interface matter.
    pub fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }
}

/// The one route of ours for a destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// Destination; also the key of the route.
    pub destination: IpNet,
    /// Why the route exists.
    pub class: RouteClass,
    /// Where packets go.
    pub target: Target,
}

/// Why a route exists.
/// The order decides between two candidates for one destination, the lowest wins
/// (Calico behaviour: route classes of its route table).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteClass {
    /// Address of a pod of this node.
    LocalWorkload,
    /// The way to a BGP peer that `reachableBy` of a BGPPeer gives.
    PeerGateway,
    /// Learned, inside a pool of mode CrossSubnet, next hop in a subnet of this node.
    SameSubnet,
    /// Inside a pool that asks for a tunnel, through one.
    Tunnel,
    /// Learned, inside a pool without encapsulation.
    NoEncap,
    /// Learned, outside every pool.
    Learned,
    /// Address block of this node: what no pod owns is dropped here.
    IpamBlockDrop,
    /// A pool that asks for a tunnel: what has no better route must not leave without one.
    PoolDrop,
}

/// A block this node claims, and how full it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockUse {
    /// The block.
    pub cidr: IpNet,
    /// How far the claim is.
    pub state: AffinityState,
    /// Addresses in use.
    pub used: u32,
    /// Addresses left.
    pub free: u32,
}

/// How many routes there are of each sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteNumbers {
    /// To pods of this node.
    pub workloads: usize,
    /// Drop routes of own blocks and of pools.
    pub blocks: usize,
    /// Learned, and ways to BGP peers.
    pub learned: usize,
}

impl RouteNumbers {
    pub(crate) fn of(&mut self, class: RouteClass) -> &mut usize {
        match class {
            RouteClass::LocalWorkload => &mut self.workloads,
            RouteClass::PeerGateway
            | RouteClass::SameSubnet
            | RouteClass::Tunnel
            | RouteClass::NoEncap
            | RouteClass::Learned => &mut self.learned,
            RouteClass::IpamBlockDrop | RouteClass::PoolDrop => &mut self.blocks,
        }
    }
}

/// Where packets of a route go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Out of a local workload interface, scope link, no gateway.
    Local {
        /// Name of the interface.
        interface: Arc<str>,
    },
    /// Through gateways, never empty; more than one is equal-cost multipath.
    /// Sorted, without duplicates. Each is on the link of its interface. Shared, as most routes go
    /// through few gateways.
    Via(Arc<[Nexthop]>),
    /// Dropped without an answer.
    Blackhole,
    /// Through gateways on tunnel devices, none of whose nodes has said that its own device is in
    /// place. A route of ours that is in the kernel stays for a while, so that a change of mode
    /// breaks nothing; after that, and at once where there is none, packets go through these
    /// gateways. Sorted, without duplicates; empty when nothing can be sent before the other end
    /// speaks (VXLAN): then there is no route after that while.
    Hold(Arc<[Nexthop]>),
}

/// A gateway the host can reach directly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nexthop {
    /// Address of the gateway.
    pub gateway: IpAddr,
    /// Name of the interface the gateway is on.
    pub interface: Arc<str>,
    /// The host reaches the gateway without a link-scope route, so the kernel must be told that
    /// it is on the link.
    pub onlink: bool,
}

/// Something wrong with the inputs, said to the user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// The object, such as `IPPool/blue` or `Node/a`.
    pub object: String,
    /// The field, such as `spec.cidr`; empty when it is the object as a whole.
    pub field: String,
    /// What is wrong and what follows from it.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object)?;
        if !self.field.is_empty() {
            write!(f, " {}", self.field)?;
        }
        write!(f, ": {} ({})", self.problem, self.remedy)
    }
}
