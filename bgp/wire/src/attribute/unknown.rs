//! Optional transitive attributes that are passed on without being understood (RFC 4271 §5).

use super::{AttributeType, Tlv};

/// An attribute without a field of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnknownAttribute {
    /// Its type.
    pub attribute: AttributeType,
    /// Some speaker on the way did not know it; always true for what was received and is unknown to us.
    pub partial: bool,
    /// Its value, byte for byte.
    pub value: Vec<u8>,
}

impl From<Tlv<'_>> for UnknownAttribute {
    fn from(tlv: Tlv<'_>) -> UnknownAttribute {
        UnknownAttribute {
            attribute: tlv.attribute,
            partial: tlv.is_partial(),
            value: tlv.value.to_vec(),
        }
    }
}
