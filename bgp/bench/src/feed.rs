//! What senders send, encoded before the clock starts.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::rc::Rc;

use crate::universe::{Random, Universe};
use crate::wire::{self, LARGEST};

/// Path attributes of an announcement.
#[derive(Debug, Clone)]
pub struct Attributes {
    pub as_path: Vec<u32>,
    pub next_hop: Ipv4Addr,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub communities: Vec<u32>,
}

impl Attributes {
    /// The least that a route needs.
    pub fn new(next_hop: Ipv4Addr) -> Self {
        Self {
            as_path: Vec::new(),
            next_hop,
            med: None,
            local_pref: None,
            communities: Vec::new(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut octets = vec![0x40, 1, 1, 0];
        // One AS_SEQUENCE; paths are at most 16 long, so lengths fit an octet.
        let mut path = Vec::new();
        if !self.as_path.is_empty() {
            path.extend([2, low(self.as_path.len())]);
            path.extend(self.as_path.iter().flat_map(|asn| asn.to_be_bytes()));
        }
        octets.extend([0x40, 2, low(path.len())]);
        octets.extend(path);
        octets.extend([0x40, 3, 4]);
        octets.extend(self.next_hop.octets());
        if let Some(med) = self.med {
            octets.extend([0x80, 4, 4]);
            octets.extend(med.to_be_bytes());
        }
        if let Some(preference) = self.local_pref {
            octets.extend([0x40, 5, 4]);
            octets.extend(preference.to_be_bytes());
        }
        if !self.communities.is_empty() {
            octets.extend([0xc0, 8, low(self.communities.len() * 4)]);
            octets.extend(self.communities.iter().flat_map(|one| one.to_be_bytes()));
        }
        octets
    }
}

fn low(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

/// UPDATEs that announce these prefixes with these attributes, as full as they can be.
pub fn announce(out: &mut Vec<u8>, attributes: &Attributes, prefixes: &[(u32, u8)]) {
    let attributes = attributes.encode();
    let mut head = vec![0, 0];
    head.extend(u16::try_from(attributes.len()).unwrap_or(0).to_be_bytes());
    head.extend(attributes);
    pack(out, prefixes, |nlri| [head.as_slice(), nlri].concat());
}

/// UPDATEs that withdraw these prefixes, as full as they can be.
pub fn withdraw(out: &mut Vec<u8>, prefixes: &[(u32, u8)]) {
    pack(out, prefixes, |nlri| {
        let length = u16::try_from(nlri.len()).unwrap_or(0).to_be_bytes();
        [&length, nlri, &[0, 0]].concat()
    });
}

fn pack(out: &mut Vec<u8>, prefixes: &[(u32, u8)], body: impl Fn(&[u8]) -> Vec<u8>) {
    let room = LARGEST - wire::HEADER - body(&[]).len() - 5;
    let mut nlri = Vec::with_capacity(LARGEST);
    for (address, bits) in prefixes {
        nlri.push(*bits);
        nlri.extend(&address.to_be_bytes()[..usize::from(*bits).div_ceil(8)]);
        if nlri.len() > room {
            out.extend(wire::message(wire::UPDATE, &body(&nlri)));
            nlri.clear();
        }
    }
    if !nlri.is_empty() {
        out.extend(wire::message(wire::UPDATE, &body(&nlri)));
    }
}

/// Prefixes that share their attributes, as ranges of numbers. A set of `k` or more has the
/// probability `1/k`, up to 300: 6.3 prefixes on average, 159,000 sets for a million.
pub fn sets(universe: &Universe) -> Vec<Range<usize>> {
    let mut random = Random(2);
    let mut sets = Vec::new();
    let mut start = 0;
    while start < universe.len() {
        let size = (u32::MAX / (random.below(u32::MAX) + 1)).clamp(1, 300) as usize;
        let end = (start + size).min(universe.len());
        sets.push(start..end);
        start = end;
    }
    sets
}

/// Attributes of one set as a transit network would send them: two to eight AS numbers after
/// `first`, a MED in one of ten, up to six communities in half of them.
pub fn realistic(random: &mut Random, first: Option<u32>, next_hop: Ipv4Addr) -> Attributes {
    let mut attributes = Attributes::new(next_hop);
    attributes.as_path.extend(first);
    let hops = 1 + random.below(3) + random.below(3) + random.below(3);
    for _ in 0..hops {
        // Never an AS of the bench, which would be a loop.
        attributes.as_path.push(100_000 + random.below(75_000));
    }
    attributes.med = (random.below(10) == 0).then(|| random.below(1000));
    if random.below(2) == 0 {
        let communities = 1 + random.below(6);
        attributes.communities = (0..communities)
            .map(|_| 0x0100_0000 + random.below(1 << 28))
            .collect();
    }
    attributes
}

/// What a sender sends: everything, and the withdrawal of it.
#[derive(Debug, Clone)]
pub struct Feed {
    pub announce: Rc<[u8]>,
    pub withdraw: Rc<[u8]>,
}

impl Feed {
    /// All prefixes of `universe`, with attributes by the number of the set.
    pub fn new(
        universe: &Universe,
        sets: &[Range<usize>],
        mut attributes: impl FnMut(usize) -> Attributes,
    ) -> Self {
        let mut announcements = Vec::new();
        for (number, set) in sets.iter().enumerate() {
            let prefixes = &universe.prefixes()[set.clone()];
            announce(&mut announcements, &attributes(number), prefixes);
        }
        let mut withdrawals = Vec::new();
        withdraw(&mut withdrawals, universe.prefixes());
        Self {
            announce: announcements.into(),
            withdraw: withdrawals.into(),
        }
    }

    /// Some prefixes, all with the same attributes.
    pub fn plain(prefixes: &[(u32, u8)], attributes: &Attributes) -> Self {
        let (mut announcements, mut withdrawals) = (Vec::new(), Vec::new());
        announce(&mut announcements, attributes, prefixes);
        withdraw(&mut withdrawals, prefixes);
        Self {
            announce: announcements.into(),
            withdraw: withdrawals.into(),
        }
    }
}

#[cfg(test)]
mod tests;
