//! How often a lost compare and swap is tried again, and how long to wait in between.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::error::Error;

use super::Ipam;

/// Attempts of one step before it fails (Calico behaviour).
const ATTEMPTS: u32 = 100;
/// Longest wait between two attempts.
const MAX_WAIT_MS: u64 = 64;

/// The attempts left for one step.
#[derive(Default)]
pub(super) struct Retry {
    attempts: u32,
}

impl Retry {
    /// Waits before the next attempt, or gives up.
    pub(super) async fn pause(
        &mut self,
        ipam: &Ipam,
        object: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        self.attempts += 1;
        if self.attempts >= ATTEMPTS {
            return Err(Error::TooManyConflicts {
                object: object(),
                attempts: self.attempts,
            });
        }
        let wait = (ipam.backoff)(self.attempts);
        if wait.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// Whether a step had to be repeated.
    pub(super) fn used(&self) -> bool {
        self.attempts > 0
    }
}

/// Doubles up to 64 ms, of which a random half is taken off, so that two who collided do not meet again.
pub(super) fn jittered(attempt: u32) -> Duration {
    let limit_us = 1000 * MAX_WAIT_MS.min(1 << attempt.min(6));
    // Keyed at random anew by each RandomState.
    let random = RandomState::new().hash_one(attempt);
    Duration::from_micros(limit_us / 2 + random % (limit_us / 2))
}
