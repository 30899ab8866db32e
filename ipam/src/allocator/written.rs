//! Blocks as this process last wrote or read them.
//!
//! What is known need not be read again: the next write says which version it is made of, and fails when somebody else has
//! written since. An era is a time in which only [`super::group`] wrote the block, each write made of the one before.
//! Whoever raised a count in an era may write the block in that era without having read it (see [`crate::handle`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crds::{Cidr, IpamBlock};
use datastore::Typed;

use crate::block::Block;

/// Enough for the blocks of a node that pods are being made in.
const MOST: usize = 16;

/// A block that may have changed since: to be written, not to be believed.
pub(super) struct Known {
    pub(super) era: u64,
    pub(super) object: Typed<IpamBlock>,
    pub(super) block: Block,
}

/// A few blocks.
#[derive(Default)]
pub(super) struct Written(Mutex<Eras>);

#[derive(Default)]
struct Eras {
    last: u64,
    blocks: BTreeMap<Cidr, Arc<Known>>,
}

impl Written {
    /// What is known of a block.
    pub(super) fn get(&self, cidr: Cidr) -> Option<Arc<Known>> {
        self.change(|eras| eras.blocks.get(&cidr).cloned())
    }

    /// Keeps what the datastore has answered to a read or write. With an `era` it was a write of that era; otherwise a new
    /// one begins, unless nothing has changed.
    pub(super) fn keep(
        &self,
        object: Typed<IpamBlock>,
        block: Block,
        era: Option<u64>,
    ) -> Arc<Known> {
        let cidr = block.cidr();
        self.change(|eras| {
            if let Some(known) = eras.blocks.get(&cidr)
                && known.object.resource_version() == object.resource_version()
            {
                return Arc::clone(known);
            }
            let era = era.unwrap_or(eras.last + 1);
            eras.last = eras.last.max(era);
            if eras.blocks.len() >= MOST && !eras.blocks.contains_key(&cidr) {
                eras.blocks.pop_first();
            }
            let known = Arc::new(Known { era, object, block });
            eras.blocks.insert(cidr, Arc::clone(&known));
            known
        })
    }

    /// Ends the era of a block.
    pub(super) fn forget(&self, cidr: Cidr) {
        self.change(|eras| eras.blocks.remove(&cidr));
    }

    fn change<R>(&self, change: impl FnOnce(&mut Eras) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
