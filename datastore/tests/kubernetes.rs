//! The contract, and what only an API server can do, against a real one.
//!
//! `make e2e-api` runs it; `cargo test` does not, because it needs an API server that serves our CRDs and that
//! nothing else uses: `target/debug/api-server cargo test --package datastore --test kubernetes`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "kubernetes/cluster.rs"]
mod cluster;
#[path = "contract/objects.rs"]
mod objects;
#[path = "kubernetes/own.rs"]
mod own;
#[path = "contract/suite.rs"]
mod suite;
#[path = "contract/watch.rs"]
mod watch;

// Fields that its schema does not know are dropped by the API server: see `own`.
suite::suite!(crate::cluster::Cluster);
