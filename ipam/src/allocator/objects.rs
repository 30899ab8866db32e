//! The three objects in the datastore, read and written with Calico's rules: deleting marks the object first, then deletes
//! it, and a marked object counts as gone for everybody.

use crds::block_affinity::AffinityType;
use crds::core::ObjectMeta;
use crds::ipam_block::attribute;
use crds::{BlockAffinity, Cidr, FieldError, IpamBlock, IpamHandle, Kind, Resource, names};
use datastore::{Object, Typed};

use crate::block::{Allocation, Block, BrokenBlock};
use crate::error::Error;
use crate::request::Held;

use super::Ipam;

/// An object that is deleted in two steps.
pub(super) trait SoftDelete: Resource {
    fn deleted(&self) -> bool;
    fn mark_deleted(&mut self);
}

impl SoftDelete for IpamBlock {
    fn deleted(&self) -> bool {
        self.spec.deleted
    }

    fn mark_deleted(&mut self) {
        self.spec.deleted = true;
    }
}

impl SoftDelete for IpamHandle {
    fn deleted(&self) -> bool {
        self.spec.deleted
    }

    fn mark_deleted(&mut self) {
        self.spec.deleted = true;
    }
}

impl SoftDelete for BlockAffinity {
    fn deleted(&self) -> bool {
        self.spec.deleted
    }

    fn mark_deleted(&mut self) {
        self.spec.deleted = true;
    }
}

/// Which blocks to look at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    All,
    /// Those that a watch of the datastore is about.
    Followed,
}

/// The blocks of the cluster: of all what they are, and of some what is in them.
#[derive(Default)]
pub(super) struct Blocks {
    /// Those that were asked for.
    pub(super) blocks: Vec<(Typed<IpamBlock>, Block)>,
    /// The CIDRs of all, of those that cannot be read too.
    pub(super) cidrs: Vec<Cidr>,
    /// What cannot be read.
    pub(super) broken: Vec<BrokenBlock>,
}

impl Blocks {
    fn add(&mut self, object: Object, keep: &mut impl FnMut(&Block) -> bool) {
        let name = object.key.name.clone();
        let cidr = object.value["spec"]["cidr"]
            .as_str()
            .and_then(|text| text.parse::<Cidr>().ok());
        let typed = match Typed::<IpamBlock>::from_object(object) {
            Ok(typed) if typed.resource.deleted() => return,
            Ok(typed) => typed,
            Err(error) => {
                self.cidrs.extend(cidr);
                self.broken
                    .push(BrokenBlock::unreadable(&name, error.to_string()));
                return;
            }
        };
        self.cidrs.extend(cidr);
        match Block::decode(&typed.resource) {
            Ok(block) if keep(&block) => self.blocks.push((typed, block)),
            Ok(_) => {}
            Err(broken) => self.broken.push(broken),
        }
    }
}

impl Ipam {
    /// An object, `None` when it is gone or marked as deleted; the latter is deleted for good.
    pub(super) async fn live<T: SoftDelete>(&self, name: &str) -> Result<Option<Typed<T>>, Error> {
        match datastore::get_typed::<T>(self.store.as_ref(), name).await {
            Ok(object) if object.resource.deleted() => {
                self.finish_deletion(&object).await?;
                Ok(None)
            }
            Ok(object) => Ok(Some(object)),
            Err(datastore::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Marks an object as deleted, then deletes it. `false` = it was changed in between and is still there.
    pub(super) async fn remove<T: SoftDelete>(&self, mut object: Typed<T>) -> Result<bool, Error> {
        object.resource.mark_deleted();
        match lost(datastore::update_typed(self.store.as_ref(), &object).await)? {
            Some(marked) => self.finish_deletion(&marked).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Nobody changes a marked object, so a conflict means that it is gone and perhaps made anew.
    pub(super) async fn finish_deletion<T: SoftDelete>(
        &self,
        marked: &Typed<T>,
    ) -> Result<(), Error> {
        lost(datastore::delete_typed(self.store.as_ref(), marked).await)?;
        Ok(())
    }

    /// A handle's object.
    pub(super) async fn handle(&self, handle: &str) -> Result<Option<Typed<IpamHandle>>, Error> {
        self.live(&names::handle_name(handle)).await
    }

    /// A block, `None` when it does not exist.
    pub(super) async fn block(
        &self,
        cidr: Cidr,
    ) -> Result<Option<(Typed<IpamBlock>, Block)>, Error> {
        let name = names::block_name(cidr);
        let found = self.live::<IpamBlock>(&name).await;
        let invalid = |field, problem, remedy| BrokenBlock {
            name,
            error: FieldError {
                field,
                problem,
                remedy,
            },
        };
        let Some(object) = found.map_err(|error| match error {
            Error::Datastore(datastore::Error::Invalid {
                field,
                problem,
                remedy,
                ..
            }) => invalid(field, problem, remedy).into(),
            other => other,
        })?
        else {
            return Ok(None);
        };
        let block = Block::decode(&object.resource)?;
        Ok(Some((object, block)))
    }

    /// Writes a block. `false` = it changed since it was read.
    pub(super) async fn write_block(
        &self,
        object: Typed<IpamBlock>,
        block: &Block,
    ) -> Result<bool, Error> {
        self.write_in_era(object, block, None).await
    }

    async fn write_in_era(
        &self,
        mut object: Typed<IpamBlock>,
        block: &Block,
        era: Option<u64>,
    ) -> Result<bool, Error> {
        block.encode(&mut object.resource.spec);
        let written = lost(datastore::update_typed(self.store.as_ref(), &object).await)?;
        let Some(object) = written else {
            return Ok(false);
        };
        match Block::decode(&object.resource) {
            Ok(block) => drop(self.written.keep(object, block, era)),
            Err(_) => self.written.forget(block.cidr()),
        }
        Ok(true)
    }

    /// Writes a block, in an era or beginning one, or deletes it when nobody owns it and nobody has an address of it.
    /// `false` = it changed since read.
    pub(super) async fn write_or_delete_block(
        &self,
        mut object: Typed<IpamBlock>,
        block: &Block,
        era: Option<u64>,
    ) -> Result<bool, Error> {
        if block.affinity().is_none() && block.is_empty() {
            block.encode(&mut object.resource.spec);
            self.written.forget(block.cidr());
            return self.remove(object).await;
        }
        self.write_in_era(object, block, era).await
    }

    /// Blocks to keep, except those marked as deleted. A large cluster has ten thousand, so ask for few.
    pub(super) async fn list_blocks(
        &self,
        keep: impl FnMut(&Block) -> bool + Send,
    ) -> Result<Blocks, Error> {
        self.list_blocks_of(Extent::All, keep).await
    }

    /// As [`Ipam::list_blocks`], of these.
    pub(super) async fn list_blocks_of(
        &self,
        extent: Extent,
        mut keep: impl FnMut(&Block) -> bool + Send,
    ) -> Result<Blocks, Error> {
        let mut all = Blocks::default();
        let mut see = |object| all.add(object, &mut keep);
        match extent {
            Extent::All => self.store.visit(Kind::IpamBlock, &mut see).await?,
            Extent::Followed => {
                self.store.visit_followed(Kind::IpamBlock, &mut see).await?;
            }
        }
        for broken in &all.broken {
            tracing::warn!(%broken, "block left out");
        }
        Ok(all)
    }

    /// The affinities of a node, or of all nodes; those marked as deleted are left out.
    pub(super) async fn list_affinities(
        &self,
        node: Option<&str>,
    ) -> Result<Vec<Typed<BlockAffinity>>, Error> {
        let mut affinities = Vec::new();
        let is_wanted = |affinity: &Typed<BlockAffinity>| {
            let spec = &affinity.resource.spec;
            let virtual_host = spec.type_ == Some(AffinityType::Virtual);
            !spec.deleted && !virtual_host && node.is_none_or(|node| spec.node == node)
        };
        let mut see = |object: Object| {
            let name = object.key.name.clone();
            match Typed::<BlockAffinity>::from_object(object) {
                Ok(affinity) => affinities.extend(Some(affinity).filter(is_wanted)),
                Err(problem) => tracing::warn!(%name, %problem, "affinity left out"),
            }
        };
        self.store.visit(Kind::BlockAffinity, &mut see).await?;
        Ok(affinities)
    }
}

/// `None` for a write that came too late: the object was changed, deleted or made by somebody else.
pub(super) fn lost<T>(result: Result<T, datastore::Error>) -> Result<Option<T>, Error> {
    use datastore::Error as Store;
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Store::Conflict { .. } | Store::NotFound { .. } | Store::AlreadyExists { .. }) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Metadata of a new object.
pub(super) fn named(name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        ..ObjectMeta::default()
    }
}

/// The node an address is for.
pub(super) fn node_of(allocation: &Allocation) -> Option<&str> {
    allocation
        .attribute
        .secondary
        .get(attribute::NODE)
        .map(String::as_str)
}

/// An allocation as callers see it.
pub(super) fn held(block: Cidr, allocation: Allocation) -> Held {
    Held {
        addr: allocation.addr,
        block,
        handle: allocation.attribute.handle_id.clone(),
        attributes: allocation.attribute.secondary.clone(),
        sequence: allocation.stamp,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crds::{IpPool, IpPoolSpec};
    use datastore::memory::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn of_blocks_nobody_asked_for_only_the_range_is_kept() {
        let store = MemoryStore::new();
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        let pool = IpPool {
            metadata: named("pool".to_owned()),
            spec: IpPoolSpec::new(cidr("10.0.0.0/16")),
            status: None,
        };
        datastore::create_typed(&store, &pool).await.unwrap();
        let ipam = Ipam::new(Arc::new(store));
        let blocks = [cidr("10.0.0.0/26"), cidr("10.0.0.64/26")];
        for (node, block) in ["a", "b"].into_iter().zip(blocks) {
            ipam.claim_block(node, block).await.unwrap();
        }
        let listed = ipam.list_blocks(|block| block.owned_by("b")).await.unwrap();
        let kept: Vec<Cidr> = listed
            .blocks
            .iter()
            .map(|(_, block)| block.cidr())
            .collect();
        assert_eq!(kept, [blocks[1]]);
        assert_eq!(listed.cidrs, blocks);
    }
}
