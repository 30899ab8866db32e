//! Peers that misbehave: each gets the NOTIFICATION it deserves and harms nobody else.

use bgp::State;
use bgp_wire::{Capability, Message, header};
use bytes::BytesMut;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_that_drips_in_octet_by_octet_is_read_and_delays_nobody() {
    let mut node = Node::start(43, &[]).await;
    let mut friend = Node::start(44, &["10.44.0.0/26"]).await;
    let key = node.add_peer(expects(45));
    let (mut slow, _) = Raw::establish(45, &node, false).await;
    slow.stream.set_nodelay(true).unwrap();
    let update = slow.update(&["10.45.0.0/26"]);
    let mut bytes = BytesMut::new();
    update.encode(&slow.params, &mut bytes).unwrap();
    let (last, first) = bytes.split_last().unwrap();
    for octet in first {
        slow.send_bytes(&[*octet]).await;
        tokio::task::yield_now().await;
    }
    // All of it but one octet is here: others come up and are heard meanwhile.
    connect(&mut node, &mut friend).await;
    node.learns("10.44.0.0/26", "192.0.2.44").await;
    assert_eq!(0, node.peer(&key).await.paths);
    slow.send_bytes(&[*last]).await;
    node.learns("10.45.0.0/26", "192.0.2.45").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_of_65535_octets_is_read_where_both_offered_it_and_refused_elsewhere() {
    let mut node = Node::start(46, &[]).await;
    node.add_peer(expects(47));
    for extended in [true, false] {
        let mut raw = Raw::connect_after_hold(47, &mut node).await;
        let mut open = raw.open(false);
        if extended {
            open.capabilities.push(Capability::ExtendedMessage);
        }
        raw.send(Message::Open(open)).await;
        raw.send(Message::Keepalive).await;
        // An UPDATE that is all unknown, optional, non-transitive attribute, then the route.
        let mut bytes = BytesMut::new();
        raw.update(&["10.47.0.0/26"])
            .encode(&raw.params, &mut bytes)
            .unwrap();
        let grown = grow(&bytes);
        raw.send_bytes(&grown).await;
        if extended {
            node.learns("10.47.0.0/26", "192.0.2.47").await;
            raw.send(Message::Notification(bgp_wire::Notification::cease(2)))
                .await;
            node.loses("10.47.0.0/26").await;
        } else {
            let notification = raw.receive_notification().await;
            assert_eq!((1, 2), (notification.code, notification.subcode));
            assert_eq!(u16::MAX.to_be_bytes().to_vec(), notification.data);
        }
    }
}

/// Fills an UPDATE up to 65,535 octets with an attribute that nobody knows.
fn grow(update: &[u8]) -> Vec<u8> {
    let missing = usize::from(u16::MAX) - update.len();
    let mut grown = update.to_vec();
    let attributes = usize::from(u16::from_be_bytes([update[21], update[22]]));
    let len = (missing - 4) as u16;
    let mut unknown = vec![0x90, 250];
    unknown.extend_from_slice(&len.to_be_bytes());
    unknown.resize(missing, 0);
    let end = 23 + attributes;
    grown.splice(end..end, unknown);
    let total = (attributes + missing) as u16;
    grown[21..23].copy_from_slice(&total.to_be_bytes());
    grown[16..18].copy_from_slice(&u16::MAX.to_be_bytes());
    grown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_connections_and_opens_keeps_one_and_harms_nobody() {
    let mut node = Node::start(48, &["10.48.0.0/26"]).await;
    let mut friend = Node::start(49, &[]).await;
    let (_, at_friend) = connect(&mut node, &mut friend).await;
    let key = node.add_peer(expects(62));
    let mut silent = Vec::new();
    for turn in 0..200 {
        let mut raw = Raw::connect(62, &node).await;
        // Some say nothing, some an OPEN, some half of one; none goes on. The node may have
        // closed the connection already.
        let mut bytes = BytesMut::new();
        let open = Message::Open(raw.open(false));
        open.encode(&raw.params, &mut bytes).unwrap();
        let said = [0, bytes.len(), bytes.len() / 2][turn % 3];
        let _closed = raw.stream.write_all(&bytes[..said]).await;
        silent.push(raw);
    }
    friend.learns("10.48.0.0/26", "192.0.2.48").await;
    assert_eq!(0, friend.peer(&at_friend).await.flaps);
    let mut open = 0;
    for raw in &mut silent {
        open += usize::from(!raw.ends_soon().await);
    }
    // One that came last, one whose OPEN is good and waits for the KEEPALIVE.
    assert!(open <= 2, "{open} connections are kept for one peer");
    drop(silent);
    let mut raw = Raw::connect_after_hold(62, &mut node).await;
    raw.send(Message::Open(raw.open(false))).await;
    raw.send(Message::Keepalive).await;
    node.established(&key).await;
}
