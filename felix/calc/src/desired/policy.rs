//! Which routes a peer may send and is told, in words that need no speaker.

use std::sync::Arc;

use ipnet::IpNet;

/// Rules in order, and what happens when none decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Asked in order.
    pub rules: Vec<Rule>,
    /// The verdict when no rule gave one; never [`Verdict::Next`].
    pub otherwise: Verdict,
}

/// One rule: it speaks of the routes that all of its conditions match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it comes from, for people.
    pub name: Arc<str>,
    /// Destinations.
    pub prefixes: Match,
    /// Learned from where.
    pub source: Source,
    /// For sessions with which peers.
    pub peers: PeerScope,
    /// Communities of which the route has one; empty matches all.
    pub communities: Vec<Community>,
    /// AS numbers the AS path begins with; empty matches all.
    pub as_path_prefix: Vec<u32>,
    /// Next hops; [`Match::Any`] also matches a route without one.
    pub next_hops: Match,
    /// LOCAL_PREF; `None` matches all.
    pub local_pref: Option<u32>,
    /// What is changed.
    pub changes: Vec<Change>,
    /// What happens then.
    pub verdict: Verdict,
}

impl Rule {
    /// A rule that matches everything and changes nothing.
    pub fn new(name: impl Into<Arc<str>>, verdict: Verdict) -> Rule {
        Rule {
            name: name.into(),
            prefixes: Match::Any,
            source: Source::Any,
            peers: PeerScope::Any,
            communities: Vec::new(),
            as_path_prefix: Vec::new(),
            next_hops: Match::Any,
            local_pref: None,
            changes: Vec::new(),
            verdict,
        }
    }
}

/// What happens to a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is used, or told.
    Accept,
    /// It is not.
    Reject,
    /// The next rule is asked.
    Next,
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Anywhere.
    Any,
    /// This node.
    Local,
    /// A BGP peer.
    Learned,
}

/// Which peers a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerScope {
    /// All.
    Any,
    /// Those of our AS.
    Internal,
    /// Those of another AS.
    External,
}

/// A condition on a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Always true.
    Any,
    /// One of the ranges covers it.
    In(Arc<[Range]>),
}

/// Prefixes inside a prefix, by their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// They are this one or inside it.
    pub prefix: IpNet,
    /// Shortest length.
    pub min: u8,
    /// Longest length.
    pub max: u8,
}

impl Range {
    /// The prefix and everything inside it.
    pub fn within(prefix: IpNet) -> Range {
        Range {
            prefix,
            min: prefix.prefix_len(),
            max: prefix.max_prefix_len(),
        }
    }

    /// This prefix only.
    pub fn exactly(prefix: IpNet) -> Range {
        Range {
            prefix,
            min: prefix.prefix_len(),
            max: prefix.prefix_len(),
        }
    }
}

/// A community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Community {
    /// RFC 1997.
    Standard(u32),
    /// RFC 8092.
    Large([u32; 3]),
}

/// A change of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds a community.
    AddCommunity(Community),
    /// The AS path begins with these afterwards.
    PrependAsPath(Vec<u32>),
    /// Sets LOCAL_PREF.
    SetLocalPref(u32),
}
