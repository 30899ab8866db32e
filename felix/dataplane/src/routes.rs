//! The route table driver: what we want in the main table, what is there, and what to do about it.
//!
//! Nothing in this file touches the kernel. [`Table`] is told what is desired, what was listed and
//! what happened; [`plan`] answers with operations; whoever carries them out reports back.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use felix_calc::Target;
use ipnet::IpNet;
use netlink::bulk::RouteChange;
use netlink::{Error, Link, Route, RouteKind, TABLE_MAIN};

use crate::Failure;
use crate::delta::Delta;
use crate::host::Host;
use crate::ownership::{Key, Owner, Ownership};

mod plan;
mod resolve;
#[cfg(test)]
mod tests;

pub(crate) use plan::{Place, Plan, plan};

/// Failures that are reported one by one.
const NAMED_FAILURES: usize = 100;
/// How often a key that somebody took from us is taken back between two listings.
const CONTESTED: u32 = 3;

/// The main table, as desired and as known.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) ownership: Ownership,
    /// What the calculation wants, in its terms.
    wanted: HashMap<IpNet, felix_calc::Route>,
    /// Destinations that depend on an interface.
    by_interface: HashMap<Arc<str>, HashSet<IpNet>>,
    /// Destinations of pods and blocks.
    local: BTreeSet<IpNet>,
    /// A route of ours that the calculation does not know about.
    extra: Option<Route>,
    /// Routes that are ours or may become ours.
    delta: Delta<Key, Route>,
    /// All others.
    foreign: HashMap<Key, Vec<Route>>,
    /// What the kernel refused, not to be tried again before something changes.
    refused: HashMap<Key, Refused>,
    /// Keys that somebody else took or changed while they were right.
    drifted: HashSet<Key>,
    /// How often each key was taken from us and taken back since the last listing.
    contested: HashMap<Key, u32>,
    /// Destinations whose interfaces are not there or not up.
    waiting: HashSet<IpNet>,
    /// How many wanted destinations are IPv6.
    ipv6: usize,
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
            wanted: HashMap::new(),
            by_interface: HashMap::new(),
            local: BTreeSet::new(),
            extra: None,
            delta: Delta::default(),
            foreign: HashMap::new(),
            refused: HashMap::new(),
            drifted: HashSet::new(),
            contested: HashMap::new(),
            waiting: HashSet::new(),
            ipv6: 0,
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
        let count = usize::from(matches!(destination, IpNet::V6(_)));
        if let Some(old) = self.wanted.remove(&destination) {
            self.ipv6 -= count;
            for interface in resolve::interfaces(&old.target) {
                if let Some(destinations) = self.by_interface.get_mut(interface) {
                    destinations.remove(&destination);
                    if destinations.is_empty() {
                        self.by_interface.remove(interface);
                    }
                }
            }
            self.local.remove(&destination);
        }
        if let Some(route) = route {
            for interface in resolve::interfaces(&route.target) {
                self.by_interface
                    .entry(interface.clone())
                    .or_default()
                    .insert(destination);
            }
            if !matches!(route.target, Target::Via(_)) {
                self.local.insert(destination);
            }
            self.wanted.insert(destination, route);
            self.ipv6 += count;
        }
        self.resolve(destination, host);
    }

    /// Destinations that are wanted now.
    pub(crate) fn all_wanted(&self) -> Vec<IpNet> {
        self.wanted.keys().copied().collect()
    }

    /// Whether any route for IPv6 is wanted.
    pub(crate) fn wants_ipv6(&self) -> bool {
        self.ipv6 > 0
    }

    /// Says which route is needed besides those of the calculation.
    pub(crate) fn want_extra(&mut self, route: Option<Route>) {
        if self.extra == route {
            return;
        }
        if let Some(old) = self.extra.take() {
            self.set_desired(Key::of(&old), None);
        }
        if let Some(route) = route {
            self.set_desired(Key::of(&route), Some(route.clone()));
            self.extra = Some(route);
        }
    }

    fn resolve(&mut self, destination: IpNet, host: &Host) {
        let route = self
            .wanted
            .get(&destination)
            .and_then(|wanted| resolve::route(wanted, self.ownership.protocol, host));
        if route.is_none() && self.wanted.contains_key(&destination) {
            self.waiting.insert(destination);
        } else {
            self.waiting.remove(&destination);
        }
        self.set_desired(Key::wanted(destination), route);
    }

    fn set_desired(&mut self, key: Key, route: Option<Route>) {
        if self.delta.desired(&key) == route.as_ref() {
            return;
        }
        self.refused.remove(&key);
        self.drifted.remove(&key);
        self.delta.set_desired(key, route);
    }

    /// Takes over a complete listing of the main table.
    pub(crate) fn relist(&mut self, routes: Vec<Route>) {
        self.contested.clear();
        let mut actual = HashMap::new();
        self.foreign.clear();
        for route in routes {
            let key = Key::of(&route);
            let owner = self.ownership.owner(&route);
            let taken =
                owner == Owner::Foreign || (owner != Owner::Ours && actual.contains_key(&key));
            let displaced = if taken {
                Some(route)
            } else {
                actual.insert(key, route)
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

    /// A route is new or different in the kernel.
    pub(crate) fn appeared(&mut self, route: Route, replaced: bool) {
        if route.table != TABLE_MAIN {
            return;
        }
        let key = Key::of(&route);
        let settled = self.delta.is_settled(&key);
        if replaced {
            self.foreign.remove(&key);
            self.delta.set_actual(key, None);
        } else if self.delta.actual(&key).is_some() {
            // Beside or instead of ours? Only a listing tells.
            self.suspect = true;
        }
        if self.ownership.owner(&route) == Owner::Foreign {
            let others = self.foreign.entry(key).or_default();
            // A next hop that was added to a multipath route comes with all the others.
            others.retain(|other| {
                !other
                    .nexthops
                    .iter()
                    .all(|hop| route.nexthops.contains(hop))
            });
            others.push(route);
        } else {
            self.delta.set_actual(key, Some(route));
        }
        self.note_drift(key, settled);
    }

    /// A route is gone from the kernel.
    pub(crate) fn vanished(&mut self, route: &Route) {
        if route.table != TABLE_MAIN {
            return;
        }
        let key = Key::of(route);
        let settled = self.delta.is_settled(&key);
        if self.delta.actual(&key) == Some(route) {
            self.delta.set_actual(key, None);
        } else if !self.forget_foreign(key, route) {
            // One that was dropped from here with its interface is no surprise. One that is
            // described unlike the one we know is, where it matters.
            let matters = self.delta.desired(&key).is_some() || self.delta.actual(&key).is_some();
            self.suspect |= matters;
        }
        self.note_drift(key, settled);
    }

    fn forget_foreign(&mut self, key: Key, route: &Route) -> bool {
        let Some(others) = self.foreign.get_mut(&key) else {
            return false;
        };
        let before = others.len();
        others.retain(|other| other != route);
        let found = others.len() < before;
        if others.is_empty() {
            self.foreign.remove(&key);
        }
        found
    }

    fn note_drift(&mut self, key: Key, settled: bool) {
        if settled && !self.delta.is_settled(&key) {
            self.drifted.insert(key);
        }
        self.refused.remove(&key);
    }

    /// An interface is new, different or gone; `host` knows about it already.
    pub(crate) fn link_changed(
        &mut self,
        old: Option<&Link>,
        new: Option<&Link>,
        host: &Host,
        now: Instant,
    ) {
        if let Some(link) = old.or(new) {
            let was_up = old.is_some_and(|link| link.admin_up);
            if was_up && !new.is_some_and(|link| link.admin_up) {
                self.forget_device(link.index, host);
            }
            self.classify_device(link.index, new, host, now);
        }
        let what_matters = |link: &Link| (link.index, link.name.clone(), link.admin_up);
        if old.map(what_matters) == new.map(what_matters) {
            return;
        }
        let old_name = old.map(|link| link.name.as_str());
        let new_name = new.map(|link| link.name.as_str());
        let names = old_name
            .into_iter()
            .chain(new_name.filter(|_| old_name != new_name));
        for name in names {
            let destinations = self.by_interface.get(name).cloned().unwrap_or_default();
            for destination in destinations {
                self.refused.remove(&Key::wanted(destination));
                self.resolve(destination, host);
            }
        }
    }

    /// With its last interface a route goes, and for IPv4 nobody says so.
    fn forget_device(&mut self, index: u32, host: &Host) {
        let is_up = |device: Option<u32>| {
            device
                .and_then(|device| host.by_index(device))
                .is_some_and(|link| link.admin_up)
        };
        let only = |route: &Route| {
            route.uses_device(index) && !route.nexthops.iter().any(|nexthop| is_up(nexthop.device))
        };
        let gone: Vec<Key> = self
            .delta
            .all_actual()
            .filter(|(_, route)| only(route))
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            self.delta.set_actual(key, None);
        }
        self.foreign.retain(|_, routes| {
            routes.retain(|route| !only(route));
            !routes.is_empty()
        });
    }

    /// Whose the routes of an interface are depends on whether it leads to a pod.
    fn classify_device(&mut self, index: u32, link: Option<&Link>, host: &Host, now: Instant) {
        let is_workload = link.is_some_and(|link| host.is_workload(&link.name));
        if is_workload == self.ownership.workloads.contains_key(&index) {
            return;
        }
        if is_workload {
            self.ownership.workloads.insert(index, now);
        } else {
            self.ownership.workloads.remove(&index);
        }
        let mut routes = Vec::new();
        for others in self.foreign.values_mut() {
            routes.extend(others.extract_if(.., |route| route.uses_device(index)));
        }
        self.foreign.retain(|_, routes| !routes.is_empty());
        let tracked: Vec<Key> = self
            .delta
            .all_actual()
            .filter(|(_, route)| route.uses_device(index))
            .map(|(key, _)| *key)
            .collect();
        for key in tracked {
            routes.extend(self.delta.actual(&key).cloned());
            self.delta.set_actual(key, None);
        }
        for route in routes {
            let key = Key::of(&route);
            if self.ownership.owner(&route) == Owner::Foreign {
                self.foreign.entry(key).or_default().push(route);
            } else {
                self.delta.set_actual(key, Some(route));
            }
        }
    }

    /// What to do now.
    pub(crate) fn plan(&mut self, now: Instant) -> Plan {
        let plan = plan(
            &self.delta,
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
        self.local
            .iter()
            .filter(|destination| self.is_programmed(**destination))
            .copied()
            .collect()
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
            .map(|(_, route)| route)
            .filter(|route| route.protocol != self.ownership.protocol);
        self.host_routes().chain(tracked)
    }
}

/// The route as a deletion names it: by key, kind and protocol, whatever its next hops are.
fn deletion(route: &Route) -> RouteChange {
    let mut route = route.clone();
    if route.kind != RouteKind::Unicast || route.nexthops.len() != 1 {
        route.nexthops.clear();
    }
    RouteChange::Delete(route)
}
