//! Events: what somebody who looks at the Node or at an object should know happened.
//!
//! `Judge` decides from what is wrong now and what was wrong before; the task writes. Each incident is
//! told when it begins, at most once in a while, and an agent tells little in a minute whatever
//! happens. Where several agents see the same about an object, the name of the Event is the same, so
//! that the API server keeps one. An Event that cannot be written is lost, and nothing depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use bgp::State;
use crds::core::time_text;
use crds::{IpPool, IpamBlock, Kind};
use datastore::{Datastore, Notice, list_typed};
use felix_calc::Problem;
use sha1::{Digest, Sha1};
use tokio::time::{Instant, interval, sleep};

use crate::board::Board;

mod judge;
#[cfg(test)]
mod tests;

use judge::{Incident, Judge};

/// Changes that come within this time are looked at together.
const TOGETHER: Duration = Duration::from_secs(2);
/// Between two looks at how full the pools are.
const POOLS: Duration = Duration::from_secs(300);
/// From this share on a pool is nearly full, and below that one it is no longer, in percent.
const FULL: u64 = 90;
const ROOM: u64 = 85;

/// Where it stands how full a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// In its status, which the controller writes; without one nothing is known.
    InStatus,
    /// Nowhere: the blocks are counted.
    InBlocks,
}

/// Writes Events for ever.
///
/// # Errors
/// None.
pub async fn run(
    store: Arc<dyn Datastore>,
    node: String,
    count: Count,
    board: Arc<Board>,
) -> Result<()> {
    let mut judge = Judge::new(Instant::now());
    let mut calc = board.calc.subscribe();
    let mut speaker = board.speaker.subscribe();
    let mut own = board.node.subscribe();
    let mut stored = board.stored.subscribe();
    let mut pools_due = interval(POOLS);
    let mut full = BTreeMap::new();
    let mut sessions = Sessions::default();
    loop {
        tokio::select! {
            Ok(()) = calc.changed() => {}
            Ok(()) = speaker.changed() => {}
            Ok(()) = own.changed() => {}
            Ok(()) = stored.changed() => {}
            _ = pools_due.tick() => full = nearly_full(&*store, count, full).await,
        }
        sleep(TOGETHER).await;
        let mut incidents = sessions.down(&board);
        incidents.extend(full.values().cloned());
        incidents.extend(address_conflict(&board));
        incidents.extend(refused(&board));
        for incident in judge.news(incidents, Instant::now()) {
            tell(&*store, &node, incident).await;
        }
    }
}

/// Writes one, or says in the log what is to be said.
async fn tell(store: &dyn Datastore, node: &str, incident: Incident) {
    let Incident {
        reason,
        about,
        text,
        ..
    } = &incident;
    tracing::info!(reason, about = about.as_deref(), text, "event");
    let notice = notice(node, &incident, SystemTime::now());
    if let Err(error) = store.record(&notice).await {
        tracing::debug!(%error, reason, "event is not written");
    }
}

/// The Event of an incident: about an object if it is one that we know, else about the Node.
fn notice(node: &str, incident: &Incident, now: SystemTime) -> Notice {
    let object = incident.about.as_deref().and_then(known_object);
    let (kind, name) = object.unwrap_or((Kind::Node, node));
    // Who else sees the same about the object makes the same name; about a node only its agent speaks.
    let begun = match kind {
        Kind::Node => time_text(now),
        _ => String::new(),
    };
    let mut hash = Sha1::new();
    for part in [incident.reason, &incident.key, &begun] {
        hash.update(part);
        hash.update([0]);
    }
    let hash: String = hash
        .finalize()
        .iter()
        .take(8)
        .map(|b| format!("{b:02x}"))
        .collect();
    Notice {
        // As much of the name as fits into the name of an object.
        name: format!("{}.{hash}", name.chars().take(200).collect::<String>()),
        kind,
        object: name.to_owned(),
        reason: incident.reason.to_owned(),
        text: incident.text.chars().take(1000).collect(),
        node: node.to_owned(),
        time: time_text(now),
    }
}

/// `BGPPeer/tor` or `BGPPeer tor` as kind and name, if it is one object of a kind of ours.
fn known_object(text: &str) -> Option<(Kind, &str)> {
    let (kind, name) = text.split_once(['/', ' '])?;
    let kind = Kind::ALL.into_iter().find(|one| one.name() == kind)?;
    (kind.is_custom() && !name.contains(['/', ' ', ','])).then_some((kind, name))
}

/// Sessions that were up: one that never was is a matter of configuration.
#[derive(Default)]
struct Sessions {
    were_up: BTreeSet<bgp::PeerKey>,
}

impl Sessions {
    fn down(&mut self, board: &Board) -> Vec<Incident> {
        let section = board.calc.borrow().bgp.clone();
        let speaker = board.speaker.borrow();
        let wanted: BTreeMap<bgp::PeerKey, String> = section
            .iter()
            .flat_map(|bgp| bgp.peers.values())
            .map(|spec| (crate::speaker::key(spec), spec.object.clone()))
            .collect();
        self.were_up.retain(|key| wanted.contains_key(key));
        let mut incidents = Vec::new();
        for (key, info) in speaker
            .peers
            .iter()
            .filter(|(key, _)| wanted.contains_key(key))
        {
            if info.state == State::Established {
                self.were_up.insert(key.clone());
                continue;
            }
            if !self.were_up.contains(key) {
                continue;
            }
            let why = info.last_error.as_deref().unwrap_or("no reason was given");
            incidents.push(Incident {
                reason: "BGPSessionDown",
                key: key.to_string(),
                about: None,
                text: format!(
                    "the BGP session with {key} ({}) is down: {why}",
                    wanted[key]
                ),
            });
        }
        incidents
    }
}

fn address_conflict(board: &Board) -> Option<Incident> {
    let node = board.node.borrow();
    let conflict = node.reason == "Conflict";
    conflict.then(|| Incident {
        reason: "AddressConflict",
        key: String::new(),
        about: None,
        text: match &node.problem {
            Some(problem) => problem.to_string(),
            None => "another Node has the address of this one".to_owned(),
        },
    })
}

/// Objects of our kinds of which something is not obeyed. Nodes come without address into every cluster
/// and get one, which is no news.
fn refused(board: &Board) -> Vec<Incident> {
    let mut problems: BTreeSet<Problem> = board.calc.borrow().problems.iter().cloned().collect();
    problems.extend(board.stored.borrow().values().cloned());
    let problems = problems
        .into_iter()
        .filter(|one| known_object(&one.object).is_some());
    let incidents = problems.map(|problem| Incident {
        reason: "ConfigurationRefused",
        key: format!("{} {} {}", problem.object, problem.field, problem.problem),
        about: Some(problem.object.clone()),
        text: problem.to_string(),
    });
    incidents.collect()
}

/// Pools of which most addresses are in use. A datastore that is away changes nothing.
async fn nearly_full(
    store: &dyn Datastore,
    count: Count,
    before: BTreeMap<String, Incident>,
) -> BTreeMap<String, Incident> {
    let blocks = match count {
        Count::InStatus => Ok(Vec::new()),
        Count::InBlocks => list_typed::<IpamBlock>(store).await,
    };
    let (Ok(pools), Ok(blocks)) = (list_typed::<IpPool>(store).await, blocks) else {
        return before;
    };
    let pools = pools
        .iter()
        .map(|pool| &pool.resource)
        .filter(|pool| !pool.spec.disabled());
    let mut full = BTreeMap::new();
    for pool in pools {
        let Some(name) = pool.metadata.name.clone() else {
            continue;
        };
        let counted = match count {
            Count::InStatus => pool.status.as_ref().and_then(|status| status.used),
            Count::InBlocks => {
                let blocks = blocks.iter().map(|block| &block.resource.spec);
                Some(pool.spec.used(blocks))
            }
        };
        let Some(used) = counted else {
            continue;
        };
        let size = pool.spec.cidr.size();
        let limit = if before.contains_key(&name) {
            ROOM
        } else {
            FULL
        };
        if u128::from(used).saturating_mul(100) >= size.saturating_mul(limit.into()) {
            let text = format!("{used} of the {size} addresses of IPPool/{name} are in use");
            full.insert(
                name.clone(),
                Incident {
                    reason: "PoolNearlyFull",
                    key: name.clone(),
                    about: Some(format!("IPPool/{name}")),
                    text,
                },
            );
        }
    }
    full
}
