//! The node agent: wires watches, calculation, dataplane, speaker and CNI server together.
//!
//! Decisions are made in `felix-calc`, `ipam`, `bgp` and `felix-dataplane`; here are tasks,
//! channels, sockets and files. `agent.rs` has the drawing.

pub mod admin;
pub mod agent;
pub mod board;
pub mod borrowed;
pub mod calc;
pub mod cni;
pub mod config;
pub mod dataplane;
pub mod drain;
pub mod events;
pub mod headless;
pub mod metrics;
pub mod network_unavailable;
pub mod node_address;
pub mod shutdown;
pub mod speaker;
pub mod status;
pub mod tunnel_address;
mod tunnels;
pub mod watch;
