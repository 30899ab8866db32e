//! Bad input in a running cluster: a clear error where a user looks, the rest goes on, and
//! nothing is lost once the input is mended.

mod cni;
mod endpoints;
mod fields;
mod lab;
mod manifests;
mod nodes;
mod peer;
mod pools;
mod raw;
mod stalled;
