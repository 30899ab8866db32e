//! Why a prefix is reached as it is, and who is told.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Attributes, Path};

/// The whole story of a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// What was asked for.
    pub asked: String,
    /// The prefix that is explained; absent when nothing covers what was asked for.
    pub prefix: Option<IpNet>,
    /// Its paths, the best first.
    pub paths: Vec<Path>,
    /// Where packets go: next hops that share the traffic. Empty when no path can be used and
    /// when the prefix is our own.
    pub next_hops: Vec<IpAddr>,
    /// Each peer that is up, or the one asked for.
    pub peers: Vec<Told>,
    /// All of this as lines for people.
    pub text: Vec<String>,
}

/// Whether a peer is told the best path, with ADD-PATH each path, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// Name of the peer.
    pub peer: String,
    /// It is told.
    pub told: bool,
    /// Why, or why not.
    pub reason: String,
    /// The export rule that decided, if one did.
    pub rule: Option<String>,
    /// The next hop it is told.
    pub next_hop: Option<IpAddr>,
    /// The attributes it is told.
    pub attributes: Option<Attributes>,
}
