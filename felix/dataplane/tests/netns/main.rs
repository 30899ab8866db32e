//! The dataplane against the real kernel, judged with `ip -j`.
//! Each test makes its own network namespaces.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests are tests too"
)]

mod lab;
mod ownership;
mod pods;
mod restart;
mod scale;
mod uplinks;
