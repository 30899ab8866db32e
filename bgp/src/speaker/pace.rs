//! When peers and the outside are told what changed.
//!
//! Telling costs a decision per changed prefix and a write per session, so what comes in quick
//! succession is told together: at once while little goes on, later the more sessions there are
//! and the longer the last time took, and never later than [`LONGEST`].

use std::time::Duration;

use tokio::time::Instant;

/// What a write and the wake-up for it cost.
const PER_SESSION: Duration = Duration::from_micros(10);

/// So much longer than it takes to tell sessions something they are given to pass it on: they
/// share the machine with what comes in.
const SHARE: u32 = 4;

/// Changes wait no longer than this, and neither does anybody after a long telling.
const LONGEST: Duration = Duration::from_millis(20);

/// Waits that are shorter are not worth a timer.
const SHORTEST: Duration = Duration::from_millis(1);

/// What waits to be told, and since when.
#[derive(Debug, Default)]
pub(super) struct Pace {
    due: Option<Due>,
    /// More waits to be applied.
    more: bool,
    /// The end of the last telling, and what it took.
    last: Option<(Instant, Duration)>,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    /// When nothing more waits to be applied.
    at: Instant,
    /// However much does.
    at_last: Instant,
}

impl Pace {
    /// Something changed that is of interest to this many sessions.
    pub(super) fn changed(&mut self, now: Instant, sessions: usize) {
        if self.due.is_some() {
            return;
        }
        let sessions = u32::try_from(sessions).unwrap_or(u32::MAX);
        let wait = PER_SESSION.saturating_mul(sessions).min(LONGEST);
        let (rest, busy) = self.last.map_or_else(Default::default, |(end, took)| {
            let since = now.saturating_duration_since(end);
            let rest = (SHARE * took).min(LONGEST).saturating_sub(since);
            (rest, LONGEST.saturating_sub(since))
        });
        let wait = wait.max(rest);
        let wait = if wait < SHORTEST {
            Duration::ZERO
        } else {
            wait
        };
        self.due = Some(Due {
            at: now + wait,
            at_last: now + wait.max(busy),
        });
    }

    /// Whether more waits to be applied.
    pub(super) fn more(&mut self, more: bool) {
        self.more = more;
    }

    /// When to tell; nothing waits if there is no time.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.due?;
        Some(if self.more { due.at_last } else { due.at })
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

    fn after(millis_ago: u64, took: u64) -> (Instant, Pace) {
        let now = Instant::now();
        let pace = Pace {
            last: Some((now, millis(took))),
            ..Pace::default()
        };
        (now + millis(millis_ago), pace)
    }

    #[test]
    fn sessions_are_given_time_to_pass_on_what_they_were_told() {
        let (now, mut pace) = after(3, 2);
        pace.changed(now, 1);
        assert_eq!(Some(now + millis(5)), pace.due());
        let (now, mut pace) = after(9, 2);
        pace.changed(now, 1);
        assert_eq!(Some(now), pace.due());
    }

    #[test]
    fn what_waits_to_be_applied_comes_first_while_much_goes_on() {
        let (now, mut pace) = after(5, 1);
        pace.changed(now, 1);
        pace.more(true);
        assert_eq!(Some(now + millis(15)), pace.due());
        pace.more(false);
        assert_eq!(Some(now), pace.due());
        let (now, mut pace) = after(30, 1);
        pace.changed(now, 1);
        pace.more(true);
        assert_eq!(Some(now), pace.due());
    }
}
