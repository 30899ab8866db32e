//! IP prefixes.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An IP prefix without host bits: `10.0.0.0/16`, never `10.0.0.5/16`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(IpNet);

/// Why a text is not a [`Cidr`], with the form it should have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// No slash.
    #[error("{0:?} has no prefix length; write {1} for this one address")]
    MissingLength(String, IpNet),
    /// Address bits below the prefix length are set.
    #[error("{0} has host bits set; write {1}")]
    HostBits(IpNet, IpNet),
    /// Not an address and a length.
    #[error("{0:?} is not a prefix; write one like 10.0.0.0/16 or fd00:1::/48")]
    Malformed(String),
}

impl Cidr {
    /// The prefix of an address: host bits are cleared.
    pub fn masking(net: IpNet) -> Cidr {
        Cidr(net.trunc())
    }

    /// The prefix that contains only this address.
    pub fn host(address: IpAddr) -> Cidr {
        Cidr(IpNet::from(address))
    }

    /// The prefix as `ipnet` has it.
    pub fn net(&self) -> IpNet {
        self.0
    }

    /// Number of addresses in it; `u128::MAX` stands for all of IPv6.
    pub fn size(&self) -> u128 {
        let bits = self.0.max_prefix_len() - self.0.prefix_len();
        1_u128.checked_shl(bits.into()).unwrap_or(u128::MAX)
    }

    /// Whether it is IPv6.
    pub fn is_ipv6(&self) -> bool {
        matches!(self.0, IpNet::V6(_))
    }

    /// Whether the two prefixes share an address.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }
}

impl Deref for Cidr {
    type Target = IpNet;

    fn deref(&self) -> &IpNet {
        &self.0
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        if let Ok(net) = text.parse::<IpNet>() {
            return Cidr::try_from(net);
        }
        match text.parse::<IpAddr>() {
            Ok(address) => Err(CidrError::MissingLength(
                text.to_owned(),
                IpNet::from(address),
            )),
            Err(_) => Err(CidrError::Malformed(text.to_owned())),
        }
    }
}

impl TryFrom<IpNet> for Cidr {
    type Error = CidrError;

    fn try_from(net: IpNet) -> Result<Self, CidrError> {
        if net == net.trunc() {
            Ok(Cidr(net))
        } else {
            Err(CidrError::HostBits(net, net.trunc()))
        }
    }
}

impl From<Cidr> for IpNet {
    fn from(cidr: Cidr) -> IpNet {
        cidr.0
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Cidr {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Cidr".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Bounded, so that CEL rules on it have a bounded cost.
        json_schema!({ "type": "string", "maxLength": 49 })
    }
}

/// Reads a list of prefixes in which a bare address stands for itself alone (Calico behaviour for reservations).
pub(crate) fn cidr_or_address_list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Cidr>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts
        .iter()
        .map(|text| match text.parse::<IpAddr>() {
            Ok(address) => Ok(Cidr::host(address)),
            Err(_) => text.parse().map_err(serde::de::Error::custom),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Cidr>().unwrap_err().to_string()
    }

    #[test]
    fn host_bits_are_an_error_that_says_the_masked_form() {
        assert_eq!(
            error("10.0.0.5/24"),
            "10.0.0.5/24 has host bits set; write 10.0.0.0/24"
        );
        assert_eq!(
            error("fd00::1/64"),
            "fd00::1/64 has host bits set; write fd00::/64"
        );
    }

    #[test]
    fn other_mistakes_name_the_form_too() {
        assert_eq!(
            error("10.0.0.5"),
            "\"10.0.0.5\" has no prefix length; write 10.0.0.5/32 for this one address"
        );
        assert!(error("10.0.0.0/33").contains("write one like"));
        assert!(error("").contains("write one like"));
    }

    #[test]
    fn overlap_is_containment_either_way() {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        assert!(cidr("10.0.0.0/8").overlaps(&cidr("10.1.0.0/16")));
        assert!(cidr("10.1.0.0/16").overlaps(&cidr("10.0.0.0/8")));
        assert!(!cidr("10.1.0.0/16").overlaps(&cidr("10.2.0.0/16")));
        assert!(!cidr("0.0.0.0/0").overlaps(&cidr("::/0")));
    }
}
