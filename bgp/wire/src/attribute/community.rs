//! Communities: standard (RFC 1997), extended (RFC 4360) and large (RFC 8092).

use std::fmt;
use std::str::FromStr;

/// A standard community.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    /// Lower the preference, this path is about to go (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Community = Community(0xffff_0000);
    /// Kept over a long-lived graceful restart (RFC 9494).
    pub const LLGR_STALE: Community = Community(0xffff_0006);
    /// Not to be kept over a long-lived graceful restart (RFC 9494).
    pub const NO_LLGR: Community = Community(0xffff_0007);
    /// Drop packets to this destination (RFC 7999).
    pub const BLACKHOLE: Community = Community(0xffff_029a);
    /// Not beyond the AS or confederation (RFC 1997).
    pub const NO_EXPORT: Community = Community(0xffff_ff01);
    /// Not to any peer (RFC 1997).
    pub const NO_ADVERTISE: Community = Community(0xffff_ff02);
    /// Not to any external peer, members of the confederation included (RFC 1997).
    pub const NO_EXPORT_SUBCONFED: Community = Community(0xffff_ff03);
    /// Not to bilateral peers (RFC 3765).
    pub const NO_PEER: Community = Community(0xffff_ff04);

    /// `asn:value`.
    pub const fn new(asn: u16, value: u16) -> Community {
        Community((asn as u32) << 16 | value as u32)
    }

    pub(crate) fn from_octets(octets: [u8; 4]) -> Community {
        Community(u32::from_be_bytes(octets))
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// An extended community, as its eight octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtCommunity(pub [u8; 8]);

impl ExtCommunity {
    /// Whether it may leave the AS (RFC 4360 §2: the T bit is clear).
    pub const fn is_transitive(self) -> bool {
        self.0[0] & 0x40 == 0
    }
}

impl fmt::Display for ExtCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", u64::from_be_bytes(self.0))
    }
}

/// A large community.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// AS that gives the rest a meaning.
    pub global: u32,
    /// First local part.
    pub local1: u32,
    /// Second local part.
    pub local2: u32,
}

impl LargeCommunity {
    pub(crate) fn from_octets(octets: [u8; 12]) -> LargeCommunity {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = octets;
        LargeCommunity {
            global: u32::from_be_bytes([a, b, c, d]),
            local1: u32::from_be_bytes([e, f, g, h]),
            local2: u32::from_be_bytes([i, j, k, l]),
        }
    }

    pub(crate) fn octets(self) -> [u8; 12] {
        let mut octets = [0; 12];
        octets[..4].copy_from_slice(&self.global.to_be_bytes());
        octets[4..8].copy_from_slice(&self.local1.to_be_bytes());
        octets[8..].copy_from_slice(&self.local2.to_be_bytes());
        octets
    }
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

/// Why a text is not a community.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a community; write {form}")]
pub struct CommunityParseError {
    text: String,
    form: &'static str,
}

impl FromStr for Community {
    type Err = CommunityParseError;

    fn from_str(text: &str) -> Result<Community, CommunityParseError> {
        let parts = text.split_once(':');
        let community = parts
            .and_then(|(asn, value)| Some(Community::new(asn.parse().ok()?, value.parse().ok()?)));
        community.ok_or_else(|| CommunityParseError {
            text: text.to_owned(),
            form: "two numbers up to 65535, such as 64496:100",
        })
    }
}

impl FromStr for LargeCommunity {
    type Err = CommunityParseError;

    fn from_str(text: &str) -> Result<LargeCommunity, CommunityParseError> {
        let parse = || {
            let mut parts = text.split(':').map(|part| part.parse().ok());
            let community = LargeCommunity {
                global: parts.next()??,
                local1: parts.next()??,
                local2: parts.next()??,
            };
            parts.next().is_none().then_some(community)
        };
        parse().ok_or_else(|| CommunityParseError {
            text: text.to_owned(),
            form: "three numbers up to 4294967295, such as 64496:1:2",
        })
    }
}
