//! From the difference to operations. Pure.

use std::time::Instant;

use netlink::bulk::RouteChange;

use super::deletion;
use crate::delta::Delta;
use crate::ownership::{Key, Ownership, Removal};
use netlink::Route;

/// Learned routes per round, so that a pod's route never waits behind more than these.
const ROUND: usize = 16_384;

/// What to do, in this order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Additions and replacements of routes without a gateway, then of others, then deletions.
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
/// `refused` keys are left alone until they are worth another try.
/// What is desired is added where there is nothing and replaced in place where there is
/// something of ours, or was; it never deletes first.
pub(crate) fn plan(
    delta: &Delta<Key, Route>,
    ownership: &Ownership,
    refused: impl Fn(&Key) -> bool,
    place: impl Fn(&Key) -> Place,
    now: Instant,
) -> Plan {
    let mut plan = Plan::default();
    let mut learned = Vec::new();
    let mut deletions = Vec::new();
    let mut more = false;
    for key in delta.pending().filter(|key| !refused(key)) {
        let change = match (delta.desired(key), delta.actual(key)) {
            (Some(desired), actual) => match place(key) {
                Place::Taken => {
                    plan.conflicts.push(*key);
                    continue;
                }
                Place::Free if actual.is_none() => RouteChange::Add(desired.clone()),
                Place::Free | Place::TakenFromUs => RouteChange::Replace(desired.clone()),
            },
            (None, Some(actual)) => {
                match ownership.removal(actual) {
                    Removal::After(when) if when > now => {
                        plan.next = Some(plan.next.map_or(when, |next| next.min(when)));
                    }
                    Removal::Now | Removal::After(_) if deletions.len() < ROUND => {
                        deletions.push(deletion(actual));
                    }
                    Removal::Now | Removal::After(_) => more = true,
                    Removal::Never => {}
                }
                continue;
            }
            (None, None) => continue,
        };
        let has_gateway = change
            .route()
            .nexthops
            .iter()
            .any(|nexthop| nexthop.via.is_some());
        if !has_gateway {
            plan.changes.push(change);
        } else if learned.len() < ROUND {
            learned.push(change);
        } else {
            more = true;
        }
    }
    plan.changes.append(&mut learned);
    plan.changes.append(&mut deletions);
    if more {
        plan.next = Some(now);
    }
    plan
}
