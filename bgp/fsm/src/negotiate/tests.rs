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
fn add_path_needs_a_sender_and_a_receiver() {
    let mut config = config();
    config.add_path = vec![(Family::IPV4_UNICAST, AddPathMode::Both)];
    let theirs = vec![(Family::IPV4_UNICAST, AddPathMode::Send)];
    let agreement = agreed(&config, &open(vec![Capability::AddPath(theirs)]));
    let family = agreement.params.family(Family::IPV4_UNICAST).unwrap();
    assert!(family.add_path_receive && !family.add_path_send);
}
