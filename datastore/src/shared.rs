//! Reads of the same thing that are asked for at the same time are one read.
//!
//! Each caller gets what a read returned that began after its call, as if it had read by itself: who comes while a read is
//! on its way waits for the next one, with all the others who came meanwhile.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::table::lock;

/// References to a line with one caller in it: the map's and that of the caller.
const ALONE: usize = 2;

/// Reads by key.
pub(crate) struct Shared<K, T>(Mutex<HashMap<K, Arc<Line<T>>>>);

/// The reads of one thing, one after the other.
struct Line<T> {
    /// How many have begun.
    begun: AtomicU64,
    newest: tokio::sync::Mutex<Answer<T>>,
}

/// What the newest read returned, and its number; nothing when it failed or nobody waited for it.
struct Answer<T> {
    number: u64,
    value: Option<T>,
}

/// A caller's place in a line, which is kept only while somebody is in it.
struct Place<'a, K: Eq + Hash, T> {
    shared: &'a Shared<K, T>,
    key: &'a K,
    line: Arc<Line<T>>,
}

impl<K, T> Default for Shared<K, T> {
    fn default() -> Self {
        Shared(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, T: Clone> Shared<K, T> {
    /// What `read` returns, or what somebody else's `read` of the same key returned that began after this call.
    ///
    /// # Errors
    /// That of `read`. Failures are not shared: who waited for one reads by itself, at the same time as all others.
    pub(crate) async fn read<E>(
        &self,
        key: &K,
        read: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let place = self.place(key);
        let seen = place.line.begun.load(Ordering::SeqCst);
        let mut newest = place.line.newest.lock().await;
        if newest.number > seen {
            let value = newest.value.clone();
            drop(newest);
            return match value {
                Some(value) => Ok(value),
                None => read.await,
            };
        }
        let number = place.line.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let result = read.await;
        // Who comes from now on waits for a later read, so a copy is only for who waits already.
        let is_wanted = Arc::strong_count(&place.line) > ALONE;
        let value = result.as_ref().ok().filter(|_| is_wanted).cloned();
        *newest = Answer { number, value };
        result
    }

    fn place<'a>(&'a self, key: &'a K) -> Place<'a, K, T> {
        let new = || {
            Arc::new(Line {
                begun: AtomicU64::new(0),
                newest: tokio::sync::Mutex::new(Answer {
                    number: 0,
                    value: None,
                }),
            })
        };
        let line = Arc::clone(lock(&self.0).entry(key.clone()).or_insert_with(new));
        Place {
            shared: self,
            key,
            line,
        }
    }
}

impl<K: Eq + Hash, T> Drop for Place<'_, K, T> {
    fn drop(&mut self) {
        let mut lines = lock(&self.shared.0);
        // Places are only taken while the map is locked.
        if Arc::strong_count(&self.line) == ALONE {
            lines.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A thing that can be read; each read takes a second and returns when it began.
    #[derive(Default)]
    struct Thing {
        shared: Shared<u8, Instant>,
        reads: AtomicU64,
        /// Reads up to this number fail.
        failing: u64,
    }

    impl Thing {
        async fn read(&self, key: u8) -> Result<Instant, u64> {
            let read = async {
                let number = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
                let begun = Instant::now();
                sleep(SECOND).await;
                if number <= self.failing {
                    return Err(number);
                }
                Ok(begun)
            };
            self.shared.read(&key, read).await
        }

        /// Asks after `millis` and returns when it asked and when the read began that it was answered from.
        async fn ask(&self, millis: u64) -> (Instant, Result<Instant, u64>) {
            sleep(Duration::from_millis(millis)).await;
            let asked = Instant::now();
            (asked, self.read(0).await)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_at_the_same_time_shares_a_read_that_began_later() {
        let thing = Thing::default();
        let start = Instant::now();
        let asked =
            futures_util::future::join_all((0..20).map(|number| thing.ask(number * 40))).await;
        for (asked, begun) in asked {
            assert!(begun.unwrap() >= asked, "nobody gets what was before");
        }
        assert_eq!(thing.reads.load(Ordering::SeqCst), 2);
        assert_eq!(start.elapsed(), 2 * SECOND);
        assert!(lock(&thing.shared.0).is_empty(), "nothing is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn other_things_are_read_at_the_same_time() {
        let thing = Thing::default();
        let start = Instant::now();
        let (one, other) = tokio::join!(thing.read(1), thing.read(2));
        assert!(one.is_ok() && other.is_ok());
        assert_eq!(start.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_do_not_make_a_queue() {
        let thing = Thing {
            failing: 2,
            ..Thing::default()
        };
        let start = Instant::now();
        let results = futures_util::future::join_all((0..10).map(|number| thing.ask(number))).await;
        // The first fails, then the second for all who wait; each of these reads by itself.
        assert_eq!(results[0].1, Err(1));
        assert_eq!(results.iter().filter(|(_, read)| read.is_err()).count(), 2);
        assert_eq!(thing.reads.load(Ordering::SeqCst), 10);
        assert!(start.elapsed() <= 3 * SECOND + Duration::from_millis(10));
        assert!(lock(&thing.shared.0).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_the_line_to_others() {
        let thing = Thing::default();
        let first = tokio::time::timeout(Duration::from_millis(500), thing.read(0));
        let (first, (asked, second)) = tokio::join!(first, thing.ask(100));
        assert!(first.is_err());
        assert!(second.unwrap() >= asked);
        assert!(lock(&thing.shared.0).is_empty());
    }
}
