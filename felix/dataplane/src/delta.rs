//! What should be, what is, and where the two differ.
//!
//! Pure bookkeeping: the difference is kept up to date with every change on either side, so that
//! finding out that nothing is to be done costs nothing.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use foldhash::fast::RandomState;

/// Maps that are looked up for every route; the seed of their hash is random.
pub(crate) type Map<K, V> = HashMap<K, V, RandomState>;
pub(crate) type Set<K> = HashSet<K, RandomState>;

/// Desired and actual values by key.
#[derive(Clone, Debug)]
pub(crate) struct Delta<K, V> {
    /// Both values of a key in one place: with a million keys each look-up waits for memory.
    sides: Map<K, Sides<V>>,
    pending: Set<K>,
    /// How many keys are as they should be.
    settled: usize,
    /// How many keys have a desired value that is not there, or not so.
    missing: usize,
}

/// What should be and what is, at one key; never nothing on both sides.
#[derive(Clone, Debug)]
pub(crate) struct Sides<V> {
    pub(crate) desired: Option<V>,
    pub(crate) actual: Option<V>,
}

impl<V> Default for Sides<V> {
    fn default() -> Sides<V> {
        Sides {
            desired: None,
            actual: None,
        }
    }
}

impl<V: PartialEq> Sides<V> {
    fn differ(&self) -> bool {
        self.desired != self.actual
    }

    fn are_settled(&self) -> bool {
        self.desired.is_some() && !self.differ()
    }

    fn are_missing(&self) -> bool {
        self.desired.is_some() && self.differ()
    }

    fn are_empty(&self) -> bool {
        self.desired.is_none() && self.actual.is_none()
    }
}

impl<K, V> Default for Delta<K, V> {
    fn default() -> Delta<K, V> {
        Delta {
            sides: Map::default(),
            pending: Set::default(),
            settled: 0,
            missing: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, V: PartialEq> Delta<K, V> {
    /// Makes room for so many more keys at once.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.sides.reserve(more);
        self.pending.reserve(more);
    }

    /// Says what should be, `None` for nothing; whether that is news.
    pub(crate) fn set_desired(&mut self, key: K, value: Option<V>) -> bool {
        self.change(key, |sides| {
            let is_news = sides.desired != value;
            sides.desired = value;
            is_news
        })
    }

    /// Says what is; `None` for nothing.
    pub(crate) fn set_actual(&mut self, key: K, value: Option<V>) {
        self.change(key, |sides| sides.actual = value);
    }

    fn change<T>(&mut self, key: K, change: impl FnOnce(&mut Sides<V>) -> T) -> T {
        let mut entry = match self.sides.entry(key) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => entry.insert_entry(Sides::default()),
        };
        let sides = entry.get_mut();
        let (differed, was_desired) = (sides.differ(), sides.desired.is_some());
        let result = change(sides);
        let (differ, is_desired) = (sides.differ(), sides.desired.is_some());
        self.settled += usize::from(is_desired && !differ);
        self.settled -= usize::from(was_desired && !differed);
        self.missing += usize::from(is_desired && differ);
        self.missing -= usize::from(was_desired && differed);
        match (differed, differ) {
            (false, true) => {
                self.pending.insert(entry.key().clone());
            }
            (true, false) => {
                self.pending.remove(entry.key());
            }
            (false, false) | (true, true) => {}
        }
        if entry.get().are_empty() {
            entry.remove();
        }
        result
    }

    /// Says everything that is, forgetting what was believed before.
    /// Returns the keys whose desired value turned out to be missing or different.
    pub(crate) fn replace_actual(&mut self, actual: Map<K, V>) -> Vec<K> {
        let before = std::mem::take(&mut self.pending);
        for sides in self.sides.values_mut() {
            sides.actual = None;
        }
        for (key, value) in actual {
            self.sides.entry(key).or_default().actual = Some(value);
        }
        self.sides.retain(|_, sides| !sides.are_empty());
        (self.settled, self.missing) = (0, 0);
        let mut drifted = Vec::new();
        for (key, sides) in &self.sides {
            if !sides.differ() {
                self.settled += 1;
                continue;
            }
            if sides.are_missing() {
                self.missing += 1;
                if !before.contains(key) {
                    drifted.push(key.clone());
                }
            }
            self.pending.insert(key.clone());
        }
        drifted
    }

    /// Keys on which the two sides differ, in no order.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &K> {
        self.pending.iter()
    }

    /// Whether the two sides differ.
    pub(crate) fn is_pending(&self, key: &K) -> bool {
        self.pending.contains(key)
    }

    /// Both sides, if there is anything on either.
    pub(crate) fn sides(&self, key: &K) -> Option<&Sides<V>> {
        self.sides.get(key)
    }

    /// What should be.
    pub(crate) fn desired(&self, key: &K) -> Option<&V> {
        self.sides.get(key)?.desired.as_ref()
    }

    /// What is.
    pub(crate) fn actual(&self, key: &K) -> Option<&V> {
        self.sides.get(key)?.actual.as_ref()
    }

    /// Everything that is.
    pub(crate) fn all_actual(&self) -> impl Iterator<Item = (&K, &V)> {
        let sides = self.sides.iter();
        sides.filter_map(|(key, sides)| Some((key, sides.actual.as_ref()?)))
    }

    /// Whether something should be here, and is, just so.
    pub(crate) fn is_settled(&self, key: &K) -> bool {
        self.sides.get(key).is_some_and(Sides::are_settled)
    }

    /// How many keys have a desired value that is not there, or not so.
    pub(crate) fn missing(&self) -> usize {
        self.missing
    }

    /// How many keys have a desired value that is there, just so.
    pub(crate) fn settled(&self) -> usize {
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(delta: &Delta<&'static str, u8>) -> Vec<&'static str> {
        let mut keys: Vec<_> = delta.pending().copied().collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn differences_are_missing_wrong_and_left_over() {
        let mut delta = Delta::default();
        delta.set_desired("missing", Some(1));
        delta.set_desired("wrong", Some(1));
        delta.set_desired("right", Some(1));
        delta.set_actual("wrong", Some(2));
        delta.set_actual("right", Some(1));
        delta.set_actual("left over", Some(1));
        assert_eq!(pending(&delta), ["left over", "missing", "wrong"]);
        assert!(delta.is_settled(&"right"));
        assert!(!delta.is_settled(&"wrong"));
        assert!(!delta.is_settled(&"left over"));
    }

    #[test]
    fn a_change_set_back_before_anybody_looked_is_no_difference() {
        let mut delta = Delta::default();
        delta.set_actual("a", Some(1));
        delta.set_desired("a", Some(1));
        delta.set_desired("a", Some(2));
        delta.set_desired("a", Some(1));
        assert_eq!(pending(&delta), [""; 0]);
        delta.set_desired("a", None);
        delta.set_actual("a", None);
        assert_eq!(pending(&delta), [""; 0]);
    }

    #[test]
    fn a_new_listing_tells_which_desired_values_had_drifted() {
        let mut delta = Delta::default();
        for key in ["kept", "lost", "changed"] {
            delta.set_desired(key, Some(1));
            delta.set_actual(key, Some(1));
        }
        delta.set_desired("never made", Some(1));
        let actual = [("kept", 1), ("changed", 2), ("foreign", 1)];
        let mut drifted = delta.replace_actual(actual.into_iter().collect());
        drifted.sort_unstable();
        assert_eq!(drifted, ["changed", "lost"]);
        assert_eq!(
            pending(&delta),
            ["changed", "foreign", "lost", "never made"]
        );
    }

    /// A step of a random history.
    fn step(delta: &mut Delta<u8, u8>, number: u32) {
        let key = (number >> 3) as u8 % 5;
        let value = Some((number >> 9) as u8 % 3).filter(|value| *value > 0);
        match number % 3 {
            0 => {
                delta.set_desired(key, value);
            }
            1 => delta.set_actual(key, value),
            _ => {
                let actual = value.into_iter().map(|value| (key, value)).collect();
                delta.replace_actual(actual);
            }
        }
    }

    #[test]
    fn pending_is_always_exactly_the_difference_and_settled_the_rest() {
        let mut delta: Delta<u8, u8> = Delta::default();
        let mut random = 1_u32;
        for _ in 0..10_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            step(&mut delta, random >> 8);
            for key in 0..5 {
                let differs = delta.desired(&key) != delta.actual(&key);
                assert_eq!(delta.pending.contains(&key), differs);
            }
            let settled = (0..5).filter(|key| delta.is_settled(key)).count();
            assert_eq!(delta.settled(), settled);
            let desired = (0..5).filter(|key| delta.desired(key).is_some()).count();
            assert_eq!(delta.missing(), desired - settled);
        }
    }
}
