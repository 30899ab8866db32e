//! Handles and what they hold: raising and lowering counts, and settling what an interrupted operation left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::block_affinity::AffinityState;
use crds::{BlockAffinity, Cidr, IpamHandle, IpamHandleSpec, Kind, names};
use datastore::Typed;

use crate::block::Block;
use crate::error::Error;
use crate::handle;
use crate::request::Repaired;

use super::Ipam;
use super::give_back::{Addresses, Given};
use super::objects::{SoftDelete, lost, named};
use super::retry::Retry;

impl Ipam {
    /// Adds to the count of a handle for a block, before that block is written.
    pub(super) async fn raise(
        &self,
        id: &str,
        block: Cidr,
        by: u32,
    ) -> Result<Typed<IpamHandle>, Error> {
        let mut retry = Retry::default();
        loop {
            let written = match self.handle(id).await? {
                Some(mut object) => {
                    let count = handle::count(&object.resource.spec, block);
                    handle::set(&mut object.resource.spec, block, count.saturating_add(by));
                    lost(datastore::update_typed(self.store.as_ref(), &object).await)?
                }
                None => self.create_handle(id, block, by).await?,
            };
            if let Some(object) = written {
                return Ok(object);
            }
            retry.pause(self, || format!("IPAMHandle {id}")).await?;
        }
    }

    /// The same for a handle that had no object of late, which is not looked for.
    pub(super) async fn raise_first(
        &self,
        id: &str,
        block: Cidr,
        by: u32,
    ) -> Result<Typed<IpamHandle>, Error> {
        match self.create_handle(id, block, by).await? {
            Some(object) => Ok(object),
            None => self.raise(id, block, by).await,
        }
    }

    async fn create_handle(
        &self,
        id: &str,
        block: Cidr,
        by: u32,
    ) -> Result<Option<Typed<IpamHandle>>, Error> {
        let mut spec = IpamHandleSpec {
            handle_id: id.to_owned(),
            block: BTreeMap::new(),
            deleted: false,
        };
        handle::set(&mut spec, block, by);
        let object = IpamHandle {
            metadata: named(names::handle_name(id)),
            spec,
        };
        lost(datastore::create_typed(self.store.as_ref(), &object).await)
    }

    /// Writes what a handle really has in some blocks; one without addresses is deleted.
    ///
    /// `object` must have been read before each of these blocks was last written. `false` = it changed since.
    pub(super) async fn correct(
        &self,
        mut object: Typed<IpamHandle>,
        actual: &BTreeMap<Cidr, u32>,
    ) -> Result<bool, Error> {
        let spec = &mut object.resource.spec;
        if actual
            .iter()
            .all(|(block, count)| handle::count(spec, *block) == *count)
            && !spec.block.is_empty()
        {
            return Ok(true);
        }
        for (block, count) in actual {
            handle::set(spec, *block, *count);
        }
        if spec.block.is_empty() {
            return self.remove(object).await;
        }
        Ok(lost(datastore::update_typed(self.store.as_ref(), &object).await)?.is_some())
    }

    /// Makes the counts of a handle agree with the blocks, and returns what it holds there. Without a handle object it
    /// holds nothing, and there is no answer.
    pub(super) async fn settle_handle(
        &self,
        id: &str,
    ) -> Result<Option<BTreeMap<Cidr, Vec<IpAddr>>>, Error> {
        let mut retry = Retry::default();
        loop {
            let Some(object) = self.handle(id).await? else {
                return Ok(None);
            };
            let mut held = BTreeMap::new();
            for (cidr, count) in &object.resource.spec.block {
                held.insert(*cidr, self.fenced_addresses(id, *cidr, *count).await?);
            }
            let actual = held
                .iter()
                .map(|(cidr, addrs)| (*cidr, addrs.len() as u32))
                .collect();
            if self.correct(object, &actual).await? {
                held.retain(|_, addrs| !addrs.is_empty());
                return Ok(Some(held));
            }
            retry.pause(self, || format!("IPAMHandle {id}")).await?;
        }
    }

    /// What a handle has in a block. When that is less than it counts, the block is written, so that nobody who raised the
    /// count and has not written the block yet can still do so.
    async fn fenced_addresses(
        &self,
        id: &str,
        cidr: Cidr,
        count: u32,
    ) -> Result<Vec<IpAddr>, Error> {
        let mut retry = Retry::default();
        loop {
            let Some((object, block)) = self.block(cidr).await? else {
                return Ok(Vec::new());
            };
            let held = block.held_by(id);
            if held.len() as u32 >= count || self.write_block(object, &block).await? {
                return Ok(held);
            }
            retry.pause(self, || format!("IPAMBlock {cidr}")).await?;
        }
    }

    /// Finishes what interrupted claims and releases left of a node's blocks, and returns the blocks it owns. A release that
    /// finds addresses is taken back: the node is there and needs the block.
    ///
    /// # Errors
    /// The datastore, or a block that cannot be read.
    pub async fn settle_node(&self, node: &str) -> Result<BTreeSet<Cidr>, Error> {
        let mut owned = BTreeSet::new();
        for affinity in self.list_affinities(Some(node)).await? {
            let cidr = affinity.resource.spec.cidr;
            let confirmed = affinity.resource.spec.state == AffinityState::Confirmed;
            if confirmed || Box::pin(self.settle_affinity(affinity)).await? {
                owned.insert(cidr);
            }
        }
        self.owned_blocks(node, |known| known.clone_from(&owned));
        Ok(owned)
    }

    /// Finishes an interrupted claim or release. Returns whether the node owns the block now; of a block that cannot be
    /// read that is unknown, and nothing is done.
    async fn settle_affinity(&self, affinity: Typed<BlockAffinity>) -> Result<bool, Error> {
        let spec = affinity.resource.spec.clone();
        let block = match self.block(spec.cidr).await {
            Ok(found) => found.map(|(_, block)| block),
            Err(Error::BrokenBlock(broken)) => {
                tracing::warn!(node = %spec.node, %broken, "affinity left as it is");
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        if spec.state == AffinityState::PendingDeletion {
            return Ok(Box::pin(self.give_back(affinity, Addresses::Keep)).await? == Given::Kept);
        }
        if block.is_some_and(|block| block.owned_by(&spec.node)) {
            return self.claim_or_lose(&spec.node, spec.cidr).await;
        }
        self.remove(affinity).await?;
        Ok(false)
    }

    /// Makes everything consistent that interrupted operations, or other tools, left behind: counts of handles, affinities
    /// neither confirmed nor gone, blocks without owner and addresses, objects marked as deleted. Frees no address.
    ///
    /// May run at any time beside other operations.
    ///
    /// # Errors
    /// The datastore.
    pub async fn repair(&self) -> Result<Repaired, Error> {
        let handles = self.repair_handles().await?;
        let affinities = Box::pin(self.repair_affinities()).await?;
        let blocks = self.delete_abandoned_blocks().await?;
        self.finish_deletions().await?;
        Ok(Repaired {
            handles,
            affinities,
            blocks,
        })
    }

    async fn repair_affinities(&self) -> Result<Vec<String>, Error> {
        let affinities = self.list_affinities(None).await?;
        let mut unclaimed: BTreeMap<Cidr, String> = BTreeMap::new();
        for (object, block) in self.list_blocks(|_| true).await?.blocks {
            let host = object.resource.spec.host().map(str::to_owned);
            unclaimed.extend(host.map(|host| (block.cidr(), host)));
        }
        let mut repaired = Vec::new();
        for affinity in affinities {
            let spec = affinity.resource.spec.clone();
            let owned = unclaimed.get(&spec.cidr) == Some(&spec.node);
            if owned {
                unclaimed.remove(&spec.cidr);
            }
            if !owned || spec.state != AffinityState::Confirmed {
                Box::pin(self.settle_affinity(affinity)).await?;
                repaired.push(names::affinity_name(&spec.node, spec.cidr));
            }
        }
        for (cidr, node) in unclaimed {
            if self.claim_or_lose(&node, cidr).await? {
                repaired.push(names::affinity_name(&node, cidr));
            }
        }
        Ok(repaired)
    }

    async fn repair_handles(&self) -> Result<Vec<String>, Error> {
        let mut counted: BTreeMap<String, BTreeMap<Cidr, u32>> = BTreeMap::new();
        for object in self.store.list(Kind::IpamHandle).await? {
            let name = object.key.name.clone();
            match Typed::<IpamHandle>::from_object(object) {
                Ok(handle) if handle.resource.deleted() => self.finish_deletion(&handle).await?,
                Ok(handle) => {
                    let spec = handle.resource.spec;
                    counted.insert(spec.handle_id.to_lowercase(), spec.block);
                }
                Err(problem) => tracing::warn!(%name, %problem, "handle left out"),
            }
        }
        let listed = self.list_blocks(|_| true).await?;
        let mut actual: BTreeMap<String, BTreeMap<Cidr, u32>> = BTreeMap::new();
        for (id, block) in listed
            .blocks
            .iter()
            .flat_map(|(_, block)| ids(block).map(move |id| (id, block.cidr())))
        {
            *actual.entry(id).or_default().entry(block).or_default() += 1;
        }
        let mut repaired = Vec::new();
        for (id, counts) in &actual {
            // What the snapshot says may be outdated: raising is harmless, settling then finds the truth.
            for (block, count) in counts {
                let known = counted
                    .get(id)
                    .and_then(|counts| counts.get(block))
                    .copied()
                    .unwrap_or(0);
                if known < *count {
                    self.raise(id, *block, count - known).await?;
                }
            }
        }
        let ids = counted
            .keys()
            .chain(actual.keys().filter(|id| !counted.contains_key(*id)));
        for id in ids.filter(|id| counted.get(*id) != actual.get(*id)) {
            match self.settle_handle(id).await {
                Ok(_) => repaired.push(id.clone()),
                Err(Error::BrokenBlock(broken)) => {
                    tracing::warn!(handle = %id, %broken, "handle left as it is")
                }
                Err(error) => return Err(error),
            }
        }
        Ok(repaired)
    }

    async fn delete_abandoned_blocks(&self) -> Result<Vec<Cidr>, Error> {
        let mut deleted = Vec::new();
        let now = self.now();
        let cooldown = self.settings().await?.cooldown;
        for (object, mut block) in self.list_blocks(|_| true).await?.blocks {
            block.thaw(now, cooldown);
            if block.affinity().is_none() && block.is_empty() && self.remove(object).await? {
                deleted.push(block.cidr());
            }
        }
        Ok(deleted)
    }

    /// Deletes blocks and affinities that are marked as deleted.
    async fn finish_deletions(&self) -> Result<(), Error> {
        for kind in [Kind::IpamBlock, Kind::BlockAffinity] {
            for object in self.store.list(kind).await? {
                let deleted = &object.value["spec"]["deleted"];
                if deleted == true || deleted == "true" {
                    lost(
                        self.store
                            .delete(&object.key, Some(&object.resource_version))
                            .await,
                    )?;
                }
            }
        }
        Ok(())
    }
}

fn ids(block: &Block) -> impl Iterator<Item = String> + '_ {
    block.allocations().filter_map(|allocation| {
        allocation
            .attribute
            .handle_id
            .as_deref()
            .map(str::to_lowercase)
    })
}
