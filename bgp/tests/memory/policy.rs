//! What peers are told and believe, by settings that change while their session goes on.

use std::sync::Arc;

use bgp::api::Path;
use bgp::{Change, CommunityMatch, PeerConfig, PeerKey, Policy, Role, Rule, State, Verdict};

use crate::node::{Node, connect, options};

/// A policy of one rule for everything.
fn policy(changes: &[Change], verdict: Verdict) -> Arc<Policy> {
    let rule = Rule {
        changes: changes.to_vec(),
        ..Rule::new("test", verdict)
    };
    Arc::new(Policy {
        rules: vec![rule],
        otherwise: Verdict::Accept,
    })
}

fn change(node: &mut Node, key: &PeerKey, change: impl FnOnce(&mut PeerConfig)) {
    node.set(|desired| change(desired.peers.get_mut(key).unwrap()));
}

fn has_as_path(text: &str) -> impl Fn(&Path) -> bool {
    let text = text.to_owned();
    move |path| path.attributes.as_path == text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_change_attributes_without_a_new_session() {
    let mut a = Node::start(80, &["10.80.0.0/26"]).await;
    let mut b = Node::start(81, &[]).await;
    let (at_a, at_b) = connect(&mut a, &mut b).await;
    let text = "10.80.0.0/26";
    b.path_until(text, has_as_path("64580")).await;
    let prepends = [Change::PrependAsPath(vec![64580, 64580])];
    change(&mut a, &at_a, |peer| {
        peer.export = policy(&prepends, Verdict::Accept)
    });
    b.path_until(text, has_as_path("64580 64580 64580")).await;
    let tags = [
        Change::AddCommunity(64581 << 16 | 7),
        Change::SetLocalPref(50),
    ];
    change(&mut b, &at_b, |peer| {
        peer.import = policy(&tags, Verdict::Accept)
    });
    b.path_until(text, |path| {
        path.attributes.communities == ["64581:7"] && path.attributes.local_pref == Some(50)
    })
    .await;
    let received = b.handle.received_page(at_b.as_str(), 0, 10).await.unwrap();
    assert!(received.items[0].attributes.communities.is_empty());
    assert_eq!(received.items[0].rule.as_deref(), Some("test"));
    change(&mut b, &at_b, |peer| {
        peer.import = policy(&[], Verdict::Reject);
    });
    b.loses(text).await;
    let why = b.handle.why(text, None).await.unwrap();
    assert_eq!(why.paths[0].rule.as_deref(), Some("test"));
    change(&mut b, &at_b, |peer| peer.import = Arc::default());
    b.path_until(text, |path| path.attributes.communities.is_empty())
        .await;
    assert_eq!(0, b.peer(&at_b).await.flaps);
}

/// RFC 8326: the session that is about to go loses, and nothing is lost meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graceful_shutdown_moves_traffic_without_a_flap() {
    let mut origin = Node::start(82, &["10.82.0.0/26"]).await;
    let mut one = Node::start(83, &[]).await;
    let mut two = Node::start(84, &[]).await;
    let mut sink = Node::start(85, &[]).await;
    connect(&mut origin, &mut one).await;
    connect(&mut origin, &mut two).await;
    let (sink_at_one, one_at_sink) = connect(&mut one, &mut sink).await;
    connect(&mut two, &mut sink).await;
    let text = "10.82.0.0/26";
    sink.until("both next hops", |node| {
        node.learned
            .get(&crate::node::prefix(text))
            .is_some_and(|n| n.len() == 2)
    })
    .await;
    change(&mut one, &sink_at_one, |peer| peer.graceful_shutdown = true);
    sink.learns(text, "192.0.2.84").await;
    let paths = sink.paths(text).await;
    let leaving = paths
        .iter()
        .find(|path| path.peer.as_deref() == Some("127.0.0.83"));
    let communities = &leaving.unwrap().attributes.communities;
    assert_eq!(1, communities.len(), "{communities:?}");
    change(&mut one, &sink_at_one, |peer| {
        peer.graceful_shutdown = false
    });
    sink.until("both next hops again", |node| {
        node.learned
            .get(&crate::node::prefix(text))
            .is_some_and(|n| n.len() == 2)
    })
    .await;
    let info = sink.peer(&one_at_sink).await;
    assert_eq!((0, State::Established), (info.flaps, info.state));
}

/// The peer knows us by the AS number of its session and sees no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_has_an_as_of_its_own() {
    let mut a = Node::start(86, &["10.86.0.0/26"]).await;
    let mut b = Node::start(87, &["10.87.0.0/26"]).await;
    let (at_a, at_b) = (PeerKey::from("127.0.0.87"), PeerKey::from("127.0.0.86"));
    let mut of_b = b.as_peer();
    of_b.local_as = Some(64999);
    a.add_peer(of_b);
    let mut of_a = a.as_peer();
    of_a.remote_as = 64999;
    b.add_peer(of_a);
    b.path_until("10.86.0.0/26", has_as_path("64999")).await;
    a.path_until("10.87.0.0/26", has_as_path("64587")).await;
    // Now it is one in the AS of the other: an internal session.
    change(&mut a, &at_a, |peer| peer.local_as = Some(64587));
    change(&mut b, &at_b, |peer| peer.remote_as = 64587);
    b.path_until("10.86.0.0/26", |path| {
        path.attributes.as_path.is_empty() && path.attributes.local_pref == Some(100)
    })
    .await;
    a.path_until("10.87.0.0/26", has_as_path("")).await;
}

/// RFC 4271 §6.3, §9.1.2: what is asked of paths changes while they stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_of_the_as_path_change_without_a_new_session() {
    let mut a = Node::start(88, &["10.88.0.0/26"]).await;
    let mut b = Node::start(89, &[]).await;
    let (at_a, at_b) = connect(&mut a, &mut b).await;
    let text = "10.88.0.0/26";
    b.learns(text, "192.0.2.88").await;
    change(&mut b, &at_b, |peer| peer.enforce_first_as = true);
    let looped = [Change::PrependAsPath(vec![64589])];
    change(&mut a, &at_a, |peer| {
        peer.export = policy(&looped, Verdict::Accept)
    });
    b.loses(text).await;
    change(&mut b, &at_b, |peer| peer.allow_own_as = 1);
    b.learns(text, "192.0.2.88").await;
    assert_eq!(0, b.peer(&at_b).await.flaps);
}

/// RFC 9234 §5: what came from a provider goes to customers and to nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_of_a_provider_do_not_leak_to_another_one() {
    let mut provider = Node::start(90, &["10.90.0.0/26"]).await;
    let mut node = Node::start(91, &["10.91.0.0/26"]).await;
    let mut other = Node::start(92, &[]).await;
    let mut customer = Node::start(93, &[]).await;
    for (peer, ours, theirs) in [
        (&mut provider, Role::Customer, Role::Provider),
        (&mut other, Role::Customer, Role::Provider),
        (&mut customer, Role::Provider, Role::Customer),
    ] {
        let mut config = peer.as_peer();
        config.role = Some(ours);
        node.add_peer(config);
        let mut config = node.as_peer();
        config.role = Some(theirs);
        peer.add_peer(config);
    }
    customer
        .path_until("10.90.0.0/26", |path| {
            path.attributes.only_to_customer == Some(64590)
        })
        .await;
    customer
        .path_until("10.91.0.0/26", |path| {
            path.attributes.only_to_customer == Some(64591)
        })
        .await;
    other
        .path_until("10.91.0.0/26", |path| {
            path.attributes.only_to_customer.is_none()
        })
        .await;
    assert!(other.paths("10.90.0.0/26").await.is_empty());
    let why = node
        .handle
        .why("10.90.0.0/26", Some("127.0.0.92"))
        .await
        .unwrap();
    assert_eq!("only for customers (OTC)", why.peers[0].reason);
}

/// RFC 8212 §3: no policy, no routes, from now on and without a new session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_may_be_required_of_external_peers() {
    let mut a = Node::start(94, &["10.94.0.0/26"]).await;
    let mut b = Node::start(95, &["10.95.0.0/26"]).await;
    let (at_a, at_b) = connect(&mut a, &mut b).await;
    a.learns("10.95.0.0/26", "192.0.2.95").await;
    b.learns("10.94.0.0/26", "192.0.2.94").await;
    a.set(|desired| desired.local.require_policy = true);
    a.loses("10.95.0.0/26").await;
    b.loses("10.94.0.0/26").await;
    let why = a.handle.why("10.94.0.0/26", None).await.unwrap();
    assert_eq!("no export policy for an external peer", why.peers[0].reason);
    change(&mut a, &at_a, |peer| {
        peer.import = policy(&[], Verdict::Accept);
        peer.export = policy(&[], Verdict::Accept);
    });
    a.learns("10.95.0.0/26", "192.0.2.95").await;
    b.learns("10.94.0.0/26", "192.0.2.94").await;
    assert_eq!(0, b.peer(&at_b).await.flaps);
}

/// RFC 1997 and RFC 4456: a community of an import policy binds what a reflector tells its clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_policies_of_a_reflector_count_for_its_clients() {
    let start = |number, prefixes: &'static [&'static str]| {
        Node::start_with(number, 64500, prefixes, |_| {}, options())
    };
    let mut reflector = start(96, &[]).await;
    let mut one = start(97, &["10.97.0.0/26"]).await;
    let mut two = start(98, &[]).await;
    for client in [&mut one, &mut two] {
        let mut config = client.as_peer();
        config.reflector_client = true;
        reflector.add_peer(config);
        client.add_peer(reflector.as_peer());
    }
    let text = "10.97.0.0/26";
    two.learns(text, "192.0.2.97").await;
    let from_one = PeerKey::from("127.0.0.97");
    let no_advertise = 0xffff_ff02;
    let bind = [Change::AddCommunity(no_advertise)];
    change(&mut reflector, &from_one, |peer| {
        peer.import = policy(&bind, Verdict::Next)
    });
    two.loses(text).await;
    let free = [
        Change::AddCommunity(no_advertise),
        Change::RemoveCommunity(CommunityMatch::Standard(no_advertise)),
    ];
    change(&mut reflector, &from_one, |peer| {
        peer.import = policy(&free, Verdict::Next)
    });
    two.learns(text, "192.0.2.97").await;
}
