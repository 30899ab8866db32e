//! Ranges of addresses: what interval sets hold.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::number;
use crate::Family;

/// Addresses from the first to the last, both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    first: IpAddr,
    last: IpAddr,
}

impl Range {
    /// The fewest ranges that hold these networks of one family, and nothing else.
    pub fn merge<'a>(nets: impl Iterator<Item = &'a IpNet>, family: Family) -> Vec<Range> {
        let mut bounds: Vec<(u128, u128)> = nets
            .filter(|net| Family::of(net.addr()) == family)
            .map(|net| (number(net.network()), number(net.broadcast())))
            .collect();
        bounds.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::new();
        for (first, last) in bounds {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        let range = |(first, last)| {
            Some(Range::between(
                address(first, family)?,
                address(last, family)?,
            ))
        };
        merged.into_iter().filter_map(range).collect()
    }

    pub(super) fn between(first: IpAddr, last: IpAddr) -> Range {
        Range { first, last }
    }

    /// The first address in it.
    pub(super) fn first(self) -> IpAddr {
        self.first
    }

    /// The first address behind it; nothing where the range goes on to the last of all.
    pub(super) fn end(self) -> Option<IpAddr> {
        let family = Family::of(self.last);
        address(number(self.last).checked_add(1)?, family)
    }

    /// The range of a first address and the first one behind.
    pub(super) fn until(first: IpAddr, end: Option<IpAddr>) -> Option<Range> {
        let family = Family::of(first);
        let last = match end {
            Some(end) => address(number(end).checked_sub(1)?, family)?,
            None => highest(family),
        };
        Some(Range::between(first, last))
    }

    /// The one network that is this range.
    fn net(self) -> Option<IpNet> {
        let (first, last) = (number(self.first), number(self.last));
        let bits: u8 = if self.first.is_ipv4() { 32 } else { 128 };
        let host = u8::try_from((first ^ last).count_ones()).ok()?;
        let net = IpNet::new(self.first, bits.checked_sub(host)?).ok()?;
        (net.network() == self.first && net.broadcast() == self.last).then_some(net)
    }
}

/// As nftables has it: an address, a prefix, or two addresses with a dash.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.net() {
            _ if self.first == self.last => write!(f, "{}", self.first),
            Some(net) => write!(f, "{net}"),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

fn highest(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::BROADCAST.into(),
        Family::V6 => Ipv6Addr::from(u128::MAX).into(),
    }
}

fn address(number: u128, family: Family) -> Option<IpAddr> {
    Some(match family {
        Family::V4 => Ipv4Addr::from(u32::try_from(number).ok()?).into(),
        Family::V6 => Ipv6Addr::from(number).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(nets: &[&str], family: Family) -> Vec<String> {
        let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
        let ranges = Range::merge(nets.iter(), family);
        ranges.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn overlaps_and_neighbours_become_one_range() {
        let nets = [
            "192.0.2.3/32",
            "192.0.2.1/32",
            "192.0.2.2/32",
            "10.1.0.0/16",
            "10.0.0.0/8",
            "2001:db8::/64",
        ];
        assert_eq!(
            merged(&nets, Family::V4),
            ["10.0.0.0/8", "192.0.2.1-192.0.2.3"]
        );
        assert_eq!(merged(&nets, Family::V6), ["2001:db8::/64"]);
    }

    #[test]
    fn single_addresses_and_whole_families() {
        assert_eq!(merged(&["192.0.2.9/32"], Family::V4), ["192.0.2.9"]);
        assert_eq!(merged(&["0.0.0.0/0"], Family::V4), ["0.0.0.0/0"]);
        assert_eq!(merged(&["::/0"], Family::V6), ["::/0"]);
        let last = Range::merge(
            [&"255.255.255.0/24".parse().unwrap()].into_iter(),
            Family::V4,
        );
        assert_eq!(last[0].end(), None);
        assert_eq!(Range::until(last[0].first(), None), Some(last[0]));
    }

    #[test]
    fn a_range_and_its_bounds_are_the_same_thing() {
        let range = Range::merge([&"10.2.0.0/15".parse().unwrap()].into_iter(), Family::V4)[0];
        assert_eq!(range.end(), Some("10.4.0.0".parse().unwrap()));
        assert_eq!(Range::until(range.first(), range.end()), Some(range));
    }
}
