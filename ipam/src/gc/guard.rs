//! Whether a snapshot can be believed before much is freed because of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crds::ipam_block::attribute;

use super::snapshot::{Snapshot, node_of};
use super::{Presence, Settings};

/// Why a snapshot is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// Something that may be a Node, a Pod or a block cannot be read.
    Unreadable(Vec<String>),
    /// There is no Node object at all.
    NoNodes,
    /// There is no Pod object at all, although nodes that are there hold addresses of pods.
    NoPods,
    /// Many nodes are gone at once.
    ManyNodesGone {
        /// How many of those with addresses or blocks.
        gone: usize,
        /// How many have any.
        all: usize,
    },
}

pub(super) fn judge(
    settings: &Settings,
    presence: &BTreeMap<String, Presence>,
    snapshot: &Snapshot,
) -> Option<Suspicion> {
    if !snapshot.unreadable.is_empty() {
        return Some(Suspicion::Unreadable(snapshot.unreadable.clone()));
    }
    if snapshot.nodes.is_empty() {
        return Some(Suspicion::NoNodes);
    }
    let here = |node: &str| presence.get(node) == Some(&Presence::Here);
    let of_pods = snapshot
        .held()
        .filter(|held| held.attributes.contains_key(attribute::POD));
    if settings.expect_pods && snapshot.pods.is_empty() && of_pods.filter_map(node_of).any(here) {
        return Some(Suspicion::NoPods);
    }
    let users: BTreeSet<&str> = snapshot.users().collect();
    let is_gone = |node: &&&str| presence.get(**node) == Some(&Presence::Gone);
    let (gone, all) = (users.iter().filter(is_gone).count(), users.len());
    let too_many = gone * 100 > all * usize::from(settings.max_gone_percent);
    (gone > 1 && too_many).then_some(Suspicion::ManyNodesGone { gone, all })
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Suspicion::Unreadable(objects) => {
                write!(f, "cannot be read: {}; mend them first", objects.join("; "))
            }
            Suspicion::NoNodes => {
                f.write_str("there is no Node object at all: check that the datastore is complete")
            }
            Suspicion::NoPods => f.write_str(
                "there is no Pod object at all, although nodes hold addresses of pods: check that Pods can be listed",
            ),
            Suspicion::ManyNodesGone { gone, all } => write!(
                f,
                "{gone} of {all} nodes with addresses are gone at once: check the Node objects, and if it is true, raise \
                 maxGonePercent"
            ),
        }
    }
}
