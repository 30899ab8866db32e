//! What this node should look like.
//!
//! [`Update`]s go in, in any order, repeated, or going back; an [`Output`] comes out: local
//! endpoints, tunnels, packet rules, routes, BGP.
//! The result depends on the current inputs only, never on how they came about: there is no
//! "last good value", and what cannot be understood is left out and reported as a [`Problem`].
//! Nothing is said before the state of every needed kind and the first listing of the host are in.
//!
//! The package holds no socket, task, clock or client: the agent feeds it, `felix-dataplane`
//! makes its routes and endpoints real, and the agent hands the BGP section to the speaker.

#![warn(missing_docs)]

pub mod calc;
pub mod desired;
pub mod intern;
pub mod update;

mod bgp;
mod blocks;
mod book;
mod encap;
mod endpoints;
mod facts;
mod firewall;
mod host;
mod next_hops;
mod overlay;
mod parse;
mod remote;
mod routes;

pub use calc::Calc;
pub use desired::{
    Bfd, Bgp, Bind, BlockUse, EndpointInterface, Endpoints, Firewall, IPIP_DEVICE, IpipDevice,
    Local, NatOptions, NextHopMode, Nexthop, Origin, Output, Overlay, Password, PeerKind, PeerSpec,
    Problem, Refused, Route, RouteClass, RouteNumbers, SessionOptions, Target, TunnelFacts,
    TunnelsWanted, VXLAN_DEVICE, VXLAN_V6_DEVICE, Vtep, VxlanDevice, policy,
};
pub use next_hops::NextHops;
pub use update::{
    DEFAULT_NAMESPACE, EndpointId, HostFacts, HostRoute, Interface, NextHop, Programmed,
    ResourceKey, RouterIdRule, Settings, SpeakerState, TunnelAddresses, UnreadPool, Update,
    WorkloadEndpoint,
};
