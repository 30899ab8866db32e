//! Blocks as this process last wrote them.
//!
//! Pods that start together wait for each other at their node's block, so each request that the
//! lock is held for counts. What was written last need not be read again: the next write says
//! which version it is made of, and fails when somebody else has written since.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crds::{Cidr, IpamBlock};
use datastore::Typed;

/// Enough for the blocks of a node that pods are being made in.
const MOST: usize = 16;

/// A few blocks, each given out once.
#[derive(Default)]
pub(super) struct Written(Mutex<BTreeMap<Cidr, Typed<IpamBlock>>>);

impl Written {
    /// Keeps what the datastore has answered to a write.
    pub(super) fn keep(&self, object: Typed<IpamBlock>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cidr = object.resource.spec.cidr;
        if all.len() >= MOST && !all.contains_key(&cidr) {
            all.pop_first();
        }
        all.insert(cidr, object);
    }

    /// What was kept, for one attempt.
    pub(super) fn take(&self, cidr: Cidr) -> Option<Typed<IpamBlock>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&cidr)
    }
}
