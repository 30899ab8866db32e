//! Makes the kernel look as calculated: routes of the main table, settings of workload interfaces,
//! and tunnel devices.
//!
//! One [`Dataplane`] lives on one thread. It is told what `felix-calc` wants
//! ([`Dataplane::update`]), follows what happens in the kernel, and brings the two together
//! ([`Dataplane::step`]). Every driver is a pure plan and a small part that carries it out.
//!
//! The order of one step:
//!
//! 1. events of the kernel, and a new listing when one is due
//! 2. forwarding as a whole, then settings of workload interfaces
//! 3. packet rules
//! 4. tunnel devices, their addresses and neighbours
//! 5. routes of pods and blocks, then learned routes, added or replaced in place
//! 6. deletions of routes, then of what was on tunnel devices for them
//! 7. the end of tracked connections of addresses that went or moved
//!
//! Promises:
//!
//! - Nothing is written before the first desired state and the first listing are in.
//! - What is right already is not touched, after a restart neither; what is wrong is replaced in
//!   place; what is left over goes only if it is provably ours (the table in `ownership.rs`).
//! - What others change or delete of ours is repaired at once, found by event; an audit looks for
//!   what events did not tell.
//! - A failure is reported with its object and tried again when the host's network changes, and
//!   every few seconds.
//!
//! Not here yet: policy.

pub mod cleanup;
mod config;
mod conntrack;
mod dataplane;
mod delta;
mod host;
mod nft;
mod overlay;
mod ownership;
mod proxy_arp;
mod report;
mod routes;
mod sysctl;
mod workloads;

pub use config::{Config, UserTunnels};
pub use dataplane::Dataplane;
pub use ipip::Carrier;
pub use ipip::user::{Counters as TunnelCounters, Meter as TunnelMeter, Reason as TunnelDrop};
pub use report::{Applied, Counters, Failure, TunnelInPlace, TunnelReport};

/// Why a step failed. The next one starts with new sockets and a new listing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// Waiting for events failed.
    #[error("wait for kernel events: {0}")]
    Wait(#[from] nix::errno::Errno),
    /// A thread could not be started.
    #[error("start the thread that ends tracked connections: {0}")]
    Thread(std::io::Error),
}
