//! Route refreshes with marks around them (RFC 7313).
//!
//! Between the marks everything a peer does not repeat is stale; at the end mark it goes. A peer
//! that begins and never ends must not leave it so: after a while the beginning counts for
//! nothing, as in a refresh without marks (RFC 2918). The RFC lets us drop what is not repeated by
//! then, but a peer that is slow would lose routes by it.

use std::collections::BTreeSet;

use bgp_api::Cleared;
use bgp_rib::PeerId;
use bgp_wire::{Family, Message, Params, RefreshSubtype, RouteRefresh};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::handle::Clear;
use crate::speaker::Owner;

/// Refreshes that have begun, and those to be answered later.
#[derive(Debug, Default)]
pub(super) struct Refreshes {
    begun: Vec<Begun>,
    /// Families whose end-of-RIB has come in the present session.
    ended: BTreeSet<(PeerId, Family)>,
    /// Asked for while our own end-of-RIB waits, which must go first (RFC 7313 §4.2).
    put_off: BTreeSet<(PeerId, Family)>,
}

#[derive(Debug)]
struct Begun {
    peer: PeerId,
    family: Family,
    until: Instant,
}

impl Refreshes {
    /// Another beginning of the same refresh begins it anew.
    fn begin(&mut self, peer: PeerId, family: Family, until: Instant) {
        self.end(peer, family);
        self.begun.push(Begun {
            peer,
            family,
            until,
        });
    }

    /// False if it had not begun.
    fn end(&mut self, peer: PeerId, family: Family) -> bool {
        let before = self.begun.len();
        self.begun
            .retain(|begun| (begun.peer, begun.family) != (peer, family));
        self.begun.len() < before
    }

    fn take_overdue(&mut self, now: Instant) -> Vec<Begun> {
        let overdue = self.begun.extract_if(.., |begun| begun.until <= now);
        overdue.collect()
    }

    /// The peer has sent an end-of-RIB.
    pub(super) fn ended(&mut self, peer: PeerId, family: Family) {
        self.ended.insert((peer, family));
    }

    /// What was asked for and can be answered now.
    pub(super) fn put_off(&mut self) -> BTreeSet<(PeerId, Family)> {
        std::mem::take(&mut self.put_off)
    }

    /// The session of a peer is over.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.begun.retain(|begun| begun.peer != peer);
        self.ended.retain(|(other, _)| *other != peer);
        self.put_off.retain(|(other, _)| *other != peer);
    }

    /// When a peer should have ended what it began.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.begun.iter().map(|begun| begun.until).min()
    }
}

/// Asks a peer for all its routes of a family (RFC 2918 §3).
pub(super) fn request(family: Family) -> Bytes {
    let mut bytes = BytesMut::new();
    let subtype = RefreshSubtype::Request;
    let request = Message::RouteRefresh(RouteRefresh { family, subtype });
    match request.encode(&Params::default(), &mut bytes) {
        Ok(()) => bytes.freeze(),
        // Four octets: there is nothing in it that could fail.
        Err(_) => Bytes::new(),
    }
}

impl Owner {
    /// Has the session of a peer start anew, or its routes exchanged again; `None` for an unknown
    /// peer.
    pub(crate) fn clear(&mut self, name: &str, how: Clear) -> Option<Cleared> {
        let id = self.find(name)?;
        let task = self.task(id)?;
        let peer = task.key.to_string();
        match how {
            Clear::Hard => {
                tracing::info!(peer, "cleared, its session starts anew");
                if !task.reopen() {
                    task.reset();
                }
            }
            Clear::Soft => {
                let up = task.up.as_ref();
                let families = up.map_or_else(Vec::new, |up| up.negotiated.families.clone());
                if up.is_some_and(|up| up.negotiated.route_refresh) {
                    task.asks.clone_from(&families);
                }
                for family in families {
                    self.rib.refresh(id, family);
                }
                self.changed();
            }
        }
        let soft = how == Clear::Soft;
        Some(Cleared { peer, soft })
    }

    /// Our own end-of-RIB marks wait for the end of the deferral.
    pub(super) fn holds_marks(&self) -> bool {
        self.options.restarting && !self.deferral.is_over()
    }

    /// A peer asks for our routes, or marks its own.
    pub(super) fn refreshed(&mut self, id: PeerId, refresh: RouteRefresh) {
        let RouteRefresh { family, subtype } = refresh;
        let Some(task) = self.task(id) else { return };
        let Some(up) = &task.up else { return };
        let restarts = up.negotiated.restart.is_some();
        let key = task.key.clone();
        match subtype {
            RefreshSubtype::Request if up.negotiated.params.enhanced_route_refresh => {
                if self.holds_marks() {
                    self.refreshes.put_off.insert((id, family));
                } else {
                    self.rib.refresh(id, family);
                }
            }
            RefreshSubtype::Request => self.rib.refresh(id, family),
            RefreshSubtype::BeginningOfRib => {
                // What it tells for the first time is no refresh (RFC 7313 §4.2).
                if restarts && !self.refreshes.ended.contains(&(id, family)) {
                    tracing::warn!(peer = %key, %family, "refresh begins before end-of-RIB, ignored");
                    return;
                }
                let until = Instant::now() + self.options.stale_time;
                self.refreshes.begin(id, family, until);
                self.rib.mark_stale(id, family);
            }
            RefreshSubtype::EndOfRib if self.refreshes.end(id, family) => {
                self.rib.sweep_stale(id, family);
            }
            RefreshSubtype::EndOfRib => {
                tracing::warn!(peer = %key, %family, "end of a refresh that has not begun, ignored");
            }
            RefreshSubtype::Unknown(_) => {}
        }
    }

    /// Ends what peers began and did not end in time.
    pub(super) fn end_refreshes(&mut self, now: Instant) {
        for Begun { peer, family, .. } in self.refreshes.take_overdue(now) {
            if let Some(task) = self.task(peer) {
                tracing::warn!(peer = %task.key, %family, "refresh not ended in time");
            }
            self.rib.unmark_stale(peer, family);
        }
    }
}
