//! Filters on import and export: ordered rules over prefixes, first match decides.
//!
//! Deliberately small. It expresses "only these blocks" and Calico's `BGPFilter` rules on prefixes;
//! matches on communities or AS paths belong here when somebody needs them.

use std::sync::Arc;

use bgp_wire::Prefix;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// What happens to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It is not used (import) or not told (export).
    Reject,
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

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Shown as the reason by `explain`, such as the name of the filter it came from.
    pub name: Arc<str>,
    /// Which prefixes.
    pub prefixes: Match,
    /// Learned from where.
    pub source: Source,
    /// What to do with them.
    pub verdict: Verdict,
}

/// An ordered list of rules and what happens when none matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Asked in order; the first that matches decides.
    pub rules: Vec<Rule>,
    /// The verdict when no rule matches.
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

    /// Rejects everything, the right start for an external peer without policy (RFC 8212).
    #[must_use]
    pub fn reject_all() -> Self {
        Self {
            rules: Vec::new(),
            otherwise: Verdict::Reject,
        }
    }

    /// The verdict, and the rule that gave it if it was not the last resort.
    #[must_use]
    pub fn evaluate(&self, prefix: Prefix, is_local: bool) -> (Verdict, Option<&Rule>) {
        match self
            .rules
            .iter()
            .find(|rule| rule.matches(prefix, is_local))
        {
            Some(rule) => (rule.verdict, Some(rule)),
            None => (self.otherwise, None),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::accept_all()
    }
}

impl Rule {
    fn matches(&self, prefix: Prefix, is_local: bool) -> bool {
        let source = match self.source {
            Source::Any => true,
            Source::Local => is_local,
            Source::Learned => !is_local,
        };
        source
            && match &self.prefixes {
                Match::Any => true,
                Match::In(set) => set.contains(prefix),
                Match::NotIn(set) => !set.contains(prefix),
            }
    }
}

/// A set of prefixes, each entry with the range of lengths it covers.
///
/// Lookup costs one hash probe per distinct entry length, not per entry.
#[derive(Debug, Clone, Default)]
pub struct PrefixSet {
    entries: HashMap<Prefix, Vec<(u8, u8)>, FixedState>,
    /// Distinct lengths of the IPv4 entries, then of the IPv6 ones.
    lengths: [Vec<u8>; 2],
}

impl PartialEq for PrefixSet {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for PrefixSet {}

impl FromIterator<Prefix> for PrefixSet {
    /// Exactly these prefixes.
    fn from_iter<I: IntoIterator<Item = Prefix>>(prefixes: I) -> Self {
        let mut set = Self::new();
        for prefix in prefixes {
            set.insert(prefix);
        }
        set
    }
}

impl PrefixSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds exactly this prefix.
    pub fn insert(&mut self, prefix: Prefix) {
        self.insert_range(prefix, prefix.prefix_len(), prefix.prefix_len());
    }

    /// Adds this prefix and everything inside it.
    pub fn insert_within(&mut self, prefix: Prefix) {
        self.insert_range(prefix, prefix.prefix_len(), max_len(prefix));
    }

    /// Adds the prefixes inside `prefix` with a length between the bounds, both included.
    pub fn insert_range(&mut self, prefix: Prefix, min_len: u8, max_len: u8) {
        let ranges = self.entries.entry(prefix).or_default();
        if !ranges.contains(&(min_len, max_len)) {
            ranges.push((min_len, max_len));
            ranges.sort_unstable();
        }
        let lengths = &mut self.lengths[family_index(prefix)];
        if !lengths.contains(&prefix.prefix_len()) {
            lengths.push(prefix.prefix_len());
        }
    }

    /// Whether an entry covers the prefix.
    #[must_use]
    pub fn contains(&self, prefix: Prefix) -> bool {
        self.lengths[family_index(prefix)]
            .iter()
            .filter(|&&len| len <= prefix.prefix_len())
            .filter_map(|&len| self.entries.get(&Prefix::new(prefix.addr(), len)?))
            .flatten()
            .any(|&(min, max)| (min..=max).contains(&prefix.prefix_len()))
    }
}

fn family_index(prefix: Prefix) -> usize {
    match prefix {
        Prefix::V4(_) => 0,
        Prefix::V6(_) => 1,
    }
}

fn max_len(prefix: Prefix) -> u8 {
    match prefix {
        Prefix::V4(_) => 32,
        Prefix::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests;
