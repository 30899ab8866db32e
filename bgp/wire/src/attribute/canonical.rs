//! The one encoding every attribute set has: ascending types, 4-octet AS numbers, shortest length field.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use super::kind::{EXTENDED_LENGTH, OPTIONAL, PARTIAL, TRANSITIVE};
use super::{Aggregator, AsPathRef, AttributeType, Attributes, Keys, Origin};
use crate::EncodeError;

/// One attribute of a valid encoding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tlv<'a> {
    pub(crate) flags: u8,
    pub(crate) attribute: AttributeType,
    pub(crate) value: &'a [u8],
}

impl Tlv<'_> {
    pub(crate) fn is_partial(&self) -> bool {
        self.flags & PARTIAL != 0
    }
}

/// Walks a canonical encoding.
pub(crate) fn tlvs(mut wire: &[u8]) -> impl Iterator<Item = Tlv<'_>> {
    std::iter::from_fn(move || {
        let (&[flags, attribute, len], rest) = wire.split_first_chunk()?;
        let (len, rest) = if flags & EXTENDED_LENGTH == 0 {
            (usize::from(len), rest)
        } else {
            let (&low, rest) = rest.split_first()?;
            (usize::from(u16::from_be_bytes([len, low])), rest)
        };
        let (value, rest) = rest.split_at_checked(len)?;
        wire = rest;
        Some(Tlv {
            flags,
            attribute: AttributeType(attribute),
            value,
        })
    })
}

/// Appends one attribute. `value` has at most 65,535 octets.
pub(crate) fn put_tlv(flags: u8, attribute: AttributeType, value: &[u8], out: &mut Vec<u8>) {
    // Copied flags say how long the value was, which need not be how long it is.
    let flags = flags & !EXTENDED_LENGTH;
    match u8::try_from(value.len()) {
        Ok(len) => out.extend_from_slice(&[flags, attribute.0, len]),
        Err(_) => {
            let [high, low] = (value.len() as u16).to_be_bytes();
            out.extend_from_slice(&[flags | EXTENDED_LENGTH, attribute.0, high, low]);
        }
    }
    out.extend_from_slice(value);
}

/// What a set is made of, borrowed from a message or from a builder. Values have been checked.
#[derive(Debug, Default)]
pub(crate) struct Parts<'a> {
    pub(crate) origin: Origin,
    pub(crate) as_path: Cow<'a, [u8]>,
    pub(crate) med: Option<u32>,
    pub(crate) local_pref: Option<u32>,
    pub(crate) atomic_aggregate: bool,
    pub(crate) aggregator: Option<Aggregator>,
    pub(crate) communities: Cow<'a, [u8]>,
    pub(crate) originator_id: Option<Ipv4Addr>,
    pub(crate) cluster_list: Cow<'a, [u8]>,
    pub(crate) ext_communities: Cow<'a, [u8]>,
    pub(crate) large_communities: Cow<'a, [u8]>,
    pub(crate) only_to_customer: Option<u32>,
    /// Attributes without a field of their own, one per type.
    pub(crate) unknown: Vec<Tlv<'a>>,
    /// Bit n: the known attribute of type n has the Partial bit set.
    pub(crate) partial: u64,
}

impl Parts<'_> {
    /// Encodes the set.
    ///
    /// # Errors
    /// [`EncodeError::AttributesTooLong`] above 65,535 octets, which no message can hold.
    pub(crate) fn freeze(mut self) -> Result<Attributes, EncodeError> {
        let octets = self.octets();
        if octets > usize::from(u16::MAX) {
            return Err(EncodeError::AttributesTooLong { octets });
        }
        self.unknown.sort_by_key(|tlv| tlv.attribute);
        dedup_large(&mut self.large_communities);
        let mut writer = Writer {
            out: Vec::with_capacity(octets),
            unknown: self.unknown.iter().copied().peekable(),
            partial: self.partial,
        };
        writer.put(TRANSITIVE, AttributeType::ORIGIN, &[self.origin.octet()]);
        writer.put(TRANSITIVE, AttributeType::AS_PATH, &self.as_path);
        let next_hop_at = writer.out.len() as u16;
        writer.number(OPTIONAL, AttributeType::MULTI_EXIT_DISC, self.med);
        writer.number(TRANSITIVE, AttributeType::LOCAL_PREF, self.local_pref);
        if self.atomic_aggregate {
            writer.put(TRANSITIVE, AttributeType::ATOMIC_AGGREGATE, &[]);
        }
        if let Some(aggregator) = self.aggregator {
            let value = aggregator.encode_four();
            writer.put(OPTIONAL | TRANSITIVE, AttributeType::AGGREGATOR, &value);
        }
        writer.list(
            OPTIONAL | TRANSITIVE,
            AttributeType::COMMUNITIES,
            &self.communities,
        );
        let originator_id = self.originator_id.map(u32::from);
        writer.number(OPTIONAL, AttributeType::ORIGINATOR_ID, originator_id);
        writer.list(OPTIONAL, AttributeType::CLUSTER_LIST, &self.cluster_list);
        let transitive = OPTIONAL | TRANSITIVE;
        writer.list(
            transitive,
            AttributeType::EXT_COMMUNITIES,
            &self.ext_communities,
        );
        writer.list(
            transitive,
            AttributeType::LARGE_COMMUNITY,
            &self.large_communities,
        );
        writer.number(
            transitive,
            AttributeType::ONLY_TO_CUSTOMER,
            self.only_to_customer,
        );
        writer.flush_unknown(AttributeType(u8::MAX));
        let path = AsPathRef::from_valid(&self.as_path);
        let keys = Keys {
            origin: self.origin,
            hops: path.hops(),
            neighbor_as: path.neighbor_as(),
            med: self.med,
            local_pref: self.local_pref,
            originator_id: self.originator_id,
            cluster_list_len: (self.cluster_list.len() / 4) as u16,
            next_hop_at,
        };
        Ok(Attributes {
            wire: writer.out.into_boxed_slice(),
            keys,
        })
    }

    /// Length of the encoding; too high only where large communities repeat.
    fn octets(&self) -> usize {
        let tlv = |len: usize| if len > 255 { 4 + len } else { 3 + len };
        let list = |value: &[u8]| {
            if value.is_empty() {
                0
            } else {
                tlv(value.len())
            }
        };
        let numbers = [self.med, self.local_pref, self.only_to_customer];
        let numbers = numbers.iter().flatten().count() + usize::from(self.originator_id.is_some());
        tlv(1)
            + tlv(self.as_path.len())
            + numbers * tlv(4)
            + if self.atomic_aggregate { tlv(0) } else { 0 }
            + if self.aggregator.is_some() { tlv(8) } else { 0 }
            + list(&self.communities)
            + list(&self.cluster_list)
            + list(&self.ext_communities)
            + list(&self.large_communities)
            + self
                .unknown
                .iter()
                .map(|unknown| tlv(unknown.value.len()))
                .sum::<usize>()
    }
}

/// Writes attributes in ascending order of type, with unknown ones slotted in between.
struct Writer<'a, I: Iterator<Item = Tlv<'a>>> {
    out: Vec<u8>,
    unknown: std::iter::Peekable<I>,
    partial: u64,
}

impl<'a, I: Iterator<Item = Tlv<'a>>> Writer<'a, I> {
    fn put(&mut self, flags: u8, attribute: AttributeType, value: &[u8]) {
        self.flush_unknown(attribute);
        let is_partial = self.partial >> attribute.0 & 1 != 0;
        let partial = if is_partial { PARTIAL } else { 0 };
        put_tlv(flags | partial, attribute, value, &mut self.out);
    }

    fn number(&mut self, flags: u8, attribute: AttributeType, value: Option<u32>) {
        if let Some(value) = value {
            self.put(flags, attribute, &value.to_be_bytes());
        }
    }

    fn list(&mut self, flags: u8, attribute: AttributeType, value: &[u8]) {
        if !value.is_empty() {
            self.put(flags, attribute, value);
        }
    }

    /// Writes the unknown attributes of types up to `until`.
    fn flush_unknown(&mut self, until: AttributeType) {
        while let Some(tlv) = self.unknown.next_if(|tlv| tlv.attribute <= until) {
            let flags = OPTIONAL | TRANSITIVE | tlv.flags & PARTIAL;
            put_tlv(flags, tlv.attribute, tlv.value, &mut self.out);
        }
    }
}

/// Removes values that repeat, which RFC 8092 §3 asks of the receiver.
fn dedup_large(value: &mut Cow<'_, [u8]>) {
    let (communities, _) = value.as_chunks::<12>();
    if communities.len() < 2 {
        return;
    }
    let mut order: Vec<usize> = (0..communities.len()).collect();
    order.sort_by_key(|&index| (communities[index], index));
    let mut repeats = vec![false; communities.len()];
    let mut any = false;
    for pair in order.windows(2) {
        if communities[pair[0]] == communities[pair[1]] {
            repeats[pair[1]] = true;
            any = true;
        }
    }
    if any {
        let unique = communities
            .iter()
            .zip(&repeats)
            .filter(|(_, repeat)| !**repeat);
        *value = unique.flat_map(|(community, _)| *community).collect();
    }
}
