//! What the prefix types of the two families have in common.

use std::hash::Hash;

use bgp_wire::{Family, Nlri, Prefix, Prefix4, Prefix6};

use crate::adj_rib_out::{Pending, PendingOf};
use crate::loc_rib::LocRib;
use crate::table::{Near, PrefixId, PrefixTable};

/// Index into pairs of per-family things: IPv4 first, then IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FamilyIndex {
    V4,
    V6,
}

impl FamilyIndex {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The index of a family this package routes.
    pub(crate) fn of(family: Family) -> Option<Self> {
        match family {
            Family::IPV4_UNICAST => Some(Self::V4),
            Family::IPV6_UNICAST => Some(Self::V6),
            _ => None,
        }
    }

    pub(crate) fn family(self) -> Family {
        match self {
            Self::V4 => Family::IPV4_UNICAST,
            Self::V6 => Family::IPV6_UNICAST,
        }
    }
}

/// A prefix of one family, as the key of its table.
pub(crate) trait Key: Unit<Key = Self> + Near + Into<Prefix> {
    const INDEX: FamilyIndex;

    fn table(tables: &Tables) -> &PrefixTable<Self>;

    fn path_units(paths: Vec<PathOf<Self>>) -> Units;

    fn pending_paths(pending: &mut Pending) -> &mut PendingOf<PathOf<Self>>;
}

/// What is told and withdrawn as one: a prefix, or with ADD-PATH one path of it.
pub(crate) trait Unit: Copy + Eq + Ord + Hash {
    type Key: Key;

    /// One path of several.
    const IS_PATH: bool;

    fn key(self) -> Self::Key;

    /// Our path identifier, none where a prefix has just one path.
    fn path_id(self) -> Option<u16>;

    fn units(units: Vec<Self>) -> Units;

    fn pending(pending: &mut Pending) -> &mut PendingOf<Self>;

    fn nlri(self) -> Nlri {
        Nlri {
            prefix: self.key().into(),
            path_id: self.path_id().map_or(0, u32::from),
        }
    }
}

/// One of the paths of a prefix, by our path identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PathOf<K> {
    pub(crate) key: K,
    pub(crate) id: u16,
}

impl<K: Key> Unit for PathOf<K> {
    type Key = K;

    const IS_PATH: bool = true;

    fn key(self) -> K {
        self.key
    }

    fn path_id(self) -> Option<u16> {
        Some(self.id)
    }

    fn units(units: Vec<Self>) -> Units {
        K::path_units(units)
    }

    fn pending(pending: &mut Pending) -> &mut PendingOf<Self> {
        K::pending_paths(pending)
    }
}

impl Key for Prefix4 {
    const INDEX: FamilyIndex = FamilyIndex::V4;

    fn table(tables: &Tables) -> &PrefixTable<Self> {
        &tables.v4.table
    }

    fn path_units(paths: Vec<PathOf<Self>>) -> Units {
        Units::PathsV4(paths)
    }

    fn pending_paths(pending: &mut Pending) -> &mut PendingOf<PathOf<Self>> {
        &mut pending.paths_v4
    }
}

impl Unit for Prefix4 {
    type Key = Self;

    const IS_PATH: bool = false;

    fn key(self) -> Self {
        self
    }

    fn path_id(self) -> Option<u16> {
        None
    }

    fn units(units: Vec<Self>) -> Units {
        Units::V4(units)
    }

    fn pending(pending: &mut Pending) -> &mut PendingOf<Self> {
        &mut pending.v4
    }
}

impl Key for Prefix6 {
    const INDEX: FamilyIndex = FamilyIndex::V6;

    fn table(tables: &Tables) -> &PrefixTable<Self> {
        &tables.v6.table
    }

    fn path_units(paths: Vec<PathOf<Self>>) -> Units {
        Units::PathsV6(paths)
    }

    fn pending_paths(pending: &mut Pending) -> &mut PendingOf<PathOf<Self>> {
        &mut pending.paths_v6
    }
}

impl Unit for Prefix6 {
    type Key = Self;

    const IS_PATH: bool = false;

    fn key(self) -> Self {
        self
    }

    fn path_id(self) -> Option<u16> {
        None
    }

    fn units(units: Vec<Self>) -> Units {
        Units::V6(units)
    }

    fn pending(pending: &mut Pending) -> &mut PendingOf<Self> {
        &mut pending.v6
    }
}

/// Prefixes of one family, whichever, or paths of them.
#[derive(Debug)]
pub(crate) enum Units {
    V4(Vec<Prefix4>),
    V6(Vec<Prefix6>),
    PathsV4(Vec<PathOf<Prefix4>>),
    PathsV6(Vec<PathOf<Prefix6>>),
}

/// The routes of both families.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) v4: LocRib<Prefix4>,
    pub(crate) v6: LocRib<Prefix6>,
}

impl Tables {
    /// Looks a prefix up ahead of work on it.
    pub(crate) fn touch(&self, prefix: Prefix) -> Option<PrefixId> {
        match prefix {
            Prefix::V4(key) => self.v4.table.touch(key),
            Prefix::V6(key) => self.v6.table.touch(key),
        }
    }
}
