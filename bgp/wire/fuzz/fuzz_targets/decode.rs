//! Any octets are a message or an error, and a message is written and read back as the same.
//!
//! The first octet of the input chooses the session, the second is the message type, the rest is the body.
#![no_main]

use bgp_wire::{decode, header};
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/mutation/round_trip.rs"]
mod round_trip;

fuzz_target!(|input: &[u8]| {
    let Some((&[session, kind], body)) = input.split_first_chunk() else {
        return;
    };
    let Ok(len) = u16::try_from(header::LEN + body.len()) else {
        return;
    };
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&len.to_be_bytes());
    message.push(kind);
    message.extend_from_slice(body);
    let sessions = round_trip::sessions();
    let params = &sessions[usize::from(session) % sessions.len()];
    match decode(&message, params) {
        Ok(decoded) => round_trip::check_round_trip(&decoded, params),
        Err(error) => drop(error.notification()),
    }
});
