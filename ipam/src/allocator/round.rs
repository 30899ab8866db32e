//! One family of one request: the node's blocks, then new ones, then other nodes'.

mod extend;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crds::ipam_block::AllocationAttribute;
use crds::{Cidr, names};

use crate::block::{BrokenBlock, Usage};
use crate::error::Error;
use crate::pool::{self, Pool, Query};
use crate::request::{AutoAssign, Family};
use crate::shortfall::{FamilyShortfall, PassedOver, Reason};

use super::Ipam;
use super::context::Context;
use super::retry::Retry;
use extend::Limit;

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
        }
    }

    pub(super) async fn run(&mut self) -> Result<(), Error> {
        if !self.short() || !self.select_pools()? {
            return Ok(());
        }
        let known = self
            .job
            .ipam
            .owned_blocks(&self.job.request.node, |owned| owned.clone());
        self.take_own(&known).await?;
        if self.short() && Box::pin(self.claim()).await? == Limit::Free && self.short() {
            self.borrow().await?;
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

    fn short(&self) -> bool {
        self.got.len() < self.wanted
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
        let _block = ipam.blocks.lock(&cidr).await;
        let mut retry = Retry::default();
        let mut written = match source {
            Source::Own => ipam.written_block(cidr),
            Source::Any => None,
        };
        loop {
            let is_guess = written.is_some();
            let (object, mut block) = match written.take() {
                Some(found) => found,
                None => match ipam.block(cidr).await {
                    Ok(Some(found)) => found,
                    Ok(None) => return Ok(()),
                    Err(Error::BrokenBlock(broken)) => {
                        self.note_broken(broken);
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                },
            };
            if source == Source::Own && !block.owned_by(&self.job.request.node) {
                if is_guess {
                    continue;
                }
                return Ok(());
            }
            block.thaw(ipam.now(), self.job.context.settings.cooldown);
            let missing = self.wanted - self.got.len();
            let addrs = block.take(missing, self.job.attribute, &self.job.context.reserved);
            if is_guess && addrs.len() < missing {
                continue;
            }
            self.usage
                .insert(cidr, block.usage(&self.job.context.reserved));
            if addrs.is_empty() {
                return Ok(());
            }
            let by = addrs.len() as u32;
            let handle = match std::mem::take(&mut self.is_first) {
                true => ipam.raise_first(self.job.id, cidr, by).await?,
                false => ipam.raise(self.job.id, cidr, by).await?,
            };
            if ipam.write_block(object, &block).await? {
                self.got.extend(addrs);
                let held = block.held_by(self.job.id).len() as u32;
                // Of no consequence when it fails: a count too high is settled later.
                self.collided |= !ipam
                    .correct(handle, &BTreeMap::from([(cidr, held)]))
                    .await
                    .unwrap_or(false);
                return Ok(());
            }
            self.collided = true;
            if is_guess {
                continue;
            }
            retry
                .pause(ipam, || format!("IPAMBlock {}", names::block_name(cidr)))
                .await?;
        }
    }
}
