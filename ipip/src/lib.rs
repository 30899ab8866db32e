//! Tunnels between nodes, all kinds of them: IPIP (RFC 2003), VXLAN (RFC 7348), and a user-space
//! stand-in for kernels that have neither.
//!
//! A [`Tunnel`] says what a device shall be like and who is at its other ends. [`Device`] brings
//! the kernel there, in two steps around the routes that others put through the device:
//! [`Device::prepare`] before them (the device, its address, new neighbours), [`Device::sweep`]
//! after them (what no route needs any more). [`Device::retire`] ends a device.
//! Each step observes, plans and applies; [`plan`] is pure.
//!
//! Owned here: the devices by name and kind, their address, MTU and state, and every permanent
//! neighbour and forwarding entry on them. IPv6 link-local addresses and what the kernel learns by
//! itself are left alone. A device of the name but of another kind is somebody else's: reported,
//! never touched.
//! Never here: routes of pods, and Kubernetes.

#![warn(missing_docs)]

mod apply;
mod carrier;
mod desired;
mod device;
mod ipip;
pub mod mtu;
pub mod plan;
mod problem;
pub mod user;
mod vxlan;

pub use apply::Outcome;
pub use carrier::Carrier;
pub use desired::{Encapsulation, Remote, Tunnel, Vxlan};
pub use device::Device;
pub use plan::{Observed, Op};
pub use problem::Problem;
