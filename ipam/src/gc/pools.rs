//! Pools that somebody deletes stay until nothing of them is in use.
//!
//! A pool that is being deleted gives no new addresses (`crate::pool`). Its empty blocks are given back at once, and
//! when no pod has an address of it any more it goes. Tunnel addresses do not keep it: agents move theirs to another
//! pool where there is one, and where there is none they need a tunnel only as long as the pool is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use crds::block_affinity::AffinityState;
use crds::{Cidr, IpPool, names};
use datastore::{Object, Typed};

use super::judge::{self, Judgement};
use super::snapshot::{BlockFacts, Snapshot};
use super::{Action, Collector, Presence, Sweep, memory};

/// An agent that has not seen the deletion yet may be about to take an address.
const UNDER_WAY: Duration = Duration::from_secs(10);
/// Between two looks at a pool that is in use.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub(super) struct PoolFacts {
    pub(super) name: String,
    pub(super) cidr: Cidr,
    pub(super) is_deleting: bool,
    /// It has our finalizer.
    pub(super) is_guarded: bool,
}

impl PoolFacts {
    /// A pool that cannot be read is left alone.
    pub(super) fn of(object: Object) -> Option<PoolFacts> {
        let pool = Typed::<IpPool>::from_object(object).ok()?.resource;
        let finalizers = pool.metadata.finalizers.unwrap_or_default();
        Some(PoolFacts {
            name: pool.metadata.name?,
            cidr: pool.spec.cidr,
            is_deleting: pool.metadata.deletion_timestamp.is_some(),
            is_guarded: finalizers.iter().any(|name| name == names::POOL_FINALIZER),
        })
    }
}

impl Collector {
    pub(super) fn guard_pools(
        &mut self,
        now: SystemTime,
        snapshot: &Snapshot,
        presence: &BTreeMap<String, Presence>,
        sweep: &mut Sweep,
    ) {
        if !self.settings.guard_pools {
            return;
        }
        let deleting = snapshot.pools.iter().filter(|pool| pool.is_deleting);
        self.deleting
            .look(now, deleting.map(|pool| pool.name.clone()).collect());
        for pool in &snapshot.pools {
            match (pool.is_deleting, pool.is_guarded) {
                (false, false) => sweep.actions.push(Action::GuardPool(pool.name.clone())),
                (true, true) => self.end_pool(now, pool, snapshot, presence, sweep),
                (false, true) | (true, false) => {}
            }
        }
    }

    fn end_pool(
        &self,
        now: SystemTime,
        pool: &PoolFacts,
        snapshot: &Snapshot,
        presence: &BTreeMap<String, Presence>,
        sweep: &mut Sweep,
    ) {
        let blocks: Vec<&BlockFacts> = snapshot
            .blocks
            .iter()
            .filter(|block| is_of(block.cidr, pool, snapshot))
            .collect();
        let in_use = blocks
            .iter()
            .flat_map(|block| &block.held)
            .filter(|held| {
                let judgement = judge::judge(held, snapshot);
                !matches!(judgement, Judgement::Tunnel | Judgement::OfBlock)
            })
            .count();
        for block in &blocks {
            if let Some(node) = block.host().filter(|_| block.is_empty)
                && presence.get(node) == Some(&Presence::Here)
            {
                let action = Action::ReleaseEmptyBlock {
                    node: node.to_owned(),
                    block: block.cidr,
                };
                if !sweep.actions.contains(&action) {
                    sweep.actions.push(action);
                }
            }
        }
        sweep.pools.insert(pool.name.clone(), in_use);
        let since = self.deleting.since(&pool.name).unwrap_or(now);
        if in_use > 0 {
            sweep.look_again(now + PATIENCE);
        } else if is_busy(pool, &blocks, snapshot) || !memory::lasted(since, now, UNDER_WAY) {
            sweep.look_again((since + UNDER_WAY).max(now + UNDER_WAY / 2));
        } else {
            sweep.actions.push(Action::ReleasePool(pool.name.clone()));
        }
    }
}

/// Whether a block is of this pool; of nested pools it is the smallest one's.
fn is_of(block: Cidr, pool: &PoolFacts, snapshot: &Snapshot) -> bool {
    let contains = |pool: &PoolFacts| pool.cidr.contains(&block.net());
    let is_smaller = |other: &&PoolFacts| other.cidr.prefix_len() > pool.cidr.prefix_len();
    contains(pool) && !snapshot.pools.iter().filter(is_smaller).any(contains)
}

/// Whether anything is under way, or nobody knows: blocks that go or whose addresses cool down, claims, and blocks that
/// cannot be read.
fn is_busy(pool: &PoolFacts, blocks: &[&BlockFacts], snapshot: &Snapshot) -> bool {
    let settled = |block: &&&BlockFacts| match block.affinity {
        Some(_) => !block.held.is_empty(),
        None => block.is_empty || !block.held.is_empty(),
    };
    let settled: BTreeSet<Cidr> = blocks.iter().filter(settled).map(|b| b.cidr).collect();
    let claims = snapshot.affinities.iter();
    let claims = claims
        .filter(|claim| claim.state != AffinityState::Confirmed || !settled.contains(&claim.cidr));
    claims
        .map(|claim| claim.cidr)
        .chain(snapshot.cidrs.difference(&settled).copied())
        .any(|cidr| is_of(cidr, pool, snapshot))
}

#[cfg(test)]
mod tests;
