//! Many routes, slow readers, busy neighbours.

use std::time::Duration;

use bgp::{Originate, Prefix, State};
use bgp_wire::{Community, Message, Nlri, Prefix4};
use tokio::time::Instant;

use crate::node::{Node, PATIENCE, connect};
use crate::raw::{Raw, expects};

/// Prefixes 10.0.0.0/32, 10.0.0.1/32, …
fn many(count: u32) -> impl Iterator<Item = Prefix> {
    let host = |n: u32| Prefix4::new(0x0a00_0000 + n, 32).map(Prefix::V4);
    (0..count).filter_map(host)
}

/// Sends prefixes in full messages.
async fn feed(raw: &mut Raw, count: u32) {
    let nlri: Vec<Nlri> = many(count).map(Nlri::from).collect();
    for part in nlri.chunks(700) {
        let message = raw.update_with(part.to_vec(), Vec::new());
        raw.send(message).await;
    }
    raw.end_of_rib().await;
}

/// 200 communities that differ from round to round.
fn communities(round: u32, part: u32) -> Vec<Community> {
    let community = |n: u32| Community(round << 24 | part << 8 | n);
    (0..200).map(community).collect()
}

/// Reads until every prefix has the communities of this round; how many octets that took.
async fn read_until_round(raw: &mut Raw, round: u32, count: usize) -> usize {
    let mut newest = std::collections::BTreeSet::new();
    let before = raw.octets;
    while newest.len() < count {
        let update = raw.receive_update().await;
        let attributes = update.attributes.as_ref();
        let community = attributes.and_then(|a| a.communities().next());
        if community.is_some_and(|c| c.0 >> 24 == round) {
            newest.extend(update.reach.iter().flat_map(|r| &r.nlri).map(|n| n.prefix));
        }
    }
    raw.octets - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_does_not_read_is_told_only_the_newest_and_delays_nobody() {
    const ROUNDS: u32 = 20;
    const COUNT: u32 = 20_000;
    let mut node = Node::start(71, &[]).await;
    for number in [72, 73, 74] {
        node.add_peer(expects(number));
    }
    let (mut feeder, _) = Raw::establish(72, &node, false).await;
    let (mut slow, _) = Raw::establish(73, &node, false).await;
    let (mut quick, _) = Raw::establish(74, &node, false).await;
    let quick = tokio::spawn(async move {
        read_until_round(&mut quick, ROUNDS, COUNT as usize).await;
    });
    // Nobody takes the news either: `node.until` is not called meanwhile.
    let all: Vec<Nlri> = many(COUNT).map(Nlri::from).collect();
    for round in 1..=ROUNDS {
        for (part, nlri) in all.chunks(10).enumerate() {
            let communities = communities(round, part as u32);
            let message = feeder.update_with(nlri.to_vec(), communities);
            feeder.send(message).await;
        }
    }
    quick.await.unwrap();
    let fed = feeder.sent;
    let octets = read_until_round(&mut slow, ROUNDS, COUNT as usize).await;
    assert!(
        octets < fed / 2,
        "{octets} of {fed} octets had waited for the slow peer"
    );
    node.until("news of all routes", |node| {
        node.learned.len() == COUNT as usize
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keepalives_are_on_time_while_routes_pour_in() {
    let mut node = Node::start(75, &[]).await;
    let mut hasty = expects(76);
    hasty.hold_time_secs = 3;
    let key = node.add_peer(hasty);
    node.add_peer(expects(77));
    let (mut raw, _) = Raw::establish(76, &node, false).await;
    let (mut feeder, _) = Raw::establish(77, &node, false).await;
    let pouring = tokio::spawn(async move {
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            feed(&mut feeder, 50_000).await;
        }
    });
    let mut heard = Instant::now();
    while !pouring.is_finished() {
        let message = tokio::time::timeout(Duration::from_secs(3), raw.receive()).await;
        message.expect("nothing for the hold time");
        assert!(heard.elapsed() < Duration::from_secs(3));
        heard = Instant::now();
        raw.send(Message::Keepalive).await;
    }
    pouring.await.unwrap();
    let info = node.peer(&key).await;
    assert_eq!((State::Established, 0), (info.state, info.flaps));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_peers_that_dial_at_once_are_up_in_a_moment() {
    let mut node = Node::start(78, &["10.78.0.0/26"]).await;
    for number in 100..150 {
        node.add_peer(expects(number));
    }
    let start = Instant::now();
    let target = std::sync::Arc::new(node);
    let dials = (100..150).map(|number| {
        let target = target.clone();
        tokio::spawn(async move {
            let (mut raw, _) = Raw::establish(number, &target, false).await;
            assert_eq!(1, raw.receive_update().await.reach.len());
            raw
        })
    });
    let dials: Vec<_> = dials.collect();
    let mut connections = Vec::new();
    for dial in dials {
        connections.push(dial.await.unwrap());
    }
    assert!(start.elapsed() < PATIENCE / 4, "{:?}", start.elapsed());
    let up = target.handle.peers().await;
    assert!(up.iter().all(|peer| peer.state == State::Established));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_table_goes_from_speaker_to_speaker_and_back_to_nothing() {
    const COUNT: u32 = 50_000;
    let mut a = Node::start(79, &[]).await;
    let mut b = Node::start(80, &[]).await;
    let (_, at_b) = connect(&mut a, &mut b).await;
    a.set(|desired| {
        desired.originate = many(COUNT).map(|p| (p, Originate::default())).collect();
    });
    b.until("all routes", |node| node.learned.len() == COUNT as usize)
        .await;
    a.set(|desired| desired.originate.clear());
    b.until("no routes", |node| node.learned.is_empty()).await;
    assert_eq!(0, b.peer(&at_b).await.flaps);
}
