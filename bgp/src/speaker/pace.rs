//! When peers and the outside are told what changed.
//!
//! Telling costs a decision per changed prefix and a write per session, so what comes in quick
//! succession is told together: at once while little goes on, later the more sessions there are
//! and the longer the last time took, and never later than [`LONGEST`].

use std::time::Duration;

use tokio::time::Instant;

/// What a write and the wake-up for it cost.
const PER_SESSION: Duration = Duration::from_micros(10);

/// Changes wait no longer than this, and neither does anybody after a long telling.
const LONGEST: Duration = Duration::from_millis(20);

/// Waits that are shorter are not worth a timer.
const SHORTEST: Duration = Duration::from_millis(1);

/// What waits to be told, and since when.
#[derive(Debug, Default)]
pub(super) struct Pace {
    due: Option<Instant>,
    /// The end of the last telling, and what it took.
    last: Option<(Instant, Duration)>,
}

impl Pace {
    /// Something changed that is of interest to this many sessions.
    pub(super) fn changed(&mut self, now: Instant, sessions: usize) {
        if self.due.is_some() {
            return;
        }
        let sessions = u32::try_from(sessions).unwrap_or(u32::MAX);
        let wait = PER_SESSION.saturating_mul(sessions).min(LONGEST);
        let rest = self.last.map_or(Duration::ZERO, |(end, took)| {
            took.min(LONGEST)
                .saturating_sub(now.saturating_duration_since(end))
        });
        let wait = wait.max(rest);
        self.due = Some(if wait < SHORTEST { now } else { now + wait });
    }

    /// When to tell; nothing waits if there is no time.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Everything was told.
    pub(super) fn told(&mut self, begun: Instant) {
        let now = Instant::now();
        self.due = None;
        self.last = Some((now, now - begun));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_change_among_few_sessions_is_told_at_once() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(None, pace.due());
        pace.changed(now, 10);
        assert_eq!(Some(now), pace.due());
    }

    #[test]
    fn changes_among_many_sessions_are_told_together_but_soon() {
        let now = Instant::now();
        let mut pace = Pace::default();
        pace.changed(now, 500);
        pace.changed(now + millis(4), 500);
        assert_eq!(Some(now + millis(5)), pace.due());
        let mut pace = Pace::default();
        pace.changed(now, 1_000_000);
        assert_eq!(Some(now + LONGEST), pace.due());
    }

    #[test]
    fn telling_takes_no_more_than_half_of_the_time() {
        let now = Instant::now();
        let last = Some((now, millis(8)));
        let mut pace = Pace { due: None, last };
        pace.changed(now + millis(3), 1);
        assert_eq!(Some(now + millis(8)), pace.due());
        let mut pace = Pace { due: None, last };
        pace.changed(now + millis(9), 1);
        assert_eq!(Some(now + millis(9)), pace.due());
    }
}
