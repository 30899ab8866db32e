//! Two connections with one peer (RFC 4271 §6.8).

use bgp_wire::Notification;
use bgp_wire::notification::subcode;

use crate::action::{Action, Reason};
use crate::config::Config;
use crate::event::{ConnId, Origin, State, Time};
use crate::negotiate::Negotiated;
use crate::peer::{Peer, graceful};
use crate::session::Session;

impl Peer {
    /// An OPEN was accepted on `conn`: decides which connections stay, and confirms the
    /// newcomer if it is one of them.
    pub(super) fn resolve_collision(&mut self, now: Time, conn: ConnId, out: &mut Vec<Action>) {
        let Some(index) = self.sessions.iter().position(|s| s.conn == conn) else {
            return;
        };
        let newcomer = &self.sessions[index];
        let others = self.sessions.iter().filter(|s| s.conn != conn);
        let loses = others.filter(|other| self.beats(other, newcomer)).count() > 0;
        if loses {
            let _over = newcomer.refuse(Notification::cease(subcode::cease::COLLISION), out);
            return self.over(now, conn, Reason::Collision, out);
        }
        if !self.has_rival(index) {
            self.confirm(now, conn, out);
        }
        self.close_where(now, out, |session| {
            session.conn != conn && session.state() == State::OpenConfirm
        });
    }

    /// Another connection would win against this one if an OPEN came on it. To confirm this one
    /// would have the peer establish it while we are about to close it.
    fn has_rival(&self, index: usize) -> bool {
        let session = &self.sessions[index];
        let winner = session.negotiated().map(|n| winner(&self.config, n));
        let mut others = self.sessions.iter();
        others.any(|other| {
            other.state() == State::OpenSent
                && other.origin != session.origin
                && winner == Some(other.origin)
        })
    }

    /// A connection is gone: who waited for it waits no longer.
    pub(super) fn confirm_held(&mut self, now: Time, out: &mut Vec<Action>) {
        let free = |index: &usize| self.sessions[*index].is_held() && !self.has_rival(*index);
        let free = (0..self.sessions.len()).find(free);
        if let Some(conn) = free.map(|index| self.sessions[index].conn) {
            self.confirm(now, conn, out);
        }
    }

    /// The older connection stays and the newcomer goes.
    fn beats(&self, older: &Session, newcomer: &Session) -> bool {
        match older.state() {
            // Without a router id nothing can be compared yet (RFC 4271 §6.8).
            State::Idle | State::Connect | State::Active | State::OpenSent => false,
            State::OpenConfirm => {
                let winner = newcomer.negotiated().map(|n| winner(&self.config, n));
                older.origin != newcomer.origin && winner == Some(older.origin)
            }
            // A peer that restarts gracefully may have forgotten the established session, or
            // two dials may have crossed (RFC 4724 §5 cannot tell). The newcomer goes on beside
            // it and replaces it when the peer confirms it: a peer that still has the old one
            // closes the new one instead.
            State::Established => !graceful(older),
        }
    }
}

/// Whose connection stays: that of the side with the higher router id, or with the higher AS
/// number when router ids are equal (RFC 6286 §2.3).
fn winner(config: &Config, negotiated: &Negotiated) -> Origin {
    let ours = (config.local_id, config.local_as);
    if ours > (negotiated.remote_id, negotiated.remote_as) {
        Origin::Outgoing
    } else {
        Origin::Incoming
    }
}
