//! Which BFD sessions there shall be.
//!
//! After a restart a peer's BFD session waits for its BGP session. FRR 8.4 that hears BFD come up
//! while it waits for a connection dials at once; where ours is established in the same moment,
//! it ends both, and the routes that it kept over our restart go with them.

use std::time::Duration;

use bgp_rib::PeerId;
use tokio::time::Instant;

use crate::detection::Wanted;
use crate::speaker::Owner;

/// How long after a restart BFD waits: a peer may want BFD before it opens a session.
pub(super) const WAIT: Duration = Duration::from_secs(3);

impl Owner {
    /// Has the peer's BFD session be as configured.
    pub(super) fn detect(&mut self, id: PeerId) {
        let task = self.tasks.get(id.0 as usize).and_then(Option::as_ref);
        let Some(task) = task.filter(|task| !task.leaving) else {
            return;
        };
        let waits = self.detect_at.is_some() && task.up.is_none();
        if waits && !self.detection.has(&task.key) {
            return;
        }
        let wanted = Wanted::of(&task.config, task.remote(), &self.desired.local, &task.bfd);
        self.detection.set(&task.key, wanted);
    }

    /// Starts the sessions that have waited for long enough.
    pub(super) fn detect_all(&mut self, now: Instant) {
        if self.detect_at.take_if(|at| *at <= now).is_some() {
            for index in 0..self.tasks.len() {
                self.detect(PeerId(index as u32));
            }
        }
    }
}
