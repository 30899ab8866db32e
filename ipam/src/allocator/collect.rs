//! Carries out what [`crate::gc`] decided, after one more look at each node and pod.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::ipam_block::attribute;
use crds::{Cidr, Kind};
use datastore::{Key, Object};

use crate::error::Error;
use crate::gc::{self, Action, Sweep};
use crate::request::{Held, Release, Repaired};

use super::Ipam;
use super::objects::lost;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Addresses freed.
    pub freed: Vec<IpAddr>,
    /// Addresses that were to be freed and are not: in use again, or given to somebody else meanwhile.
    pub spared: Vec<IpAddr>,
    /// Nodes whose blocks were given back.
    pub nodes: Vec<String>,
    /// Empty blocks given back.
    pub blocks: Vec<Cidr>,
    /// Pools that go now that nobody uses them.
    pub pools: Vec<String>,
    /// Nodes whose status was deleted.
    pub statuses: Vec<String>,
    /// What interrupted operations had left.
    pub repaired: Repaired,
}

/// Everything to do about one node that is gone.
#[derive(Default)]
struct OfNode<'a> {
    releases: Vec<&'a Held>,
    is_to_be_released: bool,
    has_status: bool,
}

impl Ipam {
    /// Carries out a sweep. May be cut off anywhere and repeated; what came too late is not done.
    ///
    /// # Errors
    /// The datastore, or a block that cannot be read; `done` says what was done before.
    pub async fn collect(&self, sweep: &Sweep, done: &mut Collected) -> Result<(), Error> {
        let mut nodes: BTreeMap<&str, OfNode<'_>> = BTreeMap::new();
        let mut is_to_be_repaired = false;
        for action in &sweep.actions {
            match action {
                Action::Release(held) => {
                    let node = held.attributes.get(attribute::NODE);
                    let node = node.map(String::as_str).unwrap_or_default();
                    nodes.entry(node).or_default().releases.push(held);
                }
                Action::ReleaseNode { node, .. } => {
                    nodes.entry(node).or_default().is_to_be_released = true;
                }
                Action::ForgetStatus(node) => nodes.entry(node).or_default().has_status = true,
                Action::ReleaseEmptyBlock { .. }
                | Action::GuardPool(_)
                | Action::ReleasePool(_) => {}
                Action::Settle { .. } => is_to_be_repaired = true,
            }
        }
        for (node, todo) in nodes {
            Box::pin(self.collect_node(node, todo, sweep, done)).await?;
        }
        for action in &sweep.actions {
            match action {
                Action::ReleaseEmptyBlock { node, block } => {
                    match Box::pin(self.release_empty_affinity(node, *block)).await {
                        Ok(()) => done.blocks.push(*block),
                        // Used since.
                        Err(Error::BlockNotEmpty { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                Action::GuardPool(name) => {
                    self.guard_pool(name).await?;
                }
                Action::ReleasePool(name) => {
                    if self.release_pool(name).await? {
                        done.pools.push(name.clone());
                    }
                }
                Action::Release(_)
                | Action::ReleaseNode { .. }
                | Action::ForgetStatus(_)
                | Action::Settle { .. } => {}
            }
        }
        if is_to_be_repaired {
            done.repaired = Box::pin(self.repair()).await?;
        }
        Ok(())
    }

    async fn collect_node(
        &self,
        node: &str,
        todo: OfNode<'_>,
        sweep: &Sweep,
        done: &mut Collected,
    ) -> Result<(), Error> {
        if !self.is_still_gone(node, sweep).await? {
            done.spared
                .extend(todo.releases.iter().map(|held| held.addr));
            return Ok(());
        }
        let mut releases = Vec::new();
        let mut spared = BTreeSet::new();
        for held in todo.releases {
            if self.is_still_leaked(held).await? {
                releases.push(Release::from(held.clone()));
            } else {
                spared.insert(held.addr);
            }
        }
        let mut outcome = self.release(&releases).await?;
        done.freed.append(&mut outcome.released);
        spared.extend(outcome.refused.into_iter().map(|(addr, _)| addr));
        let is_in_use = !spared.is_empty();
        done.spared.extend(spared);
        if is_in_use {
            return Ok(());
        }
        if todo.is_to_be_released {
            Box::pin(self.release_node_blocks(node)).await?;
            done.nodes.push(node.to_owned());
        }
        if todo.has_status {
            let key = Key::cluster(Kind::NodeStatus, node);
            lost(self.store.delete(&key, None).await)?;
            done.statuses.push(node.to_owned());
        }
        Ok(())
    }

    /// No Node object, and no report since the snapshot.
    async fn is_still_gone(&self, node: &str, sweep: &Sweep) -> Result<bool, Error> {
        if self.found(Key::cluster(Kind::Node, node)).await?.is_some() {
            return Ok(false);
        }
        let status = self.found(Key::cluster(Kind::NodeStatus, node)).await?;
        let reported = status.map(|status| gc::reported(status).unwrap_or_else(|| self.now()));
        Ok(sweep.gone.get(node).is_some_and(|known| *known >= reported))
    }

    async fn is_still_leaked(&self, held: &Held) -> Result<bool, Error> {
        let namespace = held.attributes.get(attribute::NAMESPACE);
        let Some((namespace, pod)) = namespace.zip(held.attributes.get(attribute::POD)) else {
            // A tunnel's: its node has been looked at.
            return Ok(true);
        };
        let pod = self
            .found(Key::namespaced(Kind::Pod, namespace, pod))
            .await?;
        Ok(gc::still_leaked(held, pod))
    }

    pub(super) async fn found(&self, key: Key) -> Result<Option<Object>, Error> {
        match self.store.get(&key).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
