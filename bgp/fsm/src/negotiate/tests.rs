use std::time::Duration;

use bgp_wire::capability::GracefulRestart;

use super::*;
use crate::config::Restart;

fn config() -> Config {
    let mut config = Config::new(64500, Ipv4Addr::new(192, 0, 2, 1), 64501);
    config.families = vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    config.restart = Some(Restart {
        time_secs: 120,
        restarting: false,
        forwarding: true,
        notification: false,
        stale_time: Duration::from_secs(120),
    });
    config
}

fn open(capabilities: Vec<Capability>) -> Open {
    Open {
        asn: 64501,
        hold_time: 30,
        router_id: Ipv4Addr::new(192, 0, 2, 2),
        capabilities,
    }
}

fn agreed(config: &Config, open: &Open) -> Negotiated {
    negotiate(config, open, Origin::Outgoing).unwrap()
}

fn refused(config: &Config, open: &Open) -> (u8, u8) {
    let notification = negotiate(config, open, Origin::Outgoing).unwrap_err();
    (notification.code, notification.subcode)
}

#[test]
fn smaller_hold_time_wins_and_keepalives_are_a_third_of_it() {
    let mut config = config();
    let agreement = agreed(&config, &open(vec![]));
    assert_eq!(
        (30, 10),
        (agreement.hold_time_secs, agreement.keepalive_secs)
    );
    config.keepalive_secs = Some(7);
    assert_eq!(7, agreed(&config, &open(vec![])).keepalive_secs);
    config.keepalive_secs = Some(20);
    assert_eq!(10, agreed(&config, &open(vec![])).keepalive_secs);
    config.hold_time_secs = 0;
    let agreement = agreed(&config, &open(vec![]));
    assert_eq!((0, 0), (agreement.hold_time_secs, agreement.keepalive_secs));
}

#[test]
fn peer_without_capabilities_speaks_plain_ipv4_unicast() {
    let agreement = agreed(&config(), &open(vec![]));
    assert_eq!(vec![Family::IPV4_UNICAST], agreement.families);
    assert!(!agreement.params.four_octet_as && !agreement.params.extended_message);
    assert!(!agreement.route_refresh);
    assert_eq!(None, agreement.restart);
}

#[test]
fn no_common_family_is_an_unsupported_capability_and_names_ours() {
    let mut config = config();
    config.families = vec![Family::IPV6_UNICAST];
    let notification = negotiate(&config, &open(vec![]), Origin::Incoming).unwrap_err();
    assert_eq!((2, 7), (notification.code, notification.subcode));
    assert_eq!(vec![1, 4, 0, 2, 0, 1], notification.data);
}

#[test]
fn wrong_as_router_id_and_hold_time_are_refused_with_their_subcodes() {
    let config = config();
    let mut wrong = open(vec![]);
    wrong.asn = 64502;
    assert_eq!((2, 2), refused(&config, &wrong));
    let mut wrong = open(vec![]);
    wrong.router_id = Ipv4Addr::UNSPECIFIED;
    assert_eq!((2, 3), refused(&config, &wrong));
    for secs in [1, 2] {
        let mut wrong = open(vec![]);
        wrong.hold_time = secs;
        assert_eq!((2, 6), refused(&config, &wrong));
    }
}

#[test]
fn equal_router_ids_are_an_error_only_inside_one_as() {
    let mut config = config();
    let mut same = open(vec![]);
    same.router_id = config.local_id;
    assert!(negotiate(&config, &same, Origin::Outgoing).is_ok());
    config.remote_as = config.local_as;
    same.asn = config.local_as;
    assert_eq!((2, 3), refused(&config, &same));
}

#[test]
fn restart_capability_counts_only_when_both_offer_it() {
    let theirs = GracefulRestart {
        restarting: true,
        notification: true,
        time_secs: 60,
        families: vec![(Family::IPV4_UNICAST, true), (Family::new(25, 65), true)],
    };
    let open = open(vec![Capability::GracefulRestart(theirs)]);
    let mut config = config();
    let restart = agreed(&config, &open).restart.unwrap();
    assert!(restart.restarting);
    assert!(!restart.notification, "we did not offer it");
    assert_eq!(vec![(Family::IPV4_UNICAST, true)], restart.families);
    config.restart = None;
    assert_eq!(None, agreed(&config, &open).restart);
}

#[test]
fn long_lived_restart_needs_the_capability_of_both_and_restart_with_it() {
    let restart = GracefulRestart {
        time_secs: 60,
        ..GracefulRestart::default()
    };
    let entry = |family, stale_secs| LongLivedFamily {
        family,
        forwarding: true,
        stale_secs,
    };
    let theirs = vec![
        entry(Family::IPV4_UNICAST, 3600),
        entry(Family::IPV6_UNICAST, 3600),
    ];
    let long_lived = Capability::LongLivedGracefulRestart(theirs);
    let mut config = config();
    config.long_lived_secs = Some(600);
    let both = open(vec![
        long_lived.clone(),
        Capability::GracefulRestart(restart),
    ]);
    let agreement = agreed(&config, &both);
    // The shorter time, and only of the family in use.
    assert_eq!(vec![entry(Family::IPV4_UNICAST, 600)], agreement.long_lived);
    assert!(
        agreement
            .offered
            .contains(&Capability::LongLivedGracefulRestart(
                config.families.iter().map(|f| entry(*f, 600)).collect()
            ))
    );
    assert_eq!(both.capabilities, agreement.received);
    // RFC 9494 §3: without the other capability this one is ignored.
    assert!(
        agreed(&config, &open(vec![long_lived]))
            .long_lived
            .is_empty()
    );
    config.long_lived_secs = None;
    assert!(agreed(&config, &both).long_lived.is_empty());
}

#[test]
fn roles_must_be_the_two_ends_of_one_relation() {
    use Role::{Customer, Peer, Provider, RouteServer, RouteServerClient};
    let pairs = [
        (Provider, Customer),
        (Customer, Provider),
        (RouteServer, RouteServerClient),
        (RouteServerClient, RouteServer),
        (Peer, Peer),
    ];
    let mut config = config();
    for ours in pairs.map(|(ours, _)| ours) {
        for theirs in pairs.map(|(_, theirs)| theirs) {
            config.role = Some(ours);
            let open = open(vec![Capability::Role(theirs)]);
            if pairs.contains(&(ours, theirs)) {
                assert_eq!(Some(theirs), agreed(&config, &open).peer_role);
            } else {
                assert_eq!((2, 11), refused(&config, &open), "{ours:?} {theirs:?}");
            }
        }
    }
}

#[test]
fn role_that_is_not_said_is_refused_only_in_strict_mode() {
    let mut config = config();
    config.role = Some(Role::Provider);
    assert_eq!(None, agreed(&config, &open(vec![])).peer_role);
    config.role_strict = true;
    assert_eq!((2, 11), refused(&config, &open(vec![])));
    let twice = [Role::Customer, Role::Peer].map(Capability::Role);
    assert_eq!((2, 11), refused(&config, &open(twice.to_vec())));
    let same = [Role::Customer, Role::Customer].map(Capability::Role);
    assert!(negotiate(&config, &open(same.to_vec()), Origin::Incoming).is_ok());
    // RFC 9234 §4.1: roles are for external sessions.
    config.remote_as = config.local_as;
    let mut internal = open(vec![Capability::Role(Role::Provider)]);
    internal.asn = config.local_as;
    assert_eq!(None, agreed(&config, &internal).peer_role);
    let role = |c: &Capability| matches!(c, Capability::Role(_));
    assert!(!config.open().capabilities.iter().any(role));
}

#[test]
fn ipv6_next_hops_of_ipv4_routes_need_both_offers() {
    let mut config = config();
    let offer = |family| Capability::ExtendedNextHop(vec![(family, Afi::IPV6)]);
    let used = |config: &Config, capability| {
        let agreement = agreed(config, &open(vec![capability]));
        let family = agreement.params.family(Family::IPV4_UNICAST);
        family.unwrap().extended_next_hop
    };
    assert!(!used(&config, offer(Family::IPV4_UNICAST)));
    config.extended_next_hop = true;
    assert!(used(&config, offer(Family::IPV4_UNICAST)));
    assert!(!used(&config, offer(Family::new(1, 128))));
    assert!(!used(&config, Capability::RouteRefresh));
    assert!(
        config
            .open()
            .capabilities
            .contains(&offer(Family::IPV4_UNICAST))
    );
}

#[test]
fn add_path_needs_a_sender_and_a_receiver() {
    let mut config = config();
    config.add_path = vec![(Family::IPV4_UNICAST, AddPathMode::Both)];
    let theirs = vec![(Family::IPV4_UNICAST, AddPathMode::Send)];
    let agreement = agreed(&config, &open(vec![Capability::AddPath(theirs)]));
    let family = agreement.params.family(Family::IPV4_UNICAST).unwrap();
    assert!(family.add_path_receive && !family.add_path_send);
}
