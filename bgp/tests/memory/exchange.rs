//! Two and three speakers that exchange routes.

use std::sync::Arc;

use bgp::{Match, Options, Originate, Policy, PrefixSet, Rule, Shutdown, State, Verdict};

use crate::node::{Node, connect, options, prefix};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_speakers_exchange_both_families_and_converge() {
    let mut a = Node::start(11, &["10.11.0.0/26", "fd00:11::/122"]).await;
    let mut b = Node::start(12, &["10.12.0.0/26", "fd00:12::/122"]).await;
    connect(&mut a, &mut b).await;
    a.learns("10.12.0.0/26", "192.0.2.12").await;
    a.learns("fd00:12::/122", "2001:db8::c").await;
    b.learns("10.11.0.0/26", "192.0.2.11").await;
    b.learns("fd00:11::/122", "2001:db8::b").await;
    b.until("convergence", |node| node.converged).await;
    let peers = a.handle.peers().await;
    assert_eq!(1, peers.len());
    assert_eq!(2, peers[0].paths);
    assert!(peers[0].session.as_ref().unwrap().graceful_restart);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn originated_prefixes_come_and_go_without_touching_the_session() {
    let mut a = Node::start(13, &["10.13.0.0/26"]).await;
    let mut b = Node::start(14, &[]).await;
    let (_, at_b) = connect(&mut a, &mut b).await;
    b.learns("10.13.0.0/26", "192.0.2.13").await;
    a.set(|desired| {
        desired.originate.remove(&prefix("10.13.0.0/26"));
        desired
            .originate
            .insert(prefix("10.13.1.0/26"), Originate::default());
    });
    b.learns("10.13.1.0/26", "192.0.2.13").await;
    b.loses("10.13.0.0/26").await;
    assert_eq!(0, b.peer(&at_b).await.flaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_one_peer_touches_no_other() {
    let mut a = Node::start(15, &["10.15.0.0/26"]).await;
    let mut b = Node::start(16, &[]).await;
    let mut c = Node::start(17, &[]).await;
    let (b_at_a, _) = connect(&mut a, &mut b).await;
    let (c_at_a, _) = connect(&mut a, &mut c).await;
    c.learns("10.15.0.0/26", "192.0.2.15").await;
    a.set(|desired| {
        let peer = desired.peers.get_mut(&b_at_a).unwrap();
        peer.hold_time_secs = 30;
    });
    a.peer_until(&b_at_a, "new session", |info| {
        info.flaps == 1
            && info
                .session
                .as_ref()
                .is_some_and(|s| s.hold_time_secs == 30)
    })
    .await;
    a.set(|desired| {
        desired.peers.remove(&b_at_a);
    });
    let info = a.established(&c_at_a).await;
    assert_eq!((0, State::Established), (info.flaps, info.state));
    assert_eq!(1, a.handle.peers().await.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cease_withdraws_everything_and_says_why() {
    let mut a = Node::start(18, &["10.18.0.0/26"]).await;
    let mut b = Node::start(19, &[]).await;
    let (_, at_b) = connect(&mut a, &mut b).await;
    b.learns("10.18.0.0/26", "192.0.2.18").await;
    let text = "node is drained".to_owned();
    a.shutdown(Shutdown::Cease { text }).await;
    b.loses("10.18.0.0/26").await;
    let info = b.peer(&at_b).await;
    let error = info.last_error.unwrap();
    assert!(error.contains("node is drained"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_are_removed_and_added_again_come_back() {
    let mut a = Node::start(20, &["10.20.0.0/26"]).await;
    let mut b = Node::start(21, &["10.21.0.0/26"]).await;
    let (at_a, _) = connect(&mut a, &mut b).await;
    let config = a.desired.peers[&at_a].clone();
    for _ in 0..3 {
        a.learns("10.21.0.0/26", "192.0.2.21").await;
        b.learns("10.20.0.0/26", "192.0.2.20").await;
        a.set(|desired| desired.peers.clear());
        b.loses("10.20.0.0/26").await;
        a.loses("10.21.0.0/26").await;
        a.set(|desired| {
            desired.peers.insert(at_a.clone(), config.clone());
        });
    }
    a.learns("10.21.0.0/26", "192.0.2.21").await;
    b.learns("10.20.0.0/26", "192.0.2.20").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflector_passes_routes_between_its_clients_and_nobody_else_does() {
    let mut nodes = Vec::new();
    for number in [22, 23, 24, 25] {
        let prefix = format!("10.{number}.0.0/26");
        let node = Node::start_with(number, 64500, &[&prefix], |_| {}, options()).await;
        nodes.push(node);
    }
    let [reflector, one, two, plain] = &mut nodes[..] else {
        panic!("four nodes");
    };
    for client in [&mut *one, &mut *two, &mut *plain] {
        let mut as_client = client.as_peer();
        as_client.reflector_client = client.number != 25;
        reflector.add_peer(as_client);
        client.add_peer(reflector.as_peer());
    }
    two.learns("10.23.0.0/26", "192.0.2.23").await;
    one.learns("10.24.0.0/26", "192.0.2.24").await;
    plain.learns("10.23.0.0/26", "192.0.2.23").await;
    one.learns("10.25.0.0/26", "192.0.2.25").await;
    one.learns("10.22.0.0/26", "192.0.2.22").await;
    let paths = two.paths("10.23.0.0/26").await;
    assert_eq!(bgp::api::Outcome::Best, paths[0].outcome);
    assert!(paths[0].attributes.as_path.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_change_without_a_new_session() {
    let mut a = Node::start(26, &["10.26.0.0/26", "10.26.1.0/26"]).await;
    let mut b = Node::start(27, &[]).await;
    let (at_a, at_b) = connect(&mut a, &mut b).await;
    b.learns("10.26.0.0/26", "192.0.2.26").await;
    b.learns("10.26.1.0/26", "192.0.2.26").await;
    let mut denied = PrefixSet::new();
    denied.insert(prefix("10.26.0.0/26"));
    let rule = Rule {
        prefixes: Match::In(Arc::new(denied)),
        ..Rule::new("deny", Verdict::Reject)
    };
    let policy = Policy {
        rules: vec![rule],
        otherwise: Verdict::Accept,
    };
    a.set(|desired| desired.peers.get_mut(&at_a).unwrap().export = Arc::new(policy.clone()));
    b.loses("10.26.0.0/26").await;
    a.set(|desired| desired.peers.get_mut(&at_a).unwrap().export = Arc::default());
    b.learns("10.26.0.0/26", "192.0.2.26").await;
    b.set(|desired| desired.peers.get_mut(&at_b).unwrap().import = Arc::new(policy));
    b.loses("10.26.0.0/26").await;
    assert!(b.learned.contains_key(&prefix("10.26.1.0/26")));
    assert_eq!(0, b.peer(&at_b).await.flaps);
}

/// A speaker that nobody forwards for passes routes on and forgets them just the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_speaker_without_a_forwarding_table_passes_on_and_tells_no_best_paths() {
    let mut a = Node::start(181, &["10.181.0.0/26"]).await;
    let quiet = Options {
        best_paths: false,
        ..options()
    };
    let mut b = Node::start_with(182, 64682, &[], |_| {}, quiet).await;
    let mut c = Node::start(183, &[]).await;
    connect(&mut a, &mut b).await;
    connect(&mut b, &mut c).await;
    c.until("the route", |node| !node.learned.is_empty()).await;
    b.until("convergence", |node| node.converged).await;
    a.set(|desired| desired.originate.clear());
    c.loses("10.181.0.0/26").await;
    assert!(b.learned.is_empty());
    assert!(b.paths("10.181.0.0/26").await.is_empty());
}
