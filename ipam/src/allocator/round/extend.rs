//! What a round does when the blocks of the node are used up: claim more, make room for them, borrow.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use crds::{Cidr, names};
use tokio::sync::OwnedMutexGuard;

use crate::affinity::{fnv32, seed};
use crate::allocator::give_back::{Addresses, Given};
use crate::block::Block;
use crate::error::Error;
use crate::patience::{Question, Remembered};
use crate::range::{Candidates, Ranges};
use crate::request::Family;
use crate::shortfall::Reason;

use super::{MIN_AGE, Round, Source};

/// Whether the node may have more blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    Free,
    Reached,
}

/// What is known of the blocks of the whole cluster.
enum Look {
    NotYet,
    /// Of others, with a free address.
    Done {
        foreign: Vec<Cidr>,
    },
    /// The last one counts: it found nothing, and it is too early for another.
    Remembered,
}

/// What a look found.
struct Found {
    /// Of the node, or of nobody.
    blocks: Vec<Block>,
    /// All there are.
    cidrs: Vec<Cidr>,
}

impl Round<'_> {
    /// Claims blocks until the request is met or none is left, then borrows. The lock of the node is held until all is
    /// known, so that the next request does not look where this one found nothing.
    pub(super) async fn extend(&mut self, _node: OwnedMutexGuard<()>) -> Result<(), Error> {
        let before = self.got.len();
        let mut look = Look::NotYet;
        if self.claim(&mut look).await? == Limit::Free && self.short() {
            self.borrow(&mut look).await?;
        }
        if matches!(look, Look::Done { .. }) {
            self.note_look(self.got.len() > before);
        }
        Ok(())
    }

    /// All blocks; nothing when the last looks were fruitless and it is too early for another.
    async fn look_at_all(&mut self, look: &mut Look) -> Result<Option<Found>, Error> {
        if let Some(remembered) = self.remembered() {
            let Remembered {
                reasons,
                looked,
                again,
            } = remembered;
            for reason in reasons {
                if !self.reasons.contains(&reason) {
                    self.reasons.push(reason);
                }
            }
            self.reasons.push(Reason::Remembered { looked, again });
            *look = Look::Remembered;
            return Ok(None);
        }
        let node = &self.job.request.node;
        let reserved = &self.job.context.reserved;
        let mut foreign = Vec::new();
        let keep = |block: &Block| {
            let is_own = block.owned_by(node);
            if !is_own && block.usage(reserved).free > 0 {
                foreign.push(block.cidr());
            }
            is_own || block.affinity().is_none()
        };
        let listed = self.job.ipam.list_blocks(keep).await?;
        for broken in listed.broken {
            self.note_broken(broken);
        }
        *look = Look::Done { foreign };
        Ok(Some(Found {
            blocks: listed.blocks.into_iter().map(|(_, block)| block).collect(),
            cidrs: listed.cidrs,
        }))
    }

    fn question(&self) -> Question {
        let settings = &self.job.context.settings;
        let pools = self.pools.iter();
        Question {
            node: self.job.request.node.clone(),
            pools: pools
                .map(|pool| (pool.name.clone(), pool.cidr, pool.block_size))
                .collect(),
            reserved: Arc::clone(&self.job.context.reserved),
            settings: (
                settings.strict_affinity,
                settings.claim_blocks,
                settings.max_blocks,
            ),
        }
    }

    fn remembered(&self) -> Option<Remembered> {
        let patience = self.job.ipam.patience.as_ref()?;
        let patience = patience.lock().unwrap_or_else(PoisonError::into_inner);
        patience.remembered(&self.question(), self.job.ipam.now())
    }

    fn note_look(&self, gained: bool) {
        let Some(patience) = &self.job.ipam.patience else {
            return;
        };
        let mut patience = patience.lock().unwrap_or_else(PoisonError::into_inner);
        if gained {
            patience.fruitful(&self.job.request.node);
        } else if self.short() {
            let (question, now) = (self.question(), self.job.ipam.now());
            patience.fruitless(question, now, self.reasons.clone());
        }
    }

    /// Claims blocks until the request is met or none is left.
    async fn claim(&mut self, look: &mut Look) -> Result<Limit, Error> {
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
        let Some(found) = self.look_at_all(look).await? else {
            return Ok(Limit::Free);
        };
        self.claim_forgotten(&mut owned, &found.blocks).await?;
        let limit = self.claim_new(&mut owned, &found.cidrs).await?;
        if limit == Limit::Reached || !self.short() {
            return Ok(limit);
        }
        self.claim_ownerless(&mut owned, &found.blocks).await
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
            Err(Error::BlockClaimed { .. }) => {
                self.lost.push(cidr);
                Ok(())
            }
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
    async fn borrow(&mut self, look: &mut Look) -> Result<(), Error> {
        if self.job.context.settings.strict_affinity {
            self.reasons.push(Reason::StrictAffinity);
            return Ok(());
        }
        if matches!(look, Look::NotYet) {
            self.look_at_all(look).await?;
        }
        let Look::Done { foreign } = look else {
            return Ok(());
        };
        let mut cidrs = std::mem::take(foreign);
        // They are newer than the look.
        cidrs.append(&mut self.lost);
        if !cidrs.is_empty() {
            let start = fnv32(&self.job.request.node) as usize % cidrs.len();
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
