//! Interned next hops and what is known about reaching them (RFC 4271 §9.1.2.1, §5.1.3).
//!
//! An attribute set refers to its next hop by index, so the interior cost is one vector access in
//! the decision process and one change when the outside world reports it.

use std::net::IpAddr;

use bgp_wire::NextHop;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

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

#[derive(Debug)]
struct Entry {
    next_hop: Option<NextHop>,
    reachability: Reachability,
    references: u32,
}

/// All next hops in use, none standing for our own address on each session, and all reachabilities reported.
#[derive(Debug)]
pub(crate) struct NextHops {
    entries: Vec<Entry>,
    index: HashMap<Option<NextHop>, NextHopId, FixedState>,
    free: Vec<NextHopId>,
    reported: HashMap<IpAddr, Reachability, FixedState>,
}

impl NextHops {
    pub(crate) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            entries: Vec::new(),
            index: HashMap::with_hasher(hasher.clone()),
            free: Vec::new(),
            reported: HashMap::with_hasher(hasher),
        }
    }

    /// Finds or makes the entry and counts one more user.
    pub(crate) fn acquire(&mut self, next_hop: Option<NextHop>) -> NextHopId {
        if let Some(&id) = self.index.get(&next_hop) {
            self.entries[id as usize].references += 1;
            return id;
        }
        let entry = Entry {
            next_hop,
            reachability: self.reported_for(next_hop),
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
        self.index.insert(next_hop, id);
        id
    }

    pub(crate) fn release(&mut self, id: NextHopId) {
        let entry = &mut self.entries[id as usize];
        entry.references -= 1;
        if entry.references == 0 {
            self.index.remove(&entry.next_hop);
            self.free.push(id);
        }
    }

    pub(crate) fn get(&self, id: NextHopId) -> Option<NextHop> {
        self.entries[id as usize].next_hop
    }

    pub(crate) fn reachability(&self, id: NextHopId) -> Reachability {
        self.entries[id as usize].reachability
    }

    /// Records what the outside says; true if a next hop in use is affected.
    pub(crate) fn report(&mut self, address: IpAddr, reachability: Reachability) -> bool {
        if reachability == Reachability::UNKNOWN {
            self.reported.remove(&address);
        } else {
            self.reported.insert(address, reachability);
        }
        let mut affected = false;
        for entry in &mut self.entries {
            if entry.next_hop.map(NextHop::addr) == Some(address)
                && entry.reachability != reachability
            {
                entry.reachability = reachability;
                affected |= entry.references > 0;
            }
        }
        affected
    }

    /// The addresses in use, for the caller to resolve.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.index.keys().flatten().map(|next_hop| next_hop.addr())
    }

    /// Number of next hops in use.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    fn reported_for(&self, next_hop: Option<NextHop>) -> Reachability {
        next_hop
            .and_then(|next_hop| self.reported.get(&next_hop.addr()).copied())
            .unwrap_or(Reachability::UNKNOWN)
    }
}
