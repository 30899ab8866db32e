//! Inputs: what is known about the cluster and the host.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

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
