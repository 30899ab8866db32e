//! What should be, what is, and where the two differ, by the key of a route.
//!
//! Pure bookkeeping. Both sides of a key are in one place, and are small numbers: with a million
//! keys each look-up waits for memory, and there is one map only.
//! The keys of nearly all IPv4 routes fit eight bytes.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;

use foldhash::fast::RandomState;
use ipnet::{IpNet, Ipv4Net};

use crate::ownership::Key;
use felix_calc::intern::Id;

/// Maps that are looked up for every route; the seed of their hash is random.
pub(crate) type Map<K, V> = HashMap<K, V, RandomState>;
pub(crate) type Set<K> = HashSet<K, RandomState>;

/// Desired and actual routes by key.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    nets: Map<Net4, Sides>,
    others: Map<Key, Sides>,
    /// How many keys are as they should be.
    settled: usize,
}

/// An IPv4 destination at the metric and type of service that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Net4 {
    pub(crate) address: u32,
    pub(crate) length: u8,
}

/// What is known of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sides {
    /// What the calculation wants.
    pub(crate) wish: Option<Id>,
    /// The route for that, while there can be one.
    pub(crate) desired: Option<Id>,
    /// The route in the kernel.
    pub(crate) actual: Option<Id>,
    /// In which lanes of the queue it waits, a bit for each.
    pub(crate) queued: u8,
    /// A change is under way to the kernel.
    pub(crate) under_way: bool,
    /// To be deleted, but not yet.
    pub(crate) held: bool,
    /// Came up in the present listing.
    pub(crate) listed: bool,
}

impl Net4 {
    pub(crate) fn of(key: &Key) -> Option<Net4> {
        match key.destination {
            IpNet::V4(net) if key.metric == 0 && key.tos == 0 => Some(Net4 {
                address: net.network().to_bits(),
                length: net.prefix_len(),
            }),
            IpNet::V4(_) | IpNet::V6(_) => None,
        }
    }

    pub(crate) fn key(self) -> Key {
        let address = Ipv4Addr::from_bits(self.address);
        let net = Ipv4Net::new(address, self.length).unwrap_or_default();
        Key::wanted(IpNet::V4(net))
    }
}

impl Hash for Net4 {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.address) << 8 | u64::from(self.length));
    }
}

impl Sides {
    pub(crate) fn differ(&self) -> bool {
        self.desired != self.actual
    }

    pub(crate) fn are_settled(&self) -> bool {
        self.desired.is_some() && !self.differ()
    }

    /// Nothing on any side, and nobody who would come back for it.
    fn are_over(&self) -> bool {
        let nothing = self.wish.is_none() && self.desired.is_none() && self.actual.is_none();
        nothing && self.queued == 0 && !self.under_way
    }
}

impl Delta {
    /// What is known of a key.
    pub(crate) fn get(&self, key: &Key) -> Sides {
        let sides = match Net4::of(key) {
            Some(net) => self.nets.get(&net),
            None => self.others.get(key),
        };
        sides.copied().unwrap_or_default()
    }

    /// Changes what is known of a key; returns how it was and how it is.
    pub(crate) fn change(&mut self, key: &Key, change: impl FnOnce(&mut Sides)) -> (Sides, Sides) {
        let (before, after) = match Net4::of(key) {
            Some(net) => change_in(&mut self.nets, net, change),
            None => change_in(&mut self.others, *key, change),
        };
        self.settled += usize::from(after.are_settled());
        self.settled -= usize::from(before.are_settled());
        (before, after)
    }

    /// Changes what is known of every key.
    pub(crate) fn change_all(&mut self, mut change: impl FnMut(Key, &mut Sides)) {
        let mut settled = 0;
        let mut keep = |key: Key, sides: &mut Sides| {
            change(key, sides);
            settled += usize::from(sides.are_settled());
            !sides.are_over()
        };
        self.nets.retain(|net, sides| keep(net.key(), sides));
        self.others.retain(|key, sides| keep(*key, sides));
        self.settled = settled;
    }

    /// Every key of which something is known.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Sides)> {
        let nets = self.nets.iter().map(|(net, sides)| (net.key(), sides));
        let others = self.others.iter().map(|(key, sides)| (*key, sides));
        nets.chain(others)
    }

    /// Whether something should be here, and is, just so.
    pub(crate) fn is_settled(&self, key: &Key) -> bool {
        self.get(key).are_settled()
    }

    /// How many keys have a desired route that is there, just so.
    pub(crate) fn settled(&self) -> usize {
        self.settled
    }
}

fn change_in<K: Eq + Hash>(
    map: &mut Map<K, Sides>,
    key: K,
    change: impl FnOnce(&mut Sides),
) -> (Sides, Sides) {
    match map.entry(key) {
        Entry::Occupied(mut entry) => {
            let before = *entry.get();
            change(entry.get_mut());
            let after = *entry.get();
            if after.are_over() {
                entry.remove();
            }
            (before, after)
        }
        Entry::Vacant(entry) => {
            let mut after = Sides::default();
            change(&mut after);
            if !after.are_over() {
                entry.insert(after);
            }
            (Sides::default(), after)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use felix_calc::intern::Interner;

    fn key(number: u8) -> Key {
        let destinations = [
            "10.0.0.0/26",
            "10.0.0.0/24",
            "2001:db8:1::/122",
            "0.0.0.0/0",
        ];
        let mut key = Key::wanted(destinations[usize::from(number) % 4].parse().unwrap());
        key.metric += u32::from(number / 4);
        key
    }

    #[test]
    fn a_record_is_small() {
        assert!(size_of::<(Net4, Sides)>() <= 24);
    }

    #[test]
    fn keys_survive_the_compact_form() {
        for destination in ["0.0.0.0/0", "10.1.2.0/23", "255.255.255.255/32"] {
            let key = Key::wanted(destination.parse().unwrap());
            assert_eq!(Net4::of(&key).unwrap().key(), key);
        }
        let mut odd = key(0);
        odd.tos = 8;
        assert_eq!(Net4::of(&odd), None);
        assert_eq!(Net4::of(&key(2)), None);
    }

    #[test]
    fn the_count_is_always_that_of_the_records() {
        let mut interner = Interner::default();
        let ids = [None, Some(interner.id(1).0), Some(interner.id(2).0)];
        let mut delta = Delta::default();
        let mut random = 1_u32;
        for _ in 0..10_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = random >> 8;
            let key = key((number >> 3) as u8 % 8);
            let id = ids[(number >> 9) as usize % 3];
            match number % 4 {
                0 => drop(delta.change(&key, |sides| sides.desired = id)),
                1 => drop(delta.change(&key, |sides| sides.actual = id)),
                2 => drop(delta.change(&key, |sides| sides.queued = u8::from(id.is_some()))),
                _ => delta.change_all(|other, sides| {
                    if other != key {
                        sides.actual = id;
                    }
                }),
            }
            let settled = delta.iter().filter(|(_, sides)| sides.are_settled());
            assert_eq!(delta.settled(), settled.count());
            assert!(delta.iter().all(|(_, sides)| !sides.are_over()));
        }
    }
}
