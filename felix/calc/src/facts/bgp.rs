//! What is kept of BGPConfiguration, BGPPeer and BGPFilter.

use std::net::IpAddr;
use std::time::Duration;

use crds::selector::Selector;
use ipnet::IpNet;

use crate::desired::policy::{Community, Rule};
use crate::{Bind, Problem, SessionOptions};

/// BGPConfiguration: `default`, or the few fields of `node.<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BgpDefaults {
    pub(crate) asn: Option<u32>,
    pub(crate) mesh: Option<bool>,
    pub(crate) mesh_restart: Option<Duration>,
    pub(crate) mesh_password: Option<SecretKey>,
    pub(crate) listen_port: Option<u16>,
    pub(crate) bind: Option<Bind>,
    /// `None` when nothing is listed.
    pub(crate) advertisements: Option<Vec<Advertisement>>,
    pub(crate) services: Services,
    pub(crate) problems: Vec<Problem>,
}

/// Communities of what is told inside a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advertisement {
    pub(crate) cidr: IpNet,
    pub(crate) communities: Vec<Community>,
}

/// Ranges of service addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Services {
    /// Every range that is listed: none of them belongs into the kernel.
    pub(crate) all: Vec<IpNet>,
    /// Those announced as a whole.
    pub(crate) announced: Vec<IpNet>,
    /// Those of load balancers.
    pub(crate) load_balancers: Vec<IpNet>,
}

/// Where a password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretKey {
    pub(crate) name: String,
    pub(crate) key: String,
}

/// A BGPPeer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Peer {
    pub(crate) scope: Scope,
    pub(crate) remote: Remote,
    pub(crate) asn: Option<u32>,
    pub(crate) local_as: Option<u32>,
    pub(crate) use_node_address: bool,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) restart_time: Option<Duration>,
    pub(crate) ttl_security: Option<u8>,
    pub(crate) allow_own_as: u8,
    pub(crate) next_hop: crate::NextHopMode,
    /// `keepOriginalNextHop`: as `next_hop` has it inside the AS, kept towards others.
    pub(crate) keep_towards_others: bool,
    pub(crate) password: Option<SecretKey>,
    /// Names of BGPFilter objects.
    pub(crate) filters: Vec<String>,
    /// Gateway on the way to the peer.
    pub(crate) reachable_by: Option<IpAddr>,
    /// Nodes that are peers of others have the session too.
    pub(crate) reverse: bool,
    /// As the object has them, wherever the peer is.
    pub(crate) options: SessionOptions,
    pub(crate) problems: Vec<Problem>,
}

/// Which nodes a BGPPeer is for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scope {
    Global,
    Node(String),
    Selector(Selector),
}

/// Whom they peer with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Remote {
    /// An address, and the port if given.
    Address(IpAddr, Option<u16>),
    /// Nodes.
    Nodes(Selector),
}

/// A BGPFilter; rules for IPv4 and for IPv6 in one list, since no route matches both sorts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) import: Vec<FilterRule>,
    pub(crate) export: Vec<FilterRule>,
}

impl Filter {
    /// A rule speaks of interfaces, so what it means depends on the host.
    pub(crate) fn asks_for_interfaces(&self) -> bool {
        let mut rules = self.import.iter().chain(&self.export);
        rules.any(|rule| rule.interface.is_some())
    }
}

/// A rule of a BGPFilter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilterRule {
    pub(crate) rule: Rule,
    /// The next hop is behind an interface with such a name.
    pub(crate) interface: Option<String>,
}
