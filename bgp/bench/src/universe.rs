//! The prefixes of one scenario, each with a number, and the way from a prefix to its number.

use anyhow::{Context, Result};

/// Distinct prefixes that do not overlap. A prefix is its address and its length in bits.
#[derive(Debug)]
pub struct Universe {
    prefixes: Vec<(u32, u8)>,
    first: u32,
    /// Every prefix is found by its address without this many low bits.
    shift: u32,
    numbers: Vec<u32>,
}

/// No prefix begins here.
const NONE: u32 = u32::MAX;

/// Share of the lengths of a full table in 2025, in prefixes of a thousand. What is longer than
/// /24 or shorter than /16 is left out.
const LENGTHS: [(u8, u32); 9] = [
    (24, 622),
    (23, 100),
    (22, 110),
    (21, 45),
    (20, 45),
    (19, 25),
    (18, 18),
    (17, 12),
    (16, 23),
];

/// Prefixes that are next to each other and have the same length.
const RUN: usize = 16;
/// Of these so many stay together, as the prefixes of one origin do; the rest is shuffled.
const NEIGHBOURS: usize = 4;

impl Universe {
    /// `count` prefixes with the lengths of a full table, in small groups of neighbours and else in
    /// an order without meaning.
    pub fn full_table(count: usize) -> Self {
        let mut random = Random(1);
        let mut prefixes = Vec::with_capacity(count);
        let mut next = 0x0100_0000_u32;
        let mut bits = 24;
        while prefixes.len() < count {
            if prefixes.len() % RUN == 0 {
                bits = length(&mut random);
            }
            let size = 1_u32 << (32 - bits);
            next = next.next_multiple_of(size);
            // Addresses that a router may refuse.
            if matches!(next >> 24, 10 | 127 | 169 | 172 | 192) {
                next = ((next >> 24) + 1) << 24;
            }
            prefixes.push((next, bits));
            next += size;
        }
        let mut neighbours: Vec<_> = prefixes.chunks(NEIGHBOURS).collect();
        random.shuffle(&mut neighbours);
        Self::new(neighbours.concat(), 8)
    }

    /// `count` blocks of 64 addresses from `first` on, in order.
    pub fn blocks(first: u32, count: u32) -> Self {
        let prefixes = (0..count).map(|block| (first + (block << 6), 26)).collect();
        Self::new(prefixes, 6)
    }

    fn new(prefixes: Vec<(u32, u8)>, shift: u32) -> Self {
        let addresses = || prefixes.iter().map(|prefix| prefix.0);
        let first = addresses().min().unwrap_or(0);
        let last = addresses().max().unwrap_or(0);
        let mut numbers = vec![NONE; ((last - first) >> shift) as usize + 1];
        for (number, (address, _)) in (0..).zip(&prefixes) {
            numbers[((address - first) >> shift) as usize] = number;
        }
        Self {
            prefixes,
            first,
            shift,
            numbers,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// All of them, in the order of their numbers.
    pub fn prefixes(&self) -> &[(u32, u8)] {
        &self.prefixes
    }

    /// The number of a prefix.
    ///
    /// # Errors
    /// A prefix that is not in here: the speaker under test made it up.
    #[inline]
    pub fn number(&self, address: u32, bits: u8) -> Result<usize> {
        let place = (address.wrapping_sub(self.first) >> self.shift) as usize;
        self.numbers
            .get(place)
            .map(|number| *number as usize)
            .filter(|number| self.prefixes.get(*number) == Some(&(address, bits)))
            .with_context(|| format!("{} was never announced to it", show((address, bits))))
    }

    /// A prefix as people write it.
    pub fn show(&self, number: usize) -> String {
        self.prefixes
            .get(number)
            .map_or_else(|| format!("prefix number {number}"), |prefix| show(*prefix))
    }
}

fn show((address, bits): (u32, u8)) -> String {
    format!("{}/{bits}", std::net::Ipv4Addr::from(address))
}

fn length(random: &mut Random) -> u8 {
    let mut left = random.below(1000);
    for (bits, share) in LENGTHS {
        if left < share {
            return bits;
        }
        left -= share;
    }
    24
}

/// Numbers that look random and are the same in every run (SplitMix64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: u32) -> u32 {
        // The remainder is below a u32.
        u32::try_from(self.draw() % u64::from(limit)).unwrap_or(0)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let limit = u32::try_from(last + 1).unwrap_or(u32::MAX);
            items.swap(last, self.below(limit) as usize);
        }
    }
}

#[cfg(test)]
mod tests;
