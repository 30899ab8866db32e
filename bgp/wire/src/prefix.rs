//! IP prefixes: an address and how many of its leading bits count.
//!
//! Host bits are cleared at construction, so two prefixes that route the same packets are equal and hash the same.
//! Each type feeds its hasher once; use a seeded hasher, since peers choose the prefixes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::Family;

/// An IPv4 prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix4 {
    addr: u32,
    len: u8,
}

impl Prefix4 {
    /// The prefix of `len` bits around `addr` (a `u32` or an `Ipv4Addr`); `None` when `len` is above 32.
    pub fn new(addr: impl Into<u32>, len: u8) -> Option<Prefix4> {
        (len <= 32).then(|| Prefix4 {
            addr: addr.into() & mask4(len),
            len,
        })
    }

    /// First address.
    pub fn addr(self) -> Ipv4Addr {
        Ipv4Addr::from(self.addr)
    }

    /// First address as a number.
    pub fn bits(self) -> u32 {
        self.addr
    }

    /// Length in bits, 0 to 32.
    pub fn prefix_len(self) -> u8 {
        self.len
    }

    /// True when `addr` lies inside.
    pub fn contains(self, addr: Ipv4Addr) -> bool {
        u32::from(addr) & mask4(self.len) == self.addr
    }
}

fn mask4(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

impl Hash for Prefix4 {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.addr) << 8 | u64::from(self.len));
    }
}

impl fmt::Display for Prefix4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr(), self.len)
    }
}

impl fmt::Debug for Prefix4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An IPv6 prefix.
// Bytes instead of a u128, whose alignment of 16 would double the size of everything that holds a prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix6 {
    addr: [u8; 16],
    len: u8,
}

impl Prefix6 {
    /// The prefix of `len` bits around `addr` (a `u128` or an `Ipv6Addr`); `None` when `len` is above 128.
    pub fn new(addr: impl Into<u128>, len: u8) -> Option<Prefix6> {
        (len <= 128).then(|| Prefix6 {
            addr: (addr.into() & mask6(len)).to_be_bytes(),
            len,
        })
    }

    /// First address.
    pub fn addr(self) -> Ipv6Addr {
        Ipv6Addr::from(self.addr)
    }

    /// First address as a number.
    pub fn bits(self) -> u128 {
        u128::from_be_bytes(self.addr)
    }

    /// Length in bits, 0 to 128.
    pub fn prefix_len(self) -> u8 {
        self.len
    }

    /// True when `addr` lies inside.
    pub fn contains(self, addr: Ipv6Addr) -> bool {
        u128::from(addr) & mask6(self.len) == self.bits()
    }
}

fn mask6(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

impl Hash for Prefix6 {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Up to /120 the last byte is free for the length; longer ones may share a hash, which is harmless.
        state.write_u128(self.bits() ^ u128::from(self.len));
    }
}

impl fmt::Display for Prefix6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr(), self.len)
    }
}

impl fmt::Debug for Prefix6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A prefix of either family, 20 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prefix {
    /// IPv4.
    V4(Prefix4),
    /// IPv6.
    V6(Prefix6),
}

impl Prefix {
    /// The prefix of `len` bits around `addr`; `None` when `len` is longer than the address.
    pub fn new(addr: impl Into<IpAddr>, len: u8) -> Option<Prefix> {
        match addr.into() {
            IpAddr::V4(addr) => Prefix4::new(addr, len).map(Prefix::V4),
            IpAddr::V6(addr) => Prefix6::new(addr, len).map(Prefix::V6),
        }
    }

    /// First address.
    pub fn addr(self) -> IpAddr {
        match self {
            Prefix::V4(prefix) => prefix.addr().into(),
            Prefix::V6(prefix) => prefix.addr().into(),
        }
    }

    /// Length in bits.
    pub fn prefix_len(self) -> u8 {
        match self {
            Prefix::V4(prefix) => prefix.len,
            Prefix::V6(prefix) => prefix.len,
        }
    }

    /// The unicast family of this prefix.
    pub fn family(self) -> Family {
        match self {
            Prefix::V4(_) => Family::IPV4_UNICAST,
            Prefix::V6(_) => Family::IPV6_UNICAST,
        }
    }

    /// True when `addr` lies inside; never across families.
    pub fn contains(self, addr: IpAddr) -> bool {
        match (self, addr) {
            (Prefix::V4(prefix), IpAddr::V4(addr)) => prefix.contains(addr),
            (Prefix::V6(prefix), IpAddr::V6(addr)) => prefix.contains(addr),
            (Prefix::V4(_), IpAddr::V6(_)) | (Prefix::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl Hash for Prefix {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Prefix::V4(prefix) => prefix.hash(state),
            Prefix::V6(prefix) => prefix.hash(state),
        }
    }
}

impl From<Prefix4> for Prefix {
    fn from(prefix: Prefix4) -> Prefix {
        Prefix::V4(prefix)
    }
}

impl From<Prefix6> for Prefix {
    fn from(prefix: Prefix6) -> Prefix {
        Prefix::V6(prefix)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Prefix::V4(prefix) => prefix.fmt(f),
            Prefix::V6(prefix) => prefix.fmt(f),
        }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixParseError {
    /// Not `address/length`, or the length does not fit the address.
    #[error(
        "{text:?} is not a prefix; write an address, a slash and a length, such as 192.0.2.0/24"
    )]
    Syntax {
        /// What was read.
        text: String,
    },
    /// Bits beyond the length are set, so it is unclear what was meant.
    #[error("{text:?} has host bits set; write {prefix}")]
    HostBits {
        /// What was read.
        text: String,
        /// The prefix without them.
        prefix: Prefix,
    },
}

impl FromStr for Prefix {
    type Err = PrefixParseError;

    fn from_str(text: &str) -> Result<Prefix, PrefixParseError> {
        let syntax = || PrefixParseError::Syntax {
            text: text.to_owned(),
        };
        let (addr, len) = text.split_once('/').ok_or_else(syntax)?;
        let addr: IpAddr = addr.parse().map_err(|_| syntax())?;
        let len: u8 = len.parse().map_err(|_| syntax())?;
        let prefix = Prefix::new(addr, len).ok_or_else(syntax)?;
        if prefix.addr() != addr {
            let text = text.to_owned();
            return Err(PrefixParseError::HostBits { text, prefix });
        }
        Ok(prefix)
    }
}

#[cfg(test)]
mod tests;
