//! How paths do in the steps of the decision process before MED.
//!
//! These steps look at nothing but the path itself, so one number per path stands for all of them.
//! A path that does worse than the best one makes no difference to the choice, there or gone; one
//! that does better than the best one is the choice, whatever else there is. Only paths that do
//! equally well need the rest of the steps.

use bgp_wire::Origin;

use crate::attrs::{Attrs, Communities};
use crate::nexthop::Reachability;
use crate::path::{Path, PeerId};
use crate::peer::Peers;

/// Lower is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Standing(u64);

/// More hops than fit into any message; what has more does equally well.
const MOST_HOPS: u64 = (1 << 28) - 1;

impl Standing {
    /// From what the steps look at, in their order.
    fn new(
        long_lived: bool,
        local: bool,
        local_pref: u32,
        as_path_length: u32,
        origin: Origin,
    ) -> Self {
        let hops = u64::from(as_path_length).min(MOST_HOPS);
        Self(
            u64::from(long_lived) << 63
                | u64::from(!local) << 62
                | u64::from(u32::MAX - local_pref) << 30
                | hops << 2
                | origin as u64,
        )
    }

    /// Of a path that may be used.
    #[inline]
    pub(crate) fn of(peers: &Peers, attrs: &Attrs, path: &Path) -> Option<Self> {
        if path.refused.is_some() {
            return None;
        }
        let set = attrs.get(path.attrs);
        if attrs.next_hops.reachability(set.next_hop) == Reachability::Unreachable {
            return None;
        }
        let session = peers.get(path.peer).map(|peer| &peer.session);
        let is_external = session.is_some_and(|session| session.kind.is_external());
        let is_leaving = session.is_some_and(|session| session.is_leaving());
        let long_lived_offered = session.is_some_and(|session| session.long_lived_offered);
        Some(Self::new(
            long_lived_offered && set.communities.has(Communities::LLGR_STALE),
            path.peer == PeerId::LOCAL,
            if is_leaving {
                0
            } else {
                set.local_pref(is_external)
            },
            set.attributes.hops(),
            set.attributes.origin(),
        ))
    }
}

#[cfg(test)]
mod tests;
