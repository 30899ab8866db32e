//! What a lost BFD neighbour means for the session (RFC 5882 §4, RFC 9384).

use std::time::Duration;

use bgp_fsm::{Event, Stop};
use bgp_wire::Notification;
use bgp_wire::notification::subcode::cease;
use tokio::time::Instant;

use crate::session::{Report, Session};

/// How long a session waits for BFD after a loss: a peer whose BFD is gone for good, because its
/// operator removed it or its daemon died, is still a peer. What keeps losing it waits each time.
const LONGEST_HOLD: Duration = Duration::from_secs(30);

/// What is known of the peer's BFD session.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// Losses already acted upon; absent before anything was told.
    failures: Option<u64>,
    /// The session waits for BFD to come up, at most until then.
    held: Option<Instant>,
}

impl Liveness {
    /// Losses acted upon so far.
    #[cfg(test)]
    pub(super) fn failures(&self) -> Option<u64> {
        self.failures
    }

    /// When the wait for BFD ends at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held
    }

    /// The session waits for BFD to come up.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }
}

impl Session {
    /// BFD told something new.
    pub(super) fn liveness_changed(&mut self) {
        let status = *self.channels.bfd.borrow_and_update();
        if !self.reports.iter().any(|r| matches!(r, Report::Liveness)) {
            self.report(Report::Liveness);
        }
        let Some(status) = status else {
            // Switched off.
            self.liveness.failures = None;
            self.release();
            return;
        };
        let before = self.liveness.failures.replace(status.failures);
        if before.is_some_and(|before| before < status.failures) {
            let why = status.diagnostic.to_string();
            self.lost(&why, status.independent);
        }
        if status.lets_through() {
            self.release();
        }
    }

    /// The peer cannot be reached any more. Its routes go at once, and the session stays down
    /// until BFD is up again or has had its time.
    ///
    /// Where a restart is under way already, a loss says nothing of the peer's forwarding unless
    /// its BFD does not depend on the control plane that restarts (RFC 5882 §4.3).
    fn lost(&mut self, why: &str, independent: bool) {
        let restarts = self.peer.established().is_none() && !self.peer.stale().is_empty();
        let unwanted = self.stopped || self.settings.peer.shut_down.is_some();
        if unwanted || self.liveness.is_held() || restarts && !independent {
            return;
        }
        self.liveness.held = Some(Instant::now() + LONGEST_HOLD);
        let down = Notification::cease(cease::BFD_DOWN);
        self.feed(Event::Stop(Stop::Notify(down)));
        self.last_error = Some(format!("BFD: {why}"));
    }

    /// The session has waited for BFD for as long as it may.
    pub(super) fn end_hold(&mut self, now: Instant) {
        if self.liveness.held.is_some_and(|until| until <= now) {
            tracing::warn!(peer = %self.settings.key, "BFD does not come back, going on without it");
            self.release();
        }
    }

    fn release(&mut self) {
        if self.liveness.held.take().is_some() && !self.stopped {
            self.begin();
        }
    }
}
