//! What the calculation wants, in its terms, and what that depends on.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use felix_calc::{Route, Target};
use ipnet::IpNet;

use super::resolve;
use felix_calc::intern::{Id, Interner, any_destination};

/// Wishes, which are wanted routes without their destinations, and the destinations of pods and
/// blocks. Which destination has which wish is in the records of the table.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    wishes: Interner<Route>,
    /// The shape of the route for each wish, by number, while there can be one.
    resolved: Vec<Option<Id>>,
    /// The wish that was asked for last: routes come in runs.
    last: Option<Id>,
    /// Destinations of pods by interface: pods come and go all the time.
    pods: HashMap<Arc<str>, HashSet<IpNet>>,
    /// Destinations of pods and blocks.
    local: BTreeSet<IpNet>,
    /// How many destinations are IPv6.
    ipv6: usize,
}

impl Wanted {
    /// The number of a wish, and whether it is new; nobody has it yet.
    pub(super) fn wish(&mut self, mut route: Route) -> (Id, bool) {
        route.destination = any_destination(route.destination);
        if let Some(last) = self.last
            && *self.wishes.get(last) == route
        {
            return (last, false);
        }
        let (id, new) = self.wishes.id(route);
        if new {
            self.resolved
                .resize(self.resolved.len().max(id.index() + 1), None);
            self.resolved[id.index()] = None;
        }
        self.last = Some(id);
        (id, new)
    }

    /// The wish itself.
    pub(super) fn get(&self, id: Id) -> &Route {
        self.wishes.get(id)
    }

    /// The shape of the route for a wish.
    pub(super) fn resolved(&self, id: Id) -> Option<Id> {
        self.resolved[id.index()]
    }

    /// Says which shape it is; returns the one before.
    pub(super) fn resolve(&mut self, id: Id, shape: Option<Id>) -> Option<Id> {
        std::mem::replace(&mut self.resolved[id.index()], shape)
    }

    /// Whether it is a route of a pod or block.
    pub(super) fn is_local(&self, id: Id) -> bool {
        match self.wishes.get(id).target {
            Target::Local { .. } | Target::Blackhole => true,
            Target::Via(_) | Target::Hold(_) => false,
        }
    }

    /// Notes that a destination has another wish. Returns the shape that nobody wishes any more.
    pub(super) fn moved(
        &mut self,
        destination: IpNet,
        before: Option<Id>,
        after: Option<Id>,
    ) -> Option<Id> {
        if before == after {
            return None;
        }
        if let Some(id) = before {
            self.index(destination, id, false);
        }
        if let Some(id) = after {
            self.wishes.keep(id);
            self.index(destination, id, true);
        }
        let gone = before.filter(|id| self.wishes.release(*id))?;
        if self.last == Some(gone) {
            self.last = None;
        }
        self.resolve(gone, None)
    }

    fn index(&mut self, destination: IpNet, id: Id, add: bool) {
        if matches!(destination, IpNet::V6(_)) {
            self.ipv6 += usize::from(add);
            self.ipv6 -= usize::from(!add);
        }
        if !self.is_local(id) {
            return;
        }
        if add {
            self.local.insert(destination);
        } else {
            self.local.remove(&destination);
        }
        let Target::Local { interface } = &self.wishes.get(id).target else {
            return;
        };
        if add {
            let pods = self.pods.entry(interface.clone()).or_default();
            pods.insert(destination);
        } else if let Some(pods) = self.pods.get_mut(interface) {
            pods.remove(&destination);
            if pods.is_empty() {
                self.pods.remove(interface);
            }
        }
    }

    /// Whether any route for IPv6 is wanted.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.ipv6 > 0
    }

    /// Destinations of pods and blocks.
    pub(super) fn local(&self) -> impl Iterator<Item = &IpNet> {
        self.local.iter()
    }

    /// Destinations of the pods behind an interface.
    pub(super) fn pods(&self, interface: &str) -> Vec<IpNet> {
        let pods = self.pods.get(interface).into_iter().flatten();
        pods.copied().collect()
    }

    /// Wishes whose packets leave by an interface.
    pub(super) fn depending_on(&self, interface: &str) -> Vec<Id> {
        let wishes = self.wishes.iter();
        let depending = wishes.filter(|(_, wish)| resolve::leaves_by(&wish.target, interface));
        depending.map(|(id, _)| id).collect()
    }

    /// How many destinations wait for an interface.
    pub(super) fn waiting(&self) -> usize {
        let wishes = self.wishes.iter();
        let waiting = wishes.filter(|(id, _)| self.resolved(*id).is_none());
        waiting.map(|(id, _)| self.wishes.users(id)).sum()
    }
}

#[cfg(test)]
mod tests {
    use felix_calc::{Nexthop, RouteClass};

    use super::*;

    /// Wishes by destination, as the records of the table have them.
    #[derive(Default)]
    struct Book {
        wanted: Wanted,
        wishes: HashMap<IpNet, Id>,
    }

    impl Book {
        fn set(&mut self, destination: &str, target: Option<Target>) {
            let destination: IpNet = destination.parse().unwrap();
            let wish = target.map(|target| {
                let class = RouteClass::Learned;
                let route = Route {
                    destination,
                    class,
                    target,
                };
                self.wanted.wish(route).0
            });
            let before = match wish {
                Some(wish) => self.wishes.insert(destination, wish),
                None => self.wishes.remove(&destination),
            };
            self.wanted.moved(destination, before, wish);
        }
    }

    fn pod(interface: &str) -> Option<Target> {
        Some(Target::Local {
            interface: interface.into(),
        })
    }

    fn via(interface: &str) -> Option<Target> {
        Some(Target::Via(Arc::new([Nexthop {
            gateway: "192.0.2.9".parse().unwrap(),
            interface: interface.into(),
            onlink: false,
        }])))
    }

    #[test]
    fn what_depends_on_an_interface_follows_every_change() {
        let mut book = Book::default();
        book.set("10.0.1.5/32", pod("cali1"));
        book.set("10.0.1.5/32", pod("cali1"));
        book.set("10.0.2.0/26", via("eth0"));
        book.set("10.0.3.0/26", via("eth0"));
        assert_eq!(book.wanted.pods("cali1").len(), 1);
        assert_eq!(book.wanted.depending_on("eth0").len(), 1, "one wish");
        assert_eq!(book.wanted.waiting(), 3, "none is resolved");
        book.set("10.0.1.5/32", pod("cali2"));
        book.set("10.0.2.0/26", via("eth1"));
        book.set("10.0.3.0/26", via("eth1"));
        assert!(book.wanted.pods("cali1").is_empty());
        assert!(book.wanted.depending_on("cali1").is_empty());
        assert!(book.wanted.depending_on("eth0").is_empty());
        assert_eq!(book.wanted.pods("cali2").len(), 1);
        book.set("10.0.1.5/32", None);
        book.set("10.0.3.0/26", None);
        book.set("10.0.2.0/26", Some(Target::Blackhole));
        assert!(book.wanted.pods.is_empty());
        assert_eq!(book.wanted.local().count(), 1);
        book.set("2001:db8:1::/122", Some(Target::Blackhole));
        assert!(book.wanted.has_ipv6());
        book.set("2001:db8:1::/122", None);
        book.set("10.0.2.0/26", None);
        assert!(!book.wanted.has_ipv6());
        assert_eq!(book.wanted.wishes.iter().count(), 0);
        assert_eq!(book.wanted.local().count(), 0);
    }
}
