//! What is told to the rest of the agent.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use felix_calc::{HostFacts, Programmed, RouteNumbers};

/// What one step brought about; a part that did not change is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// The newest desired state that was taken into account; 0 before the first.
    pub generation: u64,
    /// Pod and block routes that came into the kernel or left it.
    pub programmed: Option<Programmed>,
    /// Workload interfaces whose settings and routes are all in the kernel, as a whole.
    pub ready: Option<Arc<BTreeSet<Arc<str>>>>,
    /// What does not work at present, as a whole.
    pub failures: Option<Arc<Vec<Failure>>>,
    /// The host's own network, as a whole.
    pub host: Option<HostFacts>,
    /// What was done so far.
    pub counters: Counters,
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
    /// Routes, settings and packet rules put right again after somebody else had changed them.
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
