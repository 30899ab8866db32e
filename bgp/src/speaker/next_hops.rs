//! Next hops: which ones paths have, and what the outside says of the way to each.
//!
//! What is said comes as a whole, so nothing must be remembered of next hops that are gone, and a
//! RIB that starts anew is told the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bgp_rib::{Hop, Reachability};

use crate::event::NextHop;
use crate::speaker::Owner;

/// Next hops per event.
const BATCH: usize = 1024;

/// What is counted for a next hop of which nothing is said.
const UNKNOWN: Reachability = Reachability::Reachable { metric: 0 };

/// What was said to the outside, and by it.
#[derive(Debug, Default)]
pub(super) struct NextHops {
    /// Told to be in use.
    told: BTreeSet<Hop>,
    /// To be told: in use or not.
    changed: BTreeMap<Hop, bool>,
    said: Arc<BTreeMap<NextHop, Reachability>>,
}

impl Owner {
    /// Takes what is known about the way to next hops, as a whole.
    pub(super) fn set_next_hops(&mut self, said: Arc<BTreeMap<NextHop, Reachability>>) {
        let before = std::mem::replace(&mut self.next_hops.said, said.clone());
        let silent = before.keys().filter(|hop| !said.contains_key(*hop));
        for next_hop in silent {
            self.reach(next_hop, UNKNOWN);
        }
        for (next_hop, reachability) in said.iter() {
            if before.get(next_hop) != Some(reachability) {
                self.reach(next_hop, *reachability);
            }
        }
        self.news.routes();
    }

    fn reach(&mut self, next_hop: &NextHop, reachability: Reachability) {
        let link = next_hop.interface.as_ref().map(|interface| {
            let known = self.links.iter().position(|known| known == interface);
            known.and_then(|number| u32::try_from(number).ok())
        });
        let hop = Hop {
            address: next_hop.address,
            link: match link {
                // No session was ever on that link.
                Some(None) => return,
                Some(number) => number,
                None => None,
            },
        };
        self.rib.set_next_hop(hop, reachability);
    }

    /// A RIB begins: it knows nothing of next hops, and what was told holds for the one before.
    pub(super) fn begin_next_hops(&mut self) {
        let next_hops = &mut self.next_hops;
        next_hops.changed = next_hops.told.iter().map(|hop| (*hop, false)).collect();
        let said = self.next_hops.said.clone();
        for (next_hop, reachability) in said.iter() {
            self.reach(next_hop, *reachability);
        }
    }

    /// The next changes to tell.
    pub(super) fn next_hop_changes(&mut self) -> Vec<(NextHop, bool)> {
        let NextHops { told, changed, .. } = &mut self.next_hops;
        changed.extend(self.rib.next_hop_changes());
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some((hop, in_use)) = changed.pop_first()
        {
            let news = if in_use {
                told.insert(hop)
            } else {
                told.remove(&hop)
            };
            if news {
                batch.push((hop, in_use));
            }
        }
        let named = batch.into_iter();
        let named = named.map(|(hop, in_use)| (self.next_hop(hop), in_use));
        named.collect()
    }
}
