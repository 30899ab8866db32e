//! The dataplane against the real kernel, judged with `ip -j`.
//! Each test makes its own network namespaces.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests are tests too"
)]

mod cleanup;
mod conntrack;
mod filter;
mod holds;
mod lab;
mod nat;
mod neighbours;
mod nft;
mod ownership;
mod packets;
mod pods;
mod restart;
mod scale;
mod tunnels;
mod uplinks;
