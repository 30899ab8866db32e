//! Freeing addresses: by handle, by address, and by comparing with what is alive.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crds::Cidr;
use crds::ipam_block::attribute;

use crate::block::{Guard, Refusal};
use crate::edit::Edit;
use crate::error::Error;
use crate::request::{Held, LiveHandles, Release, Released};

use super::retry::Retry;
use super::{Ipam, normalise};

impl Ipam {
    /// Frees everything a handle holds. Empty when it held nothing.
    ///
    /// # Errors
    /// The datastore; call again. A block that cannot be read, after everything else of the handle was freed.
    pub async fn release_handle(&self, handle: &str) -> Result<Vec<IpAddr>, Error> {
        let id = normalise(handle)?;
        let _handle = self.handles.lock(&id).await;
        let mut released = Vec::new();
        let mut retry = Retry::default();
        loop {
            let Some(object) = self.handle(&id).await? else {
                return Ok(released);
            };
            let cooldown = self.settings().await?.cooldown;
            let mut emptied = BTreeMap::new();
            let mut broken = None;
            for cidr in object.resource.spec.block.keys() {
                match self.release_all(&id, *cidr, cooldown).await {
                    Ok(addrs) => {
                        released.extend(addrs);
                        emptied.insert(*cidr, 0);
                    }
                    Err(Error::BrokenBlock(block)) => broken = Some(block),
                    Err(error) => return Err(error),
                }
            }
            if self.correct(object, &emptied).await? {
                return broken.map_or(Ok(released), |block| Err(block.into()));
            }
            retry.pause(self, || format!("IPAMHandle {id}")).await?;
        }
    }

    /// Frees what a handle has in a block. Writes the block in any case: whoever was about to give the handle an address
    /// there is too late.
    async fn release_all(
        &self,
        id: &str,
        cidr: Cidr,
        cooldown: Duration,
    ) -> Result<Vec<IpAddr>, Error> {
        let mut retry = Retry::default();
        loop {
            let edit = Edit::Release {
                handle: id.to_owned(),
                cooldown,
            };
            if let Some(done) = self.commit(cidr, None, edit).await? {
                return Ok(done.addrs);
            }
            retry.pause(self, || format!("IPAMBlock {cidr}")).await?;
        }
    }

    /// Frees addresses whose guards agree. Addresses may repeat; the first entry of each counts.
    ///
    /// # Errors
    /// The datastore, or a block that cannot be read; call again.
    pub async fn release(&self, releases: &[Release]) -> Result<Released, Error> {
        let mut outcome = Released::default();
        if releases.is_empty() {
            return Ok(outcome);
        }
        let (pools, _) = self.pools().await?;
        let cooldown = self.settings().await?.cooldown;
        let mut seen = BTreeSet::new();
        let mut by_block: BTreeMap<Cidr, Vec<&Release>> = BTreeMap::new();
        for release in releases.iter().filter(|release| seen.insert(release.addr)) {
            let known = by_block
                .keys()
                .find(|cidr| cidr.contains(&release.addr))
                .copied();
            let cidr = match known {
                Some(cidr) => Some(cidr),
                None => self.locate(release.addr, &pools).await?,
            };
            match cidr {
                Some(cidr) => by_block.entry(cidr).or_default().push(release),
                None => outcome.not_allocated.push(release.addr),
            }
        }
        for (cidr, releases) in by_block {
            self.release_in_block(cidr, &releases, cooldown, &mut outcome)
                .await?;
        }
        for release in releases
            .iter()
            .filter(|release| outcome.not_allocated.contains(&release.addr))
        {
            // Perhaps freed by an attempt that did not come to the handle any more.
            if let Some(handle) = &release.handle {
                self.settle_handle(&normalise(handle)?).await?;
            }
        }
        Ok(outcome)
    }

    async fn release_in_block(
        &self,
        cidr: Cidr,
        releases: &[&Release],
        cooldown: Duration,
        outcome: &mut Released,
    ) -> Result<(), Error> {
        let _block = self.blocks.lock(&cidr).await;
        let mut retry = Retry::default();
        loop {
            let mut here = Released::default();
            let mut ids = BTreeSet::new();
            let found = self.block(cidr).await?;
            let Some((object, mut block)) = found else {
                outcome
                    .not_allocated
                    .extend(releases.iter().map(|release| release.addr));
                return Ok(());
            };
            for release in releases {
                let guard = Guard {
                    handle: release.handle.as_deref(),
                    stamp: release.sequence,
                };
                match block.release(release.addr, guard, self.now(), cooldown) {
                    Ok(freed) => {
                        here.released.push(release.addr);
                        ids.extend(freed.attribute.handle_id.as_deref().map(str::to_lowercase));
                    }
                    Err(Refusal::NotAllocated) => here.not_allocated.push(release.addr),
                    Err(refusal) => here.refused.push((release.addr, refusal)),
                }
            }
            let mut handles = Vec::new();
            for id in ids {
                // Read before the block is written, as `correct` demands.
                handles.push((self.handle(&id).await?, id));
            }
            if here.released.is_empty() || self.write_or_delete_block(object, &block, None).await? {
                for (handle, id) in handles {
                    let left = BTreeMap::from([(cidr, block.held_by(&id).len() as u32)]);
                    if let Some(handle) = handle
                        && !self.correct(handle, &left).await?
                    {
                        self.settle_handle(&id).await?;
                    }
                }
                outcome.released.append(&mut here.released);
                outcome.not_allocated.append(&mut here.not_allocated);
                outcome.refused.append(&mut here.refused);
                return Ok(());
            }
            retry.pause(self, || format!("IPAMBlock {cidr}")).await?;
        }
    }

    /// Frees of these addresses of a node those whose handle is not alive, except those of the node itself (tunnels).
    /// With a `network`, only handles of that network (`<network>.…`) are judged. Returns what was freed.
    ///
    /// `live` must be from after the addresses have been read. It must contain the handle of every request that has been
    /// sent to `auto_assign` or `assign` and not been released: then no address of a request that runs meanwhile is
    /// freed.
    ///
    /// # Errors
    /// The datastore; call again.
    pub async fn release_dead(
        &self,
        held: Vec<Held>,
        network: Option<&str>,
        live: LiveHandles,
    ) -> Result<Vec<IpAddr>, Error> {
        let live: BTreeSet<String> = live
            .into_iter()
            .map(|handle| handle.to_lowercase())
            .collect();
        let prefix = network.map(|network| format!("{}.", network.to_lowercase()));
        let dead = |held: &Held| {
            let Some(id) = held.handle.as_deref().map(str::to_lowercase) else {
                return false;
            };
            let of_network = prefix
                .as_deref()
                .is_none_or(|prefix| id.starts_with(prefix));
            of_network && !live.contains(&id) && !held.attributes.contains_key(attribute::TYPE)
        };
        let releases: Vec<Release> = held.into_iter().filter(dead).map(Release::from).collect();
        Ok(self.release(&releases).await?.released)
    }
}
