//! Reads, decides with the pure parts, writes by compare and swap, tries again.
//!
//! Locks of this process spare it conflicts with itself, and the lock of a handle keeps its release apart from who raises
//! it (see [`group`]); all else is decided by the datastore alone, so any number of processes may work on the same objects
//! and die at any point. The rules are told in [`crate::handle`] and
//! [`crate::affinity`].

mod assign;
mod claim;
mod collect;
mod context;
mod give_back;
mod group;
mod locks;
mod objects;
mod pools;
mod release;
mod retry;
mod round;
mod settle;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crds::Cidr;
use datastore::Datastore;

use crate::block::{Allocation, Block};
use crate::error::Error;
use crate::patience::Patience;
use crate::request::Held;
pub use assign::Prepared;
pub use collect::Collected;
use group::Queues;
use locks::Locks;
use objects::Extent;
use written::Written;

/// The wall clock: stamps claims and releases, ends cool-downs.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// How long to wait before the given attempt (1 = the first repetition); zero only yields to other tasks.
pub type Backoff = Arc<dyn Fn(u32) -> Duration + Send + Sync>;

/// The address manager. Cheap to clone; clones share their locks and their memory of blocks.
#[derive(Clone)]
pub struct Ipam {
    store: Arc<dyn Datastore>,
    clock: Clock,
    backoff: Backoff,
    handles: Arc<Locks<String>>,
    /// By node.
    claims: Arc<Locks<String>>,
    blocks: Arc<Locks<Cidr>>,
    /// Who waits for those.
    queues: Arc<Queues>,
    /// Blocks each node had when last seen: where to look first. Never trusted, the block itself says whose it is.
    owned: Arc<Mutex<BTreeMap<String, BTreeSet<Cidr>>>>,
    /// Blocks as they were last written or read here.
    written: Arc<Written>,
    /// Looks at all blocks that found nothing; without it every request looks.
    patience: Option<Arc<Mutex<Patience>>>,
}

impl Ipam {
    /// An address manager over a datastore.
    pub fn new(store: Arc<dyn Datastore>) -> Ipam {
        Ipam {
            store,
            clock: Arc::new(SystemTime::now),
            backoff: Arc::new(retry::jittered),
            handles: Arc::default(),
            claims: Arc::default(),
            blocks: Arc::default(),
            queues: Arc::default(),
            owned: Arc::default(),
            written: Arc::default(),
            patience: None,
        }
    }

    /// Does not list all blocks for every request while the pools are used up: after the second fruitless look in a row
    /// the next ones are ever further apart, up to five minutes, and the shortfall says so.
    #[must_use]
    pub fn with_patience(mut self) -> Ipam {
        self.patience = Some(Arc::default());
        self
    }

    /// Replaces the clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Ipam {
        self.clock = clock;
        self
    }

    /// Replaces the waiting between attempts.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Ipam {
        self.backoff = backoff;
        self
    }

    /// The addresses a handle holds, lowest first; empty when it holds none.
    ///
    /// # Errors
    /// The datastore, or a block that cannot be read.
    pub async fn addresses_of_handle(&self, handle: &str) -> Result<Vec<IpAddr>, Error> {
        let handle = normalise(handle)?;
        let Some(object) = self.handle(&handle).await? else {
            return Ok(Vec::new());
        };
        let mut held = Vec::new();
        for cidr in object.resource.spec.block.keys() {
            if let Some((_, block)) = self.block(*cidr).await? {
                held.extend(block.held_by(&handle));
            }
        }
        held.sort_unstable();
        Ok(held)
    }

    /// Every address held for a node, in its own blocks and borrowed, tunnel addresses included.
    ///
    /// # Errors
    /// The datastore. Blocks that cannot be read are left out and logged.
    pub async fn allocations_of_node(&self, node: &str) -> Result<Vec<Held>, Error> {
        self.allocations(node, Extent::All).await
    }

    /// As [`Ipam::allocations_of_node`], of the blocks that a watch of the datastore is about: those of the node at
    /// least. Asks the datastore for no others, so what is borrowed may be missing.
    ///
    /// # Errors
    /// The datastore. Blocks that cannot be read are left out and logged.
    pub async fn allocations_in_own_blocks(&self, node: &str) -> Result<Vec<Held>, Error> {
        self.allocations(node, Extent::Followed).await
    }

    async fn allocations(&self, node: &str, extent: Extent) -> Result<Vec<Held>, Error> {
        let mut held = Vec::new();
        let is_of_node = |a: &Allocation| objects::node_of(a) == Some(node);
        let keep = |block: &Block| block.allocations().any(|a| is_of_node(&a));
        for (_, block) in self.list_blocks_of(extent, keep).await?.blocks {
            let allocations = block.allocations().filter(is_of_node);
            held.extend(allocations.map(|allocation| objects::held(block.cidr(), allocation)));
        }
        Ok(held)
    }

    fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// What `change` says about the blocks a node had when last seen.
    fn owned_blocks<R>(&self, node: &str, change: impl FnOnce(&mut BTreeSet<Cidr>) -> R) -> R {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        change(owned.entry(node.to_owned()).or_default())
    }
}

/// Handles are compared without case; this is the form we write.
fn normalise(handle: &str) -> Result<String, Error> {
    if handle.is_empty() {
        return Err(Error::Incomplete("handle"));
    }
    Ok(handle.to_lowercase())
}
