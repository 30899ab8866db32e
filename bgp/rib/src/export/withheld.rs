//! Reasons to keep a path from a peer.

use std::fmt;

/// Why a peer is not told a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Withheld {
    /// It came from this peer.
    OwnPath,
    /// From an internal peer to an internal peer, neither of them a client (RFC 4271 §9.2.1).
    NotReflected,
    /// The path carries NO_ADVERTISE (RFC 1997).
    NoAdvertise,
    /// The path carries NO_EXPORT or NO_EXPORT_SUBCONFED, the peer is external (RFC 1997).
    NoExport,
    /// The path carries NOPEER, the peer is a lateral one (RFC 3765).
    NoPeer,
    /// The path has ONLY_TO_CUSTOMER, the peer is no customer (RFC 9234 §5).
    OnlyToCustomer,
    /// It is long-lived stale, and the peer does not know of such paths (RFC 9494 §4.3).
    LongLived,
    /// There is no next hop that the session can carry.
    NoNextHop,
    /// The peer's export policy rejects it.
    Policy,
    /// The peer is external, without an export policy where one is required (RFC 8212 §3).
    NoPolicy,
    /// With ADD-PATH there are enough better ones (RFC 7911).
    BeyondLimit,
    /// Its attributes do not fit into a message to this peer (RFC 8654 §4).
    TooLong,
}

impl Withheld {
    /// A short sentence part for people: `path carries NO_EXPORT`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OwnPath => "learned from this peer",
            Self::NotReflected => "learned from an internal peer, and neither is a client",
            Self::NoAdvertise => "path carries NO_ADVERTISE",
            Self::NoExport => "path carries NO_EXPORT",
            Self::NoPeer => "path carries NOPEER",
            Self::OnlyToCustomer => "only for customers (OTC)",
            Self::LongLived => "long-lived stale, which the peer does not know of",
            Self::NoNextHop => "no next hop that the session can carry",
            Self::Policy => "rejected by export policy",
            Self::NoPolicy => "no export policy for an external peer",
            Self::BeyondLimit => "more paths than the peer is told, the others are better",
            Self::TooLong => "attributes too long for a message",
        }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
