//! Paths that outlive their session: graceful restart (RFC 4724), long-lived (RFC 9494), and
//! enhanced refresh (RFC 7313).
//!
//! A stale path is a path like any other in the decision process (RFC 4724 §4.2). What is not
//! announced again until End-of-RIB, or until the caller's timer, is swept. A long-lived stale
//! path has the community LLGR_STALE, whether we put it there or the peer did: it loses against
//! every other path and is not told to everybody.

use bgp_wire::{Community, Family, Prefix};

use crate::Rib;
use crate::attrs::{Attrs, Communities};
use crate::import::Importer;
use crate::key::FamilyIndex;
use crate::loc_rib::Change;
use crate::path::{AttrId, Path, PathFlags, PeerId};
use crate::peer::Shared;

impl Rib {
    /// Ends a peer's session. Its paths of the families in `retain` are kept as stale, those of
    /// other families go.
    ///
    /// Paths that were stale before are kept too. RFC 4724 §4.2 drops them, so that nobody restarts
    /// for ever on one promise; here the caller's timer runs on from the first loss instead.
    pub fn peer_down(&mut self, peer: PeerId, retain: &[Family]) {
        self.out.leave(peer);
        if let Some(known) = self.shared.peers.get_mut(peer) {
            known.is_up = false;
        }
        for family in FamilyIndex::ALL {
            let retained = retain.contains(&family.family());
            self.change_paths(peer, &[family], |path| {
                if !retained {
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

    /// Ends the mark of an enhanced route refresh whose end mark did not come in time: all paths
    /// are as good as before it, as after a refresh without marks (RFC 2918).
    pub fn unmark_stale(&mut self, peer: PeerId, family: Family) {
        let families = FamilyIndex::of(family);
        self.change_paths(peer, families.as_slice(), |path| {
            path.flags.clear(PathFlags::STALE);
            Change::None
        });
    }

    /// Makes a peer's stale paths of some families long-lived, as its restart time is over and it
    /// is not back: from now on they are the last resort, and who does not know of long-lived
    /// paths loses them. Those with NO_LLGR go (RFC 9494 §4.2).
    pub fn long_lived(&mut self, peer: PeerId, families: &[Family]) {
        let Self { shared, tables, .. } = self;
        let Shared {
            config,
            peers,
            attrs,
        } = shared;
        let Some(known) = peers.get(peer) else {
            return;
        };
        let mut marker = Marker {
            importer: Importer::new(config, &known.session),
            last: None,
        };
        for family in families {
            match FamilyIndex::of(*family) {
                Some(FamilyIndex::V4) => tables.v4.change_paths(attrs, peer, |attrs, key, path| {
                    marker.mark(attrs, key.into(), path)
                }),
                Some(FamilyIndex::V6) => tables.v6.change_paths(attrs, peer, |attrs, key, path| {
                    marker.mark(attrs, key.into(), path)
                }),
                None => (),
            }
        }
        marker.forget(attrs);
        self.forget_if_gone(peer);
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

/// Makes paths of one peer long-lived.
struct Marker<'a> {
    importer: Importer<'a>,
    /// A received set and the same one with LLGR_STALE, each with one reference counted: paths in a
    /// row tend to share their set.
    last: Option<(AttrId, AttrId)>,
}

impl Marker<'_> {
    fn mark(&mut self, attrs: &mut Attrs, prefix: Prefix, path: &mut Path) -> Change {
        if !path.is_stale() {
            return Change::None;
        }
        let communities = attrs.get(path.attrs).communities;
        if communities.has(Communities::NO_LLGR) {
            return Change::Remove;
        }
        if communities.has(Communities::LLGR_STALE) {
            return Change::None;
        }
        // Too long for any message with one more community: it cannot be told as what it is.
        let Some(received) = self.marked(attrs, attrs.received(path.attrs)) else {
            return Change::Remove;
        };
        let old = path.attrs;
        let refused;
        (path.attrs, refused) = self.importer.judge(attrs, prefix, received);
        if !path.is_surplus() {
            path.refused = refused;
        }
        attrs.release(old);
        Change::Wording
    }

    fn marked(&mut self, attrs: &mut Attrs, received: AttrId) -> Option<AttrId> {
        if let Some((plain, marked)) = self.last
            && plain == received
        {
            return Some(marked);
        }
        let set = attrs.get(received);
        let next_hop = attrs.next_hops.get(set.next_hop);
        let mut fields = set.attributes.to_builder();
        if !fields.communities.contains(&Community::LLGR_STALE) {
            fields.communities.push(Community::LLGR_STALE);
        }
        let marked = attrs.acquire(&fields.build().ok()?, next_hop);
        attrs.add_reference(received);
        self.forget(attrs);
        self.last = Some((received, marked));
        Some(marked)
    }

    fn forget(&mut self, attrs: &mut Attrs) {
        if let Some((plain, marked)) = self.last.take() {
            attrs.release(plain);
            attrs.release(marked);
        }
    }
}

#[cfg(test)]
mod tests;
