//! Kernel networking objects as typed calls: interfaces, addresses, routes, neighbours, namespaces,
//! packet rules, tracked connections.
//!
//! Synchronous, so that the CNI plugin and the agent's dataplane thread use the same code.
//! What callers may rely on:
//!
//! - Filters are applied by the kernel (strict checking), so that nobody pays for foreign routes.
//! - Answers are matched by sequence number; a listing that changed under way is repeated.
//! - Lost answers and events are reported ([`Error::Overrun`], [`monitor::Event::Overrun`]), never
//!   passed over: list again.
//! - Every wait has an end.
//! - Errors name operation and object and carry the kernel's own words.
//!
//! A [`Socket`] belongs to the network namespace of the thread that opened it; [`netns`] runs code
//! in another one. No policy lives here: whose object something is, is for the caller to know.

mod address;
mod attribute;
pub mod bulk;
pub mod conntrack;
mod error;
mod family;
mod forwarding;
mod link;
pub mod monitor;
mod neighbour;
mod netfilter;
pub mod netns;
pub mod nft;
mod offload;
mod route;
mod socket;
mod tunnel;
mod wire;

pub use address::{Address, AddressFilter, AddressOptions};
pub use error::{Error, Refusal, ignore_not_found};
pub use family::{Family, Scope};
pub use forwarding::Forwarding;
pub use link::{AddressGeneration, Link, LinkChange, Veth};
pub use neighbour::{Neighbour, NeighbourFilter};
pub use offload::Offload;
pub use route::{IPV6_DEFAULT_METRIC, Nexthop, Route, RouteFilter, RouteKind, TABLE_MAIN};
pub use socket::Socket;
pub use tunnel::{Ipip, Tunnel, TunnelKind, Vxlan};
