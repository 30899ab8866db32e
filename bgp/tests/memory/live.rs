//! Settings that change while sessions run.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bgp::{PeerInfo, PeerKey, State};
use bgp_wire::notification::subcode::cease;
use bgp_wire::{Message, Notification};

use crate::node::{Node, address, connect};
use crate::raw::{Raw, expects};

fn error_says(info: &PeerInfo, text: &str) -> bool {
    info.last_error.as_ref().is_some_and(|e| e.contains(text))
}

fn change(node: &mut Node, key: &PeerKey, change: impl FnOnce(&mut bgp::PeerConfig)) {
    node.set(|desired| change(desired.peers.get_mut(key).unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_is_shut_down_with_a_text_and_started_again() {
    let mut a = Node::start(101, &["10.101.0.0/26"]).await;
    let mut b = Node::start(102, &[]).await;
    let (at_a, at_b) = connect(&mut a, &mut b).await;
    b.learns("10.101.0.0/26", "192.0.2.101").await;
    change(&mut a, &at_a, |peer| {
        peer.shut_down = Some("Umzug, Größe 2".into())
    });
    // No graceful restart keeps routes over it: it goes out as a Hard Reset.
    b.loses("10.101.0.0/26").await;
    let what = "the text at the peer";
    let info = b
        .peer_until(&at_b, what, |info| error_says(info, "Umzug, Größe 2"))
        .await;
    assert!(error_says(&info, "Administrative Shutdown"), "{info:?}");
    // It stays known while nobody answers.
    b.peer_until(&at_b, "a dial after it", |info| {
        error_says(info, "closed by the peer") && error_says(info, "Umzug, Größe 2")
    })
    .await;
    let info = a.peer(&at_a).await;
    assert_eq!(State::Idle, info.state);
    assert!(error_says(&info, "shut down by us: Umzug"), "{info:?}");
    change(&mut a, &at_a, |peer| peer.shut_down = None);
    a.established(&at_a).await;
    b.learns("10.101.0.0/26", "192.0.2.101").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_is_shut_down_from_the_start_has_no_session() {
    let mut node = Node::start(103, &[]).await;
    let mut config = expects(104);
    config.shut_down = Some("spare".into());
    let key = node.add_peer(config);
    node.peer_until(&key, "the reason", |info| error_says(info, "spare"))
        .await;
    let mut raw = Raw::connect(104, &node).await;
    assert_eq!(None, raw.receive_or_end().await);
    // A change that would need a new session does not start one.
    change(&mut node, &key, |peer| peer.hold_time_secs = 30);
    let mut raw = Raw::connect(104, &node).await;
    assert_eq!(None, raw.receive_or_end().await);
    assert_eq!(State::Idle, node.peer(&key).await.state);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keepalives_change_within_the_session_and_the_hold_time_with_a_new_one() {
    let mut a = Node::start(105, &[]).await;
    let mut b = Node::start(106, &[]).await;
    let (at_a, at_b) = connect(&mut a, &mut b).await;
    let since = a.peer(&at_a).await.since;
    change(&mut a, &at_a, |peer| peer.keepalive_secs = Some(1));
    let before = b.peer(&at_b).await.messages_in;
    b.peer_until(&at_b, "KEEPALIVEs each second", |info| {
        info.messages_in >= before + 3
    })
    .await;
    let info = a.peer(&at_a).await;
    assert_eq!((since, 0), (info.since, info.flaps));
    change(&mut a, &at_a, |peer| peer.hold_time_secs = 30);
    let agreed = |info: &PeerInfo| info.session.as_ref().map(|s| s.hold_time_secs);
    b.peer_until(&at_b, "a hold time of 30 s", |info| {
        agreed(info) == Some(30)
    })
    .await;
    assert_eq!(1, a.peer(&at_a).await.flaps);
}

/// Segments that the kernel dropped for their TCP MD5 signature, or for having none or one.
fn refused_signatures() -> u64 {
    let text = std::fs::read_to_string("/proc/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let counters = names.split_whitespace().zip(values.split_whitespace());
    let counters = counters.filter(|(name, _)| name.starts_with("TCPMD5"));
    counters
        .map(|(_, value)| value.parse::<u64>().unwrap())
        .sum()
}

/// Takes news until the kernel has dropped two more segments: one may have been of another test.
async fn refuses(node: &mut Node) {
    let before = refused_signatures();
    let end = tokio::time::Instant::now() + crate::node::PATIENCE;
    while refused_signatures() < before + 2 {
        let now = tokio::time::Instant::now();
        assert!(now < end, "no segment is refused");
        node.idle(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn password_is_set_rotated_and_removed_without_a_new_session() {
    let mut a = Node::start(107, &["10.107.0.0/26"]).await;
    let mut b = Node::start(108, &[]).await;
    let (at_a, at_b) = connect(&mut a, &mut b).await;
    for (key, node) in [(&at_a, &mut a), (&at_b, &mut b)] {
        change(node, key, |peer| {
            peer.keepalive_secs = Some(1);
        });
    }
    for (turn, password) in [Some("first"), Some("second"), None]
        .into_iter()
        .enumerate()
    {
        change(&mut a, &at_a, |peer| {
            peer.password = password.map(Into::into)
        });
        let prefix = format!("10.107.{}.0/26", turn + 1);
        let new_prefix = crate::node::prefix(&prefix);
        let new = (new_prefix, bgp::Originate::default());
        a.set(|desired| desired.originate.extend([new]));
        // The two disagree, nothing gets through.
        refuses(&mut b).await;
        assert!(
            !b.learned.contains_key(&new_prefix),
            "nobody looks at the signature"
        );
        change(&mut b, &at_b, |peer| {
            peer.password = password.map(Into::into);
        });
        b.learns(&prefix, "192.0.2.107").await;
    }
    for (key, node) in [(&at_a, &a), (&at_b, &b)] {
        let info = node.peer(key).await;
        assert_eq!(
            (State::Established, 0),
            (info.state, info.flaps),
            "{info:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_starts_anew_with_the_new_password_is_let_in_at_once() {
    let mut a = Node::start(117, &[]).await;
    let mut b = Node::start(118, &[]).await;
    let (at_a, at_b) = connect(&mut a, &mut b).await;
    for (key, node) in [(&at_a, &mut a), (&at_b, &mut b)] {
        change(node, key, |peer| {
            peer.restart_time_secs = None;
            peer.keepalive_secs = Some(1);
            peer.password = Some("first".into());
        });
    }
    for (key, node) in [(&at_a, &mut a), (&at_b, &mut b)] {
        let graceful = |info: &PeerInfo| info.session.as_ref().map(|s| s.graceful_restart);
        node.peer_until(key, "a session that is not graceful", |info| {
            graceful(info) == Some(false)
        })
        .await;
    }
    change(&mut a, &at_a, |peer| {
        peer.password = Some("second".into());
    });
    // Nothing shows when the socket has the new key, except that the old one no longer passes.
    refuses(&mut a).await;
    let prefix = crate::node::prefix("10.117.1.0/26");
    b.set(|desired| {
        let new = (prefix, bgp::Originate::default());
        desired.originate.extend([new]);
    });
    refuses(&mut a).await;
    assert!(!a.learned.contains_key(&prefix), "the old key still passes");
    let mut config = b.desired.peers[&at_b].clone();
    b.set(|desired| desired.peers.clear());
    refuses(&mut b).await;
    // Its farewell was signed with the old password.
    assert_eq!(State::Established, a.peer(&at_a).await.state);
    config.password = Some("second".into());
    b.add_peer(config);
    b.established(&at_b).await;
    a.established(&at_a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_password_is_a_time_out_that_asks_the_right_question() {
    let mut a = Node::start(109, &[]).await;
    let mut b = Node::start(110, &[]).await;
    let mut config = b.as_peer();
    config.password = Some("one".into());
    let at_a = a.add_peer(config);
    let mut config = a.as_peer();
    config.password = Some("other".into());
    config.passive = true;
    b.add_peer(config);
    let what = "a time-out";
    let info = a
        .peer_until(&at_a, what, |info| error_says(info, "timed out"))
        .await;
    assert!(error_says(&info, "same password?"), "{info:?}");
    // A dial with the new password does not wait for the old one's end.
    change(&mut a, &at_a, |peer| peer.password = Some("other".into()));
    a.established(&at_a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listening_addresses_come_and_go_without_touching_sessions() {
    let mut a = Node::start(111, &[]).await;
    let mut b = Node::start(112, &[]).await;
    let (at_a, at_b) = connect(&mut a, &mut b).await;
    let second = IpAddr::from([127, 1, 0, 111]);
    let kept = SocketAddr::new(address(111), a.port);
    a.set(|desired| desired.local.listen = vec![kept, SocketAddr::new(second, 0)]);
    let wait = async {
        loop {
            let listening = a.handle.listening().await;
            match listening.iter().find(|l| l.ip() == second) {
                Some(new) => return *new,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let new = tokio::time::timeout(crate::node::PATIENCE, wait)
        .await
        .unwrap();
    tokio::net::TcpStream::connect(new).await.unwrap();
    a.set(|desired| desired.local.listen = vec![kept]);
    let closed = async {
        while tokio::net::TcpStream::connect(new).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::node::PATIENCE, closed)
        .await
        .unwrap();
    for (key, node) in [(&at_a, &a), (&at_b, &b)] {
        let info = node.peer(key).await;
        assert_eq!(
            (State::Established, 0),
            (info.state, info.flaps),
            "{info:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role_mismatch_is_refused_and_said() {
    let mut node = Node::start(113, &[]).await;
    let mut config = expects(114);
    config.role = Some(bgp::Role::Provider);
    let key = node.add_peer(config);
    let mut raw = Raw::connect(114, &node).await;
    let mut open = raw.open(false);
    open.capabilities
        .push(bgp::Capability::Role(bgp::Role::Provider));
    raw.send(Message::Open(open)).await;
    assert_eq!(Notification::new(2, 11), raw.receive_notification().await);
    node.peer_until(&key, "the reason", |info| error_says(info, "Role Mismatch"))
        .await;
    let mut raw = Raw::connect_after_hold(114, &mut node).await;
    let mut open = raw.open(false);
    let customer = bgp::Capability::Role(bgp::Role::Customer);
    open.capabilities.push(customer.clone());
    raw.send(Message::Open(open)).await;
    raw.send(Message::Keepalive).await;
    let info = node.established(&key).await;
    let session = info.session.unwrap();
    assert_eq!(Some(bgp::Role::Customer), session.peer_role);
    assert!(session.received.contains(&customer));
    let offered = bgp::Capability::Role(bgp::Role::Provider);
    assert!(session.offered.contains(&offered));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_text_is_cut_between_two_characters() {
    let mut node = Node::start(115, &[]).await;
    let key = node.add_peer(expects(116));
    let (mut raw, _) = Raw::establish(116, &node, false).await;
    node.established(&key).await;
    let text = format!("{}ßß", "x".repeat(254));
    change(&mut node, &key, |peer| peer.shut_down = Some(text.into()));
    let notification = raw.receive_notification().await;
    assert_eq!(cease::ADMINISTRATIVE_SHUTDOWN, notification.subcode);
    assert_eq!(Some("x".repeat(254)), notification.text());
    assert_eq!((255, 254), (notification.data.len(), notification.data[0]));
}
