//! The few BGP messages that the tester writes and reads, with an encoder of its own.
//!
//! It shares no code with the speaker under test, so that an error in one is not hidden by
//! the same error in the other. RFC 4271, RFC 6793 (every session has four-octet AS numbers).

use std::net::Ipv4Addr;

use anyhow::{Result, bail, ensure};

/// Octets of the header: marker, length, type.
pub const HEADER: usize = 19;
/// Greatest length of a message (RFC 4271 §4.1); Extended Message is not offered.
pub const LARGEST: usize = 4096;
/// Hold time that the tester offers, in seconds.
pub const HOLD_TIME: u16 = 90;

pub const OPEN: u8 = 1;
pub const UPDATE: u8 = 2;
pub const NOTIFICATION: u8 = 3;
pub const KEEPALIVE: u8 = 4;

/// A KEEPALIVE.
pub const KEEPALIVE_MESSAGE: [u8; HEADER] = {
    let mut message = [0xff; HEADER];
    message[16] = 0;
    message[17] = 19;
    message[18] = KEEPALIVE;
    message
};

/// The end-of-RIB marker of IPv4 unicast (RFC 4724 §2): nothing was said before, and whoever
/// waits for the end of it need not.
pub const END_OF_RIB: [u8; HEADER + 4] = {
    let mut message = [0xff; HEADER + 4];
    message[16] = 0;
    message[17] = 23;
    message[18] = UPDATE;
    (message[19], message[20], message[21], message[22]) = (0, 0, 0, 0);
    message
};

/// An OPEN with multiprotocol IPv4 unicast and four-octet AS numbers.
pub fn open(asn: u32, router_id: Ipv4Addr) -> Vec<u8> {
    let two_octets = u16::try_from(asn).unwrap_or(23456);
    let mut body = vec![4];
    body.extend(two_octets.to_be_bytes());
    body.extend(HOLD_TIME.to_be_bytes());
    body.extend(router_id.octets());
    // One optional parameter: capabilities 1 (multiprotocol) and 65 (AS number).
    body.extend([14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4]);
    body.extend(asn.to_be_bytes());
    message(OPEN, &body)
}

/// A message of this type.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    // Bodies are made here and are short.
    let length = u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX);
    message.extend(length.to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// The length of the message that `octets` begin with; `None` when the header is not whole.
///
/// # Errors
/// A header that is none: the stream is out of step.
pub fn length(octets: &[u8]) -> Result<Option<usize>> {
    let Some(header) = octets.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    ensure!(
        header[..16] == [0xff; 16] && (HEADER..=LARGEST).contains(&length),
        "no BGP header where one must be"
    );
    Ok(Some(length))
}

/// Calls `each` with every prefix of a field of prefixes, in place.
///
/// # Errors
/// A prefix that is cut off or longer than 32 bits, and what `each` answers.
#[inline]
pub fn prefixes(mut field: &[u8], mut each: impl FnMut(u32, u8) -> Result<()>) -> Result<()> {
    while let Some((&bits, rest)) = field.split_first() {
        let octets = usize::from(bits).div_ceil(8);
        ensure!(bits <= 32 && octets <= rest.len(), "a malformed prefix");
        let (address, rest) = rest.split_at(octets);
        let mut whole = [0; 4];
        whole[..octets].copy_from_slice(address);
        each(u32::from_be_bytes(whole), bits)?;
        field = rest;
    }
    Ok(())
}

/// What an UPDATE says about IPv4 unicast, as ranges of its body.
#[derive(Debug, Default)]
pub struct Update<'a> {
    pub withdrawn: [&'a [u8]; 2],
    pub announced: [&'a [u8]; 2],
    pub next_hop: Option<u32>,
}

/// Takes the body of an UPDATE apart. MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760) count where
/// they carry IPv4 unicast.
///
/// # Errors
/// A body whose lengths do not fit.
pub fn update(body: &[u8]) -> Result<Update<'_>> {
    let (withdrawn, rest) = field(body)?;
    let (mut attributes, announced) = field(rest)?;
    let mut update = Update {
        withdrawn: [withdrawn, &[]],
        announced: [announced, &[]],
        next_hop: None,
    };
    while !attributes.is_empty() {
        let (code, value, rest) = attribute(attributes)?;
        match (code, value) {
            (3, &[a, b, c, d]) => update.next_hop = Some(u32::from_be_bytes([a, b, c, d])),
            (14, &[0, 1, 1, 4, a, b, c, d, _, ref nlri @ ..]) => {
                update.next_hop = Some(u32::from_be_bytes([a, b, c, d]));
                update.announced[1] = nlri;
            }
            (15, &[0, 1, 1, ref nlri @ ..]) => update.withdrawn[1] = nlri,
            _ => {}
        }
        attributes = rest;
    }
    Ok(update)
}

/// A field that is preceded by its length in two octets, and what follows.
fn field(octets: &[u8]) -> Result<(&[u8], &[u8])> {
    let Some((length, rest)) = octets.split_first_chunk::<2>() else {
        bail!("an UPDATE without its lengths");
    };
    let length = usize::from(u16::from_be_bytes(*length));
    ensure!(length <= rest.len(), "an UPDATE whose lengths do not fit");
    Ok(rest.split_at(length))
}

/// Code and value of the first attribute, and what follows.
fn attribute(octets: &[u8]) -> Result<(u8, &[u8], &[u8])> {
    let (code, length, rest) = match octets {
        [flags, code, high, low, rest @ ..] if flags & 0x10 != 0 => {
            (*code, u16::from_be_bytes([*high, *low]), rest)
        }
        [flags, code, length, rest @ ..] if flags & 0x10 == 0 => (*code, u16::from(*length), rest),
        _ => bail!("a malformed path attribute"),
    };
    let length = usize::from(length);
    ensure!(length <= rest.len(), "a malformed path attribute");
    let (value, rest) = rest.split_at(length);
    Ok((code, value, rest))
}

#[cfg(test)]
mod tests;
