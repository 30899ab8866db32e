//! Prefixes and communities as they are written in the file.

use std::str::FromStr;

use bgp::{CommunityMatch, Prefix};
use serde::{Deserialize, Deserializer, de::Error};

/// A prefix; host bits are an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StrictPrefix(pub(super) Prefix);

impl<'de> Deserialize<'de> for StrictPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(StrictPrefix).map_err(D::Error::custom)
    }
}

/// A community, `64500:1` (RFC 1997).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Community(pub(super) u32);

impl<'de> Deserialize<'de> for Community {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let [high, low] = parts::<u16, 2>(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "{text} is no community; write two numbers, 64500:1"
            ))
        })?;
        Ok(Community(u32::from(high) << 16 | u32::from(low)))
    }
}

/// A large community, `64500:1:2` (RFC 8092).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LargeCommunity(pub(super) [u32; 3]);

impl<'de> Deserialize<'de> for LargeCommunity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let numbers = parts::<u32, 3>(&text).ok_or_else(|| {
            D::Error::custom(format!("{text} is no large community; write 64500:1:2"))
        })?;
        Ok(LargeCommunity(numbers))
    }
}

/// An extended community as its eight octets, `0x0002fc0000000064` (RFC 4360).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExtendedCommunity(pub(super) [u8; 8]);

impl<'de> Deserialize<'de> for ExtendedCommunity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        extended(&text).map(ExtendedCommunity).ok_or_else(|| {
            D::Error::custom(format!(
                "{text} is no extended community; write its eight octets, 0x0002fc0000000064"
            ))
        })
    }
}

fn extended(text: &str) -> Option<[u8; 8]> {
    let digits = text
        .strip_prefix("0x")
        .filter(|digits| digits.len() == 16)?;
    Some(u64::from_str_radix(digits, 16).ok()?.to_be_bytes())
}

/// A community of any kind, told apart by how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnyCommunity(pub(super) CommunityMatch);

impl<'de> Deserialize<'de> for AnyCommunity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let standard = parts::<u16, 2>(&text)
            .map(|[high, low]| CommunityMatch::Standard(u32::from(high) << 16 | u32::from(low)));
        let large = || parts::<u32, 3>(&text).map(CommunityMatch::Large);
        let extended = || extended(&text).map(CommunityMatch::Extended);
        let any = standard.or_else(large).or_else(extended);
        any.map(AnyCommunity).ok_or_else(|| {
            D::Error::custom(format!(
                "{text} is no community; write 64500:1, 64500:1:2 or 0x0002fc0000000064"
            ))
        })
    }
}

/// Prefixes inside one prefix: `10.0.0.0/8`, `10.0.0.0/8 le 24`, `10.0.0.0/8 ge 16 le 24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PrefixRange {
    pub(super) prefix: Prefix,
    pub(super) min: u8,
    pub(super) max: u8,
}

impl<'de> Deserialize<'de> for PrefixRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        range(&text).map_err(D::Error::custom)
    }
}

fn range(text: &str) -> Result<PrefixRange, String> {
    let mut words = text.split_whitespace();
    let prefix: Prefix = words
        .next()
        .unwrap_or_default()
        .parse()
        .map_err(|error| format!("{text}: {error}"))?;
    let longest = if prefix.addr().is_ipv4() { 32 } else { 128 };
    let (mut min, mut max) = (None, None);
    while let Some(word) = words.next() {
        let length = words.next().and_then(|length| length.parse::<u8>().ok());
        match (word, length) {
            ("ge", Some(length)) => min = Some(length),
            ("le", Some(length)) => max = Some(length),
            _ => {
                return Err(format!(
                    "{text}: write PREFIX, PREFIX le 24 or PREFIX ge 16 le 24"
                ));
            }
        }
    }
    let own = prefix.prefix_len();
    // As routers have it: `ge` alone reaches down to single addresses.
    let (min, max) = match (min, max) {
        (None, None) => (own, own),
        (Some(min), None) => (min, longest),
        (min, Some(max)) => (min.unwrap_or(own), max),
    };
    if own <= min && min <= max && max <= longest {
        Ok(PrefixRange { prefix, min, max })
    } else {
        Err(format!(
            "{text}: lengths must be in order, {own} <= ge <= le <= {longest}"
        ))
    }
}

fn parts<T: FromStr, const N: usize>(text: &str) -> Option<[T; N]> {
    let numbers: Option<Vec<T>> = text.split(':').map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}
