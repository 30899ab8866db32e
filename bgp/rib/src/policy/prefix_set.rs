//! Sets of prefixes that rules speak of.

use bgp_wire::Prefix;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

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
