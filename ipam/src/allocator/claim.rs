//! Blocks of nodes: claiming, finishing what was interrupted, giving back. The order of writes is told in [`crate::affinity`].

use std::net::IpAddr;

use crds::block_affinity::AffinityState;
use crds::{BlockAffinity, BlockAffinitySpec, Cidr, IpamBlock, names};
use datastore::Typed;

use crate::affinity::{Existing, judge};
use crate::block::Block;
use crate::error::Error;
use crate::pool;
use crate::range::{self, Ranges};
use crate::request::{Family, Release};

use super::Ipam;
use super::objects::{lost, named};
use super::retry::Retry;

/// What giving back does with a block that has addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Addresses {
    /// The node keeps the block.
    Keep,
    /// The block stays without an owner.
    Leave,
}

/// How far a claim got with the block.
enum Taken {
    Yes,
    /// It changed meanwhile.
    Again,
    /// It is another's.
    Lost(String),
}

impl Ipam {
    /// Claims a block for a node, whatever its limit of blocks. Does nothing when the node owns it already.
    ///
    /// # Errors
    /// [`Error::BlockClaimed`] when another owns it, [`Error::NotABlock`] when no enabled pool has such a block.
    pub async fn claim_block(&self, node: &str, cidr: Cidr) -> Result<(), Error> {
        let (pools, _) = self.pools().await?;
        let pool = pool::containing(&pools, cidr).filter(|pool| pool.usable());
        if pool.is_none_or(|pool| pool.block_size != cidr.prefix_len()) {
            let (pool, block_size) = pool.map_or((String::new(), 0), |pool| {
                (pool.name.clone(), pool.block_size)
            });
            return Err(Error::NotABlock {
                block: cidr,
                pool,
                block_size,
            });
        }
        self.refuse_overlap(cidr).await?;
        self.claim(node, cidr).await
    }

    /// Blocks of one size may overlap those of another, and an address must never be in two.
    pub(super) async fn refuse_overlap(&self, cidr: Cidr) -> Result<(), Error> {
        let blocks = self.list_blocks().await?.blocks;
        match blocks
            .iter()
            .map(|(_, block)| block.cidr())
            .find(|other| *other != cidr && other.overlaps(&cidr))
        {
            Some(existing) => Err(Error::Overlap {
                block: cidr,
                existing,
            }),
            None => Ok(()),
        }
    }

    /// Claims a block that overlaps no other.
    pub(super) async fn claim(&self, node: &str, cidr: Cidr) -> Result<(), Error> {
        let mut retry = Retry::default();
        loop {
            if let Some(affinity) = self.pending_affinity(node, cidr).await? {
                if affinity.resource.spec.state == AffinityState::Confirmed {
                    break;
                }
                match self.take_block(node, cidr).await? {
                    Taken::Yes => {
                        if self
                            .set_state(affinity, AffinityState::Confirmed)
                            .await?
                            .is_some()
                        {
                            break;
                        }
                    }
                    Taken::Again => {}
                    Taken::Lost(owner) => {
                        self.remove(affinity).await?;
                        self.owned_blocks(node, |owned| owned.remove(&cidr));
                        return Err(Error::BlockClaimed { block: cidr, owner });
                    }
                }
            }
            retry
                .pause(self, || {
                    format!("BlockAffinity {}", names::affinity_name(node, cidr))
                })
                .await?;
        }
        self.owned_blocks(node, |owned| owned.insert(cidr));
        Ok(())
    }

    /// The affinity in state pending, or confirmed if its block agrees. `None` = it changed meanwhile.
    async fn pending_affinity(
        &self,
        node: &str,
        cidr: Cidr,
    ) -> Result<Option<Typed<BlockAffinity>>, Error> {
        let name = names::affinity_name(node, cidr);
        let Some(affinity) = self.live::<BlockAffinity>(&name).await? else {
            let spec = BlockAffinitySpec::new(cidr, node, AffinityState::Pending);
            let object = BlockAffinity {
                metadata: named(name),
                spec,
            };
            return lost(datastore::create_typed(self.store.as_ref(), &object).await);
        };
        match affinity.resource.spec.state {
            AffinityState::Pending => Ok(Some(affinity)),
            AffinityState::Confirmed
                if self
                    .block(cidr)
                    .await?
                    .is_some_and(|(_, block)| block.owned_by(node)) =>
            {
                Ok(Some(affinity))
            }
            AffinityState::Confirmed | AffinityState::PendingDeletion => {
                self.set_state(affinity, AffinityState::Pending).await
            }
        }
    }

    /// Creates the block or writes the one that is there, so that a release that looked at it earlier notices.
    async fn take_block(&self, node: &str, cidr: Cidr) -> Result<Taken, Error> {
        let _block = self.blocks.lock(&cidr).await;
        let written = match self.block(cidr).await? {
            None => {
                let spec = Block::new(cidr, node, self.now()).to_spec();
                let object = IpamBlock {
                    metadata: named(names::block_name(cidr)),
                    spec,
                };
                lost(datastore::create_typed(self.store.as_ref(), &object).await)?
            }
            Some((object, mut block)) => {
                match judge(&block, node) {
                    Existing::Lost => {
                        return Ok(Taken::Lost(block.affinity().unwrap_or_default().to_owned()));
                    }
                    Existing::Ownerless => block.claim(node, self.now()),
                    Existing::Ours => {}
                }
                self.write_block(object, &block).await?
            }
        };
        Ok(if written.is_some() {
            Taken::Yes
        } else {
            Taken::Again
        })
    }

    async fn set_state(
        &self,
        mut affinity: Typed<BlockAffinity>,
        state: AffinityState,
    ) -> Result<Option<Typed<BlockAffinity>>, Error> {
        affinity.resource.spec.state = state;
        lost(datastore::update_typed(self.store.as_ref(), &affinity).await)
    }

    /// Finishes an interrupted claim or release. Returns whether the node owns the block now.
    pub(super) async fn settle_affinity(
        &self,
        affinity: Typed<BlockAffinity>,
    ) -> Result<bool, Error> {
        let spec = affinity.resource.spec.clone();
        match spec.state {
            AffinityState::Confirmed | AffinityState::Pending => {
                let block = self.block(spec.cidr).await?;
                if !block.is_some_and(|(_, block)| block.owned_by(&spec.node)) {
                    self.remove(affinity).await?;
                    return Ok(false);
                }
                self.claim(&spec.node, spec.cidr).await.map(|()| true)
            }
            AffinityState::PendingDeletion => {
                self.finish_release(affinity, Addresses::Leave).await?;
                Ok(false)
            }
        }
    }

    /// Gives a block back: it is deleted when empty; otherwise `addresses` says what happens. `false` = the node keeps it.
    pub(super) async fn give_back(
        &self,
        affinity: Typed<BlockAffinity>,
        addresses: Addresses,
    ) -> Result<bool, Error> {
        let (node, cidr) = (
            affinity.resource.spec.node.clone(),
            affinity.resource.spec.cidr,
        );
        let marked = match affinity.resource.spec.state {
            AffinityState::PendingDeletion => Some(affinity),
            AffinityState::Pending | AffinityState::Confirmed => {
                self.set_state(affinity, AffinityState::PendingDeletion)
                    .await?
            }
        };
        self.owned_blocks(&node, |owned| owned.remove(&cidr));
        match marked {
            Some(marked) => self.finish_release(marked, addresses).await,
            None => Ok(false),
        }
    }

    async fn finish_release(
        &self,
        marked: Typed<BlockAffinity>,
        addresses: Addresses,
    ) -> Result<bool, Error> {
        let (node, cidr) = (marked.resource.spec.node.clone(), marked.resource.spec.cidr);
        let cooldown = self.settings().await?.cooldown;
        let mut retry = Retry::default();
        while let Some((object, mut block)) = self.block(cidr).await? {
            if !block.owned_by(&node) {
                break;
            }
            if !self.is_current(&marked).await? {
                return Ok(false);
            }
            block.thaw(self.now(), cooldown);
            if addresses == Addresses::Keep && !block.is_empty() {
                self.claim(&node, cidr).await?;
                return Ok(false);
            }
            block.disown();
            if self.write_or_delete_block(object, &block).await? {
                break;
            }
            retry.pause(self, || format!("IPAMBlock {cidr}")).await?;
        }
        self.remove(marked).await
    }

    /// Whether nobody changed the affinity since it was read.
    async fn is_current(&self, affinity: &Typed<BlockAffinity>) -> Result<bool, Error> {
        let current = self.live::<BlockAffinity>(&affinity.key().name).await?;
        Ok(
            current
                .is_some_and(|current| current.resource_version() == affinity.resource_version()),
        )
    }

    /// Takes a block away from a node. An empty one is deleted; otherwise it stays, without owner, until its addresses are
    /// freed. Does nothing when the node has no affinity for it.
    ///
    /// # Errors
    /// The datastore, or a block that cannot be read.
    pub async fn release_affinity(&self, node: &str, cidr: Cidr) -> Result<(), Error> {
        if let Some(affinity) = self
            .live::<BlockAffinity>(&names::affinity_name(node, cidr))
            .await?
        {
            self.give_back(affinity, Addresses::Leave).await?;
        }
        Ok(())
    }

    /// Takes an empty block away from a node.
    ///
    /// # Errors
    /// [`Error::BlockNotEmpty`]; the node keeps the block then.
    pub async fn release_empty_affinity(&self, node: &str, cidr: Cidr) -> Result<(), Error> {
        let Some(affinity) = self
            .live::<BlockAffinity>(&names::affinity_name(node, cidr))
            .await?
        else {
            return Ok(());
        };
        if let Some((_, block)) = self.block(cidr).await?
            && block.owned_by(node)
            && (!self.is_empty(&block).await? || !self.give_back(affinity, Addresses::Keep).await?)
        {
            let usage = block.usage(&Ranges::default());
            return Err(Error::BlockNotEmpty {
                block: cidr,
                held: usage.held + usage.cooling,
            });
        }
        Ok(())
    }

    async fn is_empty(&self, block: &Block) -> Result<bool, Error> {
        let mut block = block.clone();
        block.thaw(self.now(), self.settings().await?.cooldown);
        Ok(block.is_empty())
    }

    /// Gives back the empty blocks of a node, but leaves it at least `keep` blocks of each family. Returns what was given
    /// back.
    ///
    /// # Errors
    /// The datastore, or a block that cannot be read.
    pub async fn release_empty_blocks(&self, node: &str, keep: usize) -> Result<Vec<Cidr>, Error> {
        let mut released = Vec::new();
        let affinities = self.list_affinities(Some(node)).await?;
        for family in [Family::V4, Family::V6] {
            let of_family = |affinity: &&Typed<BlockAffinity>| {
                Family::of_cidr(affinity.resource.spec.cidr) == family
            };
            let mut left = affinities.iter().filter(of_family).count();
            for affinity in affinities.iter().filter(of_family) {
                if left <= keep {
                    break;
                }
                let cidr = affinity.resource.spec.cidr;
                let Some((_, block)) = self.block(cidr).await? else {
                    continue;
                };
                if self.is_empty(&block).await?
                    && self.give_back(affinity.clone(), Addresses::Keep).await?
                {
                    released.push(cidr);
                    left -= 1;
                }
            }
        }
        Ok(released)
    }

    /// Frees everything a node has: its addresses, tunnel addresses included, and its blocks. For nodes that are gone.
    ///
    /// # Errors
    /// The datastore; call again.
    pub async fn release_node(&self, node: &str) -> Result<Vec<IpAddr>, Error> {
        let held = self.allocations_of_node(node).await?;
        let guarded: Vec<Release> = held.into_iter().map(Release::from).collect();
        let released = self.release(&guarded).await?.released;
        for (_, block) in self.list_blocks().await?.blocks {
            if block.owned_by(node) {
                // With its affinity, should an interrupted claim have lost it, there is an order to give it back in.
                self.claim(node, block.cidr()).await?;
            }
        }
        for affinity in self.list_affinities(Some(node)).await? {
            self.give_back(affinity, Addresses::Leave).await?;
        }
        Ok(released)
    }

    /// The block an address is in: one that exists, whatever its size, else the one its pool would have.
    pub(super) async fn locate(
        &self,
        addr: IpAddr,
        pools: &[pool::Pool],
    ) -> Result<Option<Cidr>, Error> {
        let expected = pool::containing(pools, Cidr::host(addr))
            .and_then(|pool| range::block_of(addr, pool.block_size));
        if let Some(cidr) = expected
            && self
                .live::<IpamBlock>(&names::block_name(cidr))
                .await?
                .is_some()
        {
            return Ok(expected);
        }
        let blocks = self.list_blocks().await?.blocks;
        let existing = blocks
            .iter()
            .map(|(_, block)| block.cidr())
            .find(|cidr| cidr.contains(&addr));
        Ok(existing.or(expected))
    }
}
