//! What can happen to a peer.

use std::fmt;
use std::time::Duration;

use bgp_wire::{Family, Notification, Open};

/// Monotonic time since a start that only the caller knows.
pub type Time = Duration;

/// One TCP connection, or one attempt to make it. Never reused by one [`Peer`](crate::Peer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.0)
    }
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// We dialled.
    Outgoing,
    /// The peer dialled.
    Incoming,
}

/// The state of a peer in the words of RFC 4271 §8.2.2: that of its furthest connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Stopped, or held after an error.
    Idle,
    /// Dialling.
    Connect,
    /// Waiting for the peer to dial, or for the time to dial again.
    Active,
    /// Our OPEN is sent.
    OpenSent,
    /// The peer's OPEN was accepted.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Idle => "Idle",
            State::Connect => "Connect",
            State::Active => "Active",
            State::OpenSent => "OpenSent",
            State::OpenConfirm => "OpenConfirm",
            State::Established => "Established",
        })
    }
}

/// How a peer is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Close without a NOTIFICATION, so that the peer keeps our routes (RFC 4724 §4).
    Restart,
    /// Say this first, and mean it: with RFC 8538 it goes out as a Hard Reset.
    Notify(Notification),
}

/// A message that arrived whole and well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// OPEN.
    Open(Box<Open>),
    /// UPDATE; its content goes to the RIB.
    Update,
    /// NOTIFICATION.
    Notification(Notification),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH; its content goes to the RIB.
    RouteRefresh,
}

/// What happened. The numbers are the events of RFC 4271 §8.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer is wanted (1, 3).
    Start,
    /// The peer is no longer wanted (2, 8).
    Stop(Stop),
    /// End every connection with this NOTIFICATION, then begin again after a hold.
    Reset(Notification),
    /// The peer dialled us (16, 17). Answered by [`Action::Adopt`](crate::Action::Adopt) or
    /// [`Action::Refuse`](crate::Action::Refuse).
    Accepted,
    /// A dial succeeded (16).
    Connected(ConnId),
    /// A dial failed (18).
    ConnectFailed(ConnId),
    /// The connection was closed or broke (18).
    Closed(ConnId),
    /// A message came (19, 25, 26, 27).
    Received(ConnId, Received),
    /// Bytes that are no message came, or an UPDATE that must reset the session; the
    /// NOTIFICATION is the answer (21, 22, 24, 28).
    Malformed(ConnId, Notification),
    /// The UPDATE just received was the end-of-RIB mark of this family (RFC 4724 §2).
    EndOfRib(ConnId, Family),
    /// The peer has sent something that we have not read yet. Restarts the hold timer, so that
    /// our own slowness is not mistaken for the peer's death.
    Heard(ConnId),
    /// Output waits. To be sent when bytes begin to wait and after each write that moved some
    /// of them: it restarts the send hold timer (RFC 9687).
    Waiting(ConnId),
    /// No output waits any more.
    Drained(ConnId),
    /// Time has passed (9, 10, 11, 13).
    Timer,
}
