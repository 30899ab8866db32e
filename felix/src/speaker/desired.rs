//! The BGP section in the words of the speaker.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bgp::{
    AddPathMode, Bfd, Desired, Family, Local, MaxPrefixes, MaxPrefixesAction, NextHopMode,
    Originate, Password, PeerConfig, PeerKey, Prefix, Reachability, Role, Ttl,
};
use crds::bgp_peer;
use felix_calc::{Bgp, Bind, NextHops, PeerSpec, SessionOptions};
use ipnet::IpNet;

use super::Settings;
use super::policy::Policies;
use crate::drain::Stage;

/// The BGP section in the words of the speaker; peers that are refused are not in it.
pub(super) fn desired(section: &Bgp, settings: &Settings, stage: &Stage) -> Desired {
    let local = &section.local;
    let listen: Vec<IpAddr> = settings
        .listen
        .map_or_else(|| addresses(local), |address| vec![address]);
    let mut policies = Policies::default();
    Desired {
        local: Local {
            listen: listen
                .into_iter()
                .map(|a| SocketAddr::new(a, local.listen_port))
                .collect(),
            cluster_id: local.cluster_id,
            next_hop_v4: local.ipv4,
            next_hop_v6: local.ipv6,
            subnets: local.subnets.iter().filter_map(|s| prefix_of(*s)).collect(),
            ..Local::new(local.asn, local.router_id)
        },
        peers: section
            .peers
            .values()
            .map(|spec| {
                let mut config = peer(spec, local.asn, settings, &mut policies);
                leave(&mut config, stage);
                (key(spec), config)
            })
            .collect(),
        dynamic: BTreeMap::new(),
        originate: section
            .originate
            .keys()
            .filter_map(|net| Some((prefix_of(*net)?, Originate::default())))
            .collect(),
    }
}

/// How next hops are reached, in the words of the speaker.
pub(super) fn reachability(known: &NextHops) -> Arc<BTreeMap<bgp::NextHop, Reachability>> {
    let known = known.metrics.iter().map(|(hop, metric)| {
        let hop = bgp::NextHop {
            address: hop.address,
            interface: hop.interface.clone(),
        };
        let way = metric.map(|metric| Reachability::Reachable { metric });
        (hop, way.unwrap_or(Reachability::Unreachable))
    });
    Arc::new(known.collect())
}

/// Addresses to listen on: those of the node, as Calico's `bindMode: NodeIP` has it, unless every
/// address is asked for.
fn addresses(local: &felix_calc::Local) -> Vec<IpAddr> {
    let v4 = local.ipv4.map(|own| match local.bind {
        Some(Bind::Everywhere) => Ipv4Addr::UNSPECIFIED,
        Some(Bind::NodeAddresses) | None => own,
    });
    let v6 = local.ipv6.map(|own| match local.bind {
        Some(Bind::Everywhere) => Ipv6Addr::UNSPECIFIED,
        Some(Bind::NodeAddresses) | None => own,
    });
    let v6 = v6.map(IpAddr::from);
    v4.map(IpAddr::from).into_iter().chain(v6).collect()
}

/// What the speaker calls a peer: its address, and the port if it is not the usual one.
///
/// Not the name that says why the peer exists: a node that leaves the mesh and becomes a route
/// reflector stays the same peer, and its session stays too.
pub(crate) fn key(spec: &PeerSpec) -> PeerKey {
    match spec.port {
        bgp::PORT => PeerKey::from(spec.address.to_string()),
        port => PeerKey::from(SocketAddr::new(spec.address, port).to_string()),
    }
}

fn peer<'a>(
    spec: &'a PeerSpec,
    asn: u32,
    settings: &Settings,
    policies: &mut Policies<'a>,
) -> PeerConfig {
    let mut config = PeerConfig::new(spec.address, spec.remote_as);
    config.port = spec.port;
    config.passive = spec.passive;
    config.source = spec.source;
    config.families = [
        (spec.ipv4, Family::IPV4_UNICAST),
        (spec.ipv6, Family::IPV6_UNICAST),
    ]
    .into_iter()
    .filter_map(|(wanted, family)| wanted.then_some(family))
    .collect();
    if let Some(keepalive) = spec.keepalive.map(whole_secs) {
        config.keepalive_secs = Some(keepalive);
        config.hold_time_secs = keepalive.saturating_mul(3);
    }
    let restart = spec
        .restart_time
        .map_or(settings.restart_time_secs, whole_secs);
    // Twelve bits (RFC 4724 §3).
    config.restart_time_secs = Some(restart.min(4095));
    config.ttl = match (spec.ttl_security, spec.multihop) {
        (Some(hops), _) => Ttl::Security { hops },
        // Inside the AS the default is any distance: the same, whatever the peer comes from.
        (None, true) if spec.remote_as != spec.local_as.unwrap_or(asn) => Ttl::Multihop(u8::MAX),
        (None, true) => Ttl::Default,
        (None, false) => Ttl::Default,
    };
    config.reflector_client = spec.reflector_client;
    config.allow_own_as = spec.allow_own_as;
    config.local_as = spec.local_as;
    config.next_hop = match spec.next_hop {
        felix_calc::NextHopMode::Auto => NextHopMode::Default,
        felix_calc::NextHopMode::OwnAddress => NextHopMode::OwnAddress,
        felix_calc::NextHopMode::Keep => NextHopMode::Keep,
    };
    let password = spec.password.as_ref();
    config.password = password.map(|secret| Password::from(secret.reveal().clone()));
    add_options(&mut config, &spec.options);
    config.import = policies.of(&spec.import);
    config.export = policies.of(&spec.export);
    config
}

/// A node that leaves asks its peers to prefer other ways (RFC 8326), then has no sessions.
fn leave(config: &mut PeerConfig, stage: &Stage) {
    match stage {
        Stage::Stays => {}
        Stage::Leaving(_) => config.graceful_shutdown = true,
        Stage::Left(cause) => config.shut_down = Some(farewell(cause).into()),
    }
}

/// What operators of the peers are told (RFC 9003), up to 255 octets.
pub(crate) fn farewell(cause: &str) -> String {
    let text = format!("this node leaves: {cause}");
    text.chars().take(60).collect()
}

/// What not every session has.
fn add_options(config: &mut PeerConfig, options: &SessionOptions) {
    config.add_path = options.add_path.then_some(AddPathMode::Both);
    // Twenty-four bits (RFC 9494 §3).
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let long_lived = options.long_lived.map(seconds);
    config.long_lived_secs = long_lived.map(|seconds| seconds.min(0x00ff_ffff));
    let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    config.bfd = options.bfd.map(|bfd| Bfd {
        min_tx_ms: millis(bfd.send),
        min_rx_ms: millis(bfd.receive),
        multiplier: bfd.multiplier,
        on_link: true,
    });
    config.max_prefixes = options.max_prefixes.and_then(|max| {
        Some(MaxPrefixes {
            limit: NonZeroU32::new(max.limit)?,
            warning_percent: max.warning_percent.unwrap_or(75),
            action: match max.action() {
                bgp_peer::MaxPrefixesAction::Warn => MaxPrefixesAction::Warn,
                bgp_peer::MaxPrefixesAction::Discard => MaxPrefixesAction::Discard,
                bgp_peer::MaxPrefixesAction::Close => MaxPrefixesAction::Close {
                    restart_after_secs: max.restart_after.map(|time| seconds(time.0).max(1)),
                },
            },
        })
    });
    config.role = options.role.map(|role| match role {
        bgp_peer::Role::Provider => Role::Provider,
        bgp_peer::Role::RouteServer => Role::RouteServer,
        bgp_peer::Role::RouteServerClient => Role::RouteServerClient,
        bgp_peer::Role::Customer => Role::Customer,
        bgp_peer::Role::Peer => Role::Peer,
    });
    config.role_strict = options.role_strict;
}

/// At least one second: zero would turn the timer off.
fn whole_secs(duration: Duration) -> u16 {
    u16::try_from(duration.as_secs()).unwrap_or(u16::MAX).max(1)
}

pub(super) fn prefix_of(net: IpNet) -> Option<Prefix> {
    Prefix::new(net.addr(), net.prefix_len())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use felix_calc::policy::{Policy, Verdict};
    use felix_calc::{Local as Ours, Origin, PeerKind};

    use super::*;

    fn policy(otherwise: Verdict) -> Arc<Policy> {
        let rules = Vec::new();
        Arc::new(Policy { rules, otherwise })
    }

    fn options() -> SessionOptions {
        SessionOptions {
            add_path: true,
            long_lived: Some(Duration::from_secs(1 << 25)),
            bfd: Some(felix_calc::Bfd {
                send: Duration::from_millis(50),
                receive: Duration::from_millis(60),
                multiplier: NonZeroU8::MIN,
            }),
            max_prefixes: Some(bgp_peer::MaxPrefixes {
                limit: 9,
                restart_after: Some(crds::GoDuration(Duration::from_secs(300))),
                ..bgp_peer::MaxPrefixes::default()
            }),
            role: Some(bgp_peer::Role::Customer),
            role_strict: true,
        }
    }

    fn section() -> Bgp {
        let peer = PeerSpec {
            object: "BGPPeer/b".to_owned(),
            kind: PeerKind::GlobalPeer,
            address: "192.0.2.9".parse().unwrap(),
            port: 1790,
            remote_as: 64500,
            ipv4: true,
            ipv6: false,
            passive: true,
            source: Some("192.0.2.1".parse().unwrap()),
            keepalive: Some(Duration::from_secs(10)),
            restart_time: Some(Duration::from_secs(10_000)),
            multihop: true,
            ttl_security: None,
            reflector_client: false,
            allow_own_as: 1,
            local_as: Some(64513),
            next_hop: felix_calc::NextHopMode::Keep,
            password: Some(felix_calc::Password::from("sesame")),
            options: options(),
            import: policy(Verdict::Accept),
            export: policy(Verdict::Reject),
        };
        Bgp {
            local: Ours {
                asn: 64512,
                router_id: "192.0.2.1".parse().unwrap(),
                ipv4: Some("192.0.2.1".parse().unwrap()),
                ipv6: Some("2001:db8::1".parse().unwrap()),
                subnets: vec!["192.0.2.0/24".parse().unwrap()],
                listen_port: 179,
                bind: None,
                cluster_id: None,
            },
            peers: [("Global_192_0_2_9".to_owned(), peer)].into(),
            refused: BTreeMap::new(),
            originate: [("10.0.0.0/26".parse().unwrap(), Origin::Block)].into(),
        }
    }

    #[test]
    fn a_section_says_the_same_in_the_words_of_the_speaker() {
        let settings = Settings {
            listen: None,
            restart_time_secs: 120,
        };
        let desired = desired(&section(), &settings, &Stage::Stays);
        let listen: Vec<String> = desired
            .local
            .listen
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(listen, ["192.0.2.1:179", "[2001:db8::1]:179"]);
        assert_eq!(desired.local.subnets.len(), 1);
        let peer = &desired.peers[&PeerKey::from("192.0.2.9:1790")];
        assert_eq!(
            (peer.port, peer.remote_as, peer.passive),
            (1790, 64500, true)
        );
        assert_eq!((peer.keepalive_secs, peer.hold_time_secs), (Some(10), 30));
        assert_eq!(
            peer.restart_time_secs,
            Some(4095),
            "as much as the capability can say"
        );
        assert_eq!(peer.families, [Family::IPV4_UNICAST]);
        assert_eq!((peer.ttl, peer.allow_own_as), (Ttl::Multihop(255), 1));
        assert_eq!(
            (peer.local_as, peer.next_hop),
            (Some(64513), NextHopMode::Keep)
        );
        assert_eq!(peer.password, Some(Password::from("sesame")));
        assert_eq!(
            (peer.add_path, peer.long_lived_secs),
            (Some(AddPathMode::Both), Some(16_777_215))
        );
        let bfd = peer.bfd.unwrap();
        assert_eq!((bfd.min_tx_ms, bfd.min_rx_ms, bfd.on_link), (50, 60, true));
        let max = peer.max_prefixes.unwrap();
        let close = MaxPrefixesAction::Close {
            restart_after_secs: Some(300),
        };
        assert_eq!(
            (max.limit.get(), max.warning_percent, max.action),
            (9, 75, close)
        );
        assert_eq!((peer.role, peer.role_strict), (Some(Role::Customer), true));
        let last = (peer.import.otherwise, peer.export.otherwise);
        assert_eq!(last, (bgp::Verdict::Accept, bgp::Verdict::Reject));
        let prefixes: Vec<String> = desired.originate.keys().map(ToString::to_string).collect();
        assert_eq!(prefixes, ["10.0.0.0/26"]);
    }

    #[test]
    fn another_listening_address_replaces_those_of_the_node() {
        let any = "0.0.0.0".parse().unwrap();
        let settings = Settings {
            listen: Some(any),
            restart_time_secs: 120,
        };
        let listen = desired(&section(), &settings, &Stage::Stays).local.listen;
        assert_eq!(listen, [SocketAddr::new(any, 179)]);
    }

    #[test]
    fn a_node_that_leaves_asks_first_and_says_goodbye_then() {
        let settings = Settings {
            listen: None,
            restart_time_secs: 120,
        };
        let peer = |stage: Stage| {
            let mut peers = desired(&section(), &settings, &stage).peers;
            let peer = peers.remove(&PeerKey::from("192.0.2.9:1790")).unwrap();
            (peer.graceful_shutdown, peer.shut_down)
        };
        let cause = "annotation tortie.dev/drain".to_owned();
        assert_eq!(peer(Stage::Stays), (false, None));
        assert_eq!(peer(Stage::Leaving(cause.clone())), (true, None));
        let text = "this node leaves: annotation tortie.dev/drain".into();
        assert_eq!(peer(Stage::Left(cause)), (false, Some(text)));
        // Octets count, not characters (RFC 9003).
        assert!(farewell(&"ü".repeat(300)).len() <= 255);
    }

    #[test]
    fn a_node_is_the_same_peer_in_the_mesh_and_as_a_reflector() {
        let settings = Settings {
            listen: None,
            restart_time_secs: 120,
        };
        let mut section = section();
        let mut mesh = section.peers.remove("Global_192_0_2_9").unwrap();
        mesh = PeerSpec {
            kind: PeerKind::NodeMesh,
            port: 179,
            remote_as: 64512,
            local_as: None,
            multihop: false,
            ..mesh
        };
        let reflector = PeerSpec {
            kind: PeerKind::NodePeer,
            multihop: true,
            ..mesh.clone()
        };
        section.peers = [("Mesh_192_0_2_9".to_owned(), mesh)].into();
        let before = desired(&section, &settings, &Stage::Stays).peers;
        section.peers = [("Node_192_0_2_9".to_owned(), reflector)].into();
        assert_eq!(desired(&section, &settings, &Stage::Stays).peers, before);
        assert!(before.contains_key(&PeerKey::from("192.0.2.9")));
    }

    #[test]
    fn every_address_means_those_of_both_families_of_the_node() {
        let settings = Settings {
            listen: None,
            restart_time_secs: 120,
        };
        let mut section = section();
        section.local.bind = Some(Bind::Everywhere);
        let listen = desired(&section, &settings, &Stage::Stays).local.listen;
        let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["0.0.0.0:179", "[::]:179"]);
        section.local.ipv6 = None;
        assert_eq!(
            desired(&section, &settings, &Stage::Stays)
                .local
                .listen
                .len(),
            1
        );
    }
}
