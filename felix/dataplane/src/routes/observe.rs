//! What happened in the kernel, taken into the account.

use std::time::Instant;

use ipnet::IpNet;
use netlink::{Link, Route, TABLE_MAIN};

use super::{Table, enqueue};
use crate::delta::Set;
use crate::host::Host;
use crate::overlay;
use crate::ownership::{Key, Owner};
use felix_calc::intern::Id;

/// A route of a listing, as far as it matters.
#[derive(Debug)]
pub(crate) enum Listed {
    /// Ours, or such as may become ours.
    Tracked(Key, Id, Owner),
    /// Somebody else's.
    Foreign(Route),
}

impl Table {
    /// What a route of a listing is.
    pub(crate) fn listed(&self, route: Route) -> Listed {
        match self.ownership.owner(&route) {
            Owner::Foreign => Listed::Foreign(route),
            owner => Listed::Tracked(Key::of(&route), self.shapes.borrow_mut().id(route), owner),
        }
    }

    /// Takes over a complete listing of the main table. Nothing may be under way.
    pub(crate) fn relist(&mut self, routes: Vec<Listed>) {
        self.contested.clear();
        self.foreign.clear();
        self.refused.clear();
        self.suspect = false;
        let mut settled = Vec::new();
        for route in routes {
            let (key, shape, owner) = match route {
                Listed::Tracked(key, shape, owner) => (key, shape, owner),
                Listed::Foreign(route) => {
                    self.foreign.entry(Key::of(&route)).or_default().push(route);
                    continue;
                }
            };
            let before = self.delta.get(&key);
            // One key can hold several IPv6 routes; ours is the one to work on.
            let displaced = match before.actual.filter(|_| before.listed) {
                Some(_) if owner != Owner::Ours => Some(shape),
                other => {
                    if before.are_settled() && !before.listed && before.actual != Some(shape) {
                        settled.push(key);
                    }
                    self.note_actual(&key, Some(shape), |sides| sides.listed = true);
                    other
                }
            };
            if let Some(shape) = displaced {
                let route = self.shapes.get_mut().route(shape, key.destination);
                self.foreign.entry(key).or_default().push(route);
            }
        }
        let mut gone = Vec::new();
        self.delta.change_all(|key, sides| {
            if !sides.listed && sides.actual.is_some() {
                if sides.are_settled() {
                    settled.push(key);
                }
                gone.push(key);
            }
            sides.listed = false;
            // What was refused is tried again, what was held is looked at again.
            sides.held = false;
            if let Some(lane) = enqueue(sides, &self.wanted) {
                self.queue.push(key, lane);
            }
        });
        for key in gone {
            self.set_actual(&key, None);
        }
        settled.retain(|key| !self.delta.is_settled(key));
        self.drifted.extend(settled);
        self.shapes.get_mut().sweep();
    }

    /// A route is new or different in the kernel.
    pub(crate) fn appeared(&mut self, route: Route, replaced: bool) {
        if route.table != TABLE_MAIN {
            return;
        }
        let key = Key::of(&route);
        let before = self.delta.get(&key);
        // Before or after the change of ours that is under way? Only a listing tells.
        self.suspect |= before.under_way;
        if replaced {
            self.foreign.remove(&key);
            self.set_actual(&key, None);
        } else if before.actual.is_some() {
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
            let shape = self.shapes.get_mut().id(route);
            self.set_actual(&key, Some(shape));
        }
        self.note_drift(key, before.are_settled());
    }

    /// A route is gone from the kernel.
    pub(crate) fn vanished(&mut self, route: &Route) {
        if route.table != TABLE_MAIN {
            return;
        }
        let key = Key::of(route);
        let before = self.delta.get(&key);
        self.suspect |= before.under_way;
        let shape = self.shapes.get_mut().id(route.clone());
        if before.actual == Some(shape) {
            self.set_actual(&key, None);
        } else if !self.forget_foreign(key, route) {
            // One that was dropped from here with its interface is no surprise. One that is
            // described unlike the one we know is, where it matters.
            self.suspect |= before.desired.is_some() || before.actual.is_some();
        }
        self.note_drift(key, before.are_settled());
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
        self.unrefuse(&key);
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
                self.forget_device(link, host);
            }
            self.classify_device(link.index, new, host, now);
        }
        let what_matters = |link: &Link| {
            let mtu = overlay::is_tunnel(&link.name).then_some(link.mtu);
            (link.index, link.name.clone(), link.admin_up, mtu)
        };
        if old.map(what_matters) == new.map(what_matters) {
            return;
        }
        let old_name = old.map(|link| link.name.as_str());
        let new_name = new.map(|link| link.name.as_str());
        let names = old_name
            .into_iter()
            .chain(new_name.filter(|_| old_name != new_name));
        for name in names {
            self.reroute(name, host);
        }
    }

    /// Looks up everything anew that leaves by an interface.
    pub(crate) fn reroute(&mut self, interface: &str, host: &Host) {
        let depending: Set<Id> = self.wanted.depending_on(interface).into_iter().collect();
        if depending.is_empty() {
            return;
        }
        let unused: Vec<Id> = depending
            .iter()
            .filter_map(|wish| self.resolve(*wish, host))
            .collect();
        let is_local = |wish: &Id| self.wanted.is_local(*wish);
        let keys: Vec<Key> = if depending.iter().all(is_local) {
            let pods = self.wanted.pods(interface);
            pods.into_iter().map(Key::wanted).collect()
        } else {
            let depends = |wish: Option<Id>| wish.is_some_and(|wish| depending.contains(&wish));
            let records = self.delta.iter().filter(|(_, sides)| depends(sides.wish));
            records.map(|(key, _)| key).collect()
        };
        for key in keys {
            if self.holds.contains(&key) {
                continue;
            }
            let wish = self.delta.get(&key).wish;
            let shape = wish.and_then(|wish| self.wanted.resolved(wish));
            let (before, after) = self.change(&key, |sides| sides.desired = shape);
            self.follow(&key, &before, &after);
            self.unrefuse(&key);
        }
        for shape in unused {
            self.shapes.get_mut().release(shape);
        }
    }

    /// With its last interface a route goes, and for IPv4 nobody says so.
    fn forget_device(&mut self, link: &Link, host: &Host) {
        let is_up = |device: Option<u32>| {
            device
                .and_then(|device| host.by_index(device))
                .is_some_and(|link| link.admin_up)
        };
        let only = |route: &Route| {
            route.uses_device(link.index)
                && !route.nexthops.iter().any(|nexthop| is_up(nexthop.device))
        };
        // Gone before or after it comes in? Only a listing tells.
        self.suspect |= self.under_way > 0;
        let pods = self.wanted.pods(&link.name);
        for key in self.in_kernel(only, &pods) {
            self.set_actual(&key, None);
        }
        self.foreign.retain(|_, routes| {
            routes.retain(|route| !only(route));
            !routes.is_empty()
        });
    }

    /// Keys of routes in the kernel by their shape; `likely` destinations are looked at first,
    /// which mostly spares looking at all.
    fn in_kernel(&self, matching: impl Fn(&Route) -> bool, likely: &[IpNet]) -> Vec<Key> {
        let shapes = self.shapes.borrow();
        let matching = shapes
            .in_kernel()
            .filter(|(_, shape, _)| matching(shape))
            .map(|(id, _, count)| (id, count));
        let (ids, counts): (Set<Id>, Vec<usize>) = matching.unzip();
        let count: usize = counts.into_iter().sum();
        let matches = |actual: Option<Id>| actual.is_some_and(|id| ids.contains(&id));
        let likely = likely.iter().map(|destination| Key::wanted(*destination));
        let likely: Vec<Key> = likely
            .filter(|key| matches(self.delta.get(key).actual))
            .collect();
        if likely.len() == count {
            return likely;
        }
        let all = self.delta.iter();
        let all = all.filter(|(_, sides)| matches(sides.actual));
        all.map(|(key, _)| key).collect()
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
        for key in self.in_kernel(|route| route.uses_device(index), &[]) {
            if let Some(shape) = self.delta.get(&key).actual {
                routes.push(self.shapes.get_mut().route(shape, key.destination));
            }
            self.set_actual(&key, None);
        }
        for route in routes {
            let key = Key::of(&route);
            if self.ownership.owner(&route) == Owner::Foreign {
                self.foreign.entry(key).or_default().push(route);
            } else {
                let shape = self.shapes.get_mut().id(route);
                self.set_actual(&key, Some(shape));
            }
        }
        self.look_at_held();
    }
}
