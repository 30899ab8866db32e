//! What the owner of sockets and routes has to do.

use std::fmt;

use bgp_wire::{Family, Message, Notification};

use crate::event::ConnId;
use crate::negotiate::Negotiated;

/// One thing to do; actions are done in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial the peer and answer with `Connected` or `ConnectFailed`.
    Connect(ConnId),
    /// Keep the connection just accepted, under this name.
    Adopt(ConnId),
    /// Close the connection just accepted.
    Refuse,
    /// Send an OPEN, KEEPALIVE or NOTIFICATION.
    Send(ConnId, Box<Message>),
    /// Close the connection after what was sent to it, or give the dial up. No answer needed.
    Close(ConnId),
    /// The session is established.
    Up {
        /// Its connection.
        conn: ConnId,
        /// What the two OPENs agreed on.
        negotiated: Box<Negotiated>,
    },
    /// The established session is over.
    Down {
        /// Its connection.
        conn: ConnId,
        /// Why.
        reason: Reason,
        /// Families whose routes stay, marked stale, until the peer is back or
        /// [`Action::Forget`] comes (RFC 4724 §4.2). Routes of other families go now.
        keep: Vec<Family>,
    },
    /// A connection ended before it was established.
    Failed {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: Reason,
    },
    /// The restart time is over and the peer is not back: its stale routes of these families are
    /// long-lived from now on, until it is back or [`Action::Forget`] comes (RFC 9494 §4.2).
    LongLived(Vec<Family>),
    /// Routes of these families that are still stale, long-lived or not, go now.
    Forget(Vec<Family>),
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// We were asked to stop or reset it; the NOTIFICATION that was sent, if any.
    Stopped(Option<Notification>),
    /// The dial failed.
    ConnectFailed,
    /// The TCP connection was closed or broke without a NOTIFICATION.
    Closed,
    /// The peer was silent for the hold time.
    HoldTimerExpired,
    /// The peer took nothing from us for the send hold time (RFC 9687).
    SendHoldTimerExpired,
    /// We sent this NOTIFICATION.
    Sent(Notification),
    /// The peer sent this NOTIFICATION.
    Received(Notification),
    /// Another connection with the same peer was kept (RFC 4271 §6.8).
    Collision,
    /// The peer restarted and confirmed a new connection (RFC 4724 §5).
    Superseded,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Stopped(None) => f.write_str("stopped by us, to restart"),
            Reason::Stopped(Some(notification)) => write!(f, "stopped by us: {notification}"),
            Reason::ConnectFailed => f.write_str("could not connect"),
            Reason::Closed => f.write_str("connection closed by the peer"),
            Reason::HoldTimerExpired => f.write_str("hold timer expired"),
            Reason::SendHoldTimerExpired => f.write_str("send hold timer expired"),
            Reason::Sent(notification) => write!(f, "we sent {notification}"),
            Reason::Received(notification) => write!(f, "the peer sent {notification}"),
            Reason::Collision => f.write_str("lost against the other connection"),
            Reason::Superseded => f.write_str("replaced: the peer restarted"),
        }
    }
}
