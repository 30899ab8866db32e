//! What the loop last did, for pages.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ipam::Collected;
use ipam::gc::Sweep;

/// A look that takes longer is stuck.
const STUCK: Duration = Duration::from_secs(600);

/// A look that is over.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) at: SystemTime,
    pub(crate) took: Duration,
    pub(crate) sweep: Sweep,
    pub(crate) done: Collected,
    /// Why not all was done.
    pub(crate) error: Option<String>,
}

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) leading: bool,
    pub(crate) dry_run: bool,
    pub(crate) last: Option<Look>,
    /// Why the last look did not happen.
    pub(crate) failure: Option<String>,
    /// A look that is under way.
    pub(crate) busy_since: Option<Instant>,
}

impl View {
    /// Why the controller is not alive, if so.
    pub(crate) fn stuck(&self) -> Option<String> {
        let busy = self.busy_since?.elapsed();
        (busy > STUCK).then(|| format!("a look takes {} s already", busy.as_secs()))
    }

    /// Why the controller is not ready, if so. One that stands by is.
    pub(crate) fn not_ready(&self) -> Option<String> {
        if let Some(failure) = &self.failure {
            return Some(failure.clone());
        }
        (self.leading && self.last.is_none()).then(|| "it has not looked yet".to_owned())
    }
}

/// Shared between the loop and the pages.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<View>);

impl Board {
    /// The view is changed in single steps, so it is whole after a panic too.
    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_is_ready_after_a_look_and_who_stands_by_at_once() {
        let mut view = View::default();
        assert_eq!(view.not_ready(), None);
        view.leading = true;
        assert_eq!(view.not_ready().as_deref(), Some("it has not looked yet"));
        view.failure = Some("the datastore is away".to_owned());
        assert_eq!(view.not_ready().as_deref(), Some("the datastore is away"));
    }

    #[test]
    fn a_look_that_does_not_end_is_told() {
        let view = View {
            busy_since: Instant::now().checked_sub(Duration::from_secs(601)),
            ..View::default()
        };
        assert_eq!(view.stuck().as_deref(), Some("a look takes 601 s already"));
        assert_eq!(View::default().stuck(), None);
    }
}
