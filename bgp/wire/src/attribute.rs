//! Path attributes: everything an UPDATE says about its routes besides where they lead.
//!
//! [`Attributes`] is an immutable set in one canonical encoding, which is compared, hashed and copied into messages
//! as bytes; [`AttributesBuilder`] is the same set as plain fields, to make one or to change one.
//! The next hop is not part of the set: it belongs to the family, see [`Reach`](crate::Reach).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;

mod aggregator;
mod as_path;
mod builder;
mod canonical;
mod community;
mod kind;
pub(crate) mod parse;
mod unknown;

pub use aggregator::Aggregator;
pub use as_path::{AsPath, AsPathRef, Segment, SegmentKind};
pub use builder::AttributesBuilder;
pub use community::{Community, CommunityParseError, ExtCommunity, LargeCommunity};
pub use kind::AttributeType;
pub use unknown::UnknownAttribute;

pub(crate) use as_path::two_octet::{as4_path, narrow};
pub(crate) use canonical::{Parts, Tlv, put_tlv, tlvs};
pub(crate) use kind::{EXTENDED_LENGTH, OPTIONAL, PARTIAL, TRANSITIVE};

/// Where a route came from (RFC 4271 §5.1.1); lower is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Origin {
    /// Interior to the originating AS.
    #[default]
    Igp,
    /// Learned by EGP.
    Egp,
    /// Learned some other way.
    Incomplete,
}

impl Origin {
    pub(crate) fn from_octet(octet: u8) -> Option<Origin> {
        match octet {
            0 => Some(Origin::Igp),
            1 => Some(Origin::Egp),
            2 => Some(Origin::Incomplete),
            _ => None,
        }
    }

    pub(crate) fn octet(self) -> u8 {
        match self {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Igp => "IGP",
            Origin::Egp => "EGP",
            Origin::Incomplete => "incomplete",
        })
    }
}

/// An immutable set of path attributes.
///
/// Two sets are equal, and hash the same, exactly when their [`wire`](Attributes::wire) bytes are the same.
/// What route selection asks for on every comparison is kept at hand; the rest is read from the bytes on demand.
#[derive(Clone)]
pub struct Attributes {
    wire: Box<[u8]>,
    keys: Keys,
}

/// What route selection compares.
#[derive(Debug, Clone, Copy)]
struct Keys {
    origin: Origin,
    hops: u32,
    neighbor_as: Option<u32>,
    med: Option<u32>,
    local_pref: Option<u32>,
    originator_id: Option<Ipv4Addr>,
    cluster_list_len: u16,
    /// Where NEXT_HOP goes: behind ORIGIN and AS_PATH.
    next_hop_at: u16,
}

impl Attributes {
    /// A builder that starts from nothing: origin IGP, empty AS path.
    pub fn builder() -> AttributesBuilder {
        AttributesBuilder::default()
    }

    /// The set as path attributes with 4-octet AS numbers in ascending order of type, without NEXT_HOP,
    /// MP_REACH_NLRI and MP_UNREACH_NLRI. Unique for each set, so it serves as interning key.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The encoding before and after the place of NEXT_HOP.
    pub(crate) fn around_next_hop(&self) -> (&[u8], &[u8]) {
        self.wire.split_at(self.keys.next_hop_at.into())
    }

    /// ORIGIN.
    pub fn origin(&self) -> Origin {
        self.keys.origin
    }

    /// AS_PATH.
    pub fn as_path(&self) -> AsPathRef<'_> {
        AsPathRef::from_valid(self.value(AttributeType::AS_PATH).unwrap_or_default())
    }

    /// Length of the AS path for route selection: an AS_SET counts one, confederation segments nothing.
    pub fn hops(&self) -> u32 {
        self.keys.hops
    }

    /// The AS that MULTI_EXIT_DISC is compared within: the first of the AS path behind any confederation segments.
    /// `None` for a path of our own AS, and for one that starts with an AS_SET.
    pub fn neighbor_as(&self) -> Option<u32> {
        self.keys.neighbor_as
    }

    /// MULTI_EXIT_DISC.
    pub fn med(&self) -> Option<u32> {
        self.keys.med
    }

    /// LOCAL_PREF.
    pub fn local_pref(&self) -> Option<u32> {
        self.keys.local_pref
    }

    /// ATOMIC_AGGREGATE is there.
    pub fn atomic_aggregate(&self) -> bool {
        self.value(AttributeType::ATOMIC_AGGREGATE).is_some()
    }

    /// AGGREGATOR.
    pub fn aggregator(&self) -> Option<Aggregator> {
        Aggregator::decode_four(self.value(AttributeType::AGGREGATOR)?)
    }

    /// COMMUNITIES (RFC 1997), in the order sent.
    pub fn communities(&self) -> impl ExactSizeIterator<Item = Community> + '_ {
        self.items(AttributeType::COMMUNITIES)
            .map(Community::from_octets)
    }

    /// EXTENDED COMMUNITIES (RFC 4360), in the order sent.
    pub fn ext_communities(&self) -> impl ExactSizeIterator<Item = ExtCommunity> + '_ {
        self.items(AttributeType::EXT_COMMUNITIES).map(ExtCommunity)
    }

    /// LARGE_COMMUNITY (RFC 8092), in the order sent, each value once.
    pub fn large_communities(&self) -> impl ExactSizeIterator<Item = LargeCommunity> + '_ {
        self.items(AttributeType::LARGE_COMMUNITY)
            .map(LargeCommunity::from_octets)
    }

    /// ORIGINATOR_ID (RFC 4456).
    pub fn originator_id(&self) -> Option<Ipv4Addr> {
        self.keys.originator_id
    }

    /// CLUSTER_LIST (RFC 4456), nearest cluster first.
    pub fn cluster_list(&self) -> impl ExactSizeIterator<Item = Ipv4Addr> + '_ {
        self.items(AttributeType::CLUSTER_LIST).map(Ipv4Addr::from)
    }

    /// Number of clusters in CLUSTER_LIST.
    pub fn cluster_list_len(&self) -> usize {
        self.keys.cluster_list_len.into()
    }

    /// ONLY_TO_CUSTOMER (RFC 9234): the AS that set it.
    pub fn only_to_customer(&self) -> Option<u32> {
        let value = self.value(AttributeType::ONLY_TO_CUSTOMER)?;
        Some(u32::from_be_bytes(value.try_into().ok()?))
    }

    /// Optional transitive attributes without a field of their own, which are passed on byte for byte.
    pub fn unknown(&self) -> impl Iterator<Item = UnknownAttribute> + '_ {
        tlvs(&self.wire)
            .filter(|tlv| !tlv.attribute.is_known())
            .map(UnknownAttribute::from)
    }

    /// The set as fields, to change it.
    pub fn to_builder(&self) -> AttributesBuilder {
        AttributesBuilder::from(self)
    }

    fn value(&self, attribute: AttributeType) -> Option<&[u8]> {
        // A set holds about six attributes, in order of type.
        tlvs(&self.wire)
            .take_while(|tlv| tlv.attribute <= attribute)
            .find(|tlv| tlv.attribute == attribute)
            .map(|tlv| tlv.value)
    }

    fn items<const N: usize>(
        &self,
        attribute: AttributeType,
    ) -> impl ExactSizeIterator<Item = [u8; N]> + '_ {
        let (items, _) = self.value(attribute).unwrap_or_default().as_chunks::<N>();
        items.iter().copied()
    }
}

impl PartialEq for Attributes {
    fn eq(&self, other: &Attributes) -> bool {
        self.wire == other.wire
    }
}

impl Eq for Attributes {}

impl Hash for Attributes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.wire);
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_builder().fmt(f)
    }
}
