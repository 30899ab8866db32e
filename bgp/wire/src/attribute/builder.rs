//! A set of path attributes as plain fields.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use super::canonical::tlvs;
use super::{
    Aggregator, AsPath, AttributeType, Attributes, Community, ExtCommunity, LargeCommunity, Origin,
    PARTIAL, Parts, Tlv, UnknownAttribute,
};
use crate::EncodeError;

/// A set of path attributes to be filled in; [`build`](AttributesBuilder::build) makes [`Attributes`] of it.
///
/// An empty list means that the attribute is not there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AttributesBuilder {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH.
    pub as_path: AsPath,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF; only for internal peers.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES.
    pub communities: Vec<Community>,
    /// ORIGINATOR_ID; only for internal peers.
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST; only for internal peers.
    pub cluster_list: Vec<Ipv4Addr>,
    /// EXTENDED COMMUNITIES.
    pub ext_communities: Vec<ExtCommunity>,
    /// LARGE_COMMUNITY; values that repeat are sent once.
    pub large_communities: Vec<LargeCommunity>,
    /// ONLY_TO_CUSTOMER.
    pub only_to_customer: Option<u32>,
    /// Attributes without a field here. Of several with one type the first counts.
    pub unknown: Vec<UnknownAttribute>,
    /// Optional transitive attributes with a field here that some speaker on the way did not know;
    /// once said, that has to be passed on (RFC 4271 §5).
    pub partial: Vec<AttributeType>,
}

impl AttributesBuilder {
    /// Encodes the set.
    ///
    /// # Errors
    /// [`EncodeError::AttributesTooLong`] above 65,535 octets; [`EncodeError::NotUnknown`] for an unknown attribute
    /// with the type of a known one.
    pub fn build(&self) -> Result<Attributes, EncodeError> {
        let mut unknown: Vec<Tlv<'_>> = Vec::with_capacity(self.unknown.len());
        for attribute in &self.unknown {
            if attribute.attribute.is_known() {
                return Err(EncodeError::NotUnknown(attribute.attribute));
            }
            if unknown
                .iter()
                .any(|tlv| tlv.attribute == attribute.attribute)
            {
                continue;
            }
            unknown.push(Tlv {
                flags: if attribute.partial { PARTIAL } else { 0 },
                attribute: attribute.attribute,
                value: &attribute.value,
            });
        }
        Parts {
            origin: self.origin,
            as_path: Cow::Borrowed(self.as_path.wire()),
            med: self.med,
            local_pref: self.local_pref,
            atomic_aggregate: self.atomic_aggregate,
            aggregator: self.aggregator,
            communities: octets(&self.communities, |community| community.0.to_be_bytes()),
            originator_id: self.originator_id,
            cluster_list: octets(&self.cluster_list, Ipv4Addr::octets),
            ext_communities: octets(&self.ext_communities, |community| community.0),
            large_communities: octets(&self.large_communities, |community| community.octets()),
            only_to_customer: self.only_to_customer,
            unknown,
            partial: partial_bits(&self.partial),
        }
        .freeze()
    }
}

fn octets<T, const N: usize>(items: &[T], encode: impl Fn(&T) -> [u8; N]) -> Cow<'static, [u8]> {
    Cow::Owned(items.iter().flat_map(encode).collect())
}

/// The types that can carry the Partial bit, as bits.
fn partial_bits(attributes: &[AttributeType]) -> u64 {
    let bits = attributes
        .iter()
        .filter(|attribute| attribute.can_be_partial())
        .map(|attribute| 1 << attribute.0);
    bits.fold(0, |all, bit: u64| all | bit)
}

impl From<&Attributes> for AttributesBuilder {
    fn from(set: &Attributes) -> AttributesBuilder {
        let partial = |tlv: &Tlv<'_>| tlv.attribute.is_known() && tlv.is_partial();
        AttributesBuilder {
            origin: set.origin(),
            as_path: set.as_path().to_path(),
            med: set.med(),
            local_pref: set.local_pref(),
            atomic_aggregate: set.atomic_aggregate(),
            aggregator: set.aggregator(),
            communities: set.communities().collect(),
            originator_id: set.originator_id(),
            cluster_list: set.cluster_list().collect(),
            ext_communities: set.ext_communities().collect(),
            large_communities: set.large_communities().collect(),
            only_to_customer: set.only_to_customer(),
            unknown: set.unknown().collect(),
            partial: tlvs(set.wire())
                .filter(partial)
                .map(|tlv| tlv.attribute)
                .collect(),
        }
    }
}
