//! Prefixes and communities as they are written in the file.

use std::str::FromStr;

use bgp::Prefix;
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

fn parts<T: FromStr, const N: usize>(text: &str) -> Option<[T; N]> {
    let numbers: Option<Vec<T>> = text.split(':').map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}
