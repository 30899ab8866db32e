//! What is known of each destination of a route: the next hops that BGP has learned, and the answer
//! that was given last.
//!
//! Both are the same for many destinations and kept once; a record is two small numbers, in one
//! map, as there may be a million.

use std::collections::hash_map::Entry;
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use crate::calc::Map;
use crate::intern::{Id, Interner, any_destination};
use crate::{NextHop, Route, RouteClass};

/// Records by destination.
#[derive(Debug, Default)]
pub(crate) struct Book {
    v4: Map<Net4, Record>,
    v6: Map<IpNet, Record>,
    next_hops: Interner<Vec<NextHop>>,
    answers: Interner<Route>,
    /// Those that were met last: routes come in runs.
    last_next_hops: Option<Id>,
    last_answer: Option<Id>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Net4 {
    address: u32,
    length: u8,
}

/// Never both nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Record {
    learned: Option<Id>,
    said: Option<Id>,
}

impl Hash for Net4 {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.address) << 8 | u64::from(self.length));
    }
}

impl Net4 {
    fn net(self) -> IpNet {
        let address = Ipv4Addr::from_bits(self.address);
        IpNet::V4(Ipv4Net::new(address, self.length).unwrap_or_default())
    }
}

impl Book {
    /// Notes what was learned about a destination; whether that is news.
    pub(crate) fn learn(&mut self, destination: IpNet, next_hops: Option<Vec<NextHop>>) -> bool {
        let new = next_hops.map(|next_hops| self.next_hops_id(next_hops));
        if let Some(id) = new {
            self.next_hops.keep(id);
        }
        let old = self.change(destination, |record| {
            std::mem::replace(&mut record.learned, new)
        });
        if let Some(id) = old
            && self.next_hops.release(id)
            && self.last_next_hops == Some(id)
        {
            self.last_next_hops = None;
        }
        old != new
    }

    /// What was learned about a destination.
    pub(crate) fn learned(&self, destination: IpNet) -> Option<&[NextHop]> {
        let id = self.record(destination).learned?;
        Some(self.next_hops.get(id))
    }

    /// Everything that was learned.
    pub(crate) fn all_learned(&self) -> impl Iterator<Item = (IpNet, &[NextHop])> {
        self.records().filter_map(|(destination, record)| {
            Some((destination, self.next_hops.get(record.learned?).as_slice()))
        })
    }

    /// Notes an answer. Nothing when it is the one that was given before, else the class of that
    /// one, if there was one.
    pub(crate) fn say(
        &mut self,
        destination: IpNet,
        route: Option<&Route>,
    ) -> Option<Option<RouteClass>> {
        let new = route.map(|route| self.answer_id(route));
        if let Some(id) = new {
            self.answers.keep(id);
        }
        let old = self.change(destination, |record| {
            std::mem::replace(&mut record.said, new)
        });
        let class = old.map(|id| self.answers.get(id).class);
        if let Some(id) = old
            && self.answers.release(id)
            && self.last_answer == Some(id)
        {
            self.last_answer = None;
        }
        (old != new).then_some(class)
    }

    /// Destinations of which anything is known.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = IpNet> {
        self.records().map(|(destination, _)| destination)
    }

    fn next_hops_id(&mut self, next_hops: Vec<NextHop>) -> Id {
        if let Some(last) = self.last_next_hops
            && *self.next_hops.get(last) == next_hops
        {
            return last;
        }
        let (id, _) = self.next_hops.id(next_hops);
        self.last_next_hops = Some(id);
        id
    }

    fn answer_id(&mut self, route: &Route) -> Id {
        let route = Route {
            destination: any_destination(route.destination),
            ..route.clone()
        };
        if let Some(last) = self.last_answer
            && *self.answers.get(last) == route
        {
            return last;
        }
        let (id, _) = self.answers.id(route);
        self.last_answer = Some(id);
        id
    }

    fn record(&self, destination: IpNet) -> Record {
        let record = match destination {
            IpNet::V4(net) => self.v4.get(&key(net)),
            IpNet::V6(_) => self.v6.get(&destination),
        };
        record.copied().unwrap_or_default()
    }

    fn records(&self) -> impl Iterator<Item = (IpNet, &Record)> {
        let v4 = self.v4.iter().map(|(net, record)| (net.net(), record));
        let v6 = self.v6.iter().map(|(net, record)| (*net, record));
        v4.chain(v6)
    }

    fn change<T>(&mut self, destination: IpNet, change: impl FnOnce(&mut Record) -> T) -> T {
        match destination {
            IpNet::V4(net) => change_in(&mut self.v4, key(net), change),
            IpNet::V6(_) => change_in(&mut self.v6, destination, change),
        }
    }
}

fn key(net: Ipv4Net) -> Net4 {
    Net4 {
        address: net.network().to_bits(),
        length: net.prefix_len(),
    }
}

fn change_in<K: Eq + Hash, T>(
    map: &mut Map<K, Record>,
    key: K,
    change: impl FnOnce(&mut Record) -> T,
) -> T {
    match map.entry(key) {
        Entry::Occupied(mut entry) => {
            let result = change(entry.get_mut());
            if *entry.get() == Record::default() {
                entry.remove();
            }
            result
        }
        Entry::Vacant(entry) => {
            let mut record = Record::default();
            let result = change(&mut record);
            if record != Record::default() {
                entry.insert(record);
            }
            result
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn hops(address: &str) -> Option<Vec<NextHop>> {
        Some(vec![NextHop::from(
            address.parse::<std::net::IpAddr>().unwrap(),
        )])
    }

    #[test]
    fn what_was_learned_is_told_once_and_forgotten_with_its_last_user() {
        let mut book = Book::default();
        for destination in ["10.0.1.0/26", "10.0.2.0/26", "2001:db8:1::/122"] {
            assert!(book.learn(net(destination), hops("192.0.2.9")));
            assert!(!book.learn(net(destination), hops("192.0.2.9")));
        }
        assert_eq!(book.next_hops.iter().count(), 1);
        assert!(book.learn(net("10.0.2.0/26"), hops("192.0.2.8")));
        assert_eq!(
            book.learned(net("10.0.2.0/26")),
            hops("192.0.2.8").as_deref()
        );
        assert_eq!(book.all_learned().count(), 3);
        assert!(book.learn(net("10.0.2.0/26"), None));
        assert!(!book.learn(net("10.0.2.0/26"), None));
        assert!(book.learn(net("10.0.1.0/26"), None));
        assert!(book.learn(net("2001:db8:1::/122"), None));
        assert_eq!(book.destinations().count(), 0);
        assert_eq!(book.next_hops.iter().count(), 0);
    }

    #[test]
    fn an_answer_is_compared_with_the_one_before() {
        let mut book = Book::default();
        let route = |destination: &str, class| Route {
            destination: net(destination),
            class,
            target: Target::Blackhole,
        };
        let block = route("10.0.1.0/26", RouteClass::IpamBlockDrop);
        assert_eq!(book.say(block.destination, Some(&block)), Some(None));
        assert_eq!(book.say(block.destination, Some(&block)), None);
        let other = route("10.0.1.0/26", RouteClass::Learned);
        let before = Some(RouteClass::IpamBlockDrop);
        assert_eq!(book.say(block.destination, Some(&other)), Some(before));
        assert!(book.learn(block.destination, hops("192.0.2.9")));
        assert_eq!(
            book.say(block.destination, None),
            Some(Some(RouteClass::Learned))
        );
        assert_eq!(book.say(block.destination, None), None);
        assert_eq!(book.destinations().count(), 1);
        assert_eq!(book.answers.iter().count(), 0);
    }

    #[test]
    fn a_record_is_small() {
        assert!(size_of::<(Net4, Record)>() <= 16);
    }
}
