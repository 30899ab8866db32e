//! Interned next hops and what is known about reaching them (RFC 4271 §9.1.2.1, §5.1.3).
//!
//! An attribute set refers to its next hop by index, so the interior cost is one vector access in
//! the decision process and one change when the outside world reports it.

use std::net::{IpAddr, Ipv6Addr};

use bgp_wire::NextHop;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

/// What the caller knows about the way to a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// There is a way at this interior cost; what nothing is known about counts as cost 0.
    Reachable {
        /// Interior cost, lower is preferred.
        metric: u32,
    },
    /// There is no way; paths with this next hop are not used.
    Unreachable,
}

impl Reachability {
    pub(crate) const UNKNOWN: Self = Self::Reachable { metric: 0 };
}

/// Index of an interned next hop.
pub(crate) type NextHopId = u32;

/// A next hop and the link that its link-local address is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Via {
    /// None stands for our own address on each session.
    pub(crate) next_hop: Option<NextHop>,
    /// Number of the link; none where no link-local address counts.
    pub(crate) link: Option<u32>,
}

impl From<Option<NextHop>> for Via {
    fn from(next_hop: Option<NextHop>) -> Self {
        Self {
            next_hop,
            link: None,
        }
    }
}

impl Via {
    /// Where packets go.
    pub(crate) fn hop(self) -> Option<Hop> {
        let next_hop = self.next_hop?;
        let link_local = self.link.and_then(|_| link_local(next_hop));
        Some(match link_local {
            Some(address) => Hop {
                address: address.into(),
                link: self.link,
            },
            None => Hop::from(next_hop.addr()),
        })
    }
}

/// The link-local address in a next hop.
pub(crate) fn link_local(next_hop: NextHop) -> Option<Ipv6Addr> {
    match next_hop {
        NextHop::V4(_) => None,
        NextHop::V6 { global, link_local } => {
            link_local.or(Some(global).filter(Ipv6Addr::is_unicast_link_local))
        }
    }
}

/// Where packets of a prefix go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// The router.
    pub address: IpAddr,
    /// The link it is on, by the number of [`Link`](crate::Link); only where its address is
    /// link-local.
    pub link: Option<u32>,
}

impl From<IpAddr> for Hop {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            link: None,
        }
    }
}

impl PartialEq<IpAddr> for Hop {
    fn eq(&self, address: &IpAddr) -> bool {
        *self == Hop::from(*address)
    }
}

#[derive(Debug)]
struct Entry {
    via: Via,
    reachability: Reachability,
    references: u32,
}

/// All next hops in use, none standing for our own address on each session, and all reachabilities
/// reported.
#[derive(Debug)]
pub(crate) struct NextHops {
    entries: Vec<Entry>,
    index: HashMap<Via, NextHopId, FixedState>,
    free: Vec<NextHopId>,
    reported: HashMap<Hop, Reachability, FixedState>,
    /// Entries per place that packets go to.
    uses: HashMap<Hop, u32, FixedState>,
    /// Places whose use began or ended since they were last taken; nothing where nobody asks.
    changed: Option<HashSet<Hop, FixedState>>,
}

impl NextHops {
    pub(crate) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            entries: Vec::new(),
            index: HashMap::with_hasher(hasher.clone()),
            free: Vec::new(),
            reported: HashMap::with_hasher(hasher.clone()),
            uses: HashMap::with_hasher(hasher),
            changed: None,
        }
    }

    /// From now on changes of use are kept for somebody who resolves next hops.
    pub(crate) fn watch(&mut self) {
        let hasher = self.uses.hasher().clone();
        self.changed = Some(HashSet::with_hasher(hasher));
    }

    /// Finds or makes the entry and counts one more user.
    pub(crate) fn acquire(&mut self, via: Via) -> NextHopId {
        if let Some(&id) = self.index.get(&via) {
            self.entries[id as usize].references += 1;
            return id;
        }
        let entry = Entry {
            via,
            reachability: self.reported_for(via),
            references: 1,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as NextHopId
            }
        };
        self.index.insert(via, id);
        self.used(via, true);
        id
    }

    pub(crate) fn release(&mut self, id: NextHopId) {
        let entry = &mut self.entries[id as usize];
        entry.references -= 1;
        if entry.references == 0 {
            let via = entry.via;
            self.index.remove(&via);
            self.free.push(id);
            self.used(via, false);
        }
    }

    /// An entry came or went.
    fn used(&mut self, via: Via, came: bool) {
        let Some(hop) = via.hop() else { return };
        let uses = self.uses.entry(hop).or_insert(0);
        *uses = if came { *uses + 1 } else { *uses - 1 };
        let edge = *uses == u32::from(came);
        if *uses == 0 {
            self.uses.remove(&hop);
        }
        if edge && let Some(changed) = &mut self.changed {
            changed.insert(hop);
        }
    }

    /// Takes the places whose use began or ended since the last time, and whether they are in use.
    pub(crate) fn take_changed(&mut self) -> Vec<(Hop, bool)> {
        let changed = self.changed.iter_mut().flat_map(HashSet::drain);
        let in_use = changed.map(|hop| (hop, self.uses.contains_key(&hop)));
        in_use.collect()
    }

    pub(crate) fn get(&self, id: NextHopId) -> Option<NextHop> {
        self.entries[id as usize].via.next_hop
    }

    /// The next hop with its link.
    pub(crate) fn via(&self, id: NextHopId) -> Via {
        self.entries[id as usize].via
    }

    pub(crate) fn reachability(&self, id: NextHopId) -> Reachability {
        self.entries[id as usize].reachability
    }

    /// Records what the outside says; true if a next hop in use is affected.
    pub(crate) fn report(&mut self, hop: Hop, reachability: Reachability) -> bool {
        let before = match reachability {
            Reachability::UNKNOWN => self.reported.remove(&hop),
            _ => self.reported.insert(hop, reachability),
        };
        if before.unwrap_or(Reachability::UNKNOWN) == reachability {
            return false;
        }
        let mut affected = false;
        for entry in &mut self.entries {
            if entry.via.hop() == Some(hop) && entry.reachability != reachability {
                entry.reachability = reachability;
                affected |= entry.references > 0;
            }
        }
        affected
    }

    /// Number of next hops in use.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    fn reported_for(&self, via: Via) -> Reachability {
        let reported = via.hop().and_then(|hop| self.reported.get(&hop));
        reported.copied().unwrap_or(Reachability::UNKNOWN)
    }
}
