//! Graceful restart in both roles (RFC 4724).

use std::time::Duration;

use bgp::{Family, Options, PeerConfig, Shutdown};
use bgp_wire::capability::GracefulRestart;
use bgp_wire::{Capability, Message, Open, Update};

use crate::node::{Node, address, connect, options};
use crate::raw::{Raw, expects};

/// Long enough to see what must not happen.
const WHILE: Duration = Duration::from_millis(300);

fn restart_of(open: &Open) -> &GracefulRestart {
    let mut capabilities = open.capabilities.iter();
    let restart = capabilities.find_map(|capability| match capability {
        Capability::GracefulRestart(restart) => Some(restart),
        _ => None,
    });
    restart.expect("no graceful restart")
}

fn restarting() -> Options {
    Options {
        restarting: true,
        ..options()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_speaker_loses_no_route_and_old_ones_go_at_end_of_rib() {
    let mut a = Node::start(51, &[]).await;
    let mut b = Node::start(52, &["10.52.0.0/26", "10.52.1.0/26"]).await;
    connect(&mut a, &mut b).await;
    a.learns("10.52.0.0/26", "192.0.2.52").await;
    a.learns("10.52.1.0/26", "192.0.2.52").await;
    let (old, port) = (b.desired.clone(), b.port);
    b.shutdown(Shutdown::Restart).await;
    a.idle(WHILE).await;
    assert_eq!(2, a.learned.len());
    let change = |desired: &mut bgp::Desired| {
        desired.peers = old.peers;
        desired.local.listen[0].set_port(port);
    };
    let prefixes = ["10.52.1.0/26", "10.52.2.0/26"];
    let mut b = Node::start_with(52, old.local.asn, &prefixes, change, restarting()).await;
    a.learns("10.52.2.0/26", "192.0.2.52").await;
    a.loses("10.52.0.0/26").await;
    let gone: Vec<_> = a
        .story
        .iter()
        .filter(|line| line.ends_with("gone"))
        .collect();
    assert_eq!(vec!["10.52.0.0/26 gone"], gone);
    b.until("convergence", |node| node.converged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_speaker_tells_routes_at_once_and_end_of_rib_after_its_peers() {
    let change = |desired: &mut bgp::Desired| {
        let key = "raw".into();
        desired.peers.insert(key, expects(54));
    };
    let mut node = Node::start_with(53, 64553, &["10.53.0.0/26"], change, restarting()).await;
    let (mut raw, open) = Raw::establish(54, &node, false).await;
    let restart = restart_of(&open);
    assert!(restart.restarting && restart.families.contains(&(Family::IPV4_UNICAST, true)));
    let update = raw.receive_update().await;
    assert_eq!(1, update.reach[0].nlri.len());
    raw.hears_nothing(WHILE).await;
    assert!(!node.converged);
    let info = node.handle.info().await;
    assert_eq!(
        (false, vec!["raw".into()]),
        (info.converged, info.waiting_for)
    );
    raw.announce(&["10.54.0.0/26"]).await;
    raw.end_of_rib().await;
    let update = raw.receive_update().await;
    assert_eq!(Some(Family::IPV4_UNICAST), update.as_end_of_rib());
    node.until("convergence", |node| node.converged).await;
    assert!(
        node.learned.len() == 1,
        "converged before it told what it learned"
    );
    drop(raw);
    let (_raw, open) = Raw::establish(54, &node, false).await;
    assert!(!restart_of(&open).restarting, "the restart is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kernel_without_routes_is_said_until_convergence() {
    let change = |desired: &mut bgp::Desired| {
        desired.peers.insert("raw".into(), expects(62));
    };
    let empty = Options {
        forwarding: false,
        ..options()
    };
    let mut node = Node::start_with(61, 64561, &[], change, empty).await;
    let (mut raw, open) = Raw::establish(62, &node, false).await;
    let families = &restart_of(&open).families;
    assert!(families.contains(&(Family::IPV4_UNICAST, false)));
    raw.end_of_rib().await;
    node.until("convergence", |node| node.converged).await;
    drop(raw);
    let (_raw, open) = Raw::establish(62, &node, false).await;
    let families = &restart_of(&open).families;
    assert!(families.contains(&(Family::IPV4_UNICAST, true)));
}

/// RFC 4724 §4.1 with the peers that were up before: nobody waits for one that was dead already,
/// and one that was up and did not come back is waited for as long as it may settle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_not_up_before_is_not_waited_for() {
    let dead = PeerConfig::new(address(250), 64999);
    let change = |desired: &mut bgp::Desired| {
        desired.peers.insert("raw".into(), expects(64));
        desired.peers.insert("dead".into(), dead);
    };
    let options = Options {
        settle: crate::node::PATIENCE * 2,
        expected: Some(["raw".into(), "gone".into()].into()),
        ..restarting()
    };
    let mut node = Node::start_with(63, 64563, &[], change, options).await;
    let info = node.handle.info().await;
    assert_eq!((vec!["raw".into()], false), (info.missing, info.converged));
    let (mut raw, _) = Raw::establish(64, &node, false).await;
    raw.end_of_rib().await;
    node.until("convergence", |node| node.converged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_peer_delays_convergence_only_by_the_settle_time() {
    let dead = PeerConfig::new(address(250), 64999);
    let change = |desired: &mut bgp::Desired| {
        desired.peers.insert("raw".into(), expects(56));
        desired.peers.insert("dead".into(), dead);
    };
    let options = Options {
        settle: Duration::from_secs(1),
        deferral: Duration::from_secs(600),
        ..restarting()
    };
    let mut node = Node::start_with(55, 64555, &[], change, options).await;
    let (mut raw, _) = Raw::establish(56, &node, false).await;
    raw.announce(&["10.56.0.0/26"]).await;
    raw.end_of_rib().await;
    node.learns("10.56.0.0/26", "192.0.2.56").await;
    assert!(!node.converged, "routes are told before convergence");
    node.until("convergence", |node| node.converged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_restart_before_end_of_rib_loses_nothing() {
    let mut node = Node::start(57, &[]).await;
    node.add_peer(expects(58));
    let (mut raw, _) = Raw::establish(58, &node, false).await;
    raw.announce(&["10.58.0.0/26", "10.58.1.0/26"]).await;
    raw.end_of_rib().await;
    node.learns("10.58.1.0/26", "192.0.2.58").await;
    drop(raw);
    let (mut raw, _) = Raw::establish(58, &node, true).await;
    raw.announce(&["10.58.0.0/26"]).await;
    node.idle(WHILE).await;
    assert_eq!(2, node.learned.len());
    drop(raw);
    // It has not repeated everything, and forwards all the same.
    node.idle(WHILE).await;
    assert_eq!(2, node.learned.len());
    let (mut raw, _) = Raw::establish(58, &node, true).await;
    raw.announce(&["10.58.1.0/26"]).await;
    raw.end_of_rib().await;
    node.loses("10.58.0.0/26").await;
    let gone: Vec<_> = node
        .story
        .iter()
        .filter(|line| line.ends_with("gone"))
        .collect();
    assert_eq!(vec!["10.58.0.0/26 gone"], gone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_came_back_unnoticed_replaces_its_old_session() {
    let mut node = Node::start(59, &["10.59.0.0/26"]).await;
    let key = node.add_peer(expects(60));
    let (mut first, _) = Raw::establish(60, &node, false).await;
    first.announce(&["10.60.0.0/26"]).await;
    first.end_of_rib().await;
    node.learns("10.60.0.0/26", "192.0.2.60").await;
    // The first connection is still open: nobody told the node that its other end is gone.
    let (mut second, _) = Raw::establish(60, &node, true).await;
    second.announce(&["10.60.0.0/26"]).await;
    second.end_of_rib().await;
    let info = node
        .peer_until(&key, "new session", |info| info.flaps == 1)
        .await;
    assert_eq!(1, info.paths);
    let update: Update = second.receive_update().await;
    assert_eq!(1, update.reach.len());
    assert!(
        node.story.iter().all(|line| !line.ends_with("gone")),
        "{:?}",
        node.story
    );
    while let Some(message) = first.receive_or_end().await {
        assert!(
            !matches!(message, Message::Notification(_)),
            "RFC 4724 §5 wants silence"
        );
    }
}

/// A node restarts: what it waits for, and until when, can be seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wait_for_peers_is_visible_and_ends_for_a_dead_one() {
    let change = |desired: &mut bgp::Desired| {
        desired.peers.insert("raw".into(), expects(199));
        let dead = PeerConfig::new(address(251), 64999);
        desired.peers.insert("dead".into(), dead);
    };
    let options = Options {
        settle: Duration::from_secs(2),
        deferral: Duration::from_secs(600),
        ..restarting()
    };
    let mut node = Node::start_with(198, 64698, &[], change, options).await;
    let (mut raw, _) = Raw::establish(199, &node, false).await;
    node.established(&"raw".into()).await;
    let info = node.handle.info().await;
    assert_eq!(
        (vec!["dead".into()], vec!["raw".into()]),
        (info.missing, info.waiting_for)
    );
    assert!(info.converges_by.unwrap() > std::time::SystemTime::now());
    let summary = node.handle.summary().await.unwrap();
    assert_eq!(
        (vec!["dead".to_owned()], vec!["raw".to_owned()]),
        (summary.missing, summary.waiting_for)
    );
    // A part of the 600 seconds may have gone by.
    assert!(summary.converges_in_secs.unwrap() > 60);
    assert!(summary.converges_by.unwrap() > 60);
    raw.end_of_rib().await;
    node.until("convergence", |node| node.converged).await;
    let info = node.handle.info().await;
    assert!(info.converged && info.missing.is_empty() && info.waiting_for.is_empty());
    assert_eq!(None, info.converges_by);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_shut_down_delays_nothing_and_one_that_restarts_twice_is_heard() {
    let change = |desired: &mut bgp::Desired| {
        desired.peers.insert("raw".into(), expects(201));
        let mut off = PeerConfig::new(address(252), 64998);
        off.shut_down = Some("maintenance".into());
        desired.peers.insert("off".into(), off);
    };
    let options = Options {
        settle: Duration::from_secs(600),
        deferral: Duration::from_secs(600),
        ..restarting()
    };
    let mut node = Node::start_with(200, 64700, &["10.200.0.0/26"], change, options).await;
    let raw_key = "raw".into();
    let (mut raw, _) = Raw::establish(201, &node, false).await;
    raw.announce(&["10.201.0.0/26"]).await;
    node.learns("10.201.0.0/26", "192.0.2.201").await;
    drop(raw);
    node.peer_until(&raw_key, "its end", |info| info.session.is_none())
        .await;
    assert!(!node.converged);
    let (mut raw, open) = Raw::establish(201, &node, true).await;
    assert!(restart_of(&open).restarting, "we are not done either");
    // A peer that restarts itself sends its end-of-RIB late: its silence is enough.
    raw.announce(&["10.201.0.0/26"]).await;
    node.until("convergence", |node| node.converged).await;
    assert!(
        node.story.iter().all(|line| !line.ends_with("gone")),
        "{:?}",
        node.story
    );
}
