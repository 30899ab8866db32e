//! Bytes on one side, values on the other: what RFC examples and other speakers send.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use bgp_wire::{Message, Params, decode};
use bytes::BytesMut;

#[path = "build/message.rs"]
mod build;

#[path = "vectors/attribute.rs"]
mod attribute;
#[path = "vectors/control.rs"]
mod control;
#[path = "vectors/fault.rs"]
mod fault;
#[path = "vectors/open.rs"]
mod open;
#[path = "vectors/two_octet.rs"]
mod two_octet;
#[path = "vectors/update.rs"]
mod update;

/// `bytes` reads as `message`, and `message` is written as `bytes`.
fn both_ways(bytes: &[u8], message: &Message, params: &Params) {
    assert_eq!(decode(bytes, params).as_ref(), Ok(message));
    assert_eq!(written(message, params), bytes);
}

fn written(message: &Message, params: &Params) -> Vec<u8> {
    let mut out = BytesMut::new();
    message.encode(params, &mut out).unwrap();
    out.to_vec()
}
