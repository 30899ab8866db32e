//! What is done with an input of the fuzz targets `decode` and `open`. Shared with the fuzz targets.

use bgp_wire::{Message, Params, decode, header};
use bytes::BytesMut;

use crate::round_trip;

/// The first octet chooses the session, the second is the message type, the rest is the body.
pub(crate) fn decode_input(input: &[u8]) {
    let Some((&[session, kind], body)) = input.split_first_chunk() else {
        return;
    };
    let Some(message) = framed(kind, body) else {
        return;
    };
    let sessions = round_trip::sessions();
    let params = &sessions[usize::from(session) % sessions.len()];
    match decode(&message, params) {
        Ok(decoded) => round_trip::check_round_trip(&decoded, params),
        Err(error) => drop(error.notification()),
    }
}

/// The body of an OPEN: whatever capabilities it has are written and read back.
pub(crate) fn open_input(body: &[u8]) {
    let Some(message) = framed(1, body) else {
        return;
    };
    let params = Params::default();
    match decode(&message, &params) {
        Ok(Message::Open(open)) => {
            let mut written = BytesMut::new();
            let open = Message::Open(open);
            // Parameters may be packed differently, and then need more room than there is.
            if open.encode(&params, &mut written).is_ok() {
                assert_eq!(Ok(open), decode(&written, &params));
            }
        }
        Ok(other) => panic!("an OPEN was read as {other:?}"),
        Err(error) => assert_ne!(0, error.notification().code),
    }
}

fn framed(kind: u8, body: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(header::LEN + body.len()).ok()?;
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&len.to_be_bytes());
    message.push(kind);
    message.extend_from_slice(body);
    Some(message)
}
