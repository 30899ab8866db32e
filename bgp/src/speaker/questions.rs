//! Answers to questions about peers and the speaker.

use std::time::SystemTime;

use bgp_rib::{PeerCounts, PeerId};
use bgp_wire::Family;
use tokio::time::Instant;

use crate::event::{PeerInfo, SessionInfo, SpeakerInfo};
use crate::session::{Direction, Up};
use crate::speaker::Owner;

impl Owner {
    pub(crate) fn peer_infos(&mut self) -> Vec<PeerInfo> {
        let ids: Vec<PeerId> = self.peers.values().copied().collect();
        ids.into_iter()
            .filter_map(|id| self.peer_info(id))
            .collect()
    }

    pub(crate) fn info(&self) -> SpeakerInfo {
        let listeners = self.listeners.values();
        let now = Instant::now();
        let waiting = self.deferral.waiting_for();
        let missing = self.deferral.missing(now);
        let ends_by = self.deferral.ends_by(now);
        let task = |id: PeerId| self.tasks.get(id.0 as usize)?.as_ref();
        SpeakerInfo {
            listening: listeners.filter_map(|l| l.address().ok()).collect(),
            converged: self.deferral.is_over(),
            waiting_for: waiting
                .filter_map(task)
                .map(|task| task.key.clone())
                .collect(),
            missing: missing
                .filter_map(task)
                .map(|task| task.key.clone())
                .collect(),
            converges_by: ends_by.map(|at| SystemTime::now() + at.duration_since(now)),
            strangers: self.strangers,
        }
    }

    pub(super) fn peer_info(&mut self, id: PeerId) -> Option<PeerInfo> {
        let counts = self.peer_counts(id);
        let task = self.task(id).filter(|task| !task.leaving)?;
        let counted = task.shared.counters.read();
        Some(PeerInfo {
            key: task.key.clone(),
            range: task.range.clone(),
            address: task.remote(),
            port: task.config.port,
            remote_as: task.config.remote_as,
            state: task.state,
            since: task.since,
            up_down: task.up_down,
            flaps: task.flaps,
            last_error: task.last_error.clone(),
            malformed: task.fault.clone(),
            warning: task.warning(),
            session: task.up.as_deref().and_then(session_info),
            stale: task.stale.clone(),
            long_lived: task.long_lived.clone(),
            paths: counts.iter().map(|(_, counts)| counts.received).sum(),
            counts,
            bfd: task.bfd.borrow().map(|status| status.info()),
            messages_in: counted.total(Direction::In),
            messages_out: counted.total(Direction::Out),
        })
    }

    /// Numbers of routes of a peer, by family.
    pub(super) fn peer_counts(&mut self, id: PeerId) -> Vec<(Family, PeerCounts)> {
        let Some(task) = self.tasks.get(id.0 as usize).and_then(Option::as_ref) else {
            return Vec::new();
        };
        let families = task.config.families.iter();
        families
            .map(|family| (*family, self.rib.peer_counts(id, *family)))
            .collect()
    }
}

fn session_info(up: &Up) -> Option<SessionInfo> {
    Some(SessionInfo {
        router_id: up.negotiated.remote_id,
        local: up.local?,
        remote: up.remote?,
        families: up.negotiated.families.clone(),
        hold_time_secs: up.negotiated.hold_time_secs,
        keepalive_secs: up.negotiated.keepalive_secs,
        graceful_restart: up.negotiated.restart.is_some(),
        restart: up.negotiated.restart.clone(),
        long_lived: up.negotiated.long_lived.clone(),
        peer_role: up.negotiated.peer_role,
        route_refresh: up.negotiated.route_refresh,
        params: up.negotiated.params.clone(),
        offered: up.negotiated.offered.clone(),
        received: up.negotiated.received.clone(),
    })
}
