//! A path: who said it, with which attributes, and whether it may be used.
//!
//! Paths are 16 bytes and hold indices, never pointers: a table with a million of them is one
//! allocation per block of prefixes. The first path of a prefix is stored in place; most prefixes
//! have no second one.

use std::fmt;

use thin_vec::ThinVec;

/// A peer as the caller numbers it.
///
/// Peers are kept in a vector indexed by this number, so number them from 0 and reuse the numbers
/// of peers that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u32);

impl PeerId {
    /// Stands for ourselves as the source of originated prefixes.
    pub(crate) const LOCAL: Self = Self(u32::MAX);
    /// Stands for nobody.
    pub(crate) const NONE: Self = Self(u32::MAX - 1);
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::LOCAL => f.write_str("local"),
            Self(number) => write!(f, "peer {number}"),
        }
    }
}

/// Index of an interned attribute set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttrId(pub(crate) u32);

impl AttrId {
    /// Stands for no set.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// Number of a list of changes that an export policy makes, within one update group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChangesId(pub(crate) u32);

impl ChangesId {
    /// Nothing is changed.
    pub(crate) const NONE: Self = Self(0);
}

/// Who said what, and what becomes of it on export: all that the wording of a path towards other
/// peers depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Said {
    pub(crate) peer: PeerId,
    pub(crate) attrs: AttrId,
    pub(crate) changes: ChangesId,
}

/// Why a path in the Adj-RIB-In takes no part in the decision process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ineligible {
    /// Our own AS is in the AS_PATH more often than allowed (RFC 4271 §9.1.2).
    AsLoop,
    /// ORIGINATOR_ID is our own identifier (RFC 4456 §8).
    OriginatorLoop,
    /// Our own cluster is in the CLUSTER_LIST (RFC 4456 §8).
    ClusterLoop,
    /// The next hop is one of our own addresses (RFC 4271 §6.3).
    OwnNextHop,
    /// The next hop cannot be reached (RFC 4271 §9.1.2.1).
    UnreachableNextHop,
    /// The first AS of the AS_PATH is not that of the external peer (RFC 4271 §6.3).
    FirstAs,
    /// ONLY_TO_CUSTOMER says that it must not come from this peer (RFC 9234 §5).
    RouteLeak,
    /// The peer has sent more prefixes than it may, and this is one of the surplus.
    MaxPrefixes,
    /// The peer's import policy rejects it.
    Policy,
    /// The peer's import policy makes more of its attributes than a message can hold.
    TooLong,
    /// External, without an import policy where one is required (RFC 8212 §3).
    NoPolicy,
}

impl Ineligible {
    /// A short sentence part for people: `own AS in the path`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsLoop => "own AS in the path",
            Self::OriginatorLoop => "originated by this router",
            Self::ClusterLoop => "own cluster in the cluster list",
            Self::OwnNextHop => "next hop is an own address",
            Self::UnreachableNextHop => "next hop unreachable",
            Self::FirstAs => "first AS of the path is not the peer's",
            Self::RouteLeak => "route leak (OTC)",
            Self::MaxPrefixes => "above the prefix limit",
            Self::Policy => "rejected by import policy",
            Self::TooLong => "attributes too long after import policy",
            Self::NoPolicy => "no import policy for an external peer",
        }
    }
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One path to one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) peer: PeerId,
    pub(crate) attrs: AttrId,
    /// The peer's path identifier (RFC 7911), 0 without ADD-PATH.
    pub(crate) path_id: u32,
    /// Our own path identifier, the path's for as long as it is there: no other path of the prefix
    /// has it. 0 before it has a prefix, and where there are too many paths to name them all.
    pub(crate) id: u16,
    pub(crate) flags: PathFlags,
    /// Set on import; an unreachable next hop is looked up instead, as it comes and goes.
    pub(crate) refused: Option<Ineligible>,
}

/// What is true of a path for a while.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PathFlags(u8);

impl PathFlags {
    /// Kept from an earlier session or not repeated yet in a refresh.
    pub(crate) const STALE: Self = Self(1);
    /// New, or in other words than at the last decision.
    pub(crate) const CHANGED: Self = Self(2);

    pub(crate) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(crate) fn set(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    pub(crate) fn clear(&mut self, flag: Self) {
        self.0 &= !flag.0;
    }
}

impl Path {
    const VACANT: Self = Self::new(PeerId::NONE, AttrId(0), 0, None);

    pub(crate) const fn new(
        peer: PeerId,
        attrs: AttrId,
        path_id: u32,
        refused: Option<Ineligible>,
    ) -> Self {
        Self {
            peer,
            attrs,
            path_id,
            id: 0,
            flags: PathFlags(0),
            refused,
        }
    }

    /// Held, but above the prefix limit of its peer.
    pub(crate) fn is_surplus(&self) -> bool {
        self.refused == Some(Ineligible::MaxPrefixes)
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.flags.has(PathFlags::STALE)
    }

    pub(crate) fn said(&self) -> Said {
        Said {
            peer: self.peer,
            attrs: self.attrs,
            changes: ChangesId::NONE,
        }
    }

    fn is_from(&self, peer: PeerId, path_id: u32) -> bool {
        self.peer == peer && self.path_id == path_id
    }
}

/// The paths to one prefix in no order but this: the multipath set is at the front, best first.
#[derive(Debug)]
pub(crate) struct Paths {
    first: Path,
    /// One word here, with the length where the paths are.
    more: ThinVec<Path>,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            first: Path::VACANT,
            more: ThinVec::new(),
        }
    }
}

impl Paths {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.peer == PeerId::NONE
    }

    /// More than one.
    pub(crate) fn are_several(&self) -> bool {
        !self.more.is_empty()
    }

    pub(crate) fn first(&self) -> Option<Path> {
        (!self.is_empty()).then_some(self.first)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Path> {
        let first = (!self.is_empty()).then_some(&self.first);
        first.into_iter().chain(self.rest())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Path> {
        let first = (self.first.peer != PeerId::NONE).then_some(&mut self.first);
        first.into_iter().chain(&mut self.more)
    }

    fn rest(&self) -> &[Path] {
        &self.more
    }

    /// Position of the path a peer gave this identifier.
    pub(crate) fn position(&self, peer: PeerId, path_id: u32) -> Option<usize> {
        if self.first.is_from(peer, path_id) {
            return Some(0);
        }
        let mut rest = self.rest().iter();
        let position = rest.position(|path| path.is_from(peer, path_id))?;
        Some(position + 1)
    }

    /// The path at a position below the number of paths.
    pub(crate) fn get(&self, position: usize) -> Option<&Path> {
        match position.checked_sub(1) {
            None => (!self.is_empty()).then_some(&self.first),
            Some(position) => self.rest().get(position),
        }
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, position: usize) -> Option<&mut Path> {
        match position.checked_sub(1) {
            None => (self.first.peer != PeerId::NONE).then_some(&mut self.first),
            Some(position) => self.more.get_mut(position),
        }
    }

    /// Adds a path and gives it an identifier of ours.
    pub(crate) fn push(&mut self, mut path: Path) {
        path.id = self.free_id();
        path.flags.set(PathFlags::CHANGED);
        if self.is_empty() {
            self.first = path;
            return;
        }
        let more = &mut self.more;
        if more.len() == more.capacity() {
            // Doubling would waste half of what a prefix seen by many peers needs.
            more.reserve_exact(2 + more.len() / 2);
        }
        more.push(path);
    }

    /// The one after the highest in use, so that one is seldom given again soon.
    fn free_id(&self) -> u16 {
        let highest = self.iter().map(|path| path.id).max().unwrap_or(0);
        highest.checked_add(1).unwrap_or_else(|| {
            let is_free = |id: &u16| self.iter().all(|path| path.id != *id);
            (1..=u16::MAX).find(is_free).unwrap_or(0)
        })
    }

    /// Takes out the path at a position; the others keep their order.
    pub(crate) fn remove(&mut self, position: usize) -> Option<Path> {
        let removed = if position == 0 {
            let next = if self.more.is_empty() {
                Path::VACANT
            } else {
                self.more.remove(0)
            };
            let removed = std::mem::replace(&mut self.first, next);
            (removed.peer != PeerId::NONE).then_some(removed)
        } else {
            let more = &mut self.more;
            (position <= more.len()).then(|| more.remove(position - 1))
        };
        if self.more.is_empty() {
            self.more = ThinVec::new();
        }
        removed
    }

    pub(crate) fn swap(&mut self, a: usize, b: usize) {
        let (a, b) = (a.min(b), a.max(b));
        let more = &mut self.more;
        match (a, b) {
            (0, 0) => (),
            (0, b) => std::mem::swap(&mut self.first, &mut more[b - 1]),
            (a, b) => more.swap(a - 1, b - 1),
        }
    }
}

#[cfg(test)]
mod tests;
