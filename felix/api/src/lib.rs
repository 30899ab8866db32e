//! What crosses a process boundary of the agent: plain serde types, no behaviour.
//!
//! [`cni`] is the conversation between the CNI plugin and the agent.
//! Both ends convert at their edge; internal types of either side do not appear here.

pub mod cni;

/// Version of every conversation in this crate.
///
/// A receiver answers a request of another version with an error that names both;
/// added optional fields do not raise it.
pub const VERSION: u32 = 1;
