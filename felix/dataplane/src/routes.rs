//! The route table driver: what we want in the main table, what is there, and what to do about it.
//!
//! Nothing in this file touches the kernel. [`Table`] is told what is desired, what was listed and
//! what happened; [`Table::plan`] answers with operations; whoever carries them out reports back.
//!
//! Between the two a change is under way, and its key rests: nothing else is planned for it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Instant;

use felix_calc::{RouteClass, RouteNumbers};
use ipnet::IpNet;
use netlink::bulk::{Operation, RouteBatch};
use netlink::{Error, Route};

use crate::Failure;
use crate::delta::{Delta, Map, Set, Sides};
use crate::host::Host;
use crate::ownership::{Key, Ownership};
use felix_calc::intern::Id;

mod hold;
mod observe;
mod plan;
mod queue;
mod resolve;
mod shapes;
#[cfg(test)]
mod tests;
mod wanted;

pub(crate) use plan::Change;

use queue::{Lane, Queue};
use shapes::Shapes;
use wanted::Wanted;

/// Failures that are reported one by one.
const NAMED_FAILURES: usize = 100;
/// How often a key that somebody took from us is taken back between two listings.
const CONTESTED: u32 = 3;

/// The main table, as desired and as known.
#[derive(Debug)]
pub(crate) struct Table {
    ownership: Ownership,
    wanted: Wanted,
    holds: hold::Holds,
    /// Shapes of desired routes, and of those in the kernel.
    shapes: RefCell<Shapes>,
    /// A route of ours that the calculation does not know about: its key and its shape.
    extra: Option<(Key, Id)>,
    /// Routes that are ours or may become ours, and those that are desired.
    delta: Delta,
    /// Keys on which something is to be done.
    queue: Queue,
    /// Keys among those of the kernel whose route is not of our protocol.
    adopted: Set<Key>,
    /// All others.
    foreign: Map<Key, Vec<Route>>,
    /// What the kernel refused, not to be tried again before something changes.
    refused: Map<Key, Refused>,
    /// Keys that somebody else took or changed while they were right.
    drifted: Set<Key>,
    /// How often each key was taken from us and taken back since the last listing.
    contested: Map<Key, u32>,
    /// When held routes must be looked at again.
    look_again: Option<Instant>,
    /// Changes that are under way.
    under_way: usize,
    suspect: bool,
    repaired: u64,
    written: u64,
}

/// An operation that did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    /// Nothing if the interface just is not ready: that is no failure.
    problem: Option<String>,
}

impl Table {
    pub(crate) fn new(ownership: Ownership) -> Table {
        Table {
            ownership,
            wanted: Wanted::default(),
            holds: hold::Holds::default(),
            shapes: RefCell::default(),
            extra: None,
            delta: Delta::default(),
            queue: Queue::default(),
            adopted: Set::default(),
            foreign: Map::default(),
            refused: Map::default(),
            drifted: Set::default(),
            contested: Map::default(),
            look_again: None,
            under_way: 0,
            suspect: false,
            repaired: 0,
            written: 0,
        }
    }

    /// Says what should be at a destination.
    pub(crate) fn want(
        &mut self,
        destination: IpNet,
        route: Option<felix_calc::Route>,
        host: &Host,
    ) {
        let key = Key::wanted(destination);
        let held = self.holds.note(key, route.as_ref());
        let wish = route.map(|route| self.wish(route, host));
        let extra = self.extra.filter(|(extra, _)| *extra == key);
        let shape = match wish {
            // Decided when the kernel has been listed.
            Some(_) if held => None,
            Some(wish) => self.wanted.resolved(wish),
            None => extra.map(|(_, shape)| shape),
        };
        let (before, after) = self.change(&key, |sides| {
            sides.wish = wish;
            sides.desired = shape;
        });
        if let Some(unused) = self.wanted.moved(destination, before.wish, wish) {
            self.shapes.get_mut().release(unused);
        }
        self.follow(&key, &before, &after);
    }

    /// Nothing is wanted any more.
    pub(crate) fn want_nothing(&mut self, host: &Host) {
        let wanted = self.delta.iter().filter(|(_, sides)| sides.wish.is_some());
        let wanted: Vec<IpNet> = wanted.map(|(key, _)| key.destination).collect();
        for destination in wanted {
            self.want(destination, None, host);
        }
    }

    /// The number of a wish, with its route resolved.
    fn wish(&mut self, route: felix_calc::Route, host: &Host) -> Id {
        let (wish, new) = self.wanted.wish(route);
        if new {
            self.resolve(wish, host);
        }
        wish
    }

    /// Looks up the interfaces of a wish again; whether its route is another one now. The shape it
    /// had must be released when no record has it any more.
    fn resolve(&mut self, wish: Id, host: &Host) -> Option<Id> {
        let shapes = self.shapes.get_mut();
        let route = resolve::route(self.wanted.get(wish), self.ownership.protocol, host);
        let shape = route.map(|route| shapes.id(route));
        if let Some(shape) = shape {
            shapes.keep(shape);
        }
        self.wanted.resolve(wish, shape)
    }

    /// Whether any route for IPv6 is wanted.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.wanted.has_ipv6()
    }

    /// Says which route is needed besides those of the calculation.
    pub(crate) fn want_extra(&mut self, route: Option<Route>) {
        let shapes = self.shapes.get_mut();
        let extra = route.map(|route| (Key::of(&route), shapes.id(route)));
        if self.extra == extra {
            return;
        }
        if let Some((_, shape)) = extra {
            shapes.keep(shape);
        }
        let old = std::mem::replace(&mut self.extra, extra);
        for (key, shape) in [
            old.map(|(key, _)| (key, None)),
            extra.map(|(k, s)| (k, Some(s))),
        ]
        .into_iter()
        .flatten()
        {
            let (before, after) = self.change(&key, |sides| sides.desired = shape);
            self.follow(&key, &before, &after);
        }
        if let Some((_, shape)) = old {
            self.shapes.get_mut().release(shape);
        }
    }

    /// After another route is desired, what was wrong with the one before does not count.
    fn follow(&mut self, key: &Key, before: &Sides, after: &Sides) {
        if before.desired == after.desired {
            return;
        }
        self.drifted.remove(key);
        self.unrefuse(key);
    }

    /// Changes a record, and puts its key into the queue when there is something to do.
    fn change(&mut self, key: &Key, change: impl FnOnce(&mut Sides)) -> (Sides, Sides) {
        let refused = !self.refused.is_empty() && self.refused.contains_key(key);
        let mut lane = None;
        let changed = self.delta.change(key, |sides| {
            change(sides);
            if !refused {
                lane = enqueue(sides, &self.wanted);
            }
        });
        if let Some(lane) = lane {
            self.queue.push(*key, lane);
        }
        changed
    }

    fn set_actual(&mut self, key: &Key, shape: Option<Id>) {
        self.note_actual(key, shape, |_| {});
    }

    /// Notes what is in the kernel, and whatever else goes into the record with it.
    fn note_actual(&mut self, key: &Key, shape: Option<Id>, also: impl FnOnce(&mut Sides)) {
        let (before, _) = self.change(key, |sides| {
            sides.actual = shape;
            also(sides);
        });
        let shapes = self.shapes.get_mut();
        shapes.count(before.actual, shape);
        let is_adopted = shape.is_some_and(|id| shapes.get(id).protocol != self.ownership.protocol);
        if is_adopted {
            self.adopted.insert(*key);
        } else if !self.adopted.is_empty() {
            self.adopted.remove(key);
        }
    }

    fn refuse(&mut self, key: Key, problem: Option<String>) {
        self.refused.insert(key, Refused { problem });
    }

    fn unrefuse(&mut self, key: &Key) {
        if !self.refused.is_empty() && self.refused.remove(key).is_some() {
            self.change(key, |_| {});
        }
    }

    /// Routes learned by an earlier run stay while this holds.
    pub(crate) fn hold_learned(&mut self, hold: bool) {
        if self.ownership.hold_learned != hold {
            self.ownership.hold_learned = hold;
            self.look_at_held();
        }
    }

    /// Puts routes back into the queue that were not to be deleted yet.
    fn look_at_held(&mut self) {
        self.look_again = None;
        self.delta.change_all(|key, sides| {
            if !sides.held {
                return;
            }
            sides.held = false;
            if let Some(lane) = enqueue(sides, &self.wanted) {
                self.queue.push(key, lane);
            }
        });
    }

    /// Notes what became of an operation.
    pub(crate) fn applied(&mut self, change: &Change, result: Result<(), &Error>) {
        let key = change.key;
        self.under_way -= 1;
        match (change.operation, result) {
            (Operation::Add | Operation::Replace, Ok(())) => {
                self.note_actual(&key, Some(change.shape), |sides| sides.under_way = false);
                if !self.foreign.is_empty() && self.foreign.remove(&key).is_some() {
                    *self.contested.entry(key).or_default() += 1;
                }
                if !self.drifted.is_empty() && self.drifted.remove(&key) {
                    self.repaired += 1;
                }
                self.written += 1;
            }
            (Operation::Delete, Ok(()) | Err(Error::NotFound(_) | Error::NoDevice(_))) => {
                self.note_actual(&key, None, |sides| sides.under_way = false);
                self.written += 1;
            }
            // The event about the interface is on its way.
            (_, Err(Error::NoDevice(_) | Error::Down(_))) => {
                self.refuse(key, None);
                self.change(&key, |sides| sides.under_way = false);
            }
            (_, Err(error)) => {
                // What we believed to be free is not.
                self.suspect |= matches!(error, Error::Exists(_));
                self.refuse(key, Some(error.to_string()));
                self.change(&key, |sides| sides.under_way = false);
            }
        }
        self.shapes.get_mut().release(change.shape);
    }

    /// Nobody knows what became of an operation; a listing follows.
    pub(crate) fn lost(&mut self, change: &Change) {
        self.under_way -= 1;
        self.change(&change.key, |sides| sides.under_way = false);
        self.shapes.get_mut().release(change.shape);
    }

    /// The changes as the kernel takes them.
    pub(crate) fn batch(&mut self, changes: &[Change]) -> RouteBatch {
        let shapes = self.shapes.get_mut();
        let mut batch = RouteBatch::new();
        for change in changes {
            let pattern = shapes.pattern(change.shape);
            batch.push(change.operation, pattern, change.key.destination);
        }
        batch
    }

    /// Tries again what was refused.
    pub(crate) fn retry(&mut self) {
        for key in std::mem::take(&mut self.refused).into_keys() {
            self.change(&key, |_| {});
        }
    }

    /// Whether something is waiting to be tried again.
    pub(crate) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Whether the kernel did something that only a new listing explains.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Routes written and deleted so far, and those of them that repaired what others had broken.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.written, self.repaired)
    }

    /// Destinations of pods and blocks that are in the kernel as desired.
    pub(crate) fn programmed(&self) -> BTreeSet<IpNet> {
        self.wanted
            .local()
            .filter(|destination| self.is_programmed(**destination))
            .copied()
            .collect()
    }

    /// How many routes are in the kernel as desired; `local` are the pods and blocks among them.
    pub(crate) fn in_place(&self, local: &BTreeSet<IpNet>) -> RouteNumbers {
        let mut numbers = RouteNumbers::default();
        for wanted in local.iter().filter_map(|d| self.wanted_at(*d)) {
            match wanted.class {
                RouteClass::LocalWorkload => numbers.workloads += 1,
                RouteClass::IpamBlockDrop | RouteClass::PoolDrop => numbers.blocks += 1,
                RouteClass::PeerGateway
                | RouteClass::SameSubnet
                | RouteClass::Tunnel
                | RouteClass::NoEncap
                | RouteClass::Learned => {}
            }
        }
        let extra = self
            .extra
            .is_some_and(|(key, _)| self.delta.is_settled(&key));
        let others = numbers.workloads + numbers.blocks + usize::from(extra);
        // A route may be wanted where the extra one is.
        numbers.learned = self.delta.settled().saturating_sub(others);
        numbers
    }

    /// What is wanted at a destination, with any destination in it.
    fn wanted_at(&self, destination: IpNet) -> Option<&felix_calc::Route> {
        let wish = self.delta.get(&Key::wanted(destination)).wish?;
        Some(self.wanted.get(wish))
    }

    /// How many routes the kernel refuses.
    pub(crate) fn refused(&self) -> usize {
        let refused = self.refused.values();
        refused.filter(|refused| refused.problem.is_some()).count()
    }

    /// Whether the route to a destination is in the kernel as desired.
    pub(crate) fn is_programmed(&self, destination: IpNet) -> bool {
        self.delta.is_settled(&Key::wanted(destination))
    }

    /// How many routes wait for their interface.
    pub(crate) fn waiting(&self) -> usize {
        self.wanted.waiting()
    }

    /// What does not work, by destination; beyond a hundred, only how many.
    pub(crate) fn failures(&self) -> Vec<Failure> {
        let mut refused: Vec<(&Key, &String)> = self
            .refused
            .iter()
            .filter_map(|(key, refused)| Some((key, refused.problem.as_ref()?)))
            .collect();
        refused.sort();
        let named = refused.iter().take(NAMED_FAILURES).map(|(key, problem)| {
            let object = match self.wanted_at(key.destination) {
                Some(wanted) => resolve::describe(&felix_calc::Route {
                    destination: key.destination,
                    ..wanted.clone()
                }),
                None => format!("route {}", key.destination),
            };
            Failure {
                object,
                problem: (*problem).clone(),
            }
        });
        let mut failures: Vec<Failure> = named.collect();
        if let Some(more) = refused
            .len()
            .checked_sub(NAMED_FAILURES)
            .filter(|more| *more > 0)
        {
            failures.push(Failure {
                object: format!("{more} more routes"),
                problem: "not in the kernel either".to_owned(),
            });
        }
        failures
    }

    /// Routes that the calculation may use to find gateways.
    pub(crate) fn host_routes(&self) -> impl Iterator<Item = &Route> {
        self.foreign.values().flatten()
    }

    /// Every route that is not ours and leads to an address.
    pub(crate) fn others_to(&self, address: IpNet) -> Vec<Route> {
        let shapes = self.shapes.borrow();
        let adopted = self.adopted.iter();
        let adopted = adopted.filter(|key| key.destination.contains(&address));
        let adopted = adopted.filter_map(|key| {
            let shape = self.delta.get(key).actual?;
            Some(shapes.route(shape, key.destination))
        });
        let foreign = self.host_routes();
        let foreign = foreign.filter(|route| route.destination.contains(&address));
        foreign.cloned().chain(adopted).collect()
    }
}

/// Notes in a record that it is about to wait in the queue, and where; nothing if it does not.
fn enqueue(sides: &mut Sides, wanted: &Wanted) -> Option<Lane> {
    if !sides.differ() {
        sides.held = false;
        return None;
    }
    let lane = match (sides.desired, sides.wish) {
        (None, _) if sides.held => return None,
        (None, _) => Lane::Deletion,
        (Some(_), Some(wish)) if !wanted.is_local(wish) => Lane::Write,
        // Of a pod, of a block, or the extra one.
        (Some(_), _) => Lane::Urgent,
    };
    sides.held = false;
    if sides.under_way || sides.queued & lane.bit() != 0 {
        return None;
    }
    sides.queued |= lane.bit();
    Some(lane)
}
