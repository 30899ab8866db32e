//! Checking the values of path attributes (RFC 7606 §7), one function per shape.

use std::borrow::Cow;

use super::Fault;
use crate::attribute::as_path;
use crate::attribute::{Aggregator, Origin};
use crate::notification::subcode::update as subcode;
use crate::{Disposition, Params, PeerType};

pub(super) const fn withdraw(subcode: u8, problem: &'static str) -> Fault {
    Fault::new(Disposition::Withdraw, subcode, problem)
}

const fn discard(subcode: u8, problem: &'static str) -> Fault {
    Fault::new(Disposition::Discard, subcode, problem)
}

pub(super) fn origin(value: &[u8]) -> Result<Origin, Fault> {
    let &[octet] = value else {
        return Err(withdraw(subcode::LENGTH, "has not one octet"));
    };
    Origin::from_octet(octet).ok_or(withdraw(subcode::INVALID_ORIGIN, "has an unknown value"))
}

pub(super) fn number(value: &[u8]) -> Result<u32, Fault> {
    let octets = value.try_into();
    let octets = octets.map_err(|_| withdraw(subcode::LENGTH, "has not four octets"))?;
    Ok(u32::from_be_bytes(octets))
}

pub(super) fn empty(value: &[u8]) -> Result<bool, Fault> {
    if value.is_empty() {
        Ok(true)
    } else {
        Err(discard(subcode::LENGTH, "is not empty"))
    }
}

pub(super) fn list<const N: usize>(value: &[u8]) -> Result<Cow<'_, [u8]>, Fault> {
    if value.is_empty() || !value.len().is_multiple_of(N) {
        let problem = "has a length that is zero or no multiple of its element";
        return Err(withdraw(subcode::LENGTH, problem));
    }
    Ok(Cow::Borrowed(value))
}

pub(super) fn aggregator(value: &[u8], four_octet_as: bool) -> Result<Aggregator, Fault> {
    let aggregator = if four_octet_as {
        Aggregator::decode_four(value)
    } else {
        Aggregator::decode_two(value)
    };
    let aggregator = aggregator.ok_or(discard(
        subcode::LENGTH,
        "has not the length of this session's AS numbers",
    ))?;
    if aggregator.asn == 0 {
        return Err(discard(subcode::OPTIONAL_ATTRIBUTE, "has AS 0"));
    }
    Ok(aggregator)
}

pub(super) fn checked_path<'a>(value: &'a [u8], params: &Params) -> Result<&'a [u8], Fault> {
    let confederation = params.peer_type == PeerType::Confederation;
    let checked = if params.four_octet_as {
        as_path::check::<4>(value, confederation)
    } else {
        as_path::check::<2>(value, confederation)
    };
    checked.map_err(|problem| withdraw(subcode::MALFORMED_AS_PATH, problem))?;
    Ok(value)
}

/// RFC 6793 §6; its confederation segments are no fault, they are dropped when it is merged.
pub(super) fn checked_as4_path<'a>(value: &'a [u8], params: &Params) -> Result<&'a [u8], Fault> {
    only_from_two_octet_peers(params)?;
    let discarded = |problem| discard(subcode::OPTIONAL_ATTRIBUTE, problem);
    if value.is_empty() {
        return Err(discarded("is empty"));
    }
    as_path::check::<4>(value, true).map_err(discarded)?;
    Ok(value)
}

pub(super) fn checked_as4_aggregator(value: &[u8], params: &Params) -> Result<Aggregator, Fault> {
    only_from_two_octet_peers(params)?;
    aggregator(value, true)
}

/// RFC 6793 §4.1.
fn only_from_two_octet_peers(params: &Params) -> Result<(), Fault> {
    if params.four_octet_as {
        let problem = "not for sessions with 4-octet AS numbers";
        return Err(discard(subcode::OPTIONAL_ATTRIBUTE, problem));
    }
    Ok(())
}
