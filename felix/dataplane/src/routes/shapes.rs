//! Routes of the kernel without their destinations: few, however many routes there are.

use ipnet::IpNet;
use netlink::bulk::Pattern;
use netlink::{Route, RouteKind};

use felix_calc::intern::{Id, Interner, any_destination};

/// Every shape that a route has or should have.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    shapes: Interner<Route>,
    /// The messages, by number, once they were needed.
    patterns: Vec<Option<Pattern>>,
    /// How many routes in the kernel have it, by number.
    in_kernel: Vec<usize>,
    /// The one that was asked for last: routes come in runs.
    last: Option<Id>,
}

impl Shapes {
    /// The number of the shape of a route; nobody uses it yet.
    pub(super) fn id(&mut self, mut route: Route) -> Id {
        route.destination = any_destination(route.destination);
        if let Some(last) = self.last
            && *self.shapes.get(last) == route
        {
            return last;
        }
        let (id, new) = self.shapes.id(route);
        if new {
            self.patterns
                .resize_with(self.patterns.len().max(id.index() + 1), || None);
            self.patterns[id.index()] = None;
            self.in_kernel.resize(self.patterns.len(), 0);
        }
        self.last = Some(id);
        id
    }

    /// The shape itself.
    pub(super) fn get(&self, id: Id) -> &Route {
        self.shapes.get(id)
    }

    /// The route of this shape to a destination.
    pub(super) fn route(&self, id: Id, destination: IpNet) -> Route {
        Route {
            destination,
            ..self.get(id).clone()
        }
    }

    /// Its messages.
    pub(super) fn pattern(&mut self, id: Id) -> &Pattern {
        let shape = self.shapes.get(id);
        self.patterns[id.index()].get_or_insert_with(|| Pattern::new(shape, &as_named(shape)))
    }

    pub(super) fn keep(&mut self, id: Id) {
        self.shapes.keep(id);
    }

    pub(super) fn release(&mut self, id: Id) {
        if self.shapes.release(id) && self.last == Some(id) {
            self.last = None;
        }
    }

    /// Notes that a route of the kernel changed from one shape to another.
    pub(super) fn count(&mut self, before: Option<Id>, after: Option<Id>) {
        if before == after {
            return;
        }
        if let Some(id) = after {
            self.keep(id);
            self.in_kernel[id.index()] += 1;
        }
        if let Some(id) = before {
            self.in_kernel[id.index()] -= 1;
            self.release(id);
        }
    }

    /// Shapes of routes in the kernel, with the number of their routes.
    pub(super) fn in_kernel(&self) -> impl Iterator<Item = (Id, &Route, usize)> {
        let shapes = self.shapes.iter();
        let counted = shapes.map(|(id, shape)| (id, shape, self.in_kernel[id.index()]));
        counted.filter(|(_, _, count)| *count > 0)
    }

    /// Forgets what was only looked at.
    pub(super) fn sweep(&mut self) {
        self.last = None;
        self.shapes.sweep();
    }
}

/// The route as a deletion names it: by key, kind and protocol, whatever its next hops are.
fn as_named(route: &Route) -> Route {
    let mut named = route.clone();
    if route.kind != RouteKind::Unicast || route.nexthops.len() != 1 {
        named.nexthops.clear();
    }
    named
}
