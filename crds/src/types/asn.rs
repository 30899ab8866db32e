//! AS numbers.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A four-octet AS number (RFC 6793).
///
/// Reads as an integer, as its text, or in asdot notation (RFC 5396: `65000.100`); writes as an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asn(pub u32);

/// Why a text is not an [`Asn`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an AS number; write 0 to 4294967295, or dotted like 65000.100")]
pub struct AsnError(String);

impl FromStr for Asn {
    type Err = AsnError;

    fn from_str(text: &str) -> Result<Self, AsnError> {
        // `u16::from_str` would also take a plus sign.
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let malformed = || AsnError(text.to_owned());
        match text.split_once('.') {
            None if digits(text) => text.parse().map(Asn).map_err(|_| malformed()),
            Some((high, low)) if digits(high) && digits(low) => {
                let high: u16 = high.parse().map_err(|_| malformed())?;
                let low: u16 = low.parse().map_err(|_| malformed())?;
                Ok(Asn(u32::from(high) << 16 | u32::from(low)))
            }
            _ => Err(malformed()),
        }
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u32> for Asn {
    fn from(number: u32) -> Self {
        Asn(number)
    }
}

impl From<Asn> for u32 {
    fn from(asn: Asn) -> u32 {
        asn.0
    }
}

impl Serialize for Asn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for Asn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsnVisitor;

        impl Visitor<'_> for AsnVisitor {
            type Value = Asn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an AS number, 0 to 4294967295 or dotted like \"65000.100\"")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Asn, E> {
                u32::try_from(number)
                    .map(Asn)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Asn, E> {
                u32::try_from(number)
                    .map(Asn)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }

            // An unquoted `65000.100` is a float in YAML and has already lost its last zeros: 65000.1.
            fn visit_f64<E: Error>(self, _: f64) -> Result<Asn, E> {
                Err(E::custom(
                    "a dotted AS number without quotes is read as a fraction; write it as \"65000.100\"",
                ))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Asn, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(AsnVisitor)
    }
}

impl JsonSchema for Asn {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Asn".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maximum": u32::MAX,
            "maxLength": 11,
            "pattern": r"^([0-9]{1,10}|[0-9]{1,5}\.[0-9]{1,5})$",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn accepts_integer_text_and_dotted() {
        for (value, number) in [
            (json!(64512), 64512),
            (json!(4294967295_u64), u32::MAX),
            (json!("65000"), 65000),
            (json!("65000.100"), 65000 << 16 | 100),
            (json!("0.1"), 1),
        ] {
            assert_eq!(serde_json::from_value::<Asn>(value).unwrap(), Asn(number));
        }
    }

    #[test]
    fn refuses_everything_else_and_says_what_to_write() {
        for value in [
            json!(-1),
            json!(4294967296_u64),
            json!("65536.1"),
            json!("1.2.3"),
            json!("+5"),
            json!(""),
            json!(65000.1),
        ] {
            let error = serde_json::from_value::<Asn>(value.clone())
                .unwrap_err()
                .to_string();
            assert!(error.contains("65000.100"), "{value}: {error}");
        }
    }

    #[test]
    fn writes_an_integer() {
        assert_eq!(serde_json::to_value(Asn(64512)).unwrap(), json!(64512));
    }
}
