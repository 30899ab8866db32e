//! Paths that outlive their session: graceful restart (RFC 4724) and enhanced refresh (RFC 7313).
//!
//! A stale path is a path like any other in the decision process (RFC 4724 §4.2). What is not
//! announced again until End-of-RIB, or until the caller's timer, is swept.

use bgp_wire::Family;

use crate::Rib;
use crate::key::FamilyIndex;
use crate::loc_rib::Change;
use crate::path::{PathFlags, PeerId};

impl Rib {
    /// Ends a peer's session. Its paths of the families in `retain` are kept as stale, those of
    /// other families go, and so do paths that were stale before: nobody may restart twice on the
    /// same promise (RFC 4724 §4.2).
    pub fn peer_down(&mut self, peer: PeerId, retain: &[Family]) {
        self.out.leave(peer);
        if let Some(known) = self.shared.peers.get_mut(peer) {
            known.is_up = false;
        }
        for family in FamilyIndex::ALL {
            let retained = retain.contains(&family.family());
            self.change_paths(peer, &[family], |path| {
                if !retained || path.is_stale() {
                    return Change::Remove;
                }
                path.flags.set(PathFlags::STALE);
                Change::None
            });
        }
        self.forget_if_gone(peer);
    }

    /// Marks a peer's paths of a family stale, at the begin mark of an enhanced route refresh.
    pub fn mark_stale(&mut self, peer: PeerId, family: Family) {
        let families = FamilyIndex::of(family);
        self.change_paths(peer, families.as_slice(), |path| {
            path.flags.set(PathFlags::STALE);
            Change::None
        });
    }

    /// Removes a peer's stale paths of a family: it is back and did not repeat them, it came back
    /// without having kept its forwarding state, or it did not come back in time.
    pub fn sweep_stale(&mut self, peer: PeerId, family: Family) {
        let families = FamilyIndex::of(family);
        self.change_paths(peer, families.as_slice(), |path| {
            if path.is_stale() {
                Change::Remove
            } else {
                Change::None
            }
        });
        self.forget_if_gone(peer);
    }

    /// Takes note that a peer has sent all its routes of a family: what is still stale goes
    /// (RFC 4724 §4.2).
    pub fn end_of_rib(&mut self, peer: PeerId, family: Family) {
        self.sweep_stale(peer, family);
    }

    /// Forgets a peer that is down once none of its paths is left.
    fn forget_if_gone(&mut self, peer: PeerId) {
        let is_down = self.shared.peer(peer).is_some_and(|known| !known.is_up);
        if is_down && self.tables.v4.held.is_empty(peer) && self.tables.v6.held.is_empty(peer) {
            self.shared.peers.remove(peer);
        }
    }
}

#[cfg(test)]
mod tests;
