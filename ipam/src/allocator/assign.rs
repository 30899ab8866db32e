//! Giving addresses out: any of a pool, or a certain one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crds::ipam_block::{AllocationAttribute, attribute};
use crds::{Cidr, names};
use tokio::sync::OwnedMutexGuard;

use crate::block::is_handle;
use crate::error::Error;
use crate::pool;
use crate::range;
use crate::request::{Assign, Assigned, AutoAssign, Family};
use crate::shortfall::Shortfall;

use super::context::Context;
use super::retry::Retry;
use super::round::{Job, Round};
use super::{Ipam, normalise};

/// A handle that is about to get addresses: what it holds, and what the cluster says about new ones. Until this goes,
/// nobody else of this process raises or releases the handle.
pub struct Prepared {
    node: String,
    id: String,
    /// `None` = the handle has no object.
    held: Option<Vec<IpAddr>>,
    /// Of no consequence when no address is missing.
    context: Result<Context, Error>,
    _handle: OwnedMutexGuard<()>,
}

impl Prepared {
    /// What the handle holds already, lowest first.
    pub fn held(&self) -> &[IpAddr] {
        self.held.as_deref().unwrap_or_default()
    }
}

impl Ipam {
    /// Gives a handle addresses for a node: of the node's blocks, then of blocks claimed for it, then borrowed ones.
    ///
    /// Addresses the handle holds already count, so a request may be repeated until it is met. What a handle got stays
    /// with it, whether the request was met or failed: call [`Ipam::release_handle`] to give up.
    ///
    /// # Errors
    /// The datastore, or a requested pool that cannot serve. Too few free addresses are no error: see
    /// [`Assigned::shortfall`].
    pub async fn auto_assign(&self, request: &AutoAssign) -> Result<Assigned, Error> {
        let prepared = self.prepare(&request.node, &request.handle).await?;
        self.auto_assign_prepared(prepared, request).await
    }

    /// Reads all that [`Ipam::auto_assign`] needs to know before it writes, at one time, for callers that have other
    /// things to read before they can say what they want.
    ///
    /// # Errors
    /// The datastore, or a block of the handle that cannot be read.
    pub async fn prepare(&self, node: &str, handle: &str) -> Result<Prepared, Error> {
        let id = normalise(handle)?;
        if node.is_empty() {
            return Err(Error::Incomplete("node"));
        }
        let handle = self.handles.lock(&id).await;
        let (held, context) = tokio::join!(self.renew_handle(&id), self.context(node));
        Ok(Prepared {
            node: node.to_owned(),
            id,
            held: held?,
            context,
            _handle: handle,
        })
    }

    /// As [`Ipam::auto_assign`]; what was prepared for another node or handle is prepared anew.
    ///
    /// # Errors
    /// As [`Ipam::auto_assign`].
    pub async fn auto_assign_prepared(
        &self,
        mut prepared: Prepared,
        request: &AutoAssign,
    ) -> Result<Assigned, Error> {
        if prepared.node != request.node || prepared.id != normalise(&request.handle)? {
            drop(prepared);
            prepared = self.prepare(&request.node, &request.handle).await?;
        }
        let Prepared {
            id,
            held,
            context,
            _handle,
            ..
        } = prepared;
        let mut is_first = held.is_none();
        let (mut v4, mut v6): (Vec<IpAddr>, Vec<IpAddr>) =
            held.into_iter().flatten().partition(IpAddr::is_ipv4);
        v4.truncate(request.v4 as usize);
        v6.truncate(request.v6 as usize);
        let mut assigned = Assigned {
            v4,
            v6,
            shortfall: None,
        };
        if assigned.v4.len() == request.v4 as usize && assigned.v6.len() == request.v6 as usize {
            return Ok(assigned);
        }
        let context = context?;
        let attribute = allocation_attribute(&id, &request.node, &request.attributes);
        let job = Job {
            ipam: self,
            request,
            id: &id,
            attribute: &attribute,
            context: &context,
        };
        let mut shortfall = Shortfall::default();
        for (family, got) in [
            (Family::V4, &mut assigned.v4),
            (Family::V6, &mut assigned.v6),
        ] {
            let mut round = Round::new(&job, family, std::mem::take(got), is_first);
            Box::pin(round.run()).await?;
            let (addrs, short) = round.finish();
            is_first &= addrs.is_empty();
            *got = addrs;
            shortfall.families.extend(short);
        }
        assigned.shortfall = (!shortfall.families.is_empty()).then_some(shortfall);
        Ok(assigned)
    }

    /// Gives a handle this very address. Claims its block for the node if nobody owns it, else borrows.
    /// Addresses that are reserved or rest can be had this way. Does nothing when the handle holds it already.
    ///
    /// # Errors
    /// [`Error::AddressInUse`], [`Error::OutsidePools`], [`Error::StrictAffinity`], or the datastore.
    pub async fn assign(&self, request: &Assign) -> Result<(), Error> {
        let id = normalise(&request.handle)?;
        if request.node.is_empty() {
            return Err(Error::Incomplete("node"));
        }
        let _handle = self.handles.lock(&id).await;
        let (pools, _) = self.pools().await?;
        let strict = self.settings().await?.strict_affinity;
        let addr = request.addr;
        let pool = pool::containing(&pools, Cidr::host(addr)).filter(|pool| pool.usable());
        let expected = pool
            .and_then(|pool| range::block_of(addr, pool.block_size))
            .ok_or(Error::OutsidePools(addr))?;
        let cidr = self.locate(addr, &pools).await?.unwrap_or(expected);
        let attribute = allocation_attribute(&id, &request.node, &request.attributes);
        let mut retry = Retry::default();
        let mut claimed = false;
        loop {
            match self
                .assign_in_block(&id, request, cidr, strict, &attribute)
                .await?
            {
                Step::Done => break,
                Step::Unowned => {
                    self.refuse_overlap(cidr).await?;
                    self.claim_or_lose(&request.node, cidr).await?;
                    if !std::mem::replace(&mut claimed, true) {
                        continue;
                    }
                }
                Step::Again => {}
            }
            retry
                .pause(self, || format!("IPAMBlock {}", names::block_name(cidr)))
                .await?;
        }
        if retry.used() {
            self.settle_handle(&id).await?;
        }
        Ok(())
    }

    async fn assign_in_block(
        &self,
        id: &str,
        request: &Assign,
        cidr: Cidr,
        strict: bool,
        attribute: &Arc<AllocationAttribute>,
    ) -> Result<Step, Error> {
        let _block = self.blocks.lock(&cidr).await;
        let Some((object, mut block)) = self.block(cidr).await? else {
            return Ok(Step::Unowned);
        };
        let addr = request.addr;
        match block.assign(addr, attribute) {
            Ok(()) => {}
            Err(Some(holder)) if is_handle(&holder.attribute, id) => {
                block.renew(id);
                return Ok(if self.write_block(object, &block).await? {
                    Step::Done
                } else {
                    Step::Again
                });
            }
            Err(Some(holder)) => {
                let holder = holder.attribute.handle_id.clone().unwrap_or_default();
                return Err(Error::AddressInUse { addr, holder });
            }
            Err(None) => return Err(Error::OutsidePools(addr)),
        }
        if block.affinity().is_none() {
            return Ok(Step::Unowned);
        }
        if strict && !block.owned_by(&request.node) {
            let owner = block.affinity().unwrap_or_default().to_owned();
            return Err(Error::StrictAffinity {
                addr,
                block: cidr,
                owner,
            });
        }
        let handle = self.raise(id, cidr, 1).await?;
        if !self.write_block(object, &block).await? {
            return Ok(Step::Again);
        }
        self.correct(
            handle,
            &BTreeMap::from([(cidr, block.held_by(id).len() as u32)]),
        )
        .await?;
        Ok(Step::Done)
    }

    /// Stamps everything a handle holds anew, so that a release decided on before is refused, and returns it; nothing
    /// when the handle has no object.
    async fn renew_handle(&self, id: &str) -> Result<Option<Vec<IpAddr>>, Error> {
        let Some(settled) = self.settle_handle(id).await? else {
            return Ok(None);
        };
        let mut renewed = Vec::new();
        for cidr in settled.into_keys() {
            let _block = self.blocks.lock(&cidr).await;
            let mut retry = Retry::default();
            while let Some((object, mut block)) = self.block(cidr).await? {
                let held = block.held_by(id);
                block.renew(id);
                if held.is_empty() || self.write_block(object, &block).await? {
                    renewed.extend(held);
                    break;
                }
                retry.pause(self, || format!("IPAMBlock {cidr}")).await?;
            }
        }
        renewed.sort_unstable();
        Ok(Some(renewed))
    }
}

/// How far the assignment of a certain address got.
enum Step {
    Done,
    /// The block does not exist or nobody owns it.
    Unowned,
    /// The block changed meanwhile.
    Again,
}

fn allocation_attribute(
    id: &str,
    node: &str,
    attributes: &BTreeMap<String, String>,
) -> Arc<AllocationAttribute> {
    let mut secondary = attributes.clone();
    secondary.insert(attribute::NODE.to_owned(), node.to_owned());
    Arc::new(AllocationAttribute {
        handle_id: Some(id.to_owned()),
        secondary,
        ..Default::default()
    })
}
