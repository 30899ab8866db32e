//! What happened in the kernel, taken into the account.

use std::sync::Arc;
use std::time::Instant;

use netlink::{Link, Route, TABLE_MAIN};

use super::Table;
use crate::host::Host;
use crate::ownership::{Key, Owner};

impl Table {
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
            self.delta.set_actual(key, Some(Arc::new(route)));
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
        if self
            .delta
            .actual(&key)
            .is_some_and(|actual| **actual == *route)
        {
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
            for destination in self.wanted.depending_on(name) {
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
            routes.extend(self.delta.actual(&key).map(|route| Route::clone(route)));
            self.delta.set_actual(key, None);
        }
        for route in routes {
            let key = Key::of(&route);
            if self.ownership.owner(&route) == Owner::Foreign {
                self.foreign.entry(key).or_default().push(route);
            } else {
                self.delta.set_actual(key, Some(Arc::new(route)));
            }
        }
    }
}
