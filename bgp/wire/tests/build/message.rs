//! Messages from hexadecimal text, for tests.
#![allow(dead_code, reason = "each test program uses its part")]

use bgp_wire::{Error, Family, FamilyParams, Message, Params, PeerType, Prefix, Update, decode};

/// Octets from hexadecimal digits; spaces and line breaks are ignored.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    assert!(
        digits.len().is_multiple_of(2),
        "odd number of digits in {text:?}"
    );
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

/// A message of this type around `body`.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// An UPDATE of three fields.
pub(crate) fn update(withdrawn: &str, attributes: &str, nlri: &str) -> Vec<u8> {
    update_of(&hex(withdrawn), &hex(attributes), &hex(nlri))
}

/// An UPDATE of three fields.
pub(crate) fn update_of(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for field in [withdrawn, attributes] {
        body.extend(u16::try_from(field.len()).unwrap().to_be_bytes());
        body.extend(field);
    }
    body.extend(nlri);
    message(2, &body)
}

/// One attribute.
pub(crate) fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut attribute = vec![flags, kind];
    match u8::try_from(value.len()) {
        Ok(len) => attribute.push(len),
        Err(_) => {
            attribute[0] |= 0x10;
            attribute.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        }
    }
    attribute.extend(value);
    attribute
}

/// ORIGIN, AS_PATH 64497 and NEXT_HOP 192.0.2.1 on a session with 4-octet AS numbers.
pub(crate) const MANDATORY: &str = "40010100 40020602010000fbf1 400304c0000201";
/// ORIGIN and AS_PATH alone, for MP_REACH_NLRI.
pub(crate) const NO_NEXT_HOP: &str = "40010100 40020602010000fbf1";
/// 198.51.100.0/24 as NLRI.
pub(crate) const ROUTE: &str = "18c63364";
/// MP_REACH_NLRI of 2001:db8:1::/48 with next hop 2001:db8::1.
pub(crate) const MP_REACH: &str =
    "800e1c 0002 01 10 20010db8000000000000000000000001 00 3020010db80001";

/// An external session with 4-octet AS numbers and both families.
pub(crate) fn params() -> Params {
    Params {
        four_octet_as: true,
        families: vec![
            FamilyParams::plain(Family::IPV4_UNICAST),
            FamilyParams::plain(Family::IPV6_UNICAST),
        ],
        ..Params::default()
    }
}

/// The same with an internal peer.
pub(crate) fn internal() -> Params {
    Params {
        peer_type: PeerType::Internal,
        ..params()
    }
}

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// Reads an UPDATE that does not end the session.
pub(crate) fn read(message: &[u8], params: &Params) -> Update {
    match decode(message, params) {
        Ok(Message::Update(update)) => update,
        other => panic!("{other:?}"),
    }
}

/// Code, subcode and data of the NOTIFICATION for a message that ends the session.
pub(crate) fn told(message: &[u8], params: &Params) -> (u8, u8, Vec<u8>) {
    let error: Error = decode(message, params).unwrap_err();
    let notification = error.notification();
    (notification.code, notification.subcode, notification.data)
}
