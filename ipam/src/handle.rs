//! One handle: how many addresses it has in which block. Pure.
//!
//! The count of a block is raised before the block is written and lowered after, so at any time it is at least the number
//! of addresses the handle has there, and listing the blocks of a handle finds all its addresses.
//! A count may be lowered only by who read the handle, then wrote the block, and then writes the handle unchanged since:
//! whoever had raised it in between and was about to write the block has lost that race and raises it again.
//! It notices because its write of the block is made of a version that it knew before it raised the count, or of one that
//! such a version became by writes that lower no count of this handle. So counts may be raised while others write the
//! block, but not while nobody knows it.

use crds::{Cidr, IpamHandleSpec};

/// The count a handle has for a block.
pub(crate) fn count(spec: &IpamHandleSpec, block: Cidr) -> u32 {
    spec.block.get(&block).copied().unwrap_or(0)
}

/// Sets the count for a block; a block with none is dropped.
pub(crate) fn set(spec: &mut IpamHandleSpec, block: Cidr, count: u32) {
    if count == 0 {
        spec.block.remove(&block);
    } else {
        spec.block.insert(block, count);
    }
}
