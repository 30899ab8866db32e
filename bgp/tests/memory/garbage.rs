//! Peers that misbehave: each gets the NOTIFICATION it deserves and harms nobody else.

use bgp::State;
use bgp_wire::{Message, header};
use tokio::io::AsyncWriteExt;

use crate::node::{Node, address, connect};
use crate::raw::{Raw, expects};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_is_answered_with_its_notification() {
    let mut node = Node::start(31, &[]).await;
    node.add_peer(expects(32));
    let mut oversized = header::KEEPALIVE;
    oversized[16..18].copy_from_slice(&5000u16.to_be_bytes());
    let mut unknown_type = header::KEEPALIVE;
    unknown_type[18] = 77;
    let cases: [(&[u8], u8, u8, &[u8]); 4] = [
        (&[0; 19], 1, 1, &[]),
        (&oversized, 1, 2, &[0x13, 0x88]),
        (&unknown_type, 1, 3, &[77]),
        // A KEEPALIVE where an OPEN is due (RFC 6608).
        (&header::KEEPALIVE, 5, 1, &[]),
    ];
    for (bytes, code, subcode, data) in cases {
        let mut raw = Raw::connect_after_hold(32, &mut node).await;
        raw.send_bytes(bytes).await;
        let notification = raw.receive_notification().await;
        assert_eq!((code, subcode), (notification.code, notification.subcode));
        assert_eq!(data, notification.data);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_as_number_is_refused_and_shown() {
    let mut node = Node::start(33, &[]).await;
    let key = node.add_peer(expects(34));
    let mut raw = Raw::connect(34, &node).await;
    let mut open = raw.open(false);
    open.asn = 64999;
    open.capabilities.remove(2);
    raw.send(Message::Open(open)).await;
    let notification = raw.receive_notification().await;
    assert_eq!((2, 2), (notification.code, notification.subcode));
    let info = node
        .peer_until(&key, "error", |info| info.last_error.is_some())
        .await;
    assert!(info.last_error.unwrap().contains("Bad Peer AS"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_message_and_a_closed_connection_leave_the_way_free() {
    let mut node = Node::start(35, &[]).await;
    let key = node.add_peer(expects(36));
    for _ in 0..3 {
        let mut raw = Raw::connect(36, &node).await;
        raw.send_bytes(&header::KEEPALIVE[..7]).await;
        raw.stream.shutdown().await.unwrap();
        assert!(matches!(raw.receive_or_end().await, Some(Message::Open(_))));
        assert_eq!(None, raw.receive_or_end().await);
    }
    let (mut raw, _) = Raw::establish(36, &node, false).await;
    raw.announce(&["10.36.0.0/26"]).await;
    node.learns("10.36.0.0/26", "192.0.2.36").await;
    assert_eq!(State::Established, node.peer(&key).await.state);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_attribute_withdraws_its_routes_and_keeps_the_session() {
    let mut node = Node::start(37, &[]).await;
    let key = node.add_peer(expects(38));
    let (mut raw, _) = Raw::establish(38, &node, false).await;
    raw.announce(&["10.38.0.0/26", "10.38.1.0/26"]).await;
    node.learns("10.38.1.0/26", "192.0.2.38").await;
    // ORIGIN 7 does not exist: treat-as-withdraw (RFC 7606 §7.1).
    let mut bytes = bytes::BytesMut::new();
    let params = bgp_wire::Params {
        four_octet_as: true,
        ..Default::default()
    };
    raw.update(&["10.38.0.0/26"])
        .encode(&params, &mut bytes)
        .unwrap();
    let origin = bytes.windows(4).position(|w| w == [0x40, 1, 1, 0]).unwrap();
    bytes[origin + 3] = 7;
    raw.send_bytes(&bytes).await;
    node.loses("10.38.0.0/26").await;
    raw.announce(&["10.38.2.0/26"]).await;
    node.learns("10.38.2.0/26", "192.0.2.38").await;
    let info = node.peer(&key).await;
    assert_eq!(
        (State::Established, 0, 2),
        (info.state, info.flaps, info.paths)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn update_whose_lengths_contradict_ends_the_session() {
    let mut node = Node::start(39, &[]).await;
    node.add_peer(expects(40));
    let (mut raw, _) = Raw::establish(40, &node, false).await;
    raw.announce(&["10.40.0.0/26"]).await;
    node.learns("10.40.0.0/26", "192.0.2.40").await;
    let mut bytes = header::KEEPALIVE.to_vec();
    bytes[17] = 23;
    bytes[18] = 2;
    bytes.extend([0xff, 0xff, 0, 0]);
    raw.send_bytes(&bytes).await;
    let notification = raw.receive_notification().await;
    assert_eq!((3, 1), (notification.code, notification.subcode));
    node.loses("10.40.0.0/26").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stranger_is_closed_without_a_word() {
    let mut node = Node::start(41, &["10.41.0.0/26"]).await;
    let mut friend = Node::start(42, &[]).await;
    connect(&mut node, &mut friend).await;
    let mut raw = Raw::connect(99, &node).await;
    assert_eq!(None, raw.receive_or_end().await);
    friend.learns("10.41.0.0/26", "192.0.2.41").await;
    assert_eq!(address(42), node.handle.peers().await[0].address);
    assert_eq!(1, node.handle.info().await.strangers);
}
