//! The small world of the model test, and what can happen in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;

use bgp_rib::{LocalPath, LongLived, NextHopMode, PeerKind, PeerSession, Reachability, RibConfig};
use bgp_wire::attribute::{AttributeType, ExtCommunity, UnknownAttribute};
use bgp_wire::capability::Role;
use bgp_wire::{
    AsPath, AttributesBuilder, Community, Family, FamilyParams, NextHop, Origin, Params, PeerType,
    Prefix,
};
use proptest::prelude::*;

use crate::policies::{EXTENDED, PolicyModel, policy};

pub(crate) const OWN_AS: u32 = 64500;
/// Our AS on some of the sessions.
const OTHER_AS: u32 = 64999;
pub(crate) const PEERS: u32 = 12;
/// The peers that send path identifiers.
pub(crate) const ADD_PATH_PEERS: [u32; 2] = [6, 9];

const TWO: NonZeroU8 = NonZeroU8::MIN.saturating_add(1);

const PREFIXES: [&str; 9] = [
    "10.0.0.0/24",
    "10.0.1.0/26",
    "10.1.0.0/16",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "203.0.113.7/32",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "2001:db8:1::1/128",
];

pub(crate) fn prefixes() -> Vec<Prefix> {
    PREFIXES.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn config() -> RibConfig {
    RibConfig {
        cluster_id: Some(Ipv4Addr::new(192, 0, 2, 100)),
        multipath: 2.try_into().unwrap(),
        own_addresses: vec![next_hop(4, false).addr()],
        // Small, so that peers that do not read fall off the log.
        backlog_octets: 300,
        ..RibConfig::new(OWN_AS, Ipv4Addr::new(192, 0, 2, 1), 7)
    }
}

/// Some peers are treated alike and share a group; the others are special in some way. Those from
/// number 8 on are told several paths, two of them only of IPv4 and only a few.
///
/// Every other session of a peer has another identifier.
pub(crate) fn session(peer: u32, number: u8) -> PeerSession {
    let (kind, remote_as) = match peer {
        0 | 10 => (PeerKind::Ebgp, 64501),
        1 => (PeerKind::Ebgp, 4_200_000_001),
        2 | 11 => (PeerKind::Ebgp, 64502),
        3 => (PeerKind::Ibgp, OTHER_AS),
        4 | 7 => (PeerKind::Ibgp, OWN_AS),
        9 => (PeerKind::IbgpClient, OTHER_AS),
        _ => (PeerKind::IbgpClient, OWN_AS),
    };
    let mut families = vec![FamilyParams::plain(Family::IPV4_UNICAST)];
    if peer != 2 {
        families.push(FamilyParams::plain(Family::IPV6_UNICAST));
    }
    for family in &mut families {
        family.add_path_receive = ADD_PATH_PEERS.contains(&peer);
        family.add_path_send = match peer {
            8 | 9 => true,
            10 | 11 => family.family == Family::IPV4_UNICAST,
            _ => false,
        };
    }
    PeerSession {
        kind,
        remote_as,
        remote_router_id: Ipv4Addr::new(192, 0, 2, 10 + (peer as u8 * 5) % 8 + number % 2 * 16),
        remote_addr: IpAddr::from([172, 16, 0, peer as u8 + 1]),
        local_v4: Some(Ipv4Addr::new(172, 16, 0, 100)),
        link: None,
        local_v6: (peer != 7).then(|| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 100)),
        params: Params {
            four_octet_as: peer != 2,
            extended_message: peer == 3,
            enhanced_route_refresh: matches!(peer, 0 | 1 | 5),
            peer_type: match kind {
                PeerKind::Ebgp => PeerType::External,
                PeerKind::Ibgp | PeerKind::IbgpClient => PeerType::Internal,
            },
            families,
        },
        shared_subnets: [].into(),
        next_hop: match peer {
            2 => NextHopMode::Keep,
            7 => NextHopMode::OwnAddress,
            _ => NextHopMode::Default,
        },
        max_prefixes: None,
        long_lived_offered: peer % 4 != 3,
        long_lived: match peer % 3 {
            0 => LongLived::Told,
            1 => LongLived::LeastPreferred,
            _ => LongLived::Withheld,
        },
        add_path_limit: (peer >= 10).then_some(TWO),
        local_as: matches!(peer, 1 | 3 | 9).then_some(OTHER_AS),
        enforce_first_as: false,
        role: None,
        graceful_shutdown: false,
        require_policy: false,
        allow_own_as: u8::from(peer == 2),
        prepend: u8::from(peer == 2),
        import: PolicyModel::accept_all().policy(),
        export: PolicyModel::accept_all().policy(),
    }
}

/// What may change in a session that goes on.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// External peers only.
    local_as: Option<u32>,
    enforce_first_as: bool,
    role: Option<Role>,
    graceful_shutdown: bool,
    require_policy: bool,
    allow_own_as: u8,
    prepend: u8,
}

impl Options {
    pub(crate) fn apply(&self, session: &mut PeerSession) {
        if session.kind.is_external() {
            session.local_as = self.local_as;
        }
        session.enforce_first_as = self.enforce_first_as;
        session.role = self.role;
        session.graceful_shutdown = self.graceful_shutdown;
        session.require_policy = self.require_policy;
        session.allow_own_as = self.allow_own_as;
        session.prepend = self.prepend;
    }
}

/// Number 4 is one of our own addresses, for IPv4.
pub(crate) fn next_hop(number: u8, v6: bool) -> NextHop {
    if v6 {
        NextHop::from(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 1, u16::from(number)]))
    } else {
        NextHop::from(IpAddr::from([172, 16, 1, number]))
    }
}

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Up(u32),
    Down {
        peer: u32,
        retain: Vec<Family>,
    },
    Announce {
        peer: u32,
        prefixes: Vec<usize>,
        path_id: u32,
        fields: Box<AttributesBuilder>,
        via: u8,
    },
    Withdraw {
        peer: u32,
        prefixes: Vec<usize>,
        path_id: u32,
    },
    MarkStale(u32, Family),
    UnmarkStale(u32, Family),
    LongLived(u32, Vec<Family>),
    EndOfRib(u32, Family),
    Refresh(u32, Family),
    Originate(usize, Option<LocalPath>),
    Reach(u8, bool, Reachability),
    Policies(u32, PolicyModel, PolicyModel),
    Options(u32, Options),
    PathLimit(u32, Option<NonZeroU8>),
    /// One peer reads some messages.
    Read(u32, usize),
    /// The forwarding table takes the changes.
    Forward,
    /// Everything is read and compared.
    Check,
}

/// A history of a few of the peers, which are up at its start.
pub(crate) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let all: Vec<u32> = (0..PEERS).collect();
    prop::sample::subsequence(all, 2..=5).prop_flat_map(|peers| {
        let start: Vec<Op> = peers.iter().map(|&peer| Op::Up(peer)).collect();
        prop::collection::vec(op(peers), 1..120).prop_map(move |mut ops| {
            ops.splice(0..0, start.clone());
            ops
        })
    })
}

fn op(peers: Vec<u32>) -> impl Strategy<Value = Op> {
    let peer = || prop::sample::select(peers.clone());
    let some = || prop::collection::vec(0..PREFIXES.len(), 1..6);
    let family = || prop::sample::select(vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
    let families =
        || prop::sample::subsequence(vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST], 0..=2);
    prop_oneof![
        2 => peer().prop_map(Op::Up),
        1 => (peer(), families()).prop_map(|(peer, retain)| Op::Down { peer, retain }),
        24 => (peer(), some(), 0..3u32, fields(), 1..6u8).prop_map(
            |(peer, prefixes, path_id, fields, via)| Op::Announce {
                peer,
                prefixes,
                path_id,
                fields: Box::new(fields),
                via,
            }
        ),
        8 => (peer(), some(), 0..3u32).prop_map(|(peer, prefixes, path_id)| Op::Withdraw {
            peer,
            prefixes,
            path_id,
        }),
        1 => (peer(), family()).prop_map(|(peer, family)| Op::MarkStale(peer, family)),
        1 => (peer(), family()).prop_map(|(peer, family)| Op::UnmarkStale(peer, family)),
        2 => (peer(), families()).prop_map(|(peer, families)| Op::LongLived(peer, families)),
        2 => (peer(), family()).prop_map(|(peer, family)| Op::EndOfRib(peer, family)),
        3 => (peer(), family()).prop_map(|(peer, family)| Op::Refresh(peer, family)),
        4 => (0..PREFIXES.len(), prop::option::weighted(0.6, local_path()))
            .prop_map(|(prefix, path)| Op::Originate(prefix, path)),
        2 => (1..4u8, any::<bool>(), reachability())
            .prop_map(|(number, v6, reachability)| Op::Reach(number, v6, reachability)),
        3 => (peer(), policy(), policy())
            .prop_map(|(peer, import, export)| Op::Policies(peer, import, export)),
        3 => (peer(), options()).prop_map(|(peer, options)| Op::Options(peer, options)),
        2 => (peer(), path_limit()).prop_map(|(peer, limit)| Op::PathLimit(peer, limit)),
        14 => (peer(), prop_oneof![1..40usize, 40..400usize]).prop_map(|(peer, octets)| Op::Read(peer, octets)),
        3 => Just(Op::Forward),
        3 => Just(Op::Check),
    ]
}

/// Histories in which little but delivery happens: simple paths come and go while peers read a
/// message or two at a time, are told again, and get other policies.
pub(crate) fn delivery_ops(some: &'static [u32]) -> impl Strategy<Value = Vec<Op>> {
    let peer = || prop::sample::select(some);
    let prefix = || prop::collection::vec(0..6usize, 1..3);
    let op = prop_oneof![
        1 => peer().prop_map(Op::Up),
        6 => (peer(), prefix()).prop_map(|(peer, prefixes)| Op::Announce {
            peer,
            prefixes,
            path_id: 0,
            fields: Box::default(),
            via: 1,
        }),
        6 => (peer(), prefix()).prop_map(|(peer, prefixes)| Op::Withdraw {
            peer,
            prefixes,
            path_id: 0,
        }),
        1 => (peer(), path_limit()).prop_map(|(peer, limit)| Op::PathLimit(peer, limit)),
        3 => peer().prop_map(|peer| Op::Refresh(peer, Family::IPV4_UNICAST)),
        2 => (peer(), policy()).prop_map(|(peer, export)| {
            Op::Policies(peer, PolicyModel::accept_all(), export)
        }),
        9 => (peer(), 1..50usize).prop_map(|(peer, octets)| Op::Read(peer, octets)),
        2 => Just(Op::Forward),
        1 => Just(Op::Check),
    ];
    prop::collection::vec(op, 1..80).prop_map(move |mut ops| {
        ops.splice(0..0, some.iter().copied().map(Op::Up));
        ops
    })
}

fn path_limit() -> impl Strategy<Value = Option<NonZeroU8>> {
    prop::sample::select(vec![None, Some(NonZeroU8::MIN), Some(TWO)])
}

fn options() -> impl Strategy<Value = Options> {
    let role = prop::option::of(prop::sample::select(vec![
        Role::Provider,
        Role::RouteServer,
        Role::RouteServerClient,
        Role::Customer,
        Role::Peer,
    ]));
    let local_as = prop::sample::select(vec![None, Some(OTHER_AS), Some(64510)]);
    let flag = || prop::bool::weighted(0.3);
    (local_as, role, flag(), flag(), flag(), 0..2u8, 0..2u8).prop_map(
        |(local_as, role, first_as, graceful_shutdown, require_policy, allow_own_as, prepend)| {
            Options {
                local_as,
                enforce_first_as: first_as,
                role,
                graceful_shutdown,
                require_policy,
                allow_own_as,
                prepend,
            }
        },
    )
}

fn reachability() -> impl Strategy<Value = Reachability> {
    prop_oneof![
        (0..3u32).prop_map(|metric| Reachability::Reachable { metric }),
        Just(Reachability::Unreachable),
    ]
}

fn communities() -> impl Strategy<Value = Vec<Community>> {
    prop_oneof![
        6 => Just(vec![]),
        2 => Just(vec![Community::new(64500, 1)]),
        1 => Just(vec![Community::NO_EXPORT]),
        1 => Just(vec![Community::NO_ADVERTISE]),
        1 => Just(vec![Community::NO_EXPORT_SUBCONFED]),
        1 => Just(vec![Community::LLGR_STALE]),
        1 => Just(vec![Community::NO_LLGR]),
        1 => Just(vec![Community::NO_PEER]),
        1 => Just(vec![Community::GRACEFUL_SHUTDOWN, Community::new(64500, 2)]),
    ]
}

fn local_path() -> impl Strategy<Value = LocalPath> {
    let via = prop::option::weighted(0.2, Just(next_hop(1, false).addr()));
    (via, prop::option::of(0..2u32), communities()).prop_map(|(next_hop, med, communities)| {
        LocalPath {
            next_hop,
            med,
            communities,
            ..LocalPath::default()
        }
    })
}

fn as_path() -> impl Strategy<Value = AsPath> {
    prop::sample::select(vec![
        AsPath::sequence(&[]),
        AsPath::sequence(&[64501]),
        AsPath::sequence(&[64502]),
        AsPath::sequence(&[64501, 64510]),
        AsPath::sequence(&[64502, 4_200_000_009]),
        AsPath::sequence(&[64502, OWN_AS]),
        AsPath::sequence(&[64501, OTHER_AS]),
    ])
}

/// Attributes of any peer; those that only internal peers send are taken away from external ones.
fn fields() -> impl Strategy<Value = AttributesBuilder> {
    let origin = prop::sample::select(vec![Origin::Igp, Origin::Igp, Origin::Incomplete]);
    let med = prop::option::of(0..3u32);
    let local_pref = prop::option::weighted(0.3, 99..102u32);
    // 1 is ourselves, 100 is our cluster.
    let router = || (1..4u8).prop_map(|number| Ipv4Addr::new(192, 0, 2, number));
    let cluster = prop::sample::select(vec![50, 51, 100]);
    let cluster = cluster.prop_map(|number: u8| Ipv4Addr::new(192, 0, 2, number));
    let originator_id = prop::option::weighted(0.2, router());
    let cluster_list = prop_oneof![
        4 => Just(vec![]),
        1 => prop::collection::vec(cluster, 1..3),
    ];
    let unknown = prop_oneof![
        5 => Just(vec![]),
        1 => Just(vec![UnknownAttribute {
            attribute: AttributeType(99),
            partial: true,
            value: vec![1, 2, 3],
        }]),
    ];
    let extended = prop::sample::subsequence(EXTENDED.map(ExtCommunity).to_vec(), 0..=2);
    let extended = prop_oneof![3 => Just(vec![]), 1 => extended];
    let only_to_customer = prop::sample::select(vec![64501, 64502, 64510]);
    let only_to_customer = prop::option::weighted(0.2, only_to_customer);
    let first = (as_path(), origin, med, local_pref, communities(), extended);
    (
        first,
        originator_id,
        cluster_list,
        unknown,
        only_to_customer,
    )
        .prop_map(
            |(
                (as_path, origin, med, local_pref, communities, ext_communities),
                originator_id,
                cluster_list,
                unknown,
                only_to_customer,
            )| {
                AttributesBuilder {
                    origin,
                    as_path,
                    med,
                    local_pref,
                    communities,
                    ext_communities,
                    originator_id,
                    cluster_list,
                    only_to_customer,
                    unknown,
                    ..AttributesBuilder::default()
                }
            },
        )
}
