//! What interrupted operations left of objects. Something under way looks the same, so only what does not change from
//! one look to the next is settled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use crds::block_affinity::AffinityState;
use crds::{Cidr, names};

use super::snapshot::Snapshot;
use super::{Action, Collector, Presence, Sweep, memory};

/// Kind and name, version.
pub(super) type Key = (String, String);

impl Collector {
    pub(super) fn settle_leftovers(
        &mut self,
        now: SystemTime,
        snapshot: &Snapshot,
        presence: &BTreeMap<String, Presence>,
        sweep: &mut Sweep,
    ) {
        let under_way = self.settings.under_way;
        let mut found = BTreeMap::new();
        for (object, version) in &snapshot.deleted {
            found.insert(
                (object.clone(), version.clone()),
                "its deletion is not finished",
            );
        }
        handles(snapshot, &mut found);
        blocks(snapshot, presence, &mut found);
        affinities(snapshot, presence, &mut found);
        self.leftovers.look(now, found.keys().cloned().collect());
        for (key, problem) in found {
            let since = self.leftovers.since(&key).unwrap_or(now);
            if memory::lasted(since, now, under_way) {
                let (object, problem) = (key.0, problem.to_owned());
                sweep.actions.push(Action::Settle { object, problem });
            } else {
                sweep.look_again(since + under_way);
            }
        }
    }
}

type Found = BTreeMap<Key, &'static str>;

fn handles(snapshot: &Snapshot, found: &mut Found) {
    let readable: BTreeSet<Cidr> = snapshot.blocks.iter().map(|block| block.cidr).collect();
    let mut actual: BTreeMap<String, BTreeMap<Cidr, u32>> = BTreeMap::new();
    for held in snapshot.held() {
        if let Some(id) = held.handle.as_deref() {
            let blocks = actual.entry(id.to_lowercase()).or_default();
            *blocks.entry(held.block).or_default() += 1;
        }
    }
    for handle in &snapshot.handles {
        let own = actual.remove(&handle.id).unwrap_or_default();
        // Of a block that cannot be read nobody knows.
        let judged = handle
            .counts
            .iter()
            .filter(|(cidr, _)| readable.contains(cidr) || !snapshot.cidrs.contains(cidr));
        let counted: BTreeMap<Cidr, u32> = judged.map(|(cidr, count)| (*cidr, *count)).collect();
        let is_idle = handle.counts.is_empty();
        if counted != own || is_idle {
            let object = format!("IPAMHandle {}", names::handle_name(&handle.id));
            found.insert(
                (object, handle.version.clone()),
                "it does not count what its owner has",
            );
        }
    }
    for (id, blocks) in actual {
        let object = format!("IPAMHandle {}", names::handle_name(&id));
        // Without an object what identifies the state is what is held.
        found.insert(
            (object, format!("{blocks:?}")),
            "its owner has addresses and it does not exist",
        );
    }
}

fn blocks(snapshot: &Snapshot, presence: &BTreeMap<String, Presence>, found: &mut Found) {
    let claims: BTreeSet<(&str, Cidr)> = snapshot
        .affinities
        .iter()
        .map(|affinity| (affinity.node.as_str(), affinity.cidr))
        .collect();
    for block in &snapshot.blocks {
        let problem = match block.host() {
            Some(node) if is_here(presence, node) && !claims.contains(&(node, block.cidr)) => {
                "its owner has no affinity for it"
            }
            None if block.affinity.is_none() && block.is_empty => {
                "it has neither owner nor addresses"
            }
            Some(_) | None => continue,
        };
        let object = format!("IPAMBlock {}", names::block_name(block.cidr));
        found.insert((object, block.version.clone()), problem);
    }
}

fn affinities(snapshot: &Snapshot, presence: &BTreeMap<String, Presence>, found: &mut Found) {
    let owners: BTreeMap<Cidr, Option<&str>> = snapshot
        .blocks
        .iter()
        .map(|block| (block.cidr, block.host()))
        .collect();
    let unreadable = |cidr: &Cidr| snapshot.cidrs.contains(cidr) && !owners.contains_key(cidr);
    for affinity in &snapshot.affinities {
        if !is_here(presence, &affinity.node) || unreadable(&affinity.cidr) {
            continue;
        }
        let owner = owners.get(&affinity.cidr).copied().flatten();
        let problem = match affinity.state {
            AffinityState::Confirmed if owner == Some(affinity.node.as_str()) => continue,
            AffinityState::Confirmed => "its block says otherwise",
            AffinityState::Pending => "its claim is not finished",
            AffinityState::PendingDeletion => "its release is not finished",
        };
        let object = format!(
            "BlockAffinity {}",
            names::affinity_name(&affinity.node, affinity.cidr)
        );
        found.insert((object, affinity.version.clone()), problem);
    }
}

fn is_here(presence: &BTreeMap<String, Presence>, node: &str) -> bool {
    presence.get(node) == Some(&Presence::Here)
}
