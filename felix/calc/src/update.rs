//! Inputs: what is known about the cluster and the host.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crds::{AnyResource, Kind};
use ipnet::IpNet;
use serde_json::Value;

use crate::Problem;

/// One change of an input.
/// Updates may come in any order, more than once, and may go back to an earlier value.
#[derive(Clone, Debug)]
pub enum Update {
    /// An object is new or changed.
    Resource(AnyResource),
    /// An object is gone.
    Gone(ResourceKey),
    /// An object cannot be read: it counts as gone, and its problems are reported.
    Broken(ResourceKey, Vec<Problem>),
    /// Something stored may be an IPPool and cannot be used; `None` when that is over. Told by where
    /// it is.
    UnreadPool(String, Option<UnreadPool>),
    /// Every object of the kind that existed at the start has been told.
    InSync(Kind),
    /// A local endpoint is new or changed, or gone.
    Endpoint(EndpointId, Option<WorkloadEndpoint>),
    /// Every endpoint that was recorded at the start has been told.
    EndpointsInSync,
    /// The host's own network, as a whole.
    Host(HostFacts),
    /// Next hops of the best BGP paths to prefixes; `None` when there is no path any more.
    Learned(Vec<(IpNet, Option<Vec<NextHop>>)>),
    /// Next hops that BGP paths, used or not, have (`true`) or have no longer.
    NextHops(Vec<(NextHop, bool)>),
    /// The BGP speaker.
    Speaker(SpeakerState),
    /// The dataplane has changed the kernel.
    Programmed(Programmed),
    /// The addresses that are allocated to the tunnel devices of this node, as a whole.
    Tunnels(TunnelAddresses),
}

/// What is known of a stored pool that cannot be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnreadPool {
    /// Its name. While the last good state of a pool of that name is in force, that one counts.
    pub name: Option<String>,
    /// The manifest, when it can be told what belongs to it.
    pub manifest: Option<Value>,
}

/// Addresses of the tunnel devices of this node.
/// They come from the agent and not from the annotations of the Node, because an annotation says
/// more: that the device is in place and others may send to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelAddresses {
    /// Of `tunl0`.
    pub ipip: Option<Ipv4Addr>,
    /// Of `vxlan.calico`.
    pub vxlan: Option<Ipv4Addr>,
    /// Of `vxlan-v6.calico`.
    pub vxlan_v6: Option<Ipv6Addr>,
}

impl TunnelAddresses {
    /// All there are.
    pub fn all(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let v4 = [self.ipip, self.vxlan].map(|address| address.map(IpAddr::from));
        let v6 = self.vxlan_v6.map(IpAddr::from);
        v4.into_iter().flatten().chain(v6)
    }
}

/// Next hop of a BGP path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// The router.
    pub address: IpAddr,
    /// The interface it is on. A link-local address means nothing without, with others it is
    /// ignored: the routes of the host say where they are.
    pub interface: Option<Arc<str>>,
}

impl NextHop {
    /// The interface of a link-local next hop, which needs no route of the host.
    pub(crate) fn link(&self) -> Option<&Arc<str>> {
        let link_local = match self.address {
            IpAddr::V4(_) => false,
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        self.interface.as_ref().filter(|_| link_local)
    }
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> NextHop {
        NextHop {
            address,
            interface: None,
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.link() {
            Some(interface) => write!(f, "{}%{interface}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

/// Names an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, where the kind has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// Namespace in which Calico's own daemon runs where it is installed by manifest.
pub const DEFAULT_NAMESPACE: &str = "kube-system";

/// What the calculation is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of this node.
    pub node: String,
    /// Install a default route that was learned.
    /// Off, unlike in Calico, where a peer that announces one takes over the node's way out.
    pub allow_default_route: bool,
    /// Where the BGP identifier comes from.
    pub router_id: RouterIdRule,
    /// Namespace of the Secrets with BGP passwords.
    pub namespace: String,
    /// Speak BGP. Without it the routes to the blocks of other nodes come from the BlockAffinity
    /// and Node objects alone.
    pub bgp: bool,
}

impl Settings {
    /// Default settings for a node.
    pub fn new(node: impl Into<String>) -> Settings {
        Settings {
            node: node.into(),
            allow_default_route: false,
            router_id: RouterIdRule::NodeAddress,
            namespace: DEFAULT_NAMESPACE.to_owned(),
            bgp: true,
        }
    }
}

/// Where the BGP identifier comes from (Calico behaviour: `CALICO_ROUTER_ID`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterIdRule {
    /// IPv4 address of the node; hashed from its name when it has none.
    NodeAddress,
    /// Hashed from the name of the node.
    Hash,
    /// This one.
    Fixed(Ipv4Addr),
}

/// Names a local endpoint: one interface of one workload.
///
/// A pod that is set up again under a new container id keeps its name, so the newer container
/// replaces the older one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId {
    /// `<namespace>/<pod>`, or the container id outside Kubernetes.
    pub workload: String,
    /// Interface name inside the pod, such as `eth0`.
    pub endpoint: String,
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workload, self.endpoint)
    }
}

/// A local endpoint as the CNI server recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadEndpoint {
    /// Container the endpoint belongs to.
    pub container_id: String,
    /// Host side interface, such as `cali0123456789a`.
    pub interface: Arc<str>,
    /// Addresses of the pod.
    pub addresses: Vec<IpAddr>,
    /// MAC address of the pod side, when known.
    pub pod_mac: Option<[u8; 6]>,
}

/// The host's own network, without anything this agent put there.
///
/// Needed to find the directly connected gateway behind a BGP next hop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Interfaces with their addresses; workload interfaces are left out.
    pub interfaces: Vec<Interface>,
    /// Unicast routes of the main table that are not ours, those of connected subnets included.
    pub routes: Vec<HostRoute>,
}

/// An interface of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name, such as `eth0`.
    pub name: Arc<str>,
    /// Can carry packets (oper-up).
    pub up: bool,
    /// Addresses with the length of their subnet; host bits are set.
    pub addresses: Vec<IpNet>,
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
}

/// One next hop of a route of the host.
/// A multipath route is told as several of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoute {
    /// Destination.
    pub destination: IpNet,
    /// Gateway; `None` when the destination is on the link.
    pub via: Option<IpAddr>,
    /// Name of the interface packets leave by.
    pub interface: Arc<str>,
    /// Metric; lower is better.
    pub metric: u32,
}

/// What the dataplane has put into the kernel, or taken out of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programmed {
    /// Destinations of pod and blackhole routes: `true` when in the kernel, `false` when no longer.
    pub routes: Vec<(IpNet, bool)>,
    /// `routes` is the whole set; what it does not list is not in the kernel.
    pub complete: bool,
}

/// What the calculation needs to know of the BGP speaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpeakerState {
    /// Every peer that could be reached has told all its routes, or the time for that is over.
    pub converged: bool,
}
