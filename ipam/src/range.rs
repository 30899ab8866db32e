//! Addresses as numbers: ordinals in a block, sets of ranges, and the walk over the possible blocks of a pool. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crds::Cidr;

/// Number of addresses of a prefix, at most `u32::MAX`.
pub(crate) fn size(cidr: Cidr) -> u32 {
    let bits = cidr.max_prefix_len() - cidr.prefix_len();
    1u32.checked_shl(u32::from(bits)).unwrap_or(u32::MAX)
}

/// The address at a position of a prefix.
pub(crate) fn nth(cidr: Cidr, ordinal: u32) -> IpAddr {
    address(cidr.is_ipv6(), number(cidr.network()) + u128::from(ordinal))
}

/// The position of an address in a prefix, `None` when it is outside.
pub(crate) fn ordinal(cidr: Cidr, addr: IpAddr) -> Option<u32> {
    if !cidr.contains(&addr) {
        return None;
    }
    u32::try_from(number(addr) - number(cidr.network())).ok()
}

/// The block of an address for a block size.
pub(crate) fn block_of(addr: IpAddr, block_size: u8) -> Option<Cidr> {
    ipnet::IpNet::new(addr, block_size).ok().map(Cidr::masking)
}

fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn address(v6: bool, number: u128) -> IpAddr {
    if v6 {
        Ipv6Addr::from_bits(number).into()
    } else {
        Ipv4Addr::from_bits(number as u32).into()
    }
}

/// First and last address of a prefix as numbers.
fn bounds(cidr: Cidr) -> (u128, u128) {
    (number(cidr.network()), number(cidr.broadcast()))
}

/// A set of addresses of both families: sorted ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl Ranges {
    /// Whether the address is in the set.
    pub(crate) fn contains(&self, addr: IpAddr) -> bool {
        let number = number(addr);
        self.covering(addr.is_ipv6(), number).is_some()
    }

    /// Adds a prefix.
    pub(crate) fn insert(&mut self, cidr: Cidr) {
        let (mut first, mut last) = bounds(cidr);
        let ranges = if cidr.is_ipv6() {
            &mut self.v6
        } else {
            &mut self.v4
        };
        let start = ranges.partition_point(|(_, end)| end.saturating_add(1) < first);
        let end = ranges.partition_point(|(begin, _)| *begin <= last.saturating_add(1));
        if let Some((begin, _)) = ranges.get(start).filter(|_| start < end) {
            first = first.min(*begin);
            last = last.max(ranges[end - 1].1);
        }
        ranges.splice(start..end, [(first, last)]);
    }

    fn covering(&self, v6: bool, number: u128) -> Option<(u128, u128)> {
        self.first_touching(v6, number, number)
    }

    /// The lowest range that shares an address with `first..=last`.
    fn first_touching(&self, v6: bool, first: u128, last: u128) -> Option<(u128, u128)> {
        let ranges = if v6 { &self.v6 } else { &self.v4 };
        let range = ranges.get(ranges.partition_point(|(_, end)| *end < first))?;
        (range.0 <= last).then_some(*range)
    }
}

impl Extend<Cidr> for Ranges {
    fn extend<I: IntoIterator<Item = Cidr>>(&mut self, cidrs: I) {
        for cidr in cidrs {
            self.insert(cidr);
        }
    }
}

impl FromIterator<Cidr> for Ranges {
    fn from_iter<I: IntoIterator<Item = Cidr>>(cidrs: I) -> Self {
        let mut ranges = Ranges::default();
        ranges.extend(cidrs);
        ranges
    }
}

/// A walk over all blocks a pool could have, from a place that depends on the seed, so that nodes rarely want the same.
///
/// It jumps over whole taken and reserved ranges: the work is bounded by their number, not by the size of the pool.
#[derive(Clone, Debug)]
pub(crate) struct Candidates {
    pool: Cidr,
    block_size: u8,
    next: u128,
    /// Where the second part of the walk, from the beginning of the pool, has to stop.
    stop: u128,
    wrapped: bool,
    done: bool,
}

impl Candidates {
    /// A walk over the blocks of `block_size` in `pool`; none when the pool is smaller than one block.
    pub(crate) fn new(pool: Cidr, block_size: u8, seed: u64) -> Candidates {
        let (first, last) = bounds(pool);
        let done = block_size < pool.prefix_len() || block_size > pool.max_prefix_len();
        let span = Self::span(pool, block_size);
        let count = ((last - first) / span).saturating_add(1);
        let start = if done {
            first
        } else {
            first + u128::from(seed) % count * span
        };
        Candidates {
            pool,
            block_size,
            next: start,
            stop: start,
            wrapped: false,
            done,
        }
    }

    fn span(pool: Cidr, block_size: u8) -> u128 {
        1u128
            .checked_shl(u32::from(pool.max_prefix_len().saturating_sub(block_size)))
            .unwrap_or(u128::MAX)
    }

    /// The next block that overlaps nothing in `taken` and has at least one address outside `reserved`.
    pub(crate) fn next(&mut self, taken: &Ranges, reserved: &Ranges) -> Option<Cidr> {
        let v6 = self.pool.is_ipv6();
        let span = Self::span(self.pool, self.block_size);
        let (pool_first, pool_last) = bounds(self.pool);
        loop {
            let limit = if self.wrapped {
                self.stop.checked_sub(1)
            } else {
                Some(pool_last)
            };
            if self.done || limit.is_none_or(|limit| self.next > limit) {
                if self.done || self.wrapped || self.stop == pool_first {
                    self.done = true;
                    return None;
                }
                (self.wrapped, self.next) = (true, pool_first);
                continue;
            }
            let (first, last) = (self.next, self.next + (span - 1));
            let taken = taken.first_touching(v6, first, last);
            let reserved = reserved.covering(v6, first).filter(|(_, end)| *end >= last);
            let step = match (taken, reserved) {
                // The block in which the taken range ends is taken too.
                (Some((_, end)), _) => ((end.max(last) - pool_first) / span).checked_add(1),
                // The block in which a reserved range ends may have addresses behind it.
                (None, Some((_, end))) => {
                    end.checked_add(1).map(|after| (after - pool_first) / span)
                }
                (None, None) => ((last - pool_first) / span).checked_add(1),
            };
            let step = step.and_then(|index| index.checked_mul(span));
            match step.and_then(|offset| pool_first.checked_add(offset)) {
                Some(next) => self.next = next,
                // The range reached the end of the address space.
                None if self.wrapped || self.stop == pool_first => self.done = true,
                None => (self.wrapped, self.next) = (true, pool_first),
            }
            if taken.is_none() && reserved.is_none() {
                return ipnet::IpNet::new(address(v6, first), self.block_size)
                    .ok()
                    .map(Cidr::masking);
            }
        }
    }
}

#[cfg(test)]
mod tests;
