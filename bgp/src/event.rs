//! What the outside may know.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bgp_fsm::{PeerRestart, State};
use bgp_rib::PeerCounts;
use bgp_wire::capability::{LongLivedFamily, Role};
use bgp_wire::{Capability, Family, Params, Prefix};

use crate::config::PeerKey;

/// News for the owner of the kernel's routes and of the status.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Next hops of learned prefixes, `None` when a prefix is gone. Each entry replaces what was
    /// said about the prefix before. Prefixes originated here are not among them.
    Best(Vec<(Prefix, Option<Vec<NextHop>>)>),
    /// Next hops that paths, used or not, have (`true`) or have no longer: who can say how they
    /// are reached does so with [`Handle::set_next_hops`](crate::Handle::set_next_hops). Each
    /// entry replaces what was said about the next hop before.
    NextHops(Vec<(NextHop, bool)>),
    /// A peer or its numbers of routes changed; only the newest state of each peer is told, and
    /// mere numbers at most once per second.
    Peer(Box<PeerInfo>),
    /// A peer is no longer configured.
    PeerGone(PeerKey),
    /// Every peer that came up in time has sent its end-of-RIB (one that sends none has fallen
    /// silent), or the bounded wait for it is over: what is not learned by now will not be. Comes
    /// once, after the `Best` it speaks of.
    Converged,
}

/// Where packets of a learned prefix go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// The router. An IPv4 prefix may have an IPv6 one (RFC 8950).
    pub address: IpAddr,
    /// The interface it is on; only where its address is link-local.
    pub interface: Option<Arc<str>>,
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        NextHop {
            address,
            interface: None,
        }
    }
}

/// The speaker as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpeakerInfo {
    /// Where connections are accepted right now.
    pub listening: Vec<SocketAddr>,
    /// [`Event::Converged`] has come or is about to.
    pub converged: bool,
    /// Peers that are up and have not told everything yet; they delay convergence. Since when is
    /// in their [`PeerInfo::since`].
    pub waiting_for: Vec<PeerKey>,
    /// Peers that are not up; they delay convergence only while peers may settle.
    pub missing: Vec<PeerKey>,
    /// When convergence comes at the latest, unless a peer still comes up while peers may settle;
    /// absent once it has come.
    pub converges_by: Option<SystemTime>,
    /// Accepted connections that were closed because they are no peer's, or too many.
    pub strangers: u64,
}

/// One peer.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerInfo {
    /// Its name.
    pub key: PeerKey,
    /// The range it was accepted from; absent for a listed peer.
    pub range: Option<PeerKey>,
    /// Its address. That of an unnumbered peer is `::` until it is found.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its AS number.
    pub remote_as: u32,
    /// State of its session.
    pub state: State,
    /// When it came into this state.
    pub since: SystemTime,
    /// When its session came up or was lost, or the peer was added.
    pub up_down: SystemTime,
    /// How often an established session was lost.
    pub flaps: u64,
    /// Why the last connection ended.
    pub last_error: Option<String>,
    /// The last malformed attribute of this session: its routes were withdrawn, or it was
    /// discarded (RFC 7606).
    pub malformed: Option<String>,
    /// It has sent as many prefixes as give reason to look at it, or more than it may.
    pub warning: Option<String>,
    /// What the OPENs agreed on, while established.
    pub session: Option<SessionInfo>,
    /// Families of which stale routes are kept (RFC 4724 §4.2).
    pub stale: Vec<Family>,
    /// Those of them whose restart time is over: used only where there is nothing else (RFC 9494).
    pub long_lived: Vec<Family>,
    /// Routes held from it, of all families.
    pub paths: usize,
    /// Numbers of routes, by family: those that are configured.
    pub counts: Vec<(Family, PeerCounts)>,
    /// State of failure detection, while it is configured.
    pub bfd: Option<BfdInfo>,
    /// Messages read since the start.
    pub messages_in: u64,
    /// Messages written since the start.
    pub messages_out: u64,
}

impl PeerInfo {
    /// Numbers of routes, all families together.
    #[must_use]
    pub fn total(&self) -> PeerCounts {
        let counts = self.counts.iter().map(|(_, counts)| *counts);
        counts.fold(PeerCounts::default(), |sum, counts| sum + counts)
    }
}

/// An established session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The peer's router id.
    pub router_id: Ipv4Addr,
    /// Our end of the connection.
    pub local: SocketAddr,
    /// The peer's end of the connection.
    pub remote: SocketAddr,
    /// Families in use.
    pub families: Vec<Family>,
    /// Agreed hold time in seconds.
    pub hold_time_secs: u16,
    /// Interval of our KEEPALIVEs in seconds.
    pub keepalive_secs: u16,
    /// The peer restarts gracefully.
    pub graceful_restart: bool,
    /// How it restarts (RFC 4724, RFC 8538).
    pub restart: Option<PeerRestart>,
    /// Families whose routes stay long-lived, and how long (RFC 9494).
    pub long_lived: Vec<LongLivedFamily>,
    /// What the peer is to us, when both said so (RFC 9234).
    pub peer_role: Option<Role>,
    /// The peer understands ROUTE-REFRESH (RFC 2918).
    pub route_refresh: bool,
    /// What of the rest both sides offered and is in use: ADD-PATH, IPv6 next hops of IPv4 routes,
    /// long messages, 4-octet AS numbers.
    pub params: Params,
    /// The capabilities of our OPEN.
    pub offered: Vec<Capability>,
    /// The capabilities of the peer's OPEN.
    pub received: Vec<Capability>,
}

/// The BFD session with a peer (RFC 5880).
#[derive(Clone, Debug, PartialEq)]
pub struct BfdInfo {
    /// Its state.
    pub state: bfd::State,
    /// When it came into this state.
    pub since: SystemTime,
    /// State of the peer's side, as it last said; Down when it is not heard.
    pub remote_state: bfd::State,
    /// Why it last left the state Up.
    pub diagnostic: String,
    /// Why the peer's side last did, as it says.
    pub remote_diagnostic: String,
    /// Our discriminator; 0 before there is one.
    pub discriminator: u32,
    /// The peer's discriminator; 0 while it is not heard.
    pub remote_discriminator: u32,
    /// Interval between our packets before jitter; absent while none are sent.
    pub interval: Option<Duration>,
    /// For how long the peer may be silent; absent while it is not heard.
    pub detection_time: Option<Duration>,
    /// How often the state changed.
    pub transitions: u64,
    /// How often the peer was lost.
    pub failures: u64,
    /// What keeps it from working.
    pub problem: Option<String>,
}

/// How the speaker ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// We come back soon: connections are closed without a NOTIFICATION, so that peers keep our
    /// routes (RFC 4724 §4).
    Restart,
    /// We leave: Cease, Administrative Shutdown with this text (RFC 9003).
    Cease {
        /// For the operators of the peers, up to 255 octets.
        text: String,
    },
}
