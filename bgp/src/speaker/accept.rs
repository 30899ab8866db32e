//! Whose an accepted connection is.

use bgp_rib::PeerId;
use tokio::time::Instant;

use crate::listener::Accepted;
use crate::speaker::Owner;
use crate::speaker::peers::PeerTask;

impl Owner {
    /// Gives an accepted connection to the peer with its address; among several the one that has
    /// no session yet. Who is listed by address wins over who is found on a link, and both over
    /// ranges.
    pub(super) fn match_to_peer(&mut self, accepted: Accepted) {
        let listed = self.candidate(|task| is_from(task, &accepted));
        let unnumbered = || self.candidate(|task| is_on_link_of(task, &accepted));
        let id = match listed.or_else(unnumbered) {
            Some(id) => id,
            None => match self.add_dynamic(&accepted) {
                Ok(id) => id,
                Err(reason) => return self.closed_unmatched(&reason),
            },
        };
        let Some(task) = self.task(id) else { return };
        task.lonely = task.lonely.and(Some(Instant::now()));
        if task.incoming.try_send(accepted.stream).is_err() {
            let reason = format!("{} makes too many at once", task.key);
            self.closed_unmatched(&reason);
        }
    }

    fn candidate(&self, matches: impl Fn(&PeerTask) -> bool) -> Option<PeerId> {
        let ids = self.peers.values().copied();
        let tasks = ids.filter_map(|id| Some((id, self.tasks.get(id.0 as usize)?.as_ref()?)));
        let candidates = tasks.filter(|(_, task)| matches(task));
        let best = candidates.min_by_key(|(_, task)| task.state);
        best.map(|(id, _)| id)
    }

    /// Counts a connection nobody could take; a scanner must not fill the log.
    fn closed_unmatched(&mut self, reason: &str) {
        self.strangers += 1;
        if self.strangers.is_power_of_two() {
            tracing::warn!(reason, count = self.strangers, "connection closed");
        }
    }
}

/// The peer has the address, and the interface that a link-local one needs.
fn is_from(task: &PeerTask, accepted: &Accepted) -> bool {
    let same_link = accepted.interface.is_none() || is_same_link(task, accepted);
    task.config.address.to_canonical() == accepted.from && same_link
}

/// The peer is whoever is on the link that the connection came from.
fn is_on_link_of(task: &PeerTask, accepted: &Accepted) -> bool {
    task.config.is_unnumbered() && is_same_link(task, accepted)
}

fn is_same_link(task: &PeerTask, accepted: &Accepted) -> bool {
    accepted.interface.is_some()
        && task.config.interface.as_deref() == accepted.interface.as_deref()
}
