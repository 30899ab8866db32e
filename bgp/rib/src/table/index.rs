//! Where to find a prefix: a hash table that keeps neighbours together.
//!
//! A large table is slow because every look-up waits for memory, and peers announce and withdraw
//! what lies side by side together. So prefixes that differ in their last three bits only have one
//! home, a line of the processor's cache with room for ten, and tags tell them apart there. A line
//! that is full passes on to the next one and counts what it passed on; looking ends at the first
//! line that passed on nothing.

use std::hash::{BuildHasher, Hash};

use bgp_wire::{Prefix4, Prefix6};
use foldhash::fast::FixedState;

use super::PrefixId;

/// Places in a line.
const PLACES: usize = 10;

/// The fullest a table gets, in prefixes per line.
const FULL: usize = 7;

/// Lines of the smallest table.
const FEWEST: usize = 8;

/// Bits of a prefix that make no difference for its home.
const NEAR_BITS: u8 = 3;

/// A prefix that knows its neighbours.
pub(crate) trait Near: Copy + Eq + Hash {
    /// The first of the prefixes of this length that have the same home, and which of them it is.
    fn near(self) -> (Self, u8);
}

impl Near for Prefix4 {
    fn near(self) -> (Self, u8) {
        let len = self.prefix_len();
        let Some(shift) = len.checked_sub(NEAR_BITS).map(|_| 32 - len) else {
            return (self, 0);
        };
        let which = self.bits() >> shift & 7;
        let first = Self::new(self.bits() & !(7 << shift), len);
        (first.unwrap_or(self), which as u8)
    }
}

impl Near for Prefix6 {
    fn near(self) -> (Self, u8) {
        let len = self.prefix_len();
        let Some(shift) = len.checked_sub(NEAR_BITS).map(|_| 128 - len) else {
            return (self, 0);
        };
        let which = self.bits() >> shift & 7;
        let first = Self::new(self.bits() & !(7 << shift), len);
        (first.unwrap_or(self), which as u8)
    }
}

/// Where a prefix is looked for, and by what it is known there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Home {
    hash: u64,
    tag: u16,
}

/// As long as a line of the cache.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Line {
    /// 0 where a place is free.
    tags: [u16; PLACES],
    ids: [PrefixId; PLACES],
    /// How many prefixes came by that found no place.
    passed_on: u32,
}

impl Line {
    const EMPTY: Self = Self {
        tags: [0; PLACES],
        ids: [0; PLACES],
        passed_on: 0,
    };

    /// The places with a tag, as bits: without a branch per place.
    fn with(&self, tag: u16) -> Places {
        let places = self.tags.iter().zip(0..);
        Places(places.fold(0, |all, (other, place)| {
            all | u32::from(*other == tag) << place
        }))
    }
}

/// Some places of a line.
struct Places(u32);

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let next = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (next < PLACES).then_some(next)
    }
}

/// Says where prefixes belong.
#[derive(Debug)]
pub(super) struct Homes(FixedState);

impl Homes {
    pub(super) fn home(&self, key: impl Near) -> Home {
        let (first, which) = key.near();
        let hash = self.0.hash_one(first);
        // Lines are chosen by the upper bits; the lower ones are as good.
        let tag = 0x8000 | (hash as u16) << NEAR_BITS | u16::from(which);
        Home { hash, tag }
    }
}

/// Ids by prefix; the prefixes themselves are with the caller.
#[derive(Debug)]
pub(super) struct Index {
    lines: Vec<Line>,
    len: usize,
    homes: Homes,
}

impl Index {
    /// The seed is a secret: peers choose the prefixes.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            lines: Vec::new(),
            len: 0,
            homes: Homes(FixedState::with_seed(seed)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn home(&self, key: impl Near) -> Home {
        self.homes.home(key)
    }

    /// The id that was inserted with this home and that `is` says is the right one.
    pub(super) fn find(&self, home: Home, is: impl Fn(PrefixId) -> bool) -> Option<PrefixId> {
        let (line, place) = self.place(home, is)?;
        Some(self.lines[line].ids[place])
    }

    fn place(&self, home: Home, is: impl Fn(PrefixId) -> bool) -> Option<(usize, usize)> {
        if self.lines.is_empty() {
            return None;
        }
        let mut at = self.first_line(home.hash);
        for _ in 0..self.lines.len() {
            let line = &self.lines[at];
            let found = line.with(home.tag).find(|&place| is(line.ids[place]));
            if let Some(place) = found {
                return Some((at, place));
            }
            if line.passed_on == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// Adds an id that is not there; `home_of` says where those that are there belong.
    pub(super) fn insert(
        &mut self,
        home: Home,
        id: PrefixId,
        home_of: impl Fn(&Homes, PrefixId) -> Home,
    ) {
        if self.len >= self.lines.len() * FULL {
            self.grow(home_of);
        }
        self.put(home, id);
        self.len += 1;
    }

    fn put(&mut self, home: Home, id: PrefixId) {
        let mut at = self.first_line(home.hash);
        loop {
            let free = self.lines[at].with(0).next();
            let line = &mut self.lines[at];
            if let Some(place) = free {
                line.tags[place] = home.tag;
                line.ids[place] = id;
                return;
            }
            line.passed_on += 1;
            at = self.after(at);
        }
    }

    /// Takes an id out; false if it is not there.
    pub(super) fn remove(&mut self, home: Home, id: PrefixId) -> bool {
        let Some((line, place)) = self.place(home, |other| other == id) else {
            return false;
        };
        self.lines[line].tags[place] = 0;
        let mut at = self.first_line(home.hash);
        while at != line {
            self.lines[at].passed_on -= 1;
            at = self.after(at);
        }
        self.len -= 1;
        true
    }

    fn first_line(&self, hash: u64) -> usize {
        // Any number of lines will do, so that growth need not double them.
        ((u128::from(hash) * self.lines.len() as u128) >> 64) as usize
    }

    fn after(&self, line: usize) -> usize {
        if line + 1 == self.lines.len() {
            0
        } else {
            line + 1
        }
    }

    fn grow(&mut self, home_of: impl Fn(&Homes, PrefixId) -> Home) {
        let count = (self.lines.len() / 2 * 3).max(FEWEST);
        let old = std::mem::replace(&mut self.lines, vec![Line::EMPTY; count]);
        for line in &old {
            // All of them before any is put: the machine waits for their prefixes together.
            let homes = line.ids.map(|id| home_of(&self.homes, id));
            for (place, home) in homes.into_iter().enumerate() {
                if line.tags[place] != 0 {
                    self.put(home, line.ids[place]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
