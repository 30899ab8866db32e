//! Peers as the RIB sees them, and what all parts of the RIB look at but only [`Rib`] changes.
//!
//! [`Rib`]: crate::Rib

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;

use bgp_wire::capability::Role;
use bgp_wire::{Attributes, AttributesBuilder, Community, Params, Prefix};

use crate::attrs::{AttrSet, Attrs, Communities};
use crate::decision::Candidate;
use crate::loc_rib::Change;
use crate::nexthop::Reachability;
use crate::path::{Ineligible, Path, PeerId, Said};
use crate::policy::Policy;

/// LOCAL_PREF of paths that carry none, as every implementation has it.
pub(crate) const DEFAULT_LOCAL_PREF: u32 = 100;

/// What this speaker is.
#[derive(Debug, Clone)]
pub struct RibConfig {
    /// Our AS.
    pub asn: u32,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// The cluster we reflect for; our BGP identifier when not given (RFC 4456 §7).
    pub cluster_id: Option<Ipv4Addr>,
    /// How many next hops share the traffic of a prefix at most; 1 turns multipath off.
    pub multipath: NonZeroU8,
    /// Our addresses: a path with one of them as its next hop is not used. The local addresses of
    /// a session count for its paths without being listed here, unless the peer has the same address
    /// and `forwards` is off.
    pub own_addresses: Vec<IpAddr>,
    /// MULTI_EXIT_DISC is compared between paths from different ASes too, against RFC 4271
    /// §9.1.2.2 c.
    pub always_compare_med: bool,
    /// A path without MULTI_EXIT_DISC counts as one with the highest, not the lowest, value.
    pub missing_med_is_worst: bool,
    /// Somebody forwards: what changes for them is kept until [`Rib::best_changes`] and
    /// [`Rib::next_hop_changes`] take it. Else these are always empty.
    ///
    /// [`Rib::best_changes`]: crate::Rib::best_changes
    /// [`Rib::next_hop_changes`]: crate::Rib::next_hop_changes
    pub forwards: bool,
    /// Seed of the hash tables. Peers choose what is hashed, so take a random number.
    pub seed: u64,
    /// How many octets of messages may wait for the slower peers of an update group, in addition
    /// to one burst. Who falls behind further is told the current state later instead.
    pub backlog_octets: usize,
}

impl RibConfig {
    /// No multipath, 8 MiB of backlog per update group.
    #[must_use]
    pub fn new(asn: u32, router_id: Ipv4Addr, seed: u64) -> Self {
        Self {
            asn,
            router_id,
            cluster_id: None,
            multipath: NonZeroU8::MIN,
            own_addresses: Vec::new(),
            always_compare_med: false,
            missing_med_is_worst: false,
            forwards: true,
            seed,
            backlog_octets: 8 << 20,
        }
    }

    fn missing_med(&self) -> u32 {
        if self.missing_med_is_worst {
            u32::MAX
        } else {
            0
        }
    }

    pub(crate) fn cluster_id(&self) -> Ipv4Addr {
        self.cluster_id.unwrap_or(self.router_id)
    }
}

/// What a peer is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// In another AS.
    Ebgp,
    /// In our AS; for a route reflector a non-client.
    Ibgp,
    /// In our AS, and we reflect routes for it (RFC 4456 §4).
    IbgpClient,
}

impl PeerKind {
    /// Whether the peer is in another AS.
    #[must_use]
    pub fn is_external(self) -> bool {
        match self {
            Self::Ebgp => true,
            Self::Ibgp | Self::IbgpClient => false,
        }
    }
}

/// Which next hop a peer is told (RFC 4271 §5.1.3). What is originated here without a next hop
/// always goes out with our own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NextHopMode {
    /// Our own address to external peers, the received next hop to internal ones.
    #[default]
    Default,
    /// Our own address also to internal peers, except for reflected routes (RFC 4456 §10).
    OwnAddress,
    /// The received next hop also to external peers.
    Keep,
}

/// What a peer is told of long-lived stale paths (RFC 9494 §4.3, §4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LongLived {
    /// Nothing: it has not said that it knows of them.
    #[default]
    Withheld,
    /// It has not said so either, but inside our AS it is told them with NO_EXPORT and the lowest
    /// LOCAL_PREF there is. External peers are told nothing.
    LeastPreferred,
    /// They are told as they are.
    Told,
}

/// A link between us and a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its number, as the caller counts them.
    pub number: u32,
    /// Our link-local address on it: what the peer is told as next hop (RFC 2545 §3, RFC 8950).
    pub own: Ipv6Addr,
}

/// An established session.
#[derive(Debug, Clone)]
pub struct PeerSession {
    /// What the peer is to us.
    pub kind: PeerKind,
    /// Our AS on this session where it is not [`RibConfig::asn`]: the peer sees no other, and
    /// `kind` is what the peer is to an AS of this number.
    pub local_as: Option<u32>,
    /// Its AS.
    pub remote_as: u32,
    /// Its BGP identifier.
    pub remote_router_id: Ipv4Addr,
    /// Its address.
    pub remote_addr: IpAddr,
    /// Our IPv4 address as this peer's next hop; without one it gets no IPv4 routes from us that
    /// need it.
    pub local_v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub local_v6: Option<Ipv6Addr>,
    /// The link on which the session runs between link-local addresses.
    pub link: Option<Link>,
    /// What was negotiated, families included.
    pub params: Params,
    /// Which next hop it is told.
    pub next_hop: NextHopMode,
    /// Subnets of the link that the peer shares with us, empty when it is farther away: an
    /// external peer is told next hops inside them as they are (RFC 4271 §5.1.3, third party).
    pub shared_subnets: Arc<[Prefix]>,
    /// How many paths per prefix it is told where ADD-PATH is negotiated (RFC 7911), all when
    /// absent.
    pub add_path_limit: Option<NonZeroU8>,
    /// How many prefixes of each family may be used, all when absent; with path identifiers
    /// (RFC 7911) each path counts. What comes above is held.
    pub max_prefixes: Option<NonZeroU32>,
    /// We have said in our OPEN that we know of long-lived stale paths (RFC 9494).
    pub long_lived_offered: bool,
    /// What it is told of long-lived stale paths.
    pub long_lived: LongLived,
    /// How often our AS may be in an AS_PATH from this peer: 0 unless a design with one AS number
    /// at several sites needs it.
    pub allow_own_as: u8,
    /// An external peer must be the first AS in the AS_PATH of what it sends (RFC 4271 §6.3); not
    /// asked of a route server (RFC 7947 §2.2.2.1).
    pub enforce_first_as: bool,
    /// What we are to an external peer (RFC 9234).
    pub role: Option<Role>,
    /// The session is about to be shut down: the peer shall prefer other paths, and we prefer
    /// others to those from an external one (RFC 8326 §4.2).
    pub graceful_shutdown: bool,
    /// An external peer without import and export policy takes and is told nothing (RFC 8212).
    pub require_policy: bool,
    /// How often our AS is put in front of the AS_PATH in addition to the usual once, external
    /// peers only.
    pub prepend: u8,
    /// What is taken from the peer.
    pub import: Arc<Policy>,
    /// What the peer is told.
    pub export: Arc<Policy>,
}

impl PeerSession {
    /// Our AS on this session.
    pub(crate) fn own_as(&self, config: &RibConfig) -> u32 {
        self.local_as.unwrap_or(config.asn)
    }

    /// What we are to the peer; roles are between ASes (RFC 9234 §3).
    pub(crate) fn role(&self) -> Option<Role> {
        self.role.filter(|_| self.kind.is_external())
    }

    pub(crate) fn prefix_limit(&self) -> u32 {
        self.max_prefixes.map_or(u32::MAX, NonZeroU32::get)
    }

    /// Whether paths from the peer are about to go with its session (RFC 8326 §4.2).
    pub(crate) fn is_leaving(&self) -> bool {
        self.graceful_shutdown && self.kind.is_external()
    }

    /// Whether RFC 8212 §3 holds up a policy.
    pub(crate) fn lacks(&self, policy: &Policy) -> bool {
        self.require_policy && self.kind.is_external() && !policy.is_given()
    }

    /// Whether paths from the peer are judged as they were, seen from the session before.
    pub(crate) fn judges_like(&self, other: &Self) -> bool {
        let rests_on = |session: &Self| {
            let addresses = (session.local_v4, session.local_v6, session.link);
            let as_path = (session.allow_own_as, session.enforce_first_as);
            (addresses, as_path, session.require_policy)
        };
        rests_on(self) == rests_on(other) && self.import == other.import
    }

    /// What it means for paths kept from this session that `new` is the next one.
    pub(crate) fn effect_on_kept_paths(&self, new: &Self) -> Change {
        // What others are told: ORIGINATOR_ID is the peer's identifier, OTC may be its AS.
        let words = |session: &Self| {
            let source = (session.kind, session.local_as, session.remote_as);
            let marks = (session.role(), session.is_leaving());
            (source, session.remote_router_id, marks)
        };
        let same_rank = self.remote_addr == new.remote_addr
            && self.long_lived_offered == new.long_lived_offered;
        if words(self) != words(new) {
            Change::Wording
        } else if same_rank {
            Change::None
        } else {
            Change::Ranking
        }
    }
}

/// A peer that is up, or that is down and whose paths are kept for its return.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) session: PeerSession,
    pub(crate) is_up: bool,
}

/// Peers by number.
#[derive(Debug, Default)]
pub(crate) struct Peers(Vec<Option<Peer>>);

impl Peers {
    pub(crate) fn get(&self, id: PeerId) -> Option<&Peer> {
        self.0.get(id.0 as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.0.get_mut(id.0 as usize)?.as_mut()
    }

    /// Every peer that is up, or whose paths are kept.
    pub(crate) fn ids(&self) -> Vec<PeerId> {
        let places = (0..).zip(&self.0);
        let known = places.filter(|(_, peer)| peer.is_some());
        known.map(|(number, _)| PeerId(number)).collect()
    }

    pub(crate) fn set(&mut self, id: PeerId, peer: Peer) {
        let index = id.0 as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(peer);
    }

    pub(crate) fn remove(&mut self, id: PeerId) {
        if let Some(place) = self.0.get_mut(id.0 as usize) {
            *place = None;
        }
    }
}

/// Configuration, peers and attribute sets: read by decision and export, changed by imports.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: RibConfig,
    pub(crate) peers: Peers,
    pub(crate) attrs: Attrs,
}

impl Shared {
    pub(crate) fn new(config: RibConfig) -> Self {
        let mut attrs = Attrs::new(config.seed);
        if config.forwards {
            attrs.next_hops.watch();
        }
        Self {
            config,
            peers: Peers::default(),
            attrs,
        }
    }

    pub(crate) fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id)
    }

    /// The interior cost of a path, or why the path must not be used.
    pub(crate) fn igp_metric(&self, path: &Path) -> Result<u32, Ineligible> {
        if let Some(reason) = path.refused {
            return Err(reason);
        }
        let next_hop = self.attrs.get(path.attrs).next_hop;
        match self.attrs.next_hops.reachability(next_hop) {
            Reachability::Reachable { metric } => Ok(metric),
            Reachability::Unreachable => Err(Ineligible::UnreachableNextHop),
        }
    }

    /// What the decision process looks at in a path, or why it must not be looked at.
    pub(crate) fn candidate(&self, path: &Path) -> Result<Candidate, Ineligible> {
        let igp_metric = self.igp_metric(path)?;
        let attrs = self.attrs.get(path.attrs);
        let session = self.peer(path.peer).map(|peer| &peer.session);
        let router_id = session.map_or(self.config.router_id, |session| session.remote_router_id);
        let attributes = &attrs.attributes;
        Ok(Candidate {
            long_lived: self.is_long_lived(path.said()),
            local: path.peer == PeerId::LOCAL,
            local_pref: self.local_pref(path.peer, attrs),
            as_path_length: attributes.hops(),
            origin: attributes.origin(),
            med: attributes.med().unwrap_or(self.config.missing_med()),
            neighbour_as: attributes
                .neighbor_as()
                .filter(|_| !self.config.always_compare_med),
            external: session.is_some_and(|session| session.kind.is_external()),
            igp_metric,
            router_id: attributes.originator_id().unwrap_or(router_id),
            cluster_list_length: attributes.cluster_list_len(),
            peer_address: session.map_or(0, |session| address_rank(session.remote_addr)),
            path_id: path.path_id,
            next_hop: attrs.next_hop,
        })
    }

    /// Whether a path is long-lived stale: the community says so, and whoever it came from has been
    /// told that we listen to it (RFC 9494 §4.3).
    pub(crate) fn is_long_lived(&self, said: Said) -> bool {
        let communities = self.attrs.get(said.attrs).communities;
        communities.has(Communities::LLGR_STALE)
            && self
                .peer(said.peer)
                .is_some_and(|peer| peer.session.long_lived_offered)
    }

    /// The degree of preference (RFC 4271 §9.1.1): what internal peers say, our own default for
    /// external ones unless the import policy says otherwise, nothing for paths that are about to
    /// go (RFC 8326 §4.2).
    pub(crate) fn local_pref(&self, source: PeerId, set: &AttrSet) -> u32 {
        if self.is_leaving(source) {
            return 0;
        }
        let source = self.peer(source);
        set.local_pref(source.is_some_and(|peer| peer.session.kind.is_external()))
    }

    /// Whether the session to an external peer is about to be shut down (RFC 8326 §4.2).
    pub(crate) fn is_leaving(&self, source: PeerId) -> bool {
        self.peer(source)
            .is_some_and(|peer| peer.session.is_leaving())
    }

    /// The attributes of a path from this source with what its session adds to all of them.
    pub(crate) fn counting<'a>(&self, source: PeerId, set: &'a AttrSet) -> Cow<'a, Attributes> {
        let Some(Peer { session, .. }) = self.peer(source) else {
            return Cow::Borrowed(&set.attributes);
        };
        if !session.is_leaving() && !session.role().is_some_and(reaches_upward) {
            return Cow::Borrowed(&set.attributes);
        }
        let mut fields = set.attributes.to_builder();
        fields.only_to_customer = self.only_to_customer(source, set);
        if session.is_leaving() {
            mark_leaving(&mut fields);
        }
        // As received is as good as it gets for what is too long for any message.
        fields
            .build()
            .map_or(Cow::Borrowed(&set.attributes), Cow::Owned)
    }

    /// ONLY_TO_CUSTOMER of a path, where it is not there that which our role has us add when it
    /// comes in (RFC 9234 §5).
    pub(crate) fn only_to_customer(&self, source: PeerId, set: &AttrSet) -> Option<u32> {
        let added = || {
            let session = &self.peer(source)?.session;
            let is_upward = session.role().is_some_and(reaches_upward);
            is_upward.then_some(session.remote_as)
        };
        set.attributes.only_to_customer().or_else(added)
    }
}

/// Whether one of this role has a provider, a lateral peer or a route server on the other side.
pub(crate) fn reaches_upward(role: Role) -> bool {
    match role {
        Role::Customer | Role::Peer | Role::RouteServerClient => true,
        Role::Provider | Role::RouteServer => false,
    }
}

/// RFC 8326 §4: who hears of it shall prefer other paths.
pub(crate) fn mark_leaving(fields: &mut AttributesBuilder) {
    if !fields.communities.contains(&Community::GRACEFUL_SHUTDOWN) {
        fields.communities.push(Community::GRACEFUL_SHUTDOWN);
    }
}

/// Addresses as numbers in one order; IPv4 below IPv6.
fn address_rank(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}
