//! BGP sessions as a function of events and time: RFC 4271 §6.8, §8 and §10.
//!
//! Feed, drain, wait: give [`Peer::handle`] what happened and the time, do the [`Action`]s it
//! pushes in their order, and send [`Event::Timer`] when [`Peer::next_deadline`] has come.
//! One [`Peer`] holds every TCP connection with one configured peer: the one it dials, the one
//! it accepts and, for a moment, the established one that either of them replaces.
//!
//! This package has no socket, clock, task or log. It sees OPEN, KEEPALIVE and NOTIFICATION;
//! of an UPDATE it learns only that one came. What routes say is the business of `bgp-rib`.
//!
//! Beside RFC 4271: capabilities (RFC 5492), 4-octet AS (6793), graceful restart (4724, 8538),
//! long-lived graceful restart (9494), roles (9234), IPv6 next hops of IPv4 routes (8950), router
//! ids (6286), subcodes for unexpected messages (6608), shutdown text (9003) and the send hold
//! timer (9687). Deviations, each with its reason where the code is: a failed dial
//! waits in Active, an OPEN is awaited for one minute, and an established session with a
//! graceful peer yields to a new connection only when the peer confirms the new one.
#![deny(missing_docs)]
#![deny(clippy::wildcard_enum_match_arm)]

mod action;
mod config;
mod dial;
mod event;
mod negotiate;
mod peer;
mod session;
mod stale;

pub use action::{Action, Reason};
pub use config::{Config, Restart};
pub use event::{ConnId, Event, Origin, Received, State, Stop, Time};
pub use negotiate::{Negotiated, PeerRestart};
pub use peer::Peer;
