//! What the BGP speaker shall do.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use crds::bgp_peer::{MaxPrefixes, Role};
use ipnet::IpNet;

use super::policy::Policy;

/// What the BGP speaker shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bgp {
    /// This speaker.
    pub local: Local,
    /// Peers by name, such as `Mesh_192_0_2_2` or `Global_192_0_2_1_port_1790`
    /// (Calico behaviour: names of its BIRD protocols).
    pub peers: BTreeMap<String, PeerSpec>,
    /// Peers that objects ask for and that get no session, by name.
    pub refused: BTreeMap<String, Refused>,
    /// Prefixes this node announces as its own.
    pub originate: BTreeMap<IpNet, Origin>,
}

/// The local side of all sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// AS number.
    pub asn: u32,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// Node address of sessions over IPv4, and next hop of IPv4 routes.
    pub ipv4: Option<Ipv4Addr>,
    /// Node address of sessions over IPv6, and next hop of IPv6 routes.
    pub ipv6: Option<Ipv6Addr>,
    /// Subnets of the node's addresses.
    pub subnets: Vec<IpNet>,
    /// TCP port to listen on.
    pub listen_port: u16,
    /// Which addresses to listen on; `None` leaves the choice to the agent.
    pub bind: Option<Bind>,
    /// Cluster id when this node is a route reflector.
    pub cluster_id: Option<Ipv4Addr>,
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSpec {
    /// The object it comes from, such as `BGPPeer/tor` or `Node/b`.
    pub object: String,
    /// Where the peer comes from.
    pub kind: PeerKind,
    /// Address of the peer.
    pub address: IpAddr,
    /// TCP port of the peer.
    pub port: u16,
    /// AS number of the peer.
    pub remote_as: u32,
    /// AS number shown to the peer instead of our own.
    pub local_as: Option<u32>,
    /// Exchange IPv4 routes.
    pub ipv4: bool,
    /// Exchange IPv6 routes.
    pub ipv6: bool,
    /// Wait for the peer to connect.
    pub passive: bool,
    /// Local address of the connection; `None` leaves the choice to the kernel.
    pub source: Option<IpAddr>,
    /// Time between KEEPALIVE messages; the hold time is three times that.
    /// `None` leaves the default of the speaker.
    pub keepalive: Option<Duration>,
    /// Longest time routes are kept while a peer restarts (RFC 4724 §3).
    pub restart_time: Option<Duration>,
    /// The peer may be more than one hop away.
    pub multihop: bool,
    /// Packets of the peer must have crossed at most this many hops (RFC 5082).
    pub ttl_security: Option<u8>,
    /// The peer is a client of this route reflector (RFC 4456).
    pub reflector_client: bool,
    /// How often our own AS number may be in the path of what the peer sends.
    pub allow_own_as: u8,
    /// Next hop of routes told.
    pub next_hop: NextHopMode,
    /// Key of the TCP MD5 signature (RFC 2385).
    pub password: Option<Password>,
    /// What not every session has.
    pub options: SessionOptions,
    /// What is taken from the peer.
    pub import: Arc<Policy>,
    /// What the peer is told.
    pub export: Arc<Policy>,
}

/// What not every session has; all of it off by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// Several paths per prefix, both ways (RFC 7911).
    pub add_path: bool,
    /// How long routes stay as a last resort when the restart time is over (RFC 9494).
    pub long_lived: Option<Duration>,
    /// BFD on the link that the peer is on (RFC 5881).
    pub bfd: Option<Bfd>,
    /// How many prefixes the peer may send.
    pub max_prefixes: Option<MaxPrefixes>,
    /// What we are to the peer (RFC 9234).
    pub role: Option<Role>,
    /// A peer that does not say its role is refused.
    pub role_strict: bool,
}

/// Pace of BFD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bfd {
    /// Shortest interval between our packets.
    pub send: Duration,
    /// Shortest interval between the peer's packets that we take.
    pub receive: Duration,
    /// How many packets in a row may be missing.
    pub multiplier: NonZeroU8,
}

/// A peer that gets no session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The object it comes from.
    pub object: String,
    /// Where the peer comes from.
    pub kind: PeerKind,
    /// Address of the peer.
    pub address: IpAddr,
    /// TCP port of the peer.
    pub port: u16,
    /// AS number of the peer, when known.
    pub remote_as: Option<u32>,
    /// Why.
    pub reason: String,
}

/// Next hop of routes told to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHopMode {
    /// As RFC 4271 §5.1.3 has it.
    #[default]
    Auto,
    /// Always this node.
    OwnAddress,
    /// Never changed.
    Keep,
}

/// Which addresses the speaker listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bind {
    /// Every address of the host.
    Everywhere,
    /// The node's own.
    NodeAddresses,
}

/// A secret that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Arc<str>);

impl Password {
    /// The secret itself.
    pub fn reveal(&self) -> &Arc<str> {
        &self.0
    }
}

impl From<&str> for Password {
    fn from(secret: &str) -> Self {
        Password(secret.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Where a peer comes from (Calico behaviour: the peer types of its node status).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerKind {
    /// The full mesh between nodes.
    NodeMesh,
    /// A BGPPeer for this node or for nodes it selects.
    NodePeer,
    /// A BGPPeer for all nodes.
    GlobalPeer,
}

impl PeerKind {
    /// `NodeMesh`, `NodePeer` or `GlobalPeer`.
    pub fn name(self) -> &'static str {
        match self {
            PeerKind::NodeMesh => "NodeMesh",
            PeerKind::NodePeer => "NodePeer",
            PeerKind::GlobalPeer => "GlobalPeer",
        }
    }
}

impl fmt::Display for PeerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why this node announces a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A confirmed address block of this node.
    Block,
    /// A single pod address that no block of this node covers.
    Borrowed,
    /// A range of service addresses that BGPConfiguration lists.
    Services,
}
