//! Attribute types and the flags each must have.

use std::fmt;

/// Type code of a path attribute, as IANA numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeType(pub u8);

/// Flag bit: not every speaker knows this attribute.
pub(crate) const OPTIONAL: u8 = 0x80;
/// Flag bit: passed on even by speakers that do not know it.
pub(crate) const TRANSITIVE: u8 = 0x40;
/// Flag bit: some speaker on the way did not know it.
pub(crate) const PARTIAL: u8 = 0x20;
/// Flag bit: the length has two octets.
pub(crate) const EXTENDED_LENGTH: u8 = 0x10;

impl AttributeType {
    /// ORIGIN (RFC 4271).
    pub const ORIGIN: AttributeType = AttributeType(1);
    /// AS_PATH (RFC 4271).
    pub const AS_PATH: AttributeType = AttributeType(2);
    /// NEXT_HOP (RFC 4271).
    pub const NEXT_HOP: AttributeType = AttributeType(3);
    /// MULTI_EXIT_DISC (RFC 4271).
    pub const MULTI_EXIT_DISC: AttributeType = AttributeType(4);
    /// LOCAL_PREF (RFC 4271).
    pub const LOCAL_PREF: AttributeType = AttributeType(5);
    /// ATOMIC_AGGREGATE (RFC 4271).
    pub const ATOMIC_AGGREGATE: AttributeType = AttributeType(6);
    /// AGGREGATOR (RFC 4271).
    pub const AGGREGATOR: AttributeType = AttributeType(7);
    /// COMMUNITIES (RFC 1997).
    pub const COMMUNITIES: AttributeType = AttributeType(8);
    /// ORIGINATOR_ID (RFC 4456).
    pub const ORIGINATOR_ID: AttributeType = AttributeType(9);
    /// CLUSTER_LIST (RFC 4456).
    pub const CLUSTER_LIST: AttributeType = AttributeType(10);
    /// MP_REACH_NLRI (RFC 4760).
    pub const MP_REACH_NLRI: AttributeType = AttributeType(14);
    /// MP_UNREACH_NLRI (RFC 4760).
    pub const MP_UNREACH_NLRI: AttributeType = AttributeType(15);
    /// EXTENDED COMMUNITIES (RFC 4360).
    pub const EXT_COMMUNITIES: AttributeType = AttributeType(16);
    /// AS4_PATH (RFC 6793).
    pub const AS4_PATH: AttributeType = AttributeType(17);
    /// AS4_AGGREGATOR (RFC 6793).
    pub const AS4_AGGREGATOR: AttributeType = AttributeType(18);
    /// IPv6 Address Specific Extended Community (RFC 5701); checked, and passed on without being read.
    pub const IPV6_EXT_COMMUNITIES: AttributeType = AttributeType(25);
    /// LARGE_COMMUNITY (RFC 8092).
    pub const LARGE_COMMUNITY: AttributeType = AttributeType(32);
    /// ONLY_TO_CUSTOMER (RFC 9234).
    pub const ONLY_TO_CUSTOMER: AttributeType = AttributeType(35);

    /// Optional and Transitive bits this type must have; `None` for a type we do not know.
    pub(crate) fn flags(self) -> Option<u8> {
        match self {
            AttributeType::ORIGIN
            | AttributeType::AS_PATH
            | AttributeType::NEXT_HOP
            | AttributeType::LOCAL_PREF
            | AttributeType::ATOMIC_AGGREGATE => Some(TRANSITIVE),
            AttributeType::MULTI_EXIT_DISC
            | AttributeType::ORIGINATOR_ID
            | AttributeType::CLUSTER_LIST
            | AttributeType::MP_REACH_NLRI
            | AttributeType::MP_UNREACH_NLRI => Some(OPTIONAL),
            AttributeType::AGGREGATOR
            | AttributeType::COMMUNITIES
            | AttributeType::EXT_COMMUNITIES
            | AttributeType::AS4_PATH
            | AttributeType::AS4_AGGREGATOR
            | AttributeType::IPV6_EXT_COMMUNITIES
            | AttributeType::LARGE_COMMUNITY
            | AttributeType::ONLY_TO_CUSTOMER => Some(OPTIONAL | TRANSITIVE),
            _ => None,
        }
    }

    /// True for types that have a place of their own in [`Attributes`](super::Attributes) or in an UPDATE.
    pub(crate) fn is_known(self) -> bool {
        self != AttributeType::IPV6_EXT_COMMUNITIES && self.flags().is_some()
    }

    /// True for known types whose Partial bit means something (RFC 4271 §4.3); it is 0 for all others.
    pub(crate) fn can_be_partial(self) -> bool {
        self.is_known() && self.flags() == Some(OPTIONAL | TRANSITIVE)
    }
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            AttributeType::ORIGIN => "ORIGIN",
            AttributeType::AS_PATH => "AS_PATH",
            AttributeType::NEXT_HOP => "NEXT_HOP",
            AttributeType::MULTI_EXIT_DISC => "MULTI_EXIT_DISC",
            AttributeType::LOCAL_PREF => "LOCAL_PREF",
            AttributeType::ATOMIC_AGGREGATE => "ATOMIC_AGGREGATE",
            AttributeType::AGGREGATOR => "AGGREGATOR",
            AttributeType::COMMUNITIES => "COMMUNITIES",
            AttributeType::ORIGINATOR_ID => "ORIGINATOR_ID",
            AttributeType::CLUSTER_LIST => "CLUSTER_LIST",
            AttributeType::MP_REACH_NLRI => "MP_REACH_NLRI",
            AttributeType::MP_UNREACH_NLRI => "MP_UNREACH_NLRI",
            AttributeType::EXT_COMMUNITIES => "EXTENDED COMMUNITIES",
            AttributeType::AS4_PATH => "AS4_PATH",
            AttributeType::AS4_AGGREGATOR => "AS4_AGGREGATOR",
            AttributeType::IPV6_EXT_COMMUNITIES => "IPv6 EXTENDED COMMUNITIES",
            AttributeType::LARGE_COMMUNITY => "LARGE_COMMUNITY",
            AttributeType::ONLY_TO_CUSTOMER => "ONLY_TO_CUSTOMER",
            AttributeType(other) => return write!(f, "type {other}"),
        })
    }
}
