//! Speakers against speakers and against peers that misbehave, over loopback addresses.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of a test fail by panicking"
)]

#[path = "memory/add_path.rs"]
mod add_path;
#[path = "memory/answers.rs"]
mod answers;
#[path = "memory/dynamic.rs"]
mod dynamic;
#[path = "memory/exchange.rs"]
mod exchange;
#[path = "memory/garbage.rs"]
mod garbage;
#[path = "memory/limits.rs"]
mod limits;
#[path = "memory/live.rs"]
mod live;
#[path = "memory/load.rs"]
mod load;
#[path = "memory/long_lived.rs"]
mod long_lived;
#[path = "memory/node.rs"]
mod node;
#[path = "memory/policy.rs"]
mod policy;
#[path = "memory/raw.rs"]
mod raw;
#[path = "memory/refresh.rs"]
mod refresh;
#[path = "memory/restart.rs"]
mod restart;
#[path = "memory/why.rs"]
mod why;
