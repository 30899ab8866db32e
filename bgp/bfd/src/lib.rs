//! Bidirectional forwarding detection: RFC 5880 in asynchronous mode, over one hop (RFC 5881)
//! and over many (RFC 5883).
//!
//! Feed, drain, wait: give [`Sessions`] what came from the network and the time, do the
//! [`Action`]s it pushes in their order, and call [`Sessions::timer`] when
//! [`Sessions::next_deadline`] has come. A [`Session`] is one state machine, a [`Packet`] one
//! control packet.
//!
//! This package has no socket, clock, thread or log. What a lost neighbour means for the protocol
//! that uses it (RFC 5882) is the business of that protocol.
//!
//! Deviations: no echo function and no authentication (a packet that carries it is dropped, as
//! RFC 5880 §6.8.6 wants of a session that uses none); Demand mode is obeyed when the neighbour
//! asks for it and never asked for.
#![deny(missing_docs)]
#![deny(clippy::wildcard_enum_match_arm)]

mod packet;
mod session;
mod sessions;
mod timing;

pub use packet::{Diagnostic, LEN, Malformed, Packet, State};
pub use session::{Config, Output, Session};
pub use sessions::{Action, Arrival, Dropped, Hops, Path, SessionId, Sessions};

use std::time::Duration;

/// Monotonic time since a start that only the caller knows.
pub type Time = Duration;

/// UDP port of control packets over one hop (RFC 5881 §4).
pub const PORT: u16 = 3784;

/// UDP port of control packets over many hops (RFC 5883 §5).
pub const MULTIHOP_PORT: u16 = 4784;

/// Ports that control packets come from: one per session (RFC 5881 §4).
pub const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;

/// TTL or hop limit of every packet sent, and of every packet received over one hop
/// (RFC 5881 §5).
pub const TTL: u8 = 255;
