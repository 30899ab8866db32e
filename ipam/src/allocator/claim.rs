//! Nodes get blocks. The order of writes is told in [`crate::affinity`].

use std::net::IpAddr;

use crds::block_affinity::AffinityState;
use crds::{BlockAffinity, BlockAffinitySpec, Cidr, IpamBlock, names};
use datastore::Typed;

use crate::affinity::{Existing, judge};
use crate::block::Block;
use crate::error::Error;
use crate::pool;
use crate::range;

use super::Ipam;
use super::objects::{lost, named};
use super::retry::Retry;

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
        let cidrs = self.list_blocks(|_| false).await?.cidrs;
        let other = |existing: &Cidr| *existing != cidr && existing.overlaps(&cidr);
        match cidrs.into_iter().find(other) {
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

    /// Claims a block; `false` = it is another's.
    pub(super) async fn claim_or_lose(&self, node: &str, cidr: Cidr) -> Result<bool, Error> {
        match self.claim(node, cidr).await {
            Ok(()) => Ok(true),
            Err(Error::BlockClaimed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
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
                lost(datastore::create_typed(self.store.as_ref(), &object).await)?.is_some()
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
        Ok(if written { Taken::Yes } else { Taken::Again })
    }

    /// `None` = it changed meanwhile.
    pub(super) async fn set_state(
        &self,
        mut affinity: Typed<BlockAffinity>,
        state: AffinityState,
    ) -> Result<Option<Typed<BlockAffinity>>, Error> {
        affinity.resource.spec.state = state;
        lost(datastore::update_typed(self.store.as_ref(), &affinity).await)
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
        let cidrs = self.list_blocks(|_| false).await?.cidrs;
        let existing = cidrs.into_iter().find(|cidr| cidr.contains(&addr));
        Ok(existing.or(expected))
    }
}
