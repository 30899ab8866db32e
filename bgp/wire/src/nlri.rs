//! Routes as they stand in messages: prefixes, path identifiers, next hops (RFC 4271 §4.3, 2545, 7911, 8950).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BytesMut;

use crate::prefix::{Prefix4, Prefix6};
use crate::{Family, Prefix};

/// One route of a message, 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nlri {
    /// The destination.
    pub prefix: Prefix,
    /// Path identifier (RFC 7911); 0 when the session uses none for this family.
    pub path_id: u32,
}

impl From<Prefix> for Nlri {
    fn from(prefix: Prefix) -> Nlri {
        Nlri { prefix, path_id: 0 }
    }
}

impl fmt::Display for Nlri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix.fmt(f)?;
        if self.path_id != 0 {
            write!(f, " path {}", self.path_id)?;
        }
        Ok(())
    }
}

/// Where packets for a route go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// An IPv4 router.
    V4(Ipv4Addr),
    /// An IPv6 router (RFC 2545 §3).
    V6 {
        /// Global address; a link-local one, or `::`, from peers that have no other.
        global: Ipv6Addr,
        /// Link-local address on the network both sides share.
        link_local: Option<Ipv6Addr>,
    },
}

impl NextHop {
    /// The global address, or the link-local one where that is all there is.
    pub fn addr(self) -> IpAddr {
        match self {
            NextHop::V4(addr) => addr.into(),
            NextHop::V6 { global, link_local } if global.is_unspecified() => {
                link_local.unwrap_or(global).into()
            }
            NextHop::V6 { global, .. } => global.into(),
        }
    }

    /// False for what can be no router's address, which RFC 4271 §6.3 calls an invalid next hop.
    pub fn is_host(self) -> bool {
        match self {
            NextHop::V4(addr) => !matches!(addr.octets()[0], 0 | 127 | 224..),
            NextHop::V6 { global, link_local } => {
                let usable = |addr: Ipv6Addr| {
                    !addr.is_unspecified() && !addr.is_loopback() && !addr.is_multicast()
                };
                let local = link_local.is_none_or(|addr| addr.is_unicast_link_local());
                local && (usable(global) || global.is_unspecified() && link_local.is_some())
            }
        }
    }

    /// Reads the next hop field of MP_REACH_NLRI; `None` when its length does not fit the family.
    pub(crate) fn decode(bytes: &[u8], family: Family, extended: bool) -> Option<NextHop> {
        let is_v4 = family == Family::IPV4_UNICAST;
        match *bytes {
            [a, b, c, d] if is_v4 => Some(NextHop::V4(Ipv4Addr::new(a, b, c, d))),
            _ if is_v4 && !extended => None,
            _ => {
                let (global, rest) = bytes.split_first_chunk::<16>()?;
                let link_local = match rest.len() {
                    0 => None,
                    _ => Some(Ipv6Addr::from(<[u8; 16]>::try_from(rest).ok()?)),
                };
                Some(NextHop::V6 {
                    global: Ipv6Addr::from(*global),
                    // Some peers fill the second half with zeros when they have no link-local address.
                    link_local: link_local.filter(|addr| !addr.is_unspecified()),
                })
            }
        }
    }
}

impl From<IpAddr> for NextHop {
    fn from(addr: IpAddr) -> NextHop {
        match addr {
            IpAddr::V4(addr) => NextHop::V4(addr),
            IpAddr::V6(global) => NextHop::V6 {
                global,
                link_local: None,
            },
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHop::V4(addr) => addr.fmt(f),
            NextHop::V6 {
                global,
                link_local: None,
            } => global.fmt(f),
            NextHop::V6 {
                global,
                link_local: Some(local),
            } => write!(f, "{global} ({local})"),
        }
    }
}

/// Reads routes to the end of `bytes`. Host bits are cleared, not refused (RFC 4271 §4.3).
///
/// # Errors
/// What is syntactically wrong (RFC 7606 §5.3); no route of the field can be trusted then.
pub(crate) fn decode_all(
    bytes: &[u8],
    family: Family,
    add_path: bool,
) -> Result<Vec<Nlri>, &'static str> {
    if family == Family::IPV4_UNICAST {
        decode_prefixes::<4>(bytes, add_path, |addr, len| {
            Prefix4::new(u32::from_be_bytes(addr), len).map(Prefix::V4)
        })
    } else {
        decode_prefixes::<16>(bytes, add_path, |addr, len| {
            Prefix6::new(u128::from_be_bytes(addr), len).map(Prefix::V6)
        })
    }
}

fn decode_prefixes<const N: usize>(
    mut bytes: &[u8],
    add_path: bool,
    prefix: impl Fn([u8; N], u8) -> Option<Prefix>,
) -> Result<Vec<Nlri>, &'static str> {
    // Exact for /24 and /64 without path identifiers, and never far above what the octets can hold.
    let typical = if add_path { 4 } else { 0 } + 1 + N * 3 / 4;
    let mut routes = Vec::with_capacity(bytes.len().div_ceil(typical));
    while !bytes.is_empty() {
        let mut path_id = 0;
        if add_path {
            let (id, rest) = bytes
                .split_first_chunk()
                .ok_or("a path identifier is cut off")?;
            path_id = u32::from_be_bytes(*id);
            bytes = rest;
        }
        let (&len, rest) = bytes.split_first().ok_or("a prefix is cut off")?;
        let octets = usize::from(len).div_ceil(8);
        // Whatever stands behind the prefix is masked away, so that no octets need to be moved one by one.
        let addr = match rest.first_chunk::<N>() {
            Some(addr) => *addr,
            None => {
                let mut addr = [0; N];
                addr[..rest.len()].copy_from_slice(rest);
                addr
            }
        };
        let prefix = prefix(addr, len).ok_or("a prefix is longer than an address")?;
        bytes = rest.get(octets..).ok_or("a prefix is cut off")?;
        routes.push(Nlri { prefix, path_id });
    }
    Ok(routes)
}

/// Greatest length of one encoded route of this family.
pub(crate) fn max_encoded_len(family: Family, add_path: bool) -> usize {
    let addr = if family == Family::IPV4_UNICAST {
        4
    } else {
        16
    };
    if add_path { 5 + addr } else { 1 + addr }
}

/// Length of `nlri` when encoded.
pub(crate) fn encoded_len(nlri: &Nlri, add_path: bool) -> usize {
    let octets = usize::from(nlri.prefix.prefix_len()).div_ceil(8);
    if add_path { 5 + octets } else { 1 + octets }
}

/// Writes routes that have `octets` octets in all behind what is in `out`.
pub(crate) fn encode_all(routes: &[Nlri], add_path: bool, octets: usize, out: &mut BytesMut) {
    let start = out.len();
    out.resize(start + octets, 0);
    let mut rest = &mut out[start..];
    for route in routes {
        if add_path {
            rest = put(route.path_id.to_be_bytes(), 4, rest);
        }
        let len = route.prefix.prefix_len();
        rest = put([len], 1, rest);
        let octets = usize::from(len).div_ceil(8);
        rest = match route.prefix {
            Prefix::V4(prefix) => put(prefix.bits().to_be_bytes(), octets, rest),
            Prefix::V6(prefix) => put(prefix.addr().octets(), octets, rest),
        };
    }
}

/// Writes the first `count` octets of `value` and returns the room behind them.
fn put<const N: usize>(value: [u8; N], count: usize, rest: &mut [u8]) -> &mut [u8] {
    match rest.first_chunk_mut::<N>() {
        // A write of fixed length; what is too much is written over by the next route.
        Some(room) => *room = value,
        None => rest[..count].copy_from_slice(&value[..count]),
    }
    &mut rest[count..]
}
