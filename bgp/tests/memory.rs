//! Speakers against speakers and against peers that misbehave, over loopback addresses.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of a test fail by panicking"
)]

#[path = "memory/exchange.rs"]
mod exchange;
#[path = "memory/node.rs"]
mod node;
