//! The message header: marker, length, type (RFC 4271 §4.1, §6.1).

use crate::Error;

/// Length of the header in octets.
pub const LEN: usize = 19;
/// Greatest length of a message (RFC 4271 §4.1), and of every OPEN and KEEPALIVE.
pub const MAX_LEN: usize = 4096;
/// Greatest length of the other messages once extended messages are negotiated (RFC 8654).
pub const MAX_EXTENDED_LEN: usize = 65_535;
/// A whole KEEPALIVE.
pub const KEEPALIVE: [u8; LEN] = [
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 19, 4,
];

const MARKER: [u8; 16] = [0xff; 16];

/// Message types.
pub(crate) mod kind {
    pub(crate) const OPEN: u8 = 1;
    pub(crate) const UPDATE: u8 = 2;
    pub(crate) const NOTIFICATION: u8 = 3;
    pub(crate) const KEEPALIVE: u8 = 4;
    pub(crate) const ROUTE_REFRESH: u8 = 5;
}

/// How many octets the message at the start of `bytes` has; `None` when its header is not complete yet.
///
/// `max_len` is [`Params::max_message_len`](crate::Params::max_message_len). The message itself need not be there yet.
///
/// # Errors
/// A header that RFC 4271 §6.1 answers with a NOTIFICATION: wrong marker, length or type.
pub fn frame(bytes: &[u8], max_len: usize) -> Result<Option<usize>, Error> {
    let Some(header) = bytes.first_chunk::<LEN>() else {
        return Ok(None);
    };
    if header.first_chunk() != Some(&MARKER) {
        return Err(Error::ConnectionNotSynchronized);
    }
    let length = u16::from_be_bytes([header[16], header[17]]);
    let octets = usize::from(length);
    if octets < LEN || octets > max_len {
        return Err(Error::BadMessageLength { length });
    }
    let allowed = match header[18] {
        kind::OPEN => 29..=MAX_LEN,
        kind::UPDATE => 23..=max_len,
        kind::NOTIFICATION => 21..=max_len,
        kind::KEEPALIVE => LEN..=LEN,
        kind::ROUTE_REFRESH => 23..=max_len,
        kind => return Err(Error::BadMessageType { kind }),
    };
    if !allowed.contains(&octets) {
        return Err(Error::BadMessageLength { length });
    }
    Ok(Some(octets))
}

/// Starts a message of type `kind` at the end of `out`; [`finish`] fills in its length.
pub(crate) fn start(out: &mut bytes::BytesMut, kind: u8) -> usize {
    let at = out.len();
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&[0, 0, kind]);
    at
}

/// Writes the length of the message that starts at `at` and ends where `out` ends.
pub(crate) fn finish(out: &mut bytes::BytesMut, at: usize) {
    let octets = out.len() - at;
    debug_assert!((LEN..=MAX_EXTENDED_LEN).contains(&octets));
    // Every encoder checks against the limit of its message before it comes here.
    out[at + 16..at + 18].copy_from_slice(&(octets as u16).to_be_bytes());
}

#[cfg(test)]
mod tests;
