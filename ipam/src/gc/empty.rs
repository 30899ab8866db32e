//! Blocks that their nodes do not need.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use crds::Cidr;
use crds::block_affinity::AffinityState;

use super::snapshot::{BlockFacts, Snapshot};
use super::{Action, Collector, Presence, Sweep, memory};
use crate::request::Family;

/// Block and version: whoever uses it in between writes it.
pub(super) type Key = (Cidr, String);

impl Collector {
    /// Empty blocks are given back once they were empty for the grace period. A node keeps one block of each family, and
    /// one with a free address where it has one.
    pub(super) fn release_empty_blocks(
        &mut self,
        now: SystemTime,
        snapshot: &Snapshot,
        presence: &BTreeMap<String, Presence>,
        sweep: &mut Sweep,
    ) {
        let key = |block: &BlockFacts| (block.cidr, block.version.clone());
        let empty = snapshot
            .blocks
            .iter()
            .filter(|block| block.is_empty && block.host().is_some());
        self.empty.look(now, empty.map(key).collect());
        let Some(grace) = self.settings.grace else {
            return;
        };
        let confirmed: BTreeSet<(&str, Cidr)> = snapshot
            .affinities
            .iter()
            .filter(|affinity| affinity.state == AffinityState::Confirmed)
            .map(|affinity| (affinity.node.as_str(), affinity.cidr))
            .collect();
        let mut of_node: BTreeMap<(&str, Family), Vec<&BlockFacts>> = BTreeMap::new();
        for block in &snapshot.blocks {
            if let Some(node) = block.host()
                && presence.get(node) == Some(&Presence::Here)
                && confirmed.contains(&(node, block.cidr))
            {
                let family = Family::of_cidr(block.cidr);
                of_node.entry((node, family)).or_default().push(block);
            }
        }
        for ((node, _), mut blocks) in of_node {
            // From the end, so that the lowest block stays.
            blocks.sort_by_key(|block| block.cidr);
            for index in (0..blocks.len()).rev() {
                let block = blocks[index];
                let Some(since) = self.empty.since(&key(block)) else {
                    continue;
                };
                let others_have_room = blocks
                    .iter()
                    .any(|other| other.cidr != block.cidr && other.free > 0);
                if !others_have_room {
                    continue;
                }
                if !memory::lasted(since, now, grace) {
                    sweep.look_again(since + grace);
                    continue;
                }
                blocks.remove(index);
                sweep.actions.push(Action::ReleaseEmptyBlock {
                    node: node.to_owned(),
                    block: block.cidr,
                });
            }
        }
    }
}
