//! What the speaker shall be: the typed input of [`Speaker`](crate::Speaker).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use bgp_rib::{NextHopMode, Policy};
use bgp_wire::capability::{AddPathMode, Role};
use bgp_wire::{Family, Prefix};

/// The port BGP listens on (RFC 4271 §8.2.1).
pub const PORT: u16 = 179;

/// Everything the speaker shall be, as a whole: what is missing here is taken down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Ourselves.
    pub local: Local,
    /// Whom we talk to. Changing one of them touches no other.
    pub peers: BTreeMap<PeerKey, PeerConfig>,
    /// Ranges of addresses from which peers are accepted without being listed.
    pub dynamic: BTreeMap<PeerKey, DynamicPeers>,
    /// Prefixes that are announced because we have them.
    pub originate: BTreeMap<Prefix, Originate>,
}

/// Peers that are known by the range their address is in. They dial us, we never dial them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicPeers {
    /// Addresses they may have. The longest range that holds an address counts; a peer listed by
    /// its address wins over every range.
    pub range: Prefix,
    /// How many of them there may be at once.
    pub limit: NonZeroU32,
    /// Settings of each; `address` and `passive` are not looked at. With a password the kernel
    /// asks one of every address in the range, so a listed peer in it needs its own.
    pub template: PeerConfig,
}

/// Ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Our AS number.
    pub asn: u32,
    /// Our router id.
    pub router_id: Ipv4Addr,
    /// Where connections are accepted; nowhere when empty.
    pub listen: Vec<SocketAddr>,
    /// The cluster we reflect routes for; the router id when absent (RFC 4456 §7).
    pub cluster_id: Option<Ipv4Addr>,
    /// IPv4 next hop told to peers whose session runs over IPv6 or loopback.
    pub next_hop_v4: Option<Ipv4Addr>,
    /// IPv6 next hop told to peers whose session runs over IPv4 or loopback.
    pub next_hop_v6: Option<Ipv6Addr>,
    /// Subnets of the links we are on. An external peer in one of them is told the next hops of
    /// others on the link as they are (RFC 4271 §5.1.3).
    pub subnets: Vec<Prefix>,
    /// How many next hops a prefix may have at once; 1 turns multipath off.
    pub multipath: NonZeroU8,
    /// Peers in other ASes without import and export policy send and are told nothing (RFC 8212).
    /// A policy without rules that accepts everything counts as none.
    pub require_policy: bool,
    /// MULTI_EXIT_DISC is compared between paths from different ASes too.
    pub always_compare_med: bool,
    /// A path without MULTI_EXIT_DISC loses to those with one, instead of winning.
    pub missing_med_is_worst: bool,
}

impl Local {
    /// A speaker that listens nowhere and uses up to 16 next hops per prefix.
    #[must_use]
    pub fn new(asn: u32, router_id: Ipv4Addr) -> Self {
        Local {
            asn,
            router_id,
            listen: Vec::new(),
            cluster_id: None,
            next_hop_v4: None,
            next_hop_v6: None,
            subnets: Vec::new(),
            multipath: NonZeroU8::MIN.saturating_add(15),
            require_policy: false,
            always_compare_med: false,
            missing_med_is_worst: false,
        }
    }
}

/// Name of a peer, unique in one [`Desired`], such as `Mesh_192_0_2_1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(Arc<str>);

impl PeerKey {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for PeerKey {
    fn from(name: T) -> Self {
        PeerKey(name.into())
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its address; `::` with an interface: whoever is found on that link (unnumbered).
    pub address: IpAddr,
    /// The port it listens on.
    pub port: u16,
    /// Interface a link-local address is on.
    pub interface: Option<Arc<str>>,
    /// Its AS number.
    pub remote_as: u32,
    /// Our AS number on this session, [`Local::asn`] when absent. The peer sees no other: neither
    /// in the OPEN nor in the AS_PATH (BIRD: `local as`).
    pub local_as: Option<u32>,
    /// No session, and this is why: sent with Cease, Administrative Shutdown (RFC 9003).
    pub shut_down: Option<Arc<str>>,
    /// Never dial it.
    pub passive: bool,
    /// Our address of the connection; the kernel chooses when absent.
    pub source: Option<IpAddr>,
    /// Hold time we offer in seconds: 0 (none) or at least 3.
    pub hold_time_secs: u16,
    /// Interval of our KEEPALIVEs in seconds; a third of the agreed hold time when absent.
    pub keepalive_secs: Option<u16>,
    /// Wait between two dials in seconds; grows up to 15 s from 1 s when absent.
    pub connect_retry_secs: Option<u16>,
    /// Families we offer.
    pub families: Vec<Family>,
    /// How long the peer shall keep our routes when we restart, in seconds; no graceful restart
    /// when absent (RFC 4724).
    pub restart_time_secs: Option<u16>,
    /// How long the peer shall keep our routes as a last resort after that, in seconds up to
    /// 16777215, and how long at most we keep its routes (RFC 9494); off when absent.
    pub long_lived_secs: Option<u32>,
    /// Where it is in our AS, it is told long-lived stale routes even if it does not know of them,
    /// with NO_EXPORT and LOCAL_PREF 0 (RFC 9494 §4.6). Otherwise it loses them.
    pub long_lived_to_all: bool,
    /// ADD-PATH mode offered for every family (RFC 7911).
    pub add_path: Option<AddPathMode>,
    /// How many paths per prefix it is told with ADD-PATH, all when absent.
    pub add_path_limit: Option<NonZeroU8>,
    /// How many prefixes it may send.
    pub max_prefixes: Option<MaxPrefixes>,
    /// What we are to it (RFC 9234).
    pub role: Option<Role>,
    /// Refuse a peer that does not say its role.
    pub role_strict: bool,
    /// The session is about to be shut down: the peer shall prefer other paths, and we prefer
    /// others to those from a peer in another AS (RFC 8326 §4.2).
    pub graceful_shutdown: bool,
    /// An external peer must be the first AS in the AS_PATH of what it sends (RFC 4271 §6.3); off by
    /// default, as in BIRD.
    pub enforce_first_as: bool,
    /// Detect in less than the hold time that it is gone (RFC 5882).
    pub bfd: Option<Bfd>,
    /// How far away the peer may be.
    pub ttl: Ttl,
    /// Key of the TCP MD5 signature (RFC 2385).
    pub password: Option<Password>,
    /// We reflect routes to and from it (RFC 4456); it must be in our AS.
    pub reflector_client: bool,
    /// Which next hop it is told.
    pub next_hop: NextHopMode,
    /// How often our AS number may be in the AS_PATH of what it sends.
    pub allow_own_as: u8,
    /// What is taken from it.
    pub import: Arc<Policy>,
    /// What it is told.
    pub export: Arc<Policy>,
}

impl PeerConfig {
    /// A peer one hop away that we dial, with both families, hold time 90 s, graceful restart
    /// with 120 s, and no filters.
    #[must_use]
    pub fn new(address: IpAddr, remote_as: u32) -> Self {
        PeerConfig {
            address,
            port: PORT,
            interface: None,
            remote_as,
            local_as: None,
            shut_down: None,
            passive: false,
            source: None,
            hold_time_secs: 90,
            keepalive_secs: None,
            connect_retry_secs: None,
            families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
            restart_time_secs: Some(120),
            long_lived_secs: None,
            long_lived_to_all: false,
            add_path: None,
            add_path_limit: None,
            max_prefixes: None,
            role: None,
            role_strict: false,
            graceful_shutdown: false,
            enforce_first_as: false,
            bfd: None,
            ttl: Ttl::Default,
            password: None,
            reflector_client: false,
            next_hop: NextHopMode::Default,
            allow_own_as: 0,
            import: Arc::new(Policy::accept_all()),
            export: Arc::new(Policy::accept_all()),
        }
    }
}

impl PeerConfig {
    /// Our AS number on the session.
    pub(crate) fn own_as(&self, local: &Local) -> u32 {
        self.local_as.unwrap_or(local.asn)
    }

    /// The peer is whoever is found on its interface: there is no address.
    pub(crate) fn is_unnumbered(&self) -> bool {
        self.address.is_unspecified() && self.interface.is_some()
    }

    /// The session runs between link-local addresses.
    pub(crate) fn is_on_link(&self) -> bool {
        let link_local = match self.address {
            IpAddr::V6(address) => address.is_unicast_link_local(),
            IpAddr::V4(_) => false,
        };
        link_local || self.is_unnumbered()
    }
}

/// How many prefixes a peer may send, in each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPrefixes {
    /// The greatest number that is all right.
    pub limit: NonZeroU32,
    /// A warning from this share of the limit on, in percent.
    pub warning_percent: u8,
    /// What happens above the limit.
    pub action: MaxPrefixesAction,
}

/// What happens to a peer that sends too many prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxPrefixesAction {
    /// It is only said.
    Warn,
    /// What is too much is not used; the session stays.
    Discard,
    /// The session ends with Cease, Maximum Number of Prefixes Reached (RFC 4486), and may come
    /// back after this time; not before the peer is changed or cleared when absent.
    Close {
        /// Wait before the next session, in seconds.
        restart_after_secs: Option<u32>,
    },
}

/// Bidirectional Forwarding Detection, asynchronous mode (RFC 5880, RFC 5881, RFC 5883).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bfd {
    /// Shortest interval between our packets in milliseconds, at least 1.
    pub min_tx_ms: u32,
    /// Shortest interval between the peer's packets that we can take, in milliseconds.
    pub min_rx_ms: u32,
    /// How many packets in a row may be missing.
    pub multiplier: NonZeroU8,
    /// The peer is on a link with us, whatever distance its session allows: single-hop BFD
    /// (RFC 5881). Else the distance of the session decides (RFC 5883).
    pub on_link: bool,
}

/// How far away a peer may be, in hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// One hop for peers in another AS, any distance inside our AS.
    Default,
    /// Packets are sent with this TTL: a multihop session.
    Multihop(u8),
    /// GTSM: packets from further away than this are dropped by the kernel (RFC 5082).
    Security {
        /// Greatest distance in hops, at least 1.
        hops: u8,
    },
}

/// A secret that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Arc<str>);

impl Password {
    pub(crate) fn reveal(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl<T: Into<Arc<str>>> From<T> for Password {
    fn from(secret: T) -> Self {
        Password(secret.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// How a prefix of ours is announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Originate {
    /// Next hop told to every peer; our own address on its session when absent.
    pub next_hop: Option<IpAddr>,
    /// Communities (RFC 1997).
    pub communities: Vec<u32>,
    /// Large communities (RFC 8092).
    pub large_communities: Vec<[u32; 3]>,
    /// LOCAL_PREF for peers inside our AS.
    pub local_pref: Option<u32>,
}

/// How the speaker starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// We come back from a restart and the kernel kept our routes: OPENs say so until
    /// [`Event::Converged`](crate::Event::Converged) (RFC 4724 §4.1).
    pub restarting: bool,
    /// The kernel forwards with the routes of an earlier run: the F bit of our OPENs until
    /// [`Event::Converged`](crate::Event::Converged). Later ones have it in any case.
    pub forwarding: bool,
    /// How long after the start peers may come up and still be waited for.
    pub settle: Duration,
    /// Peers that were up before a restart, when that is known: only these are waited for without
    /// being up. Every listed peer when absent.
    pub expected: Option<BTreeSet<PeerKey>>,
    /// How long the peers that came up may take to tell everything, counted from the last of
    /// them. With `settle` this bounds the wait for [`Event::Converged`](crate::Event::Converged).
    pub deferral: Duration,
    /// How long stale routes of a peer that is back wait for its end-of-RIB.
    pub stale_time: Duration,
    /// Metrics have labels of peers only while there are fewer peers than this.
    pub metrics_peers: usize,
    /// Whether [`Event::Best`](crate::Event::Best) is told. Who does not forward saves what it
    /// costs to keep and tell.
    pub best_paths: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            restarting: false,
            forwarding: true,
            settle: Duration::from_secs(10),
            expected: None,
            deferral: Duration::from_secs(30),
            stale_time: Duration::from_secs(120),
            metrics_peers: 128,
            best_paths: true,
        }
    }
}
