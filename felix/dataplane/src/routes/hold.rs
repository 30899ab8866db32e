//! Routes that stay for a while because the other end of their tunnel is not ready.
//!
//! Whether there is something to keep is known once the kernel has been listed, so that it is
//! decided right before routes are planned, not when the route is asked for.
//! What is kept is not desired, and is not deleted either.

use std::time::{Duration, Instant};

use felix_calc::intern::Id;
use felix_calc::{Route, Target};

use super::Table;
use crate::delta::Map;
use crate::ownership::Key;

/// Destinations whose route waits for the other end.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// What is kept, or nothing while that has not been decided.
    kept: Map<Key, Option<Kept>>,
}

/// A route that is kept.
#[derive(Debug)]
struct Kept {
    shape: Id,
    until: Instant,
}

impl Holds {
    /// Notes what is wanted at a destination; says whether what is there now has to do.
    ///
    /// A hold that goes on keeps its end.
    pub(super) fn note(&mut self, key: Key, route: Option<&Route>) -> bool {
        match route.map(|route| &route.target) {
            Some(Target::Hold(_)) => {
                self.kept.entry(key).or_default();
                true
            }
            Some(Target::Local { .. } | Target::Via(_) | Target::Blackhole) | None => {
                if !self.kept.is_empty() {
                    self.kept.remove(&key);
                }
                false
            }
        }
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        !self.kept.is_empty() && self.kept.contains_key(key)
    }
}

impl Table {
    /// Decides what is kept, and ends what has been kept for as long as `hold` or is there no more.
    pub(crate) fn settle_holds(&mut self, now: Instant, hold: Duration) {
        let delta = &self.delta;
        let over = self.holds.kept.extract_if(|key, kept| {
            let actual = delta.get(key).actual;
            match (&kept, actual) {
                (None, Some(shape)) => {
                    let until = now + hold;
                    *kept = Some(Kept { shape, until });
                    false
                }
                (Some(kept), Some(actual)) => kept.shape != actual || kept.until <= now,
                (_, None) => true,
            }
        });
        let over: Vec<Key> = over.map(|(key, _)| key).collect();
        for key in over {
            let wish = self.delta.get(&key).wish;
            let shape = wish.and_then(|wish| self.wanted.resolved(wish));
            let (before, after) = self.change(&key, |sides| {
                sides.desired = shape;
                sides.held = false;
            });
            self.follow(&key, &before, &after);
        }
    }

    /// When the first of what is kept is to go.
    pub(crate) fn next_hold(&self) -> Option<Instant> {
        let kept = self.holds.kept.values().flatten();
        kept.map(|kept| kept.until).min()
    }

    /// Whether something of the past is kept.
    pub(crate) fn holds(&self) -> bool {
        !self.holds.kept.is_empty()
    }
}
