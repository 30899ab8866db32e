//! What BGP peers said, which of it is best, and what each peer is told.
//!
//! # Use
//! One [`Rib`] holds the routes of both unicast families. The caller owns sessions, clocks and
//! sockets and tells the RIB what happened:
//! - [`Rib::peer_up`], [`Rib::update`], [`Rib::end_of_rib`], [`Rib::refresh`], [`Rib::peer_down`]
//!   for sessions, [`Rib::originate`] for our own prefixes, [`Rib::set_next_hop`] for what is
//!   known about next hops, [`Rib::long_lived`] and [`Rib::sweep_stale`] when a restart timer runs
//!   out;
//! - then, once per burst, [`Rib::best_changes`] for the forwarding table and
//!   [`Rib::next_messages`] for each peer whose socket takes more.
//!
//! A restarting speaker that defers its announcements (RFC 4724 §4.1) just does not ask for
//! messages yet. [`Rib::explain`] and [`Rib::explain_export`] say why things are as they are.
//!
//! # Inside
//! ```text
//! update ─▶ import checks ─▶ paths of a prefix ─▶ dirty prefixes ─▶ decision, once per burst
//!             (import)        (table, path)         (loc_rib)          (decision)
//!                                                                       │        │
//!     next_messages ◀─ log of each update group ◀─ what a kind of peer is told   └─▶ best_changes
//!                          (adj_rib_out)              (export, pack)
//! ```
//!
//! # Invariants
//! - What [`Rib::peer_counts`] says is counted where paths come, are judged, are chosen and go
//!   (counts), and where a group's memory changes (adj_rib_out); never by walking a table.
//! - An attribute set and its next hop are held once; each path counts as one reference.
//! - At most [`RibConfig::multipath`] paths at the front of a prefix are its choice, the first is
//!   the best. Marks on the prefix say whether one of them has been lost since.
//! - A prefix is decided anew among all its paths only where a path went or changed that may have
//!   made a difference; else new paths are compared with the best one (standing).
//! - A prefix is in the list of dirty prefixes at most once, and in that for the forwarding table
//!   too. It is forgotten when it has no path and is in neither.
//! - After [`Rib::best_changes`] and everything else that answers a question, every update group
//!   remembers exactly what the Loc-RIB would have it tell (the RIB is *settled*).
//! - Where ADD-PATH is negotiated a prefix has as many units of telling as paths, each with its own
//!   identifier; what holds for a prefix elsewhere holds for such a unit there.
//! - A member of a group either reads the group's log, then it knows what the group remembers once
//!   it is at the end; or it is told the current state of prefixes one by one, only ever from a
//!   settled RIB, and goes back to the end of the log when nothing is left.
//! - No peer gets a path back that it sent. The one exception costs nothing: it may get the
//!   withdrawal of a prefix that it was not told.
//! - Memory for peers that do not read is bounded: the log of a group by
//!   [`RibConfig::backlog_octets`] and one burst, a peer taken off it by one entry per prefix.
#![deny(missing_docs)]

mod adj_rib_out;
mod attrs;
mod counts;
mod decision;
mod explain;
mod export;
mod import;
mod key;
mod loc_rib;
mod nexthop;
mod pack;
mod path;
mod peer;
mod policy;
mod reflection;
mod rib;
mod stale;
mod standing;
mod table;
#[cfg(test)]
mod testing;

pub use counts::PeerCounts;
pub use decision::Reason;
pub use explain::{Compared, ExplainedExport, ExplainedPath, Explanation, Outcome};
pub use export::Withheld;
pub use nexthop::{Hop, Reachability};
pub use path::{Ineligible, PeerId};
pub use peer::{Link, LongLived, NextHopMode, PeerKind, PeerSession, RibConfig};
pub use policy::{
    Change, CommunityMatch, Judgement, Match, PeerScope, Policy, PrefixSet, Rule, Source, Subject,
    Verdict,
};
pub use rib::{Best, Counts, LocalPath, Part, Position, Rib, ToldPath, V6};
