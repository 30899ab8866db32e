//! The real kernel, judged with `ip -j`. Each test makes its own network namespaces.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests are tests too"
)]

mod bulk;
mod lab;
mod monitor;
mod nft;
mod objects;
mod routes;
mod tunnels;
