//! Nodes give blocks back. The order of writes is told in [`crate::affinity`].

use std::net::IpAddr;

use crds::block_affinity::AffinityState;
use crds::{BlockAffinity, Cidr, names};
use datastore::Typed;

use crate::block::Block;
use crate::error::Error;
use crate::range::Ranges;
use crate::request::{Family, Release};

use super::Ipam;
use super::retry::Retry;

/// What giving back does with a block that has addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Addresses {
    /// The node keeps the block.
    Keep,
    /// The block stays without an owner.
    Leave,
}

/// How giving back ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// The node does not have the block any more.
    Back,
    /// The block has addresses, so the node keeps it.
    Kept,
    /// Somebody else claims or releases it.
    Changed,
}

impl Ipam {
    /// Gives a block back: it is deleted when empty; otherwise `addresses` says what happens.
    pub(super) async fn give_back(
        &self,
        affinity: Typed<BlockAffinity>,
        addresses: Addresses,
    ) -> Result<Given, Error> {
        let (node, cidr) = (
            affinity.resource.spec.node.clone(),
            affinity.resource.spec.cidr,
        );
        let marked = match affinity.resource.spec.state {
            AffinityState::PendingDeletion => affinity,
            AffinityState::Pending | AffinityState::Confirmed => {
                match self
                    .set_state(affinity, AffinityState::PendingDeletion)
                    .await?
                {
                    Some(marked) => marked,
                    None => return Ok(Given::Changed),
                }
            }
        };
        self.owned_blocks(&node, |owned| owned.remove(&cidr));
        let cooldown = self.settings().await?.cooldown;
        let mut retry = Retry::default();
        while let Some((object, mut block)) = self.block(cidr).await? {
            if !block.owned_by(&node) {
                break;
            }
            // Looked at after the block was read: a claim that is not seen here has yet to write the block.
            if !self.is_current(&marked).await? {
                return Ok(Given::Changed);
            }
            block.thaw(self.now(), cooldown);
            if addresses == Addresses::Keep && !block.is_empty() {
                let kept = self.claim_or_lose(&node, cidr).await?;
                return Ok(if kept { Given::Kept } else { Given::Back });
            }
            block.disown();
            if self.write_or_delete_block(object, &block, None).await? {
                break;
            }
            retry.pause(self, || format!("IPAMBlock {cidr}")).await?;
        }
        Ok(if self.remove(marked).await? {
            Given::Back
        } else {
            Given::Changed
        })
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
        let name = names::affinity_name(node, cidr);
        let mut retry = Retry::default();
        while let Some(affinity) = self.live::<BlockAffinity>(&name).await? {
            if Box::pin(self.give_back(affinity, Addresses::Leave)).await? == Given::Back {
                break;
            }
            retry
                .pause(self, || format!("BlockAffinity {name}"))
                .await?;
        }
        Ok(())
    }

    /// Takes an empty block away from a node. Does nothing when the node has no affinity for it.
    ///
    /// # Errors
    /// [`Error::BlockNotEmpty`]; the node keeps the block then.
    pub async fn release_empty_affinity(&self, node: &str, cidr: Cidr) -> Result<(), Error> {
        let name = names::affinity_name(node, cidr);
        let mut retry = Retry::default();
        while let Some(affinity) = self.live::<BlockAffinity>(&name).await? {
            if let Some((_, block)) = self.block(cidr).await?
                && block.owned_by(node)
                && !self.is_empty(&block).await?
            {
                let usage = block.usage(&Ranges::default());
                return Err(Error::BlockNotEmpty {
                    block: cidr,
                    held: usage.held + usage.cooling,
                });
            }
            if Box::pin(self.give_back(affinity, Addresses::Keep)).await? == Given::Back {
                break;
            }
            retry
                .pause(self, || format!("BlockAffinity {name}"))
                .await?;
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
                    && Box::pin(self.give_back(affinity.clone(), Addresses::Keep)).await?
                        == Given::Back
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
        self.release_node_blocks(node).await?;
        Ok(released)
    }

    /// Takes all blocks away from a node. Those with addresses stay, without owner, until these are freed.
    ///
    /// # Errors
    /// The datastore; call again.
    pub async fn release_node_blocks(&self, node: &str) -> Result<(), Error> {
        let owned = self.list_blocks(|block| block.owned_by(node)).await?;
        for (_, block) in owned.blocks {
            // With its affinity, should an interrupted claim have lost it, there is an order to give it back in.
            self.claim_or_lose(node, block.cidr()).await?;
        }
        for affinity in self.list_affinities(Some(node)).await? {
            Box::pin(self.release_affinity(node, affinity.resource.spec.cidr)).await?;
        }
        Ok(())
    }
}
