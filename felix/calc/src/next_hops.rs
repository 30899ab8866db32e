//! How the host reaches the next hops of BGP paths (RFC 4271 §9.1.2.1).
//!
//! The speaker names the next hops that its paths have, used or not; the answer is what the host's
//! own routes say of each, as for routes that are installed: a path is told on only where packets
//! can follow it. A tunnel does not matter here: it ends at the node that is the next hop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::NextHop;
use crate::host::Resolver;

/// Whether and at which cost the host reaches each next hop in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHops {
    /// Metric of the host's route to it, 0 on a link of a link-local address; `None` when there is
    /// no way.
    pub metrics: BTreeMap<NextHop, Option<u32>>,
}

impl NextHops {
    /// Those that cannot be reached.
    pub(crate) fn unreachable(&self) -> impl Iterator<Item = &NextHop> {
        let metrics = self.metrics.iter();
        metrics.filter_map(|(next_hop, metric)| metric.is_none().then_some(next_hop))
    }
}

/// What the speaker asks for, and what was answered last.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    in_use: BTreeSet<NextHop>,
    /// Asked for since the last answer.
    new: bool,
    said: Arc<NextHops>,
}

impl Asked {
    /// Next hops are in use, or no longer.
    pub(crate) fn update(&mut self, changes: Vec<(NextHop, bool)>) {
        for (next_hop, in_use) in changes {
            self.new |= match in_use {
                true => self.in_use.insert(next_hop),
                false => self.in_use.remove(&next_hop),
            };
        }
    }

    /// The answer, when it is another one than before.
    pub(crate) fn answer(&mut self, moved: bool, resolver: &mut Resolver) -> Option<Arc<NextHops>> {
        if !std::mem::take(&mut self.new) && !moved {
            return None;
        }
        let in_use = self.in_use.iter();
        let metrics = in_use.map(|next_hop| (next_hop.clone(), resolver.metric(next_hop)));
        let answer = NextHops {
            metrics: metrics.collect(),
        };
        if *self.said == answer {
            return None;
        }
        self.said = Arc::new(answer);
        Some(self.said.clone())
    }

    pub(crate) fn said(&self) -> &NextHops {
        &self.said
    }
}
