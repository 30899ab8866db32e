//! The route table driver: what we want in the main table, what is there, and what to do about it.
//!
//! Nothing in this file touches the kernel. [`Table`] is told what is desired, what was listed and
//! what happened; [`plan`] answers with operations; whoever carries them out reports back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use felix_calc::{RouteClass, RouteNumbers};
use ipnet::IpNet;
use netlink::bulk::RouteChange;
use netlink::{Error, Route, RouteKind};

use crate::Failure;
use crate::delta::{Delta, Map, Set};
use crate::host::Host;
use crate::ownership::{Key, Owner, Ownership};

mod observe;
mod plan;
mod resolve;
#[cfg(test)]
mod tests;
mod wanted;

pub(crate) use plan::{Place, Plan, plan};
pub(crate) use wanted::Wanted;

/// Failures that are reported one by one.
const NAMED_FAILURES: usize = 100;
/// How often a key that somebody took from us is taken back between two listings.
const CONTESTED: u32 = 3;

/// The main table, as desired and as known.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) ownership: Ownership,
    wanted: Wanted,
    /// A route of ours that the calculation does not know about.
    extra: Option<Arc<Route>>,
    /// Routes that are ours or may become ours.
    delta: Delta<Key, Arc<Route>>,
    /// All others.
    foreign: Map<Key, Vec<Route>>,
    /// What the kernel refused, not to be tried again before something changes.
    refused: Map<Key, Refused>,
    /// Keys that somebody else took or changed while they were right.
    drifted: Set<Key>,
    /// How often each key was taken from us and taken back since the last listing.
    contested: Map<Key, u32>,
    /// Destinations whose interfaces are not there or not up.
    waiting: Set<IpNet>,
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
            extra: None,
            delta: Delta::default(),
            foreign: Map::default(),
            refused: Map::default(),
            drifted: Set::default(),
            contested: Map::default(),
            waiting: Set::default(),
            suspect: false,
            repaired: 0,
            written: 0,
        }
    }

    /// Makes room for so many more destinations at once.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.wanted.reserve(more);
        self.delta.reserve(more);
    }

    /// Says what should be at a destination.
    pub(crate) fn want(
        &mut self,
        destination: IpNet,
        route: Option<felix_calc::Route>,
        host: &Host,
    ) {
        let resolved = resolved(self.ownership.protocol, route.as_ref(), host);
        self.expect(destination, route.is_some(), resolved);
        self.wanted.set(destination, route);
    }

    /// What is wanted.
    pub(crate) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Says which route is needed besides those of the calculation.
    pub(crate) fn want_extra(&mut self, route: Option<Route>) {
        if self.extra.as_deref() == route.as_ref() {
            return;
        }
        if let Some(old) = self.extra.take() {
            self.set_desired(Key::of(&old), None);
        }
        if let Some(route) = route.map(Arc::new) {
            self.set_desired(Key::of(&route), Some(route.clone()));
            self.extra = Some(route);
        }
    }

    fn resolve(&mut self, destination: IpNet, host: &Host) {
        let wanted = self.wanted.get(&destination);
        let resolved = resolved(self.ownership.protocol, wanted, host);
        self.expect(destination, wanted.is_some(), resolved);
    }

    /// Notes the route for a destination; one that is wanted without there being one waits for its
    /// interface.
    fn expect(&mut self, destination: IpNet, is_wanted: bool, route: Option<Arc<Route>>) {
        if route.is_none() && is_wanted {
            self.waiting.insert(destination);
        } else {
            self.waiting.remove(&destination);
        }
        self.set_desired(Key::wanted(destination), route);
    }

    fn set_desired(&mut self, key: Key, route: Option<Arc<Route>>) {
        if self.delta.set_desired(key, route) {
            self.refused.remove(&key);
            self.drifted.remove(&key);
        }
    }

    /// Takes over a complete listing of the main table.
    pub(crate) fn relist(&mut self, routes: Vec<Route>) {
        self.contested.clear();
        let mut actual: Map<Key, Arc<Route>> = Map::default();
        self.foreign.clear();
        for route in routes {
            let key = Key::of(&route);
            let owner = self.ownership.owner(&route);
            let taken =
                owner == Owner::Foreign || (owner != Owner::Ours && actual.contains_key(&key));
            let displaced = if taken {
                Some(route)
            } else {
                actual
                    .insert(key, Arc::new(route))
                    .map(Arc::unwrap_or_clone)
            };
            // One key can hold several IPv6 routes; ours is the one to work on.
            if let Some(displaced) = displaced {
                self.foreign.entry(key).or_default().push(displaced);
            }
        }
        let drifted = self.delta.replace_actual(actual);
        self.drifted.extend(drifted);
        self.refused.clear();
        self.suspect = false;
    }

    /// What to do now.
    pub(crate) fn plan(&mut self, now: Instant) -> Plan {
        let local = self
            .wanted
            .local()
            .map(|destination| Key::wanted(*destination));
        let plan = plan(
            &self.delta,
            local.chain(self.extra.as_deref().map(Key::of)),
            &self.ownership,
            |key| self.refused.contains_key(key),
            |key| self.place(key),
            now,
        );
        for key in &plan.conflicts {
            let other = self.foreign.get(key).and_then(|routes| routes.first());
            let problem = other
                .map(|other| format!("the place is taken by a route of somebody else: {other}"));
            self.refused.insert(*key, Refused { problem });
        }
        plan
    }

    /// Who else is at a key.
    fn place(&self, key: &Key) -> Place {
        let taken_from_us = || {
            self.drifted.contains(key)
                && self
                    .contested
                    .get(key)
                    .is_none_or(|times| *times < CONTESTED)
        };
        match self.foreign.get(key) {
            None => Place::Free,
            Some(_) if taken_from_us() => Place::TakenFromUs,
            Some(_) => Place::Taken,
        }
    }

    /// Notes what became of an operation.
    pub(crate) fn applied(&mut self, change: &RouteChange, result: Result<(), &Error>) {
        let key = Key::of(change.route());
        match (change, result) {
            (RouteChange::Add(route) | RouteChange::Replace(route), Ok(())) => {
                self.delta.set_actual(key, Some(route.clone()));
                if self.foreign.remove(&key).is_some() {
                    *self.contested.entry(key).or_default() += 1;
                }
                if self.drifted.remove(&key) {
                    self.repaired += 1;
                }
                self.written += 1;
            }
            (RouteChange::Delete(_), Ok(()) | Err(Error::NotFound(_) | Error::NoDevice(_))) => {
                self.delta.set_actual(key, None);
                self.written += 1;
            }
            // The event about the interface is on its way.
            (_, Err(Error::NoDevice(_) | Error::Down(_))) => {
                self.refused.insert(key, Refused { problem: None });
            }
            (_, Err(error)) => {
                // What we believed to be free is not.
                self.suspect |= matches!(error, Error::Exists(_));
                let problem = Some(error.to_string());
                self.refused.insert(key, Refused { problem });
            }
        }
    }

    /// Tries again what was refused.
    pub(crate) fn retry(&mut self) {
        self.refused.clear();
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
        for wanted in local.iter().filter_map(|d| self.wanted.get(d)) {
            match wanted.class {
                RouteClass::LocalWorkload => numbers.workloads += 1,
                RouteClass::IpamBlockDrop => numbers.blocks += 1,
                RouteClass::PeerGateway
                | RouteClass::SameSubnet
                | RouteClass::Tunnel
                | RouteClass::NoEncap
                | RouteClass::Learned => {}
            }
        }
        let extra = self.extra.as_deref().map(Key::of);
        let extra = usize::from(extra.is_some_and(|key| self.delta.is_settled(&key)));
        let others = numbers.workloads + numbers.blocks + extra;
        // A route may be wanted where the extra one is.
        numbers.learned = self.delta.settled().saturating_sub(others);
        numbers
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
        self.waiting.len()
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
            let object = match self.wanted.get(&key.destination) {
                Some(wanted) => resolve::describe(wanted),
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

    /// Every route that is not ours.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Route> {
        let tracked = self
            .delta
            .all_actual()
            .map(|(_, route)| route.as_ref())
            .filter(|route| route.protocol != self.ownership.protocol);
        self.host_routes().chain(tracked)
    }
}

/// A wanted route as the kernel has it, if its interface is there.
fn resolved(protocol: u8, wanted: Option<&felix_calc::Route>, host: &Host) -> Option<Arc<Route>> {
    resolve::route(wanted?, protocol, host).map(Arc::new)
}

/// The route as a deletion names it: by key, kind and protocol, whatever its next hops are.
fn deletion(route: &Arc<Route>) -> RouteChange {
    if route.kind == RouteKind::Unicast && route.nexthops.len() == 1 {
        return RouteChange::Delete(route.clone());
    }
    let mut named = Route::clone(route);
    named.nexthops.clear();
    RouteChange::Delete(Arc::new(named))
}
