//! From the difference to operations. Pure.

use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;
use netlink::bulk::Operation;

use super::queue::Lane;
use super::{CONTESTED, Table};
use crate::ownership::{Key, Removal};
use felix_calc::intern::Id;

/// An operation, and the shape of the route it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) operation: Operation,
    pub(crate) key: Key,
    pub(super) shape: Id,
}

impl Change {
    /// Whether it is about the route to exactly this address.
    pub(crate) fn is_to(&self, address: IpAddr) -> bool {
        self.key.destination == IpNet::from(address)
    }
}

/// Who is at a key besides us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody.
    Free,
    /// Somebody who was there before us, or does not give up.
    Taken,
    /// Somebody who took it from us.
    TakenFromUs,
}

impl Table {
    /// What to do now, up to a number of operations; they are under way from then on.
    ///
    /// Routes of pods and blocks come first, then others, deletions last. What is desired is added
    /// where there is nothing and replaced in place where there is something of ours, or was; it
    /// is never deleted first.
    pub(crate) fn plan(&mut self, now: Instant, limit: usize) -> Vec<Change> {
        if self.look_again.is_some_and(|when| when <= now) {
            self.look_at_held();
        }
        let mut changes = Vec::new();
        while changes.len() < limit {
            let Some((key, lane)) = self.queue.pop() else {
                break;
            };
            changes.extend(self.consider(key, lane, now));
        }
        changes
    }

    /// When to plan again even if nothing happens.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.look_again
    }

    /// Whether there is something to plan.
    pub(crate) fn has_work(&self, now: Instant) -> bool {
        !self.queue.is_empty() || self.look_again.is_some_and(|when| when <= now)
    }

    /// Whether a change takes the route to a pod away.
    pub(crate) fn removes_pod(&self, change: &Change) -> bool {
        change.operation == Operation::Delete && {
            let shapes = self.shapes.borrow();
            let nexthops = &shapes.get(change.shape).nexthops;
            nexthops.len() == 1 && nexthops.iter().all(|nexthop| nexthop.via.is_none())
        }
    }

    fn consider(&mut self, key: Key, lane: Lane, now: Instant) -> Option<Change> {
        let sides = self.delta.get(&key);
        let refused = !self.refused.is_empty() && self.refused.contains_key(&key);
        if !sides.differ() || sides.under_way || refused {
            self.delta.change(&key, |sides| sides.queued &= !lane.bit());
            return None;
        }
        if sides.desired.is_none() && lane != Lane::Deletion {
            // A wish that was given up while it waited: it is in the right lane now.
            self.change(&key, |sides| sides.queued &= !lane.bit());
            return None;
        }
        let decided = match (sides.desired, sides.actual) {
            (Some(desired), actual) => self
                .write(&key, actual.is_some())
                .map(|operation| (operation, desired)),
            (None, Some(actual)) => self
                .may_go(&key, actual, now)
                .then_some((Operation::Delete, actual)),
            (None, None) => None,
        };
        let held = sides.desired.is_none();
        self.delta.change(&key, |sides| {
            sides.queued &= !lane.bit();
            match decided {
                Some(_) => sides.under_way = true,
                None => sides.held = held,
            }
        });
        let (operation, shape) = decided?;
        self.shapes.get_mut().keep(shape);
        self.under_way += 1;
        Some(Change {
            operation,
            key,
            shape,
        })
    }

    /// How a desired route comes into the kernel; not at all where its place is taken.
    fn write(&mut self, key: &Key, is_there: bool) -> Option<Operation> {
        match self.place(key) {
            Place::Free if !is_there => Some(Operation::Add),
            Place::Free | Place::TakenFromUs => Some(Operation::Replace),
            Place::Taken => {
                let other = self.foreign.get(key).and_then(|routes| routes.first());
                let problem = other.map(|other| {
                    format!("the place is taken by a route of somebody else: {other}")
                });
                self.refuse(*key, problem);
                None
            }
        }
    }

    /// Whether a route that is not desired may go now.
    fn may_go(&mut self, key: &Key, actual: Id, now: Instant) -> bool {
        if self.holds.contains(key) {
            return false;
        }
        match self.ownership.removal(self.shapes.get_mut().get(actual)) {
            Removal::Now => true,
            Removal::After(when) if when <= now => true,
            Removal::After(when) => {
                self.look_again = Some(self.look_again.map_or(when, |next| next.min(when)));
                false
            }
            Removal::Never => false,
        }
    }

    /// Who else is at a key.
    fn place(&self, key: &Key) -> Place {
        if self.foreign.is_empty() || !self.foreign.contains_key(key) {
            return Place::Free;
        }
        let contested = self.contested.get(key);
        if self.drifted.contains(key) && contested.is_none_or(|times| *times < CONTESTED) {
            Place::TakenFromUs
        } else {
            Place::Taken
        }
    }
}
