//! One family of one request: the node's blocks, then new ones, then other nodes'.

mod extend;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crds::ipam_block::AllocationAttribute;
use crds::{Cidr, names};
use tokio::sync::OwnedMutexGuard;

use crate::block::{Block, BrokenBlock, Usage};
use crate::edit::Edit;
use crate::error::Error;
use crate::pool::{self, Pool, Query};
use crate::request::{AutoAssign, Family};
use crate::shortfall::{FamilyShortfall, PassedOver, Reason};

use super::Ipam;
use super::context::Context;
use super::retry::Retry;

/// An empty block of a node is taken back for its pool's sake only when the node has had it for a while.
const MIN_AGE: Duration = Duration::from_secs(60);

/// Which blocks addresses may be taken of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Own,
    Any,
}

/// What both families of a request share.
pub(super) struct Job<'a> {
    pub(super) ipam: &'a Ipam,
    pub(super) request: &'a AutoAssign,
    /// The handle.
    pub(super) id: &'a str,
    /// What is kept with each address.
    pub(super) attribute: &'a Arc<AllocationAttribute>,
    pub(super) context: &'a Context,
}

pub(super) struct Round<'a> {
    job: &'a Job<'a>,
    family: Family,
    wanted: usize,
    got: Vec<IpAddr>,
    pools: Vec<&'a Pool>,
    /// What the blocks that were looked at have left.
    usage: BTreeMap<Cidr, Usage>,
    reasons: Vec<Reason>,
    /// A count of the handle may be too high.
    collided: bool,
    /// The handle had no object of late.
    is_first: bool,
    /// Blocks that others claimed meanwhile.
    lost: Vec<Cidr>,
}

impl<'a> Round<'a> {
    pub(super) fn new(
        job: &'a Job<'a>,
        family: Family,
        got: Vec<IpAddr>,
        is_first: bool,
    ) -> Round<'a> {
        let wanted = match family {
            Family::V4 => job.request.v4,
            Family::V6 => job.request.v6,
        };
        Round {
            job,
            family,
            wanted: wanted as usize,
            got,
            pools: Vec::new(),
            usage: BTreeMap::new(),
            reasons: Vec::new(),
            collided: false,
            is_first,
            lost: Vec::new(),
        }
    }

    pub(super) async fn run(&mut self) -> Result<(), Error> {
        if !self.short() || !self.select_pools()? {
            return Ok(());
        }
        if let Some(node) = self.take_known().await? {
            Box::pin(self.extend(node)).await?;
        }
        if self.collided {
            self.job.ipam.settle_handle(self.job.id).await?;
        }
        Ok(())
    }

    /// The addresses, and why they are too few.
    pub(super) fn finish(mut self) -> (Vec<IpAddr>, Option<FamilyShortfall>) {
        if !self.short() {
            return (self.got, None);
        }
        let reserved = self.usage.values().map(|usage| usage.reserved).sum();
        let cooling = self.usage.values().map(|usage| usage.cooling).sum();
        if reserved > 0 {
            self.reasons.push(Reason::Reserved(reserved));
        }
        if cooling > 0 {
            let cooldown_secs = self.job.context.settings.cooldown.as_secs();
            self.reasons.push(Reason::Cooling {
                count: cooling,
                cooldown_secs,
            });
        }
        let shortfall = FamilyShortfall {
            family: self.family,
            wanted: self.wanted as u32,
            got: self.got.len() as u32,
            reasons: self.reasons,
        };
        (self.got, Some(shortfall))
    }

    fn note_broken(&mut self, broken: BrokenBlock) {
        let reason = Reason::Broken(broken);
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    fn missing(&self) -> usize {
        self.wanted.saturating_sub(self.got.len())
    }

    fn short(&self) -> bool {
        self.missing() > 0
    }

    /// `false` = there is none.
    fn select_pools(&mut self) -> Result<bool, Error> {
        let requested = match self.family {
            Family::V4 => &self.job.request.pools_v4,
            Family::V6 => &self.job.request.pools_v6,
        };
        let selection = pool::select(
            &self.job.context.pools,
            &Query {
                family: self.family,
                requested,
                intended_use: self.job.request.intended_use,
                node_labels: &self.job.context.node_labels,
                namespace_labels: &self.job.request.namespace_labels,
            },
        )?;
        self.pools = selection.pools;
        if self.pools.is_empty() {
            let passed_over = selection
                .passed_over
                .into_iter()
                .map(|(pool, why)| (pool.name.clone(), why));
            let unreadable = self.job.context.unreadable.iter();
            let unreadable = unreadable
                .map(|(pool, problem)| (pool.clone(), PassedOver::Broken(problem.clone())));
            let passed_over: Vec<_> = passed_over.chain(unreadable).collect();
            self.reasons.push(match passed_over.is_empty() {
                true => Reason::NoPool(self.family),
                false => Reason::NoPoolFits {
                    node: self.job.request.node.clone(),
                    passed_over,
                },
            });
        }
        Ok(!self.pools.is_empty())
    }

    fn in_pools(&self, cidr: Cidr) -> bool {
        self.pools
            .iter()
            .any(|pool| pool.cidr.contains(&cidr.net()))
    }

    /// Takes of the blocks the node is known to have. When that is not enough, returns the lock of the node for claiming
    /// more; one request of a node at a time claims, so that the next finds the block of the first instead of claiming
    /// its own.
    async fn take_known(&mut self) -> Result<Option<OwnedMutexGuard<()>>, Error> {
        let (ipam, node) = (self.job.ipam, &self.job.request.node);
        let mut tried = BTreeSet::new();
        loop {
            let known = ipam.owned_blocks(node, |owned| &*owned - &tried);
            self.take_own(&known).await?;
            if !self.short() {
                return Ok(None);
            }
            tried.extend(known);
            let lock = ipam.claims.lock(node).await;
            // A block that was claimed while this one waited is for all who waited, at the same time.
            if ipam.owned_blocks(node, |owned| owned.is_subset(&tried)) {
                return Ok(Some(lock));
            }
        }
    }

    async fn take_own(&mut self, owned: &BTreeSet<Cidr>) -> Result<(), Error> {
        for cidr in owned {
            if self.short() && self.in_pools(*cidr) {
                self.take(*cidr, Source::Own).await?;
            }
        }
        Ok(())
    }

    /// Takes what is missing, as far as the block has it.
    async fn take(&mut self, cidr: Cidr, source: Source) -> Result<(), Error> {
        let ipam = self.job.ipam;
        let mut retry = Retry::default();
        let mut is_raised = false;
        while let Some((era, by)) = self.look(cidr, source).await? {
            let handle = match std::mem::take(&mut self.is_first) {
                true => ipam.raise_first(self.job.id, cidr, by as u32).await?,
                false => ipam.raise(self.job.id, cidr, by as u32).await?,
            };
            let edit = Edit::Take {
                handle: self.job.id.to_owned(),
                want: by,
                known: self.got.clone(),
                attribute: Arc::clone(self.job.attribute),
                reserved: Arc::clone(&self.job.context.reserved),
                cooldown: self.job.context.settings.cooldown,
            };
            if let Some(mut done) = ipam.commit(cidr, Some(era), edit).await? {
                self.got.append(&mut done.addrs);
                // Lowers what earlier attempts counted too. Of no consequence when it fails: a count too high is settled later.
                self.collided |= !ipam
                    .correct(handle, &BTreeMap::from([(cidr, done.held)]))
                    .await
                    .unwrap_or(false);
                return Ok(());
            }
            is_raised = true;
            retry
                .pause(ipam, || format!("IPAMBlock {}", names::block_name(cidr)))
                .await?;
        }
        self.collided |= is_raised;
        Ok(())
    }

    /// The era of a block and how much of what is missing it has. What is known is enough when it has all; that it has
    /// not, or is another's, is only believed when read.
    async fn look(&mut self, cidr: Cidr, source: Source) -> Result<Option<(u64, usize)>, Error> {
        let ipam = self.job.ipam;
        if let Some(era) = self.known_to_have_all(cidr, source) {
            return Ok(Some((era, self.missing())));
        }
        let _block = ipam.blocks.lock(&cidr).await;
        // Whoever had the lock may have read or written it.
        if let Some(era) = self.known_to_have_all(cidr, source) {
            return Ok(Some((era, self.missing())));
        }
        match ipam.block(cidr).await {
            Ok(Some((object, block))) => {
                let by = self.free_of(&block, source).min(self.missing());
                let era = (by > 0).then(|| ipam.written.keep(object, block, None).era);
                Ok(era.map(|era| (era, by)))
            }
            Ok(None) => Ok(None),
            Err(Error::BrokenBlock(broken)) => {
                self.note_broken(broken);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn known_to_have_all(&mut self, cidr: Cidr, source: Source) -> Option<u64> {
        let known = self.job.ipam.written.get(cidr)?;
        (self.free_of(&known.block, source) >= self.missing()).then_some(known.era)
    }

    /// How many addresses the request may have of a block.
    fn free_of(&mut self, block: &Block, source: Source) -> usize {
        if source == Source::Own && !block.owned_by(&self.job.request.node) {
            return 0;
        }
        let mut block = block.clone();
        block.thaw(self.job.ipam.now(), self.job.context.settings.cooldown);
        let usage = block.usage(&self.job.context.reserved);
        self.usage.insert(block.cidr(), usage);
        usage.free as usize
    }
}
