//! OPEN: who the peer is and what it offers (RFC 4271 §4.2, §6.2, RFC 5492, 6793, 9072).

use std::net::Ipv4Addr;

use bytes::BytesMut;

use crate::header;
use crate::reader::Reader;
use crate::{Capability, EncodeError, Error};

/// Stands in for an AS number above 65,535 where there are only two octets (RFC 6793).
pub const AS_TRANS: u16 = 23_456;

const VERSION: u8 = 4;
const CAPABILITIES: u8 = 2;
/// Parameter type that announces two-octet parameter lengths (RFC 9072).
const EXTENDED: u8 = 255;

/// The first message of a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Open {
    /// AS number of the sender: from [`Capability::FourOctetAs`] when that is offered.
    pub asn: u32,
    /// Offered hold time in seconds: 0 or at least 3.
    pub hold_time: u16,
    /// BGP identifier of the sender.
    pub router_id: Ipv4Addr,
    /// What the sender offers, in the order sent.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// `message` is framed: at least 29 octets.
    pub(crate) fn decode(message: &[u8]) -> Result<Open, Error> {
        const PROBLEM: &str = "the fixed part is cut off";
        let cut = || Error::MalformedOpen { problem: PROBLEM };
        let mut reader = Reader::new(&message[header::LEN..]);
        let version = reader.u8().ok_or_else(cut)?;
        if version != VERSION {
            return Err(Error::UnsupportedVersion { version });
        }
        let two_octet_as = reader.u16().ok_or_else(cut)?;
        let hold_time = reader.u16().ok_or_else(cut)?;
        let router_id = Ipv4Addr::from(reader.u32().ok_or_else(cut)?);
        let parameters_len = reader.u8().ok_or_else(cut)?;
        let capabilities = decode_parameters(parameters_len, reader.rest())?;
        let four_octet_as = capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        });
        let asn = four_octet_as.unwrap_or_else(|| two_octet_as.into());
        if asn == 0 || two_octet_as == 0 {
            return Err(Error::BadPeerAs);
        }
        if matches!(hold_time, 1 | 2) {
            return Err(Error::UnacceptableHoldTime { secs: hold_time });
        }
        if router_id.is_unspecified() {
            return Err(Error::BadBgpIdentifier);
        }
        Ok(Open {
            asn,
            hold_time,
            router_id,
            capabilities,
        })
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let mut capabilities = Vec::with_capacity(64);
        for capability in &self.capabilities {
            capability.encode(&mut capabilities)?;
        }
        // 16 octets: fixed part, and the longer form of the parameter's header.
        if capabilities.len() > header::MAX_LEN - header::LEN - 16 {
            return Err(EncodeError::CapabilitiesTooLong);
        }
        let at = header::start(out, header::kind::OPEN);
        out.extend_from_slice(&[VERSION]);
        out.extend_from_slice(&u16::try_from(self.asn).unwrap_or(AS_TRANS).to_be_bytes());
        out.extend_from_slice(&self.hold_time.to_be_bytes());
        out.extend_from_slice(&self.router_id.octets());
        let len = capabilities.len() as u16;
        match u8::try_from(len) {
            Ok(0) => out.extend_from_slice(&[0]),
            // One parameter holds everything, as RFC 5492 §4 prefers.
            Ok(len @ ..=253) => out.extend_from_slice(&[len + 2, CAPABILITIES, len]),
            _ => {
                out.extend_from_slice(&[EXTENDED, EXTENDED]);
                out.extend_from_slice(&(len + 3).to_be_bytes());
                out.extend_from_slice(&[CAPABILITIES]);
                out.extend_from_slice(&len.to_be_bytes());
            }
        }
        out.extend_from_slice(&capabilities);
        header::finish(out, at);
        Ok(())
    }
}

fn decode_parameters(len: u8, rest: &[u8]) -> Result<Vec<Capability>, Error> {
    let mismatch = || Error::MalformedOpen {
        problem: "the optional parameters do not end with the message",
    };
    let cut = || Error::MalformedOpen {
        problem: "an optional parameter is cut off",
    };
    let mut reader = Reader::new(rest);
    let extended = len != 0 && rest.first() == Some(&EXTENDED);
    let expected = if extended {
        reader.u8().ok_or_else(cut)?;
        usize::from(reader.u16().ok_or_else(cut)?)
    } else {
        usize::from(len)
    };
    if reader.rest().len() != expected {
        return Err(mismatch());
    }
    let mut capabilities = Vec::new();
    while !reader.is_empty() {
        let kind = reader.u8().ok_or_else(cut)?;
        let len = if extended {
            reader.u16()
        } else {
            reader.u8().map(u16::from)
        };
        let value = reader.take(len.ok_or_else(cut)?.into()).ok_or_else(cut)?;
        if kind != CAPABILITIES {
            return Err(Error::UnsupportedOptionalParameter { kind });
        }
        Capability::decode_all(value, &mut capabilities)?;
    }
    Ok(capabilities)
}
