//! Two and three speakers that exchange routes.

use bgp::{Originate, Shutdown, State};

use crate::node::{Node, connect, prefix};

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
