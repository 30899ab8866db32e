//! The speaker as a whole, and its peers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The speaker and one line for each peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Version of the program.
    pub version: String,
    /// Our AS number.
    pub asn: u32,
    /// Our router id.
    pub router_id: Ipv4Addr,
    /// The cluster we reflect for.
    pub cluster_id: Ipv4Addr,
    /// Where connections are accepted right now.
    pub listening: Vec<SocketAddr>,
    /// Everything that will be learned after the start has been learned.
    pub converged: bool,
    /// Peers that are up and have not told everything yet; they delay convergence.
    pub waiting_for: Vec<String>,
    /// Peers that are not up; they delay convergence only while peers may settle.
    pub missing: Vec<String>,
    /// When convergence comes at the latest, unless a peer still comes up while peers may settle;
    /// absent once it has come.
    pub converges_by: Option<u64>,
    /// Seconds until then.
    pub converges_in_secs: Option<u64>,
    /// Accepted connections that were closed because they are no peer's, or too many.
    pub strangers: u64,
    /// IPv4 prefixes with a path, usable or not.
    pub prefixes_ipv4: usize,
    /// IPv6 prefixes with a path, usable or not.
    pub prefixes_ipv6: usize,
    /// Distinct attribute sets.
    pub attribute_sets: usize,
    /// Distinct next hops.
    pub next_hops: usize,
    /// All peers, by name.
    pub peers: Vec<Peer>,
}

/// One peer in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its AS number.
    pub asn: u32,
    /// Our AS number on the session.
    pub local_asn: u32,
    /// What it is to us.
    pub kind: PeerKind,
    /// The range it was accepted from; absent for a peer that is configured by itself.
    pub dynamic: Option<String>,
    /// `Idle`, `Connect`, `Active`, `OpenSent`, `OpenConfirm`, `Established` (RFC 4271 §8.2.2).
    pub state: String,
    /// When it came into this state.
    pub since: u64,
    /// Seconds in this state.
    pub age_secs: u64,
    /// Seconds since its session came up or was lost, or since the peer was added.
    pub up_down_secs: u64,
    /// Its router id, while established.
    pub router_id: Option<Ipv4Addr>,
    /// Numbers of routes, by family: those that are configured.
    pub routes: Vec<Counts>,
    /// How often an established session was lost.
    pub flaps: u64,
    /// Messages read since the start.
    pub messages_in: u64,
    /// Messages written since the start.
    pub messages_out: u64,
    /// Why the last connection ended.
    pub last_error: Option<String>,
    /// The last malformed attribute of this session (RFC 7606).
    pub malformed: Option<String>,
    /// What people should know while the session goes on, such as many prefixes near its limit.
    pub warning: Option<String>,
    /// Families of which stale routes are kept (RFC 4724 §4.2).
    pub stale_families: Vec<String>,
}

/// What a peer is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PeerKind {
    /// In another AS.
    External,
    /// In our AS.
    Internal,
    /// In our AS, and we reflect routes to and from it (RFC 4456).
    Client,
}

/// Numbers of routes of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// `ipv4-unicast` or `ipv6-unicast`.
    pub family: String,
    /// Held from the peer, stale ones included.
    pub received: usize,
    /// Of these, taken on import.
    pub accepted: usize,
    /// Of these, not taken: a loop, our own address as next hop, the import policy, a limit.
    pub filtered: usize,
    /// Of those accepted, in use, alone or sharing the traffic with others.
    pub best: usize,
    /// What the peer is told, messages on their way included.
    pub advertised: usize,
}

/// Everything about a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerDetail {
    /// The line of the summary.
    #[serde(flatten)]
    pub peer: Peer,
    /// The settings in force.
    pub settings: PeerSettings,
    /// The established session.
    pub session: Option<Session>,
    /// Messages since the start, by type.
    pub messages: Messages,
    /// NOTIFICATIONs since the start.
    pub notifications: Vec<NotificationCount>,
    /// Graceful restart.
    pub restart: Restart,
    /// Failure detection, where it is configured.
    pub bfd: Option<Bfd>,
}

/// Settings of a peer. Lengths of time are in seconds where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerSettings {
    /// Interface a link-local address is on.
    pub interface: Option<String>,
    /// No session, and why.
    pub shut_down: Option<String>,
    /// Never dial it.
    pub passive: bool,
    /// Our address of the connection.
    pub source: Option<IpAddr>,
    /// Hold time we offer.
    pub hold_time_secs: u16,
    /// Interval of our KEEPALIVEs; a third of the agreed hold time when absent.
    pub keepalive_secs: Option<u16>,
    /// Wait between two dials.
    pub connect_retry_secs: Option<u16>,
    /// Families we offer.
    pub families: Vec<String>,
    /// How long the peer shall keep our routes when we restart; off when absent.
    pub restart_time_secs: Option<u16>,
    /// How long it shall keep them as a last resort after that (RFC 9494); off when absent.
    pub long_lived_secs: Option<u32>,
    /// In our AS, it is told long-lived stale routes even if it does not know of them
    /// (RFC 9494 §4.6).
    pub long_lived_to_all: bool,
    /// ADD-PATH: `receive`, `send` or `both`.
    pub add_path: Option<String>,
    /// How many paths per prefix it is told with ADD-PATH.
    pub add_path_limit: Option<u8>,
    /// How many prefixes it may send.
    pub max_prefixes: Option<MaxPrefixes>,
    /// Our role towards it (RFC 9234).
    pub role: Option<String>,
    /// A peer that does not say its role is refused.
    pub role_strict: bool,
    /// It is asked to prefer other paths (RFC 8326).
    pub graceful_shutdown: bool,
    /// An external peer must be the first AS in the AS_PATH of what it sends.
    pub enforce_first_as: bool,
    /// Failure detection.
    pub bfd: Option<BfdSettings>,
    /// How far away it may be, in words.
    pub ttl: String,
    /// There is a TCP MD5 key.
    pub password: bool,
    /// Which next hop it is told: `default`, `self` or `keep`.
    pub next_hop: String,
    /// How often our AS number may be in the AS_PATH of what it sends.
    pub allow_own_as: u8,
    /// What is taken from it.
    pub import: PolicySettings,
    /// What it is told.
    pub export: PolicySettings,
}

/// How many prefixes a peer may send, in each family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MaxPrefixes {
    /// The greatest number that is all right.
    pub limit: u32,
    /// A warning from this share of the limit on.
    pub warning_percent: u8,
    /// `warn`, `discard` or `close`.
    pub action: String,
    /// With `close`: the session may come back after this time, not by itself when absent.
    pub restart_after_secs: Option<u32>,
}

/// Settings of failure detection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BfdSettings {
    /// Shortest interval between our packets, in milliseconds.
    pub min_tx_ms: u32,
    /// Shortest interval between the peer's packets, in milliseconds.
    pub min_rx_ms: u32,
    /// How many packets in a row may be missing.
    pub multiplier: u8,
}

/// A policy in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicySettings {
    /// Its rules in their order.
    pub rules: Vec<String>,
    /// What happens when no rule decides: `accept` or `reject`.
    pub otherwise: String,
}

/// An established session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Our end of the connection.
    pub local: SocketAddr,
    /// The peer's end of the connection.
    pub remote: SocketAddr,
    /// Agreed hold time; 0 when there is none.
    pub hold_time_secs: u16,
    /// Interval of our KEEPALIVEs.
    pub keepalive_secs: u16,
    /// Families in use.
    pub families: Vec<FamilyUse>,
    /// 4-octet AS numbers are used (RFC 6793).
    pub four_octet_as: bool,
    /// Messages up to 65535 octets are used (RFC 8654).
    pub extended_messages: bool,
    /// What it says it is to us (RFC 9234).
    pub peer_role: Option<String>,
    /// It understands ROUTE-REFRESH (RFC 2918).
    pub route_refresh: bool,
    /// Refreshes have marks (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// What the OPENs said.
    pub capabilities: Capabilities,
}

/// How a family is used in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyUse {
    /// The family.
    pub family: String,
    /// We tell several paths per prefix (RFC 7911).
    pub add_path_send: bool,
    /// The peer tells several paths per prefix (RFC 7911).
    pub add_path_receive: bool,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
}

/// Capabilities of the two OPENs in words (RFC 5492).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// What we offered.
    pub sent: Vec<String>,
    /// What the peer offered.
    pub received: Vec<String>,
}

/// Messages of both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Messages {
    /// Read.
    #[serde(rename = "in")]
    pub received: MessageCounts,
    /// Written.
    #[serde(rename = "out")]
    pub sent: MessageCounts,
}

/// Messages of one direction, by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageCounts {
    /// OPEN.
    pub open: u64,
    /// UPDATE, End-of-RIB included.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

/// How often a NOTIFICATION went in or out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationCount {
    /// `in` or `out`.
    pub direction: String,
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Both in words.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// Graceful restart of a peer (RFC 4724, RFC 9494).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// We say that we come back from a restart.
    pub restarting: bool,
    /// The peer said in its OPEN that it comes back from a restart.
    pub peer_restarting: bool,
    /// How long we keep the peer's routes while it is away; absent without a session or without
    /// graceful restart.
    pub peer_time_secs: Option<u16>,
    /// Families whose routes are kept and marked stale.
    pub stale_families: Vec<String>,
    /// Those of them whose restart time is over: used only where there is nothing else (RFC 9494).
    pub long_lived_families: Vec<String>,
    /// How many routes there are of stale families.
    pub stale_routes: usize,
}

/// State of failure detection (RFC 5880).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bfd {
    /// `AdminDown`, `Down`, `Init` or `Up`.
    pub state: String,
    /// State of the peer's side, as it last said.
    pub remote_state: String,
    /// Why it last left the state `Up`, in words.
    pub diagnostic: Option<String>,
    /// Why the peer's side last did, as it says.
    pub remote_diagnostic: Option<String>,
    /// Seconds in this state.
    pub age_secs: u64,
    /// Our discriminator.
    pub discriminator: u32,
    /// The peer's discriminator; 0 while it is not heard.
    pub remote_discriminator: u32,
    /// Agreed interval between our packets, in milliseconds; 0 while none are sent.
    pub tx_ms: u32,
    /// Time without packets after which the peer counts as gone, in milliseconds; 0 while it is
    /// not heard.
    pub detect_ms: u32,
    /// How often the state changed.
    pub transitions: u64,
    /// How often the peer was lost.
    pub failures: u64,
    /// What keeps it from working.
    pub problem: Option<String>,
}
