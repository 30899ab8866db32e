//! Writing UPDATE messages: attributes encoded once, as many routes behind them as fit.
//!
//! A message says one thing: it withdraws routes of one family or announces routes of one family (RFC 7606 §5.1).
//! IPv4 routes with an IPv4 next hop use the fields of RFC 4271, everything else MP_REACH_NLRI and MP_UNREACH_NLRI,
//! which come first among the attributes.

use bytes::BytesMut;

use super::Update;
use crate::attribute::{
    AsPathRef, AttributeType, Attributes, OPTIONAL, TRANSITIVE, Tlv, as4_path, narrow, put_tlv,
    tlvs,
};
use crate::{AS_TRANS, EncodeError, Family, NextHop, Nlri, Params, header, nlri};

/// Everything of an announcement besides the routes, ready to be put in front of them.
///
/// Encoded once for an attribute set, a next hop and a group of sessions with the same [`Params`]; then used for any
/// number of routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachBlock {
    family: Family,
    add_path: bool,
    max_len: usize,
    /// MP_REACH_NLRI up to its routes, without flags, type and length; empty when routes go into the NLRI field.
    mp_reach: Vec<u8>,
    attributes: Vec<u8>,
}

/// Octets of an UPDATE besides attributes and routes: header and two length fields.
const FIXED_LEN: usize = header::LEN + 4;
/// Flags, type and two-octet length of MP_REACH_NLRI or MP_UNREACH_NLRI.
const MP_HEADER_LEN: usize = 4;
const MP_FLAGS: u8 = OPTIONAL | crate::attribute::EXTENDED_LENGTH;

impl ReachBlock {
    /// Encodes `attributes` and `next_hop` for routes of `family`.
    ///
    /// # Errors
    /// [`EncodeError::NextHop`] when the session cannot carry this next hop with this family,
    /// [`EncodeError::AttributesTooLong`] when they leave no room for a route,
    /// [`EncodeError::WrongFamily`] for a family without an encoding.
    pub fn new(
        attributes: &Attributes,
        next_hop: NextHop,
        family: Family,
        params: &Params,
    ) -> Result<ReachBlock, EncodeError> {
        if !family.is_supported() {
            return Err(EncodeError::WrongFamily { family });
        }
        let negotiated = params.family(family);
        let in_body = matches!(next_hop, NextHop::V4(_)) && family == Family::IPV4_UNICAST;
        let carries_v6 = family == Family::IPV6_UNICAST
            || negotiated.is_some_and(|params| params.extended_next_hop);
        if !in_body && (!carries_v6 || matches!(next_hop, NextHop::V4(_))) {
            return Err(EncodeError::NextHop { next_hop, family });
        }
        let block = ReachBlock {
            family,
            add_path: negotiated.is_some_and(|params| params.add_path_send),
            max_len: params.max_message_len(),
            mp_reach: if in_body {
                vec![]
            } else {
                mp_reach(family, next_hop)
            },
            attributes: encode_attributes(attributes, in_body.then_some(next_hop), params),
        };
        let octets = block.base_len();
        if octets + nlri::max_encoded_len(family, block.add_path) > block.max_len {
            return Err(EncodeError::AttributesTooLong { octets });
        }
        Ok(block)
    }

    /// Family of the routes.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Appends messages that announce all of `routes`, and says how many.
    ///
    /// # Errors
    /// [`EncodeError::WrongFamily`] for a route of another family; `out` then holds whole messages only.
    pub fn pack(&self, mut routes: &[Nlri], out: &mut BytesMut) -> Result<usize, EncodeError> {
        let mut messages = 0;
        while !routes.is_empty() {
            routes = &routes[self.pack_one(routes, out)?..];
            messages += 1;
        }
        Ok(messages)
    }

    /// Appends one message with as many of `routes` as fit, and says how many those are: at least one of a
    /// non-empty list.
    ///
    /// # Errors
    /// [`EncodeError::WrongFamily`] for a route of another family; `out` is unchanged then.
    pub fn pack_one(&self, routes: &[Nlri], out: &mut BytesMut) -> Result<usize, EncodeError> {
        let (count, octets) = fit(
            routes,
            self.family,
            self.add_path,
            self.max_len - self.base_len(),
        )?;
        out.reserve(self.base_len() + octets);
        let at = header::start(out, header::kind::UPDATE);
        out.extend_from_slice(&[0, 0]);
        // Both fit, because the message does.
        let attributes_len = if self.mp_reach.is_empty() {
            self.attributes.len()
        } else {
            MP_HEADER_LEN + self.mp_reach.len() + octets + self.attributes.len()
        };
        out.extend_from_slice(&(attributes_len as u16).to_be_bytes());
        if self.mp_reach.is_empty() {
            out.extend_from_slice(&self.attributes);
            nlri::encode_all(&routes[..count], self.add_path, octets, out);
        } else {
            put_mp_header(
                AttributeType::MP_REACH_NLRI,
                self.mp_reach.len() + octets,
                out,
            );
            out.extend_from_slice(&self.mp_reach);
            nlri::encode_all(&routes[..count], self.add_path, octets, out);
            out.extend_from_slice(&self.attributes);
        }
        header::finish(out, at);
        Ok(count)
    }

    /// Length of a message without routes.
    fn base_len(&self) -> usize {
        let mp = if self.mp_reach.is_empty() {
            0
        } else {
            MP_HEADER_LEN + self.mp_reach.len()
        };
        FIXED_LEN + mp + self.attributes.len()
    }
}

/// Appends messages that withdraw all of `routes`, and says how many.
///
/// # Errors
/// [`EncodeError::WrongFamily`] for a route of another family, or a family without an encoding; `out` then holds
/// whole messages only.
pub fn pack_unreach(
    family: Family,
    mut routes: &[Nlri],
    params: &Params,
    out: &mut BytesMut,
) -> Result<usize, EncodeError> {
    let add_path = params
        .family(family)
        .is_some_and(|params| params.add_path_send);
    let in_body = family == Family::IPV4_UNICAST;
    let mp_len = if in_body { 0 } else { MP_HEADER_LEN + 3 };
    let room = params.max_message_len() - FIXED_LEN - mp_len;
    let mut messages = 0;
    while !routes.is_empty() {
        let (count, octets) = fit(routes, family, add_path, room)?;
        let (now, later) = routes.split_at(count);
        let at = header::start(out, header::kind::UPDATE);
        if in_body {
            out.extend_from_slice(&(octets as u16).to_be_bytes());
            nlri::encode_all(now, add_path, octets, out);
            out.extend_from_slice(&[0, 0]);
        } else {
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&((mp_len + octets) as u16).to_be_bytes());
            put_mp_header(AttributeType::MP_UNREACH_NLRI, 3 + octets, out);
            put_family(family, out);
            nlri::encode_all(now, add_path, octets, out);
        }
        header::finish(out, at);
        routes = later;
        messages += 1;
    }
    Ok(messages)
}

/// Appends the End-of-RIB of `family` (RFC 4724 §2): an empty UPDATE for IPv4 unicast, an empty MP_UNREACH_NLRI for
/// all others.
pub fn pack_end_of_rib(family: Family, out: &mut BytesMut) {
    let at = header::start(out, header::kind::UPDATE);
    if family == Family::IPV4_UNICAST {
        out.extend_from_slice(&[0, 0, 0, 0]);
    } else {
        out.extend_from_slice(&[0, 0, 0, 6, OPTIONAL, AttributeType::MP_UNREACH_NLRI.0, 3]);
        put_family(family, out);
    }
    header::finish(out, at);
}

impl Update {
    /// Appends the messages that say the same as this update; verdicts say nothing to a peer.
    pub(crate) fn encode(&self, params: &Params, out: &mut BytesMut) -> Result<(), EncodeError> {
        for unreach in &self.unreach {
            if unreach.nlri.is_empty() {
                pack_end_of_rib(unreach.family, out);
            } else {
                pack_unreach(unreach.family, &unreach.nlri, params, out)?;
            }
        }
        for reach in &self.reach {
            let attributes = self
                .attributes
                .as_ref()
                .ok_or(EncodeError::MissingAttributes)?;
            let block = ReachBlock::new(attributes, reach.next_hop, reach.family, params)?;
            block.pack(&reach.nlri, out)?;
        }
        Ok(())
    }
}

/// How many of `routes` fit into `room` octets, and how many octets those have.
fn fit(
    routes: &[Nlri],
    family: Family,
    add_path: bool,
    room: usize,
) -> Result<(usize, usize), EncodeError> {
    let mut octets = 0;
    for (count, route) in routes.iter().enumerate() {
        if route.prefix.family() != family {
            return Err(EncodeError::WrongFamily { family });
        }
        let len = nlri::encoded_len(route, add_path);
        if octets + len > room {
            return Ok((count, octets));
        }
        octets += len;
    }
    Ok((routes.len(), octets))
}

/// `len` fits, because the message it is in does.
fn put_mp_header(attribute: AttributeType, len: usize, out: &mut BytesMut) {
    let [high, low] = (len as u16).to_be_bytes();
    out.extend_from_slice(&[MP_FLAGS, attribute.0, high, low]);
}

fn put_family(family: Family, out: &mut BytesMut) {
    out.extend_from_slice(&family.afi.0.to_be_bytes());
    out.extend_from_slice(&[family.safi.0]);
}

/// MP_REACH_NLRI up to its routes: family, next hop, reserved octet (RFC 4760 §3).
fn mp_reach(family: Family, next_hop: NextHop) -> Vec<u8> {
    let mut value = Vec::with_capacity(5 + 32);
    value.extend_from_slice(&family.afi.0.to_be_bytes());
    value.push(family.safi.0);
    match next_hop {
        NextHop::V4(addr) => {
            value.push(4);
            value.extend_from_slice(&addr.octets());
        }
        NextHop::V6 { global, link_local } => {
            value.push(if link_local.is_some() { 32 } else { 16 });
            value.extend_from_slice(&global.octets());
            value.extend(link_local.iter().flat_map(|addr| addr.octets()));
        }
    }
    value.push(0);
    value
}

/// The attributes as this session wants them, with NEXT_HOP in its place.
fn encode_attributes(
    attributes: &Attributes,
    next_hop: Option<NextHop>,
    params: &Params,
) -> Vec<u8> {
    let (before, after) = attributes.around_next_hop();
    let mut out = Vec::with_capacity(attributes.wire().len() + 32);
    if params.four_octet_as {
        out.extend_from_slice(before);
    } else {
        put_two_octet(before, attributes, &mut out);
    }
    if let Some(NextHop::V4(addr)) = next_hop {
        put_tlv(
            TRANSITIVE,
            AttributeType::NEXT_HOP,
            &addr.octets(),
            &mut out,
        );
    }
    if params.four_octet_as {
        out.extend_from_slice(after);
    } else {
        put_two_octet(after, attributes, &mut out);
        put_as4(attributes, &mut out);
    }
    out
}

/// Copies attributes with AS_PATH and AGGREGATOR in their 2-octet form (RFC 6793 §4.2.2).
fn put_two_octet(wire: &[u8], attributes: &Attributes, out: &mut Vec<u8>) {
    for Tlv {
        flags,
        attribute,
        value,
    } in tlvs(wire)
    {
        match attribute {
            AttributeType::AS_PATH => put_tlv(flags, attribute, &narrow(attributes.as_path()), out),
            AttributeType::AGGREGATOR => {
                let asn = attributes
                    .aggregator()
                    .map_or(0, |aggregator| aggregator.asn);
                let asn = u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes();
                put_tlv(flags, attribute, &[&asn, &value[4..]].concat(), out);
            }
            _ => put_tlv(flags, attribute, value, out),
        }
    }
}

/// Adds what the 2-octet forms could not hold. These two come last, whatever their type: order is only customary.
fn put_as4(attributes: &Attributes, out: &mut Vec<u8>) {
    let flags = OPTIONAL | TRANSITIVE;
    let path: AsPathRef<'_> = attributes.as_path();
    if let Some(value) = as4_path(path) {
        put_tlv(flags, AttributeType::AS4_PATH, &value, out);
    }
    let aggregator = attributes.aggregator();
    if let Some(aggregator) = aggregator.filter(|aggregator| aggregator.asn > u32::from(u16::MAX)) {
        put_tlv(
            flags,
            AttributeType::AS4_AGGREGATOR,
            &aggregator.encode_four(),
            out,
        );
    }
}
