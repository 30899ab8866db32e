//! Whether a store can be reached.

use std::time::SystemTime;

/// The store cannot be reached: watches go on with the last known state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Since when.
    pub since: SystemTime,
    /// What was tried, and why it failed last.
    pub problem: String,
}
