//! From the difference to operations. Pure.

use std::sync::Arc;
use std::time::Instant;

use netlink::Route;
use netlink::bulk::RouteChange;

use super::deletion;
use crate::delta::{Delta, Set};
use crate::ownership::{Key, Ownership, Removal};

/// Routes per round besides urgent ones, so that a pod's route never waits behind more than these.
const ROUND: usize = 16_384;

/// What to do, in this order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Additions and replacements of pods' and blocks' routes, then of others, then deletions.
    pub(crate) changes: Vec<RouteChange>,
    /// Desired keys that are taken by routes of others.
    pub(crate) conflicts: Vec<Key>,
    /// When there is something to do even if nothing happens.
    pub(crate) next: Option<Instant>,
}

/// Who is at a key besides us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nobody.
    Free,
    /// Somebody who was there before us, or does not give up.
    Taken,
    /// Somebody who took it from us.
    TakenFromUs,
}

/// Compares desired and actual routes.
///
/// `urgent` keys, few, are all looked at; of the others enough for a round.
/// `refused` keys are left alone until they are worth another try.
/// What is desired is added where there is nothing and replaced in place where there is
/// something of ours, or was; it never deletes first.
/// Keys come in no order, which suits the kernel: its trie is slowest in the order of addresses.
pub(crate) fn plan(
    delta: &Delta<Key, Arc<Route>>,
    urgent: impl Iterator<Item = Key>,
    ownership: &Ownership,
    refused: impl Fn(&Key) -> bool,
    place: impl Fn(&Key) -> Place,
    now: Instant,
) -> Plan {
    let mut plan = Plan::default();
    let mut seen = Set::default();
    let write = |plan: &mut Plan, key: &Key, desired: &Arc<Route>, there: bool| match place(key) {
        Place::Taken => plan.conflicts.push(*key),
        Place::Free if !there => plan.changes.push(RouteChange::Add(desired.clone())),
        Place::Free | Place::TakenFromUs => {
            plan.changes.push(RouteChange::Replace(desired.clone()));
        }
    };
    for key in urgent.filter(|key| delta.is_pending(key) && !refused(key)) {
        let sides = delta.sides(&key);
        if let Some((sides, desired)) = sides.and_then(|s| Some((s, s.desired.as_ref()?))) {
            write(&mut plan, &key, desired, sides.actual.is_some());
            seen.insert(key);
        }
    }
    let limit = plan.changes.len() + ROUND;
    let mut deletions = Vec::new();
    // To be written, as far as they have not been come across.
    let mut missing = delta.missing();
    for key in delta.pending() {
        if missing == 0 && deletions.len() == ROUND {
            // The rest of a mass deletion is not looked at each time.
            plan.be_back(now);
            break;
        }
        if refused(key) || seen.contains(key) {
            missing -= usize::from(delta.desired(key).is_some());
            continue;
        }
        if plan.changes.len() == limit {
            // The rest follows at once, and only then deletions.
            deletions.clear();
            plan.next = Some(now);
            break;
        }
        let Some(sides) = delta.sides(key) else {
            continue;
        };
        if let Some(desired) = &sides.desired {
            missing -= 1;
            write(&mut plan, key, desired, sides.actual.is_some());
            continue;
        }
        let Some(actual) = &sides.actual else {
            continue;
        };
        match ownership.removal(actual) {
            Removal::Never => {}
            Removal::After(when) if when > now => plan.be_back(when),
            Removal::Now | Removal::After(_) if deletions.len() < ROUND => {
                deletions.push(deletion(actual));
            }
            Removal::Now | Removal::After(_) => plan.be_back(now),
        }
    }
    plan.changes.append(&mut deletions);
    plan
}

impl Plan {
    fn be_back(&mut self, when: Instant) {
        self.next = Some(self.next.map_or(when, |next| next.min(when)));
    }
}
