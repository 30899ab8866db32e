//! Since when something has been seen at every look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// What was seen at the last look, and since when at every one.
pub(super) struct Memory<K>(BTreeMap<K, SystemTime>);

impl<K> Default for Memory<K> {
    fn default() -> Self {
        Memory(BTreeMap::new())
    }
}

impl<K: Ord> Memory<K> {
    /// Remembers what is seen now and forgets everything else.
    pub(super) fn look(&mut self, now: SystemTime, seen: BTreeSet<K>) {
        let before = std::mem::take(&mut self.0);
        // A time ahead of us comes from a clock that was set back: start anew.
        let mut before: BTreeMap<K, SystemTime> = before
            .into_iter()
            .filter(|(_, since)| *since <= now)
            .collect();
        let since = seen.into_iter().map(|key| {
            let since = before.remove(&key).unwrap_or(now);
            (key, since)
        });
        self.0 = since.collect();
    }

    /// Since when it has been seen.
    pub(super) fn since(&self, key: &K) -> Option<SystemTime> {
        self.0.get(key).copied()
    }
}

/// Whether a time has passed since; never at the first look.
pub(super) fn lasted(since: SystemTime, now: SystemTime, time: Duration) -> bool {
    now.duration_since(since)
        .is_ok_and(|elapsed| !elapsed.is_zero() && elapsed >= time)
}
