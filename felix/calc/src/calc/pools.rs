//! The pools that count, and what follows from those that cannot be read.
//!
//! A pool that became unreadable while the agent was away must not count as absent: its packets
//! would leave without their tunnel.

use std::collections::BTreeMap;

use super::{Calc, Inputs};
use crate::Problem;
use crate::facts::{Encap, Hidden, Pool, Unread};

impl Inputs {
    /// What cannot be used and has no last good state that is in force, by place.
    fn unread(&self) -> impl Iterator<Item = (&String, &Unread)> {
        self.unread.iter().filter(|(_, unread)| {
            let name = unread.name.as_ref();
            name.is_none_or(|name| !self.pools.contains_key(name))
        })
    }

    /// All pools, with as much as can be read of those that cannot be used.
    pub(super) fn all_pools(&self) -> BTreeMap<String, Pool> {
        let mut pools = self.pools.clone();
        for (place, unread) in self.unread() {
            if let Some(pool) = &unread.pool {
                let name = unread.name.as_ref().unwrap_or(place);
                pools.entry(name.clone()).or_insert_with(|| pool.clone());
            }
        }
        pools
    }

    /// Whether there may be a pool of which not even the range is known.
    pub(super) fn has_hidden_pool(&self) -> bool {
        self.unread().any(|(_, unread)| unread.pool.is_none())
    }

    /// The same, and whether routes of an earlier run are still in charge.
    pub(super) fn hidden_pool(&self, bgp: bool) -> Hidden {
        match self.has_hidden_pool() {
            false => Hidden::No,
            true if bgp && !self.converged => Hidden::Held,
            true => Hidden::Yes,
        }
    }

    /// Whether there may be a pool that cannot be used as it is written.
    pub(super) fn has_unread_pool(&self) -> bool {
        self.unread().next().is_some()
    }
}

impl Calc {
    /// What follows from pools that cannot be used.
    pub(super) fn unread_pools(&self) -> impl Iterator<Item = Problem> {
        self.inputs.unread().map(|(place, unread)| {
            let what = match &unread.pool {
                None => "it may be an IPPool, and nothing of it can be read: addresses on other nodes that lie in no other pool are not sent to, because it is not known whether they need a tunnel".to_owned(),
                Some(Pool { cidr, encap: Encap::Unknown, .. }) => format!(
                    "it cannot be used, and its mode cannot be read: nothing is sent to addresses in {cidr} on other nodes"
                ),
                Some(pool) => format!(
                    "it cannot be used, but range and mode can be read: what is sent to addresses in {} on other nodes follows them",
                    pool.cidr
                ),
            };
            let object = match &unread.name {
                Some(name) => format!("IPPool/{name}"),
                None => place.clone(),
            };
            Problem {
                object,
                field: String::new(),
                problem: what,
                remedy: "mend it, or delete it".to_owned(),
            }
        })
    }
}
