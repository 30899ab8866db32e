//! What is told to the rest of the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use felix_calc::{HostFacts, Programmed, RouteNumbers};
use ipip::user::Meter;
use ipip::{Carrier, Problem};

/// What one step brought about; a part that did not change is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// The newest desired state that was taken into account; 0 before the first.
    pub generation: u64,
    /// The newest desired state after which nothing was left to do but what the kernel refused or
    /// what waits for an interface; 0 before the first.
    pub settled: u64,
    /// Pod and block routes that came into the kernel or left it.
    pub programmed: Option<Programmed>,
    /// Workload interfaces whose settings and routes are all in the kernel, as a whole.
    pub ready: Option<Arc<BTreeSet<Arc<str>>>>,
    /// How the wanted tunnels are, by the name of their device, as a whole.
    pub tunnels: Option<Arc<BTreeMap<Arc<str>, TunnelReport>>>,
    /// What does not work at present, as a whole; problems of tunnels are among it.
    pub failures: Option<Arc<Vec<Failure>>>,
    /// The host's own network, as a whole.
    pub host: Option<HostFacts>,
    /// What was done so far.
    pub counters: Counters,
}

/// A wanted tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelReport {
    /// The device, once it is there and up and routes may lead through it. Other nodes may send
    /// to it then.
    pub in_place: Option<TunnelInPlace>,
    /// What is not as it should be. [`Problem::Unsupported`] says that the kernel has no such
    /// devices.
    pub problems: Vec<Problem>,
    /// What a tunnel in user space counts; those of the kernel count on their device.
    pub meter: Option<Meter>,
}

/// A tunnel device as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelInPlace {
    /// Who moves its packets.
    pub carrier: Carrier,
    /// The wanted address, when it has it.
    pub address: Option<IpAddr>,
    /// In bytes.
    pub mtu: u32,
    /// Its hardware address, if it has one.
    pub mac: Option<[u8; 6]>,
}

/// Something that should be in the kernel and cannot be put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The object: `route 10.0.2.0/26 via 192.0.2.9 dev eth0`.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Numbers for metrics: first those that only grow, then what is at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Routes added, replaced or deleted.
    pub routes_written: u64,
    /// Settings written.
    pub sysctls_written: u64,
    /// Transactions that changed packet rules.
    pub rules_written: u64,
    /// Operations on tunnel devices and what is on them.
    pub tunnels_written: u64,
    /// Routes, settings, packet rules and tunnel devices put right again after somebody else had
    /// changed them.
    pub drift_repairs: u64,
    /// Complete listings of the kernel.
    pub listings: u64,
    /// Routes that wait for their interface.
    pub waiting: usize,
    /// Routes that the kernel refuses.
    pub refused: usize,
    /// Routes that are in the kernel as desired.
    pub in_place: RouteNumbers,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.problem)
    }
}
