//! Addresses: pools are cut into blocks, nodes own blocks, handles hold addresses.
//!
//! The objects, their names and the order of writes are Calico's (`IPAMBlock`, `BlockAffinity`, `IPAMHandle`), so both can
//! work on the same cluster. [`Ipam`] reads, decides with the pure modules, writes by compare and swap and tries again;
//! every operation may be cut off between any two writes and is settled by whoever comes next.
//!
//! What always holds:
//! - An address is held by one handle at most, and by none only after a release of that very allocation.
//! - A handle counts at least what it holds, so its addresses are found through it.
//! - A confirmed affinity has its block, and that block names the same node.
//!
//! No kernel and no routes. Which handles are alive on a node its agent says; what is left of nodes that are gone, [`gc`] says.

mod affinity;
mod allocator;
mod block;
mod edit;
mod error;
pub mod gc;
mod handle;
mod patience;
mod pool;
mod range;
mod request;
mod shortfall;

pub use allocator::{Backoff, Clock, Collected, Ipam, Prepared};
pub use block::{BrokenBlock, Refusal};
pub use error::Error;
pub use request::{
    Assign, Assigned, AutoAssign, Family, Held, IntendedUse, LiveHandles, Release, Released,
    Repaired,
};
pub use shortfall::{FamilyShortfall, PassedOver, Reason, Shortfall};
