//! Conformance of the real binary to the CNI specification, in real network namespaces, with an
//! agent that the test plays; judged with `ip -j`.
//!
//! Needs root. Without it the tests fail, unless `SKIP_PRIVILEGED=1` says that is meant.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod agent;
mod attach;
mod chain;
mod check;
mod collect;
mod damage;
mod detach;
mod install;
mod lab;
mod namespace;
mod protocol;
