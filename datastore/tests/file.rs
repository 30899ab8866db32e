//! A directory that people edit while programs use it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "file/edits.rs"]
mod edits;
#[path = "file/lab.rs"]
mod lab;
#[path = "file/writes.rs"]
mod writes;

use crds::{IpPool, IpPoolSpec};

fn typed(name: &str, cidr: &str) -> IpPool {
    IpPool::new(name, IpPoolSpec::new(cidr.parse().unwrap()))
}
