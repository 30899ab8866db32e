//! Values that many share, each kept once and known by a small number.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;

use foldhash::fast::RandomState;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Stands for a value of one [`Interner`], as long as that value is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(NonZeroU32);

/// Values with their numbers and how often each is used.
#[derive(Debug)]
pub struct Interner<T> {
    /// A value stays until its number is used again.
    values: Vec<Arc<T>>,
    users: Vec<u32>,
    free: Vec<Id>,
    ids: HashMap<Arc<T>, Id, RandomState>,
}

/// Stands for all destinations of a family, in values that are shared by routes to many.
pub fn any_destination(of: IpNet) -> IpNet {
    match of {
        IpNet::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpNet::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

impl Id {
    /// For vectors that go along with the interner.
    pub fn index(self) -> usize {
        self.0.get() as usize - 1
    }

    fn of(index: usize) -> Id {
        let number = u32::try_from(index).unwrap_or(u32::MAX - 1);
        Id(NonZeroU32::MIN.saturating_add(number))
    }
}

impl<T> Default for Interner<T> {
    fn default() -> Interner<T> {
        Interner {
            values: Vec::new(),
            users: Vec::new(),
            free: Vec::new(),
            ids: HashMap::default(),
        }
    }
}

impl<T: Eq + Hash> Interner<T> {
    /// The number of a value, and whether it is new. Nobody uses it before [`Interner::keep`].
    pub fn id(&mut self, value: T) -> (Id, bool) {
        if let Some(id) = self.ids.get(&value) {
            return (*id, false);
        }
        let value = Arc::new(value);
        let id = match self.free.pop() {
            Some(id) => {
                self.values[id.index()] = value.clone();
                id
            }
            None => {
                self.values.push(value.clone());
                self.users.push(0);
                Id::of(self.values.len() - 1)
            }
        };
        self.ids.insert(value, id);
        (id, true)
    }

    /// The value behind a number.
    pub fn get(&self, id: Id) -> &T {
        &self.values[id.index()]
    }

    /// Notes one more user.
    pub fn keep(&mut self, id: Id) {
        self.users[id.index()] += 1;
    }

    /// Notes one user less; whether that was the last, and the number is free.
    pub fn release(&mut self, id: Id) -> bool {
        let users = &mut self.users[id.index()];
        *users -= 1;
        if *users > 0 {
            return false;
        }
        self.ids.remove(&self.values[id.index()]);
        self.free.push(id);
        true
    }

    /// How many use a value.
    pub fn users(&self, id: Id) -> usize {
        self.users[id.index()] as usize
    }

    /// Values in use, and those that have a number and no user yet.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.ids.iter().map(|(value, id)| (*id, value.as_ref()))
    }

    /// Frees the numbers of values that found no user.
    pub fn sweep(&mut self) {
        let users = &self.users;
        let free = &mut self.free;
        self.ids.retain(|_, id| {
            let used = users[id.index()] > 0;
            if !used {
                free.push(*id);
            }
            used
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_one_number_until_the_last_user_is_gone() {
        let mut interner = Interner::default();
        let (a, new) = interner.id("a");
        assert!(new);
        assert_eq!(interner.id("a"), (a, false));
        let (b, _) = interner.id("b");
        assert_ne!(a, b);
        interner.keep(a);
        interner.keep(a);
        interner.keep(b);
        assert!(!interner.release(a));
        assert_eq!(interner.get(a), &"a");
        assert!(interner.release(a));
        let (c, new) = interner.id("c");
        assert!(new);
        assert_eq!(c, a, "numbers are used again");
        assert_eq!((interner.get(c), interner.get(b)), (&"c", &"b"));
        interner.sweep();
        assert_eq!(interner.iter().collect::<Vec<_>>(), [(b, &"b")]);
    }
}
