//! What a lost BFD neighbour means for the session (RFC 5882 §4, RFC 9384).

use bgp_fsm::{Event, Stop};
use bgp_wire::Notification;
use bgp_wire::notification::subcode::cease;

use crate::session::{Report, Session};

/// What is known of the peer's BFD session.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// Losses already acted upon; absent before anything was told.
    failures: Option<u64>,
    /// The session waits for BFD to come up.
    held: bool,
}

impl Liveness {
    /// The session waits for BFD to come up.
    pub(super) fn is_held(&self) -> bool {
        self.held
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
    /// until BFD is up again.
    ///
    /// Where a restart is under way already, a loss says nothing of the peer's forwarding unless
    /// its BFD does not depend on the control plane that restarts (RFC 5882 §4.3).
    fn lost(&mut self, why: &str, independent: bool) {
        let restarts = self.peer.established().is_none() && !self.peer.stale().is_empty();
        let unwanted = self.stopped || self.settings.peer.shut_down.is_some();
        if unwanted || self.liveness.held || restarts && !independent {
            return;
        }
        self.liveness.held = true;
        let down = Notification::cease(cease::BFD_DOWN);
        self.feed(Event::Stop(Stop::Notify(down)));
        self.last_error = Some(format!("BFD: {why}"));
    }

    fn release(&mut self) {
        if std::mem::take(&mut self.liveness.held) && !self.stopped {
            self.begin();
        }
    }
}
