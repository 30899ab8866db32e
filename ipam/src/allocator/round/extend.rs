//! What a round does when the blocks of the node are used up: claim more, make room for them, borrow.

use std::collections::BTreeSet;

use crds::{Cidr, names};

use crate::affinity::{fnv32, seed};
use crate::allocator::give_back::{Addresses, Given};
use crate::block::Block;
use crate::error::Error;
use crate::range::{Candidates, Ranges};
use crate::request::Family;
use crate::shortfall::Reason;

use super::{MIN_AGE, Round, Source};

/// Whether the node may have more blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Free,
    Reached,
}

impl Round<'_> {
    /// Claims blocks until the request is met or none is left; the lock of the node is held.
    pub(super) async fn claim(&mut self) -> Result<Limit, Error> {
        let mut owned = Box::pin(self.job.ipam.settle_node(&self.job.request.node)).await?;
        self.take_own(&owned).await?;
        if !self.short() {
            return Ok(Limit::Free);
        }
        if !self.job.context.settings.claim_blocks {
            self.reasons.push(Reason::BlocksNotAllocated);
            return Ok(Limit::Free);
        }
        self.give_back_unserved(&mut owned).await?;
        let node = &self.job.request.node;
        let is_to_be_had = |block: &Block| block.owned_by(node) || block.affinity().is_none();
        let listed = self.job.ipam.list_blocks(is_to_be_had).await?;
        for broken in listed.broken {
            self.note_broken(broken);
        }
        let blocks: Vec<Block> = listed.blocks.into_iter().map(|(_, block)| block).collect();
        self.claim_forgotten(&mut owned, &blocks).await?;
        let limit = self.claim_new(&mut owned, &listed.cidrs).await?;
        if limit == Limit::Reached || !self.short() {
            return Ok(limit);
        }
        self.claim_ownerless(&mut owned, &blocks).await
    }

    /// Blocks that name the node as owner while an interrupted claim left it without the affinity.
    async fn claim_forgotten(
        &mut self,
        owned: &mut BTreeSet<Cidr>,
        blocks: &[Block],
    ) -> Result<(), Error> {
        for block in blocks
            .iter()
            .filter(|block| block.owned_by(&self.job.request.node))
        {
            if self.short() && self.in_pools(block.cidr()) && !owned.contains(&block.cidr()) {
                self.claim_one(owned, block.cidr()).await?;
            }
        }
        Ok(())
    }

    async fn claim_new(
        &mut self,
        owned: &mut BTreeSet<Cidr>,
        existing: &[Cidr],
    ) -> Result<Limit, Error> {
        let mut taken: Ranges = existing.iter().copied().collect();
        for pool in self.pools.clone() {
            let seed = seed(
                &self.job.request.node,
                pool.cidr,
                pool.block_size,
                self.job.ipam.now(),
            );
            let mut candidates = Candidates::new(pool.cidr, pool.block_size, seed);
            while self.short() {
                let Some(cidr) = candidates.next(&taken, &self.job.context.reserved) else {
                    break;
                };
                if !self.room(owned).await? {
                    return Ok(Limit::Reached);
                }
                taken.insert(cidr);
                self.claim_one(owned, cidr).await?;
            }
            let other_size = |block: &&Cidr| {
                pool.cidr.contains(&block.net()) && block.prefix_len() != pool.block_size
            };
            if self.short()
                && let Some(existing) = existing.iter().find(other_size)
            {
                let (pool, block_size) = (pool.name.clone(), pool.block_size);
                self.reasons.push(Reason::BlockSize {
                    pool,
                    block_size,
                    existing: *existing,
                });
            }
        }
        if self.short() {
            let pools = self.pools.iter().map(|pool| pool.name.clone()).collect();
            self.reasons.insert(0, Reason::PoolsExhausted(pools));
        }
        Ok(Limit::Free)
    }

    /// Blocks that lost their owner while addresses were in use.
    async fn claim_ownerless(
        &mut self,
        owned: &mut BTreeSet<Cidr>,
        blocks: &[Block],
    ) -> Result<Limit, Error> {
        for block in blocks {
            let usable =
                block.affinity().is_none() && block.usage(&self.job.context.reserved).free > 0;
            if self.short() && usable && self.in_pools(block.cidr()) {
                if !self.room(owned).await? {
                    return Ok(Limit::Reached);
                }
                self.claim_one(owned, block.cidr()).await?;
            }
        }
        Ok(Limit::Free)
    }

    async fn claim_one(&mut self, owned: &mut BTreeSet<Cidr>, cidr: Cidr) -> Result<(), Error> {
        match self.job.ipam.claim(&self.job.request.node, cidr).await {
            Ok(()) => {
                owned.insert(cidr);
                self.take(cidr, Source::Own).await
            }
            Err(Error::BlockClaimed { .. }) => Ok(()),
            Err(Error::BrokenBlock(broken)) => {
                self.note_broken(broken);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the node may have one more block of this family. At the limit an empty block of another pool is given back.
    async fn room(&mut self, owned: &mut BTreeSet<Cidr>) -> Result<bool, Error> {
        let limit = self.job.context.settings.max_blocks;
        let of_family = |owned: &BTreeSet<Cidr>| {
            owned
                .iter()
                .filter(|c| Family::of_cidr(**c) == self.family)
                .count()
        };
        if of_family(owned) < limit as usize {
            return Ok(true);
        }
        let elsewhere: Vec<Cidr> = owned
            .iter()
            .filter(|cidr| !self.in_pools(**cidr))
            .copied()
            .collect();
        self.give_back_empty(owned, &elsewhere).await?;
        if of_family(owned) < limit as usize {
            return Ok(true);
        }
        self.reasons.push(Reason::BlockLimit {
            node: self.job.request.node.clone(),
            limit,
        });
        Ok(false)
    }

    /// Gives back empty blocks of pools that do not serve the node any more.
    async fn give_back_unserved(&mut self, owned: &mut BTreeSet<Cidr>) -> Result<(), Error> {
        let labels = &self.job.context.node_labels;
        let serves = |cidr: &Cidr| {
            let mut pools = self
                .job
                .context
                .pools
                .iter()
                .filter(|pool| pool.serves_node(labels));
            pools.any(|pool| pool.cidr.contains(&cidr.net()))
        };
        let unserved: Vec<Cidr> = owned
            .iter()
            .filter(|cidr| !serves(cidr) && !self.in_pools(**cidr))
            .copied()
            .collect();
        self.give_back_empty(owned, &unserved).await
    }

    /// Gives those back that are of this family, empty and not just claimed.
    async fn give_back_empty(
        &self,
        owned: &mut BTreeSet<Cidr>,
        cidrs: &[Cidr],
    ) -> Result<(), Error> {
        let (node, now) = (&self.job.request.node, self.job.ipam.now());
        for cidr in cidrs
            .iter()
            .filter(|cidr| Family::of_cidr(**cidr) == self.family)
        {
            let Ok(Some((_, mut block))) = self.job.ipam.block(*cidr).await else {
                continue;
            };
            block.thaw(now, self.job.context.settings.cooldown);
            let settled = |claimed_at| {
                now.duration_since(claimed_at)
                    .is_ok_and(|age| age >= MIN_AGE)
            };
            if !block.is_empty() || !block.claimed_at().is_none_or(settled) {
                continue;
            }
            let Some(affinity) = self
                .job
                .ipam
                .live(&names::affinity_name(node, *cidr))
                .await?
            else {
                continue;
            };
            if Box::pin(self.job.ipam.give_back(affinity, Addresses::Keep)).await? == Given::Back {
                owned.remove(cidr);
            }
        }
        Ok(())
    }

    /// Takes single addresses of blocks of others, beginning at a place that depends on the node.
    pub(super) async fn borrow(&mut self) -> Result<(), Error> {
        if self.job.context.settings.strict_affinity {
            self.reasons.push(Reason::StrictAffinity);
            return Ok(());
        }
        let node = &self.job.request.node;
        let foreign = |block: &Block| {
            !block.owned_by(node) && block.usage(&self.job.context.reserved).free > 0
        };
        let blocks = self.job.ipam.list_blocks(foreign).await?.blocks;
        let mut cidrs: Vec<Cidr> = blocks.iter().map(|(_, block)| block.cidr()).collect();
        if !cidrs.is_empty() {
            let start = fnv32(node) as usize % cidrs.len();
            cidrs.rotate_left(start);
        }
        for pool in self.pools.clone() {
            for cidr in cidrs.iter().filter(|cidr| pool.cidr.contains(&cidr.net())) {
                if !self.short() {
                    return Ok(());
                }
                self.take(*cidr, Source::Any).await?;
            }
        }
        Ok(())
    }
}
