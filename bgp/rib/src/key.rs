//! What the prefix types of the two families have in common.

use std::hash::Hash;

use bgp_wire::{Family, Prefix, Prefix4, Prefix6};

use crate::adj_rib_out::{Pending, PendingOf};
use crate::loc_rib::LocRib;
use crate::table::PrefixTable;

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
pub(crate) trait Key: Copy + Eq + Ord + Hash + Into<Prefix> {
    const INDEX: FamilyIndex;

    fn prefixes(keys: Vec<Self>) -> Prefixes;

    fn table(tables: &Tables) -> &PrefixTable<Self>;

    fn pending(pending: &mut Pending) -> &mut PendingOf<Self>;
}

impl Key for Prefix4 {
    const INDEX: FamilyIndex = FamilyIndex::V4;

    fn prefixes(keys: Vec<Self>) -> Prefixes {
        Prefixes::V4(keys)
    }

    fn table(tables: &Tables) -> &PrefixTable<Self> {
        &tables.v4.table
    }

    fn pending(pending: &mut Pending) -> &mut PendingOf<Self> {
        &mut pending.v4
    }
}

impl Key for Prefix6 {
    const INDEX: FamilyIndex = FamilyIndex::V6;

    fn prefixes(keys: Vec<Self>) -> Prefixes {
        Prefixes::V6(keys)
    }

    fn table(tables: &Tables) -> &PrefixTable<Self> {
        &tables.v6.table
    }

    fn pending(pending: &mut Pending) -> &mut PendingOf<Self> {
        &mut pending.v6
    }
}

/// Prefixes of one family, whichever.
#[derive(Debug)]
pub(crate) enum Prefixes {
    V4(Vec<Prefix4>),
    V6(Vec<Prefix6>),
}

/// The routes of both families.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) v4: LocRib<Prefix4>,
    pub(crate) v6: LocRib<Prefix6>,
}
