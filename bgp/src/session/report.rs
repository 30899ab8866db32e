//! What a session tells the owner of the routes.

use std::net::SocketAddr;

use bgp_fsm::{ConnId, Negotiated, State};
use bgp_rib::{Link, PeerId};
use bgp_wire::{Family, RouteRefresh, Update};
use tokio::sync::OwnedSemaphorePermit;

/// Who reports. Numbers of peers are used again; that of a task never is, so that the last words
/// of a task that is gone are not taken for those of its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reporter {
    pub(crate) peer: PeerId,
    pub(crate) task: u64,
}

/// One report; reports of one session arrive in their order.
#[derive(Debug)]
pub(crate) enum Report {
    /// The state changed, or a connection failed.
    State { state: State, error: Option<String> },
    /// The session is established.
    Up(Box<Up>),
    /// The established session is over.
    Down { keep: Vec<Family>, reason: String },
    /// The restart time is over: stale routes are long-lived from now on (RFC 9494).
    LongLived(Vec<Family>),
    /// Stale routes go.
    Forget(Vec<Family>),
    /// What the peer said, in order; `turn` lets its session report more once this is applied.
    Learned {
        learned: Vec<Learned>,
        turn: Option<OwnedSemaphorePermit>,
    },
    /// The state of the BFD session changed.
    Liveness,
    /// There is room for routes again.
    Hungry,
}

/// An established session.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) conn: ConnId,
    pub(crate) negotiated: Negotiated,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    /// Where it runs between link-local addresses; the owner knows the numbers of links.
    pub(crate) link: Option<Link>,
}

/// Something a peer said about routes.
#[derive(Debug)]
pub(crate) enum Learned {
    Update(Update),
    EndOfRib(Family),
    Refresh(RouteRefresh),
}

impl From<Update> for Learned {
    fn from(update: Update) -> Self {
        match update.as_end_of_rib() {
            Some(family) => Learned::EndOfRib(family),
            None => Learned::Update(update),
        }
    }
}
