//! Filters on import and export: ordered rules, the first that decides ends it.
//!
//! A rule matches on everything Calico's `BGPFilter` matches on, all of it at once, and may change
//! attributes before it decides or leaves the decision to the next rule. Later rules see the
//! attributes as changed so far, as in a BIRD filter. A policy is only asked here; who asks makes
//! the changes (import, export).

use std::net::IpAddr;
use std::sync::Arc;

use bgp_wire::{Attributes, Prefix};

mod change;
mod prefix_set;

pub use change::Change;
pub use prefix_set::PrefixSet;

use change::Changed;

/// What happens to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It is not used (import) or not told (export).
    Reject,
    /// The changes are made and the next rule is asked; as the last word the same as `Accept`.
    Next,
}

/// Which paths a rule speaks of, by where they came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Every path.
    Any,
    /// Only what is originated here.
    Local,
    /// Only what was learned from peers.
    Learned,
}

/// Which peers a rule speaks of: the peer that sends (import) or is told (export).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerScope {
    /// Every peer.
    Any,
    /// Only peers in our AS.
    Internal,
    /// Only peers in other ASes.
    External,
}

/// Which prefixes a rule speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// Every prefix.
    Any,
    /// Prefixes in the set.
    In(Arc<PrefixSet>),
    /// Prefixes outside the set.
    NotIn(Arc<PrefixSet>),
}

impl Match {
    fn holds(&self, prefix: Prefix) -> bool {
        match self {
            Self::Any => true,
            Self::In(set) => set.contains(prefix),
            Self::NotIn(set) => !set.contains(prefix),
        }
    }
}

/// A community of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommunityMatch {
    /// RFC 1997.
    Standard(u32),
    /// RFC 8092.
    Large([u32; 3]),
    /// RFC 4360, as its eight octets.
    Extended([u8; 8]),
}

/// One rule of a policy. It matches where all of its fields do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Shown as the reason by `explain`, such as the name of the filter it came from.
    pub name: Arc<str>,
    /// Which prefixes.
    pub prefixes: Match,
    /// Learned from where.
    pub source: Source,
    /// On sessions with whom.
    pub peers: PeerScope,
    /// With any of these; empty matches all.
    pub communities: Vec<CommunityMatch>,
    /// With an AS_PATH that begins with these, nearest first; empty matches all. Our own AS is not
    /// in it yet on export. An AS_SET stands for any one of its members.
    pub as_path_prefix: Vec<u32>,
    /// With which next hop, as a prefix of full length: the received one, on export too. `Any`
    /// matches also paths without one, which are originated here.
    pub next_hops: Match,
    /// With this LOCAL_PREF, the default of 100 where the path has none; `None` matches all.
    /// Calico's priority p is LOCAL_PREF 2147483647 - p.
    pub local_pref: Option<u32>,
    /// What is changed in the path, in this order, unless it is rejected in the end.
    pub changes: Vec<Change>,
    /// What to do with it.
    pub verdict: Verdict,
}

impl Rule {
    /// A rule that matches everything and changes nothing.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, verdict: Verdict) -> Self {
        Self {
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

    fn matches(&self, subject: &Subject<'_>, changes: &[&Change]) -> bool {
        let source = match self.source {
            Source::Any => true,
            Source::Local => subject.is_local,
            Source::Learned => !subject.is_local,
        };
        let peers = match self.peers {
            PeerScope::Any => true,
            PeerScope::Internal => !subject.peer_is_external,
            PeerScope::External => subject.peer_is_external,
        };
        source
            && peers
            && self.prefixes.holds(subject.prefix)
            && self.matches_next_hop(subject.next_hop)
            && self.matches_attributes(&Changed { subject, changes })
    }

    fn matches_next_hop(&self, next_hop: Option<IpAddr>) -> bool {
        let of_full_length = |address: IpAddr| {
            let length = if address.is_ipv4() { 32 } else { 128 };
            Prefix::new(address, length)
        };
        match (&self.next_hops, next_hop.and_then(of_full_length)) {
            (Match::Any, _) => true,
            (Match::In(_) | Match::NotIn(_), None) => false,
            (next_hops, Some(next_hop)) => next_hops.holds(next_hop),
        }
    }

    fn matches_attributes(&self, path: &Changed<'_>) -> bool {
        self.local_pref
            .is_none_or(|wanted| wanted == path.local_pref())
            && (self.communities.is_empty()
                || self.communities.iter().any(|wanted| path.carries(*wanted)))
            && path.as_path_begins_with(&self.as_path_prefix)
    }
}

/// What a policy is asked about: a path to a prefix, and the peer it is from or for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Where it leads.
    pub prefix: Prefix,
    /// Originated here.
    pub is_local: bool,
    /// The session with the policy is one with another AS.
    pub peer_is_external: bool,
    /// Attributes as received (import) or held (export).
    pub attributes: &'a Attributes,
    /// LOCAL_PREF, or what takes its place.
    pub local_pref: u32,
    /// Next hop as received; none where it is originated here without one.
    pub next_hop: Option<IpAddr>,
}

/// What a policy says about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// `Accept` or `Reject`.
    pub verdict: Verdict,
    /// The rule that gave the verdict; none where it was the last resort.
    pub rule: Option<&'a Rule>,
    /// What is to be changed, in this order; nothing in what is rejected.
    pub changes: Vec<&'a Change>,
    /// The last rule that contributed to the changes.
    pub changed_by: Option<&'a Rule>,
}

/// An ordered list of rules and what happens when none decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Asked in order; the first that matches decides, unless its verdict is `Next`.
    pub rules: Vec<Rule>,
    /// The verdict when no rule decides.
    pub otherwise: Verdict,
}

impl Policy {
    /// Accepts everything.
    #[must_use]
    pub fn accept_all() -> Self {
        Self {
            rules: Vec::new(),
            otherwise: Verdict::Accept,
        }
    }

    /// Rejects everything.
    #[must_use]
    pub fn reject_all() -> Self {
        Self {
            rules: Vec::new(),
            otherwise: Verdict::Reject,
        }
    }

    /// Whether it says anything: one without rules that accepts everything is the lack of one
    /// (RFC 8212 §2). Give it a rule to accept everything on purpose.
    #[must_use]
    pub fn is_given(&self) -> bool {
        !self.rules.is_empty() || self.otherwise == Verdict::Reject
    }

    /// What becomes of a path.
    #[must_use]
    pub fn evaluate(&self, subject: &Subject<'_>) -> Judgement<'_> {
        let mut changes = Vec::new();
        let mut changed_by = None;
        for rule in &self.rules {
            if !rule.matches(subject, &changes) {
                continue;
            }
            if rule.verdict == Verdict::Reject {
                return Judgement::reject(Some(rule));
            }
            changes.extend(&rule.changes);
            if !rule.changes.is_empty() {
                changed_by = Some(rule);
            }
            if rule.verdict == Verdict::Accept {
                return Judgement::accept(Some(rule), changes, changed_by);
            }
        }
        match self.otherwise {
            Verdict::Reject => Judgement::reject(None),
            Verdict::Accept | Verdict::Next => Judgement::accept(None, changes, changed_by),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::accept_all()
    }
}

impl<'a> Judgement<'a> {
    fn accept(
        rule: Option<&'a Rule>,
        changes: Vec<&'a Change>,
        changed_by: Option<&'a Rule>,
    ) -> Self {
        Self {
            verdict: Verdict::Accept,
            rule,
            changes,
            changed_by,
        }
    }

    fn reject(rule: Option<&'a Rule>) -> Self {
        Self {
            verdict: Verdict::Reject,
            rule,
            changes: Vec::new(),
            changed_by: None,
        }
    }

    /// Whether the path goes on.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.verdict != Verdict::Reject
    }

    /// The rule to name to people: the one that decided, or else the last that changed something.
    #[must_use]
    pub fn named(&self) -> Option<&'a Rule> {
        self.rule.or(self.changed_by)
    }
}

#[cfg(test)]
mod tests;
