//! Prefixes and the paths to them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A part of a long answer. Each prefix is as of the moment its part was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The elements, in no particular order.
    pub items: Vec<T>,
    /// `offset` to ask for the next part with; absent at the end. It grows, with gaps.
    pub next: Option<u64>,
}

/// A prefix and every path to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The prefix.
    pub prefix: IpNet,
    /// Paths in use first, the best of them at the front.
    pub paths: Vec<Path>,
}

/// A path to a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// The prefix.
    pub prefix: IpNet,
    /// Who sent it; absent when it is originated here.
    pub peer: Option<String>,
    /// The peer's path identifier (RFC 7911), 0 without ADD-PATH.
    pub path_id: u32,
    /// Where packets go; absent when it is originated here without a next hop.
    pub next_hop: Option<IpAddr>,
    /// Link-local address that came with the next hop (RFC 2545 §3).
    pub link_local: Option<Ipv6Addr>,
    /// Its attributes: as received where the answer is about what was received, else as used.
    pub attributes: Attributes,
    /// What became of it.
    pub outcome: Outcome,
    /// The step of the decision process (RFC 4271 §9.1, RFC 4456 §9) that decided about it;
    /// absent for a path that takes no part.
    pub step: Option<String>,
    /// The same in words, with the values that were compared.
    pub reason: String,
    /// The rule that rejected it or was the last to change it on import.
    pub rule: Option<String>,
    /// Kept for a peer that is away.
    pub stale: bool,
}

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It is the best.
    Best,
    /// It shares the traffic with the best.
    Shares,
    /// It could be used, and another one is better.
    Lost,
    /// It takes no part in the decision process.
    Unusable,
}

/// Attributes of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attributes {
    /// `IGP`, `EGP` or `incomplete`.
    pub origin: String,
    /// AS_PATH in the usual notation, empty for a path of our own AS.
    pub as_path: String,
    /// Its length in the decision process.
    pub as_path_length: u32,
    /// LOCAL_PREF as carried.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// COMMUNITIES, `64500:1` or the name of a well-known one.
    pub communities: Vec<String>,
    /// LARGE_COMMUNITY, `64500:1:2`.
    pub large_communities: Vec<String>,
    /// EXTENDED COMMUNITIES.
    pub extended_communities: Vec<String>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST, nearest first (RFC 4456).
    pub cluster_list: Vec<Ipv4Addr>,
    /// ATOMIC_AGGREGATE is there.
    pub atomic_aggregate: bool,
    /// AGGREGATOR, `64500 192.0.2.1`.
    pub aggregator: Option<String>,
    /// ONLY_TO_CUSTOMER (RFC 9234): the AS that set it.
    pub only_to_customer: Option<u32>,
    /// Type codes of attributes that are passed on without being understood.
    pub unknown: Vec<u8>,
}

/// A path as a peer is told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Advertised {
    /// The prefix.
    pub prefix: IpNet,
    /// Path identifier it is told with, 0 without ADD-PATH.
    pub path_id: u32,
    /// Who sent it to us; absent when it is originated here.
    pub from: Option<String>,
    /// The next hop it is told.
    pub next_hop: IpAddr,
    /// The attributes it is told.
    pub attributes: Attributes,
}

/// What is known about a prefix or an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteAnswer {
    /// What was asked for.
    pub asked: String,
    /// The prefix itself; absent when there is no path to it, or an address was asked for.
    pub exact: Option<Route>,
    /// Shorter prefixes that cover it, the longest first.
    pub covering: Vec<Route>,
}
