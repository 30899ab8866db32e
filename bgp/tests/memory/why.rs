//! The explanation of ten situations, as it is answered over HTTP.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bgp::api::{Outcome, Path, Why};
use bgp::{
    Change, Match, MaxPrefixes, MaxPrefixesAction, PeerConfig, Policy, PrefixSet, Reachability,
    Rule, State, Verdict,
};
use bgp_wire::attribute::{AsPath, AttributesBuilder};
use bgp_wire::{
    Attributes, Capability, Community, Family, Message, NextHop, PeerType, Reach, Update,
};
use tokio::time::{Instant, sleep};

use crate::answers::ask;
use crate::node::{Node, PATIENCE, address, options, prefix};
use crate::raw::{Raw, expects};

/// The node that is asked is in AS 64590. Peers 91, 92 and 95 are external, in AS 64500 + number;
/// 93 and 94 are internal.
const HUB: u8 = 90;

/// One rule for one prefix.
fn rule(name: &str, text: &str, change: Option<Change>, verdict: Verdict) -> Arc<Policy> {
    let mut set = PrefixSet::new();
    set.insert(prefix(text));
    let rule = Rule {
        prefixes: Match::In(Arc::new(set)),
        changes: change.into_iter().collect(),
        ..Rule::new(name, verdict)
    };
    Arc::new(Policy {
        rules: vec![rule],
        otherwise: Verdict::Accept,
    })
}

fn internal(number: u8) -> PeerConfig {
    PeerConfig {
        remote_as: 64590,
        ..expects(number)
    }
}

async fn hub() -> Node {
    let limit = MaxPrefixes {
        limit: 1.try_into().unwrap(),
        warning_percent: 100,
        action: MaxPrefixesAction::Discard,
    };
    let peers = [
        PeerConfig {
            import: rule("no-lab", "10.1.0.0/24", None, Verdict::Reject),
            ..expects(91)
        },
        PeerConfig {
            import: rule(
                "prefer",
                "10.2.0.0/24",
                Some(Change::SetLocalPref(200)),
                Verdict::Accept,
            ),
            ..expects(92)
        },
        internal(93),
        internal(94),
        PeerConfig {
            max_prefixes: Some(limit),
            ..expects(95)
        },
    ];
    let change = move |desired: &mut bgp::Desired| {
        for peer in peers {
            desired.peers.insert(peer.address.to_string().into(), peer);
        }
    };
    Node::start_with(HUB, 64590, &[], change, options()).await
}

async fn join(number: u8, hub: &Node) -> Raw {
    let mut raw = Raw::connect(number, hub).await;
    let mut open = raw.open(false);
    if matches!(number, 93 | 94) {
        open.asn = 64590;
        for capability in &mut open.capabilities {
            if let Capability::FourOctetAs(asn) = capability {
                *asn = 64590;
            }
        }
        raw.params.peer_type = PeerType::Internal;
    }
    raw.open_session(open).await;
    // What is asked next may be about this peer, and the hub reads its KEEPALIVE in its own time.
    let end = Instant::now() + PATIENCE;
    let key = address(number).to_string().into();
    while hub.peer(&key).await.state != State::Established {
        assert!(Instant::now() < end, "no session with {key}");
        sleep(Duration::from_millis(10)).await;
    }
    raw
}

async fn say(raw: &mut Raw, text: &str, via: u8, change: impl FnOnce(&mut AttributesBuilder)) {
    let mut attributes = Attributes::builder();
    attributes.as_path = AsPath::sequence(&[raw.asn()]);
    change(&mut attributes);
    let reach = Reach {
        family: Family::IPV4_UNICAST,
        next_hop: NextHop::V4(Ipv4Addr::new(192, 0, 2, via)),
        nlri: vec![prefix(text).into()],
    };
    let update = Update {
        reach: vec![reach],
        attributes: Some(attributes.build().unwrap().into()),
        ..Update::default()
    };
    raw.send(Message::Update(update)).await;
}

/// All that is said of next hops: one of them.
fn reach(hub: &Node, address: IpAddr, reachability: Reachability) {
    let said = [(address.into(), reachability)];
    hub.handle.set_next_hops(Arc::new(said.into()));
}

/// The explanation, once so many paths are there.
async fn why(hub: &Node, text: &str, paths: usize) -> Why {
    let end = Instant::now() + PATIENCE;
    loop {
        let why: Why = ask(hub, &format!("/why/{text}")).await;
        if why.paths.len() == paths {
            return why;
        }
        assert!(Instant::now() < end, "{why:#?}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn from(why: &Why, number: u8) -> &Path {
    let name = address(number).to_string();
    let found = why
        .paths
        .iter()
        .find(|path| path.peer.as_ref() == Some(&name));
    found.unwrap_or_else(|| panic!("no path from {name}: {why:#?}"))
}

/// Outcome and words of the path, and that the text for people has the words.
fn holds(why: &Why, number: u8, outcome: Outcome, words: &str) {
    let path = from(why, number);
    assert_eq!(
        (outcome, words),
        (path.outcome, path.reason.as_str()),
        "{why:#?}"
    );
    assert!(why.text.iter().any(|line| line.contains(words)), "{why:#?}");
}

fn told(why: &Why, number: u8, expected: bool, words: &str) {
    let name = address(number).to_string();
    let told = why.peers.iter().find(|told| told.peer == name).unwrap();
    assert!(
        told.told == expected && told.reason.contains(words),
        "{told:#?}"
    );
    assert!(why.text.iter().any(|line| line.contains(words)), "{why:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_preferences_and_path_lengths_are_explained() {
    let hub = hub().await;
    let mut one = join(91, &hub).await;
    let mut two = join(92, &hub).await;
    say(&mut one, "10.1.0.0/24", 91, |_| {}).await;
    say(&mut one, "10.2.0.0/24", 91, |_| {}).await;
    say(&mut two, "10.2.0.0/24", 92, |_| {}).await;
    say(&mut one, "10.3.0.0/24", 91, |a| {
        a.as_path = AsPath::sequence(&[64591, 64700, 64701])
    })
    .await;
    say(&mut two, "10.3.0.0/24", 92, |_| {}).await;

    let filtered = why(&hub, "10.1.0.0/24", 1).await;
    holds(
        &filtered,
        91,
        Outcome::Unusable,
        "not usable: rejected by import policy, rule no-lab",
    );
    assert_eq!(Some("no-lab"), from(&filtered, 91).rule.as_deref());
    assert!(filtered.text[0].contains("not reachable"), "{filtered:#?}");
    told(&filtered, 92, false, "there is no usable path");

    let preferred = why(&hub, "10.2.0.0/24", 2).await;
    holds(
        &preferred,
        91,
        Outcome::Lost,
        "not best: local preference 100, 200 is better",
    );
    holds(
        &preferred,
        92,
        Outcome::Best,
        "best: decided by local preference",
    );
    let next_hops: [IpAddr; 1] = ["192.0.2.92".parse().unwrap()];
    assert_eq!(next_hops, preferred.next_hops[..]);
    told(&preferred, 92, false, "learned from this peer");
    told(
        &preferred,
        91,
        true,
        "next hop 192.0.2.90 and AS path 64590 64592",
    );

    let shorter = why(&hub, "10.3.0.0/24", 2).await;
    holds(
        &shorter,
        91,
        Outcome::Lost,
        "not best: AS path length 3, 1 is better",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_between_internal_peers_are_explained() {
    let hub = hub().await;
    let mut three = join(93, &hub).await;
    let mut four = join(94, &hub).await;
    let far: IpAddr = "192.0.2.193".parse().unwrap();
    reach(&hub, far, Reachability::Reachable { metric: 20 });
    let path = |med: Option<u32>| {
        move |a: &mut AttributesBuilder| {
            a.as_path = AsPath::sequence(&[65000]);
            a.local_pref = Some(100);
            a.med = med;
        }
    };
    say(&mut three, "10.4.0.0/24", 93, path(Some(50))).await;
    say(&mut four, "10.4.0.0/24", 94, path(Some(10))).await;
    say(&mut three, "10.5.0.0/24", 193, path(None)).await;
    say(&mut four, "10.5.0.0/24", 94, path(None)).await;
    say(&mut three, "10.6.0.0/24", 77, path(None)).await;
    say(&mut four, "10.6.0.0/24", 77, path(None)).await;

    let med = why(&hub, "10.4.0.0/24", 2).await;
    holds(
        &med,
        93,
        Outcome::Lost,
        "not best: MED from AS 65000 50, 10 is better",
    );
    let metric = why(&hub, "10.5.0.0/24", 2).await;
    holds(
        &metric,
        93,
        Outcome::Lost,
        "not best: IGP metric to the next hop 20, 0 is better",
    );
    let id = why(&hub, "10.6.0.0/24", 2).await;
    holds(
        &id,
        94,
        Outcome::Lost,
        "not best: router id 192.0.2.94, 192.0.2.93 is better",
    );
    told(&id, 94, false, "learned from an internal peer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_that_cannot_be_used_are_explained() {
    let hub = hub().await;
    let mut three = join(93, &hub).await;
    let mut five = join(95, &hub).await;
    let gone: IpAddr = "192.0.2.195".parse().unwrap();
    reach(&hub, gone, Reachability::Unreachable);
    say(&mut three, "10.7.0.0/24", 93, |a| {
        a.as_path = AsPath::sequence(&[]);
        a.local_pref = Some(100);
        a.originator_id = Some(Ipv4Addr::new(192, 0, 2, 7));
        a.cluster_list = vec![Ipv4Addr::new(192, 0, 2, HUB)];
    })
    .await;
    say(&mut five, "10.8.0.0/24", 195, |_| {}).await;
    say(&mut five, "10.9.0.0/24", 95, |_| {}).await;

    let looped = why(&hub, "10.7.0.0/24", 1).await;
    holds(
        &looped,
        93,
        Outcome::Unusable,
        "not usable: own cluster in the cluster list",
    );
    let unreachable = why(&hub, "10.8.0.0/24", 1).await;
    holds(
        &unreachable,
        95,
        Outcome::Unusable,
        "not usable: next hop unreachable",
    );
    let above = why(&hub, "10.9.0.0/24", 1).await;
    holds(
        &above,
        95,
        Outcome::Unusable,
        "not usable: above the prefix limit",
    );
    // Once there is a way to the next hop, the same question has another answer.
    reach(&hub, gone, Reachability::Reachable { metric: 5 });
    let found = why(&hub, "10.8.0.0/24", 1).await;
    holds(&found, 95, Outcome::Best, "best: the only usable path");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn communities_and_filters_that_hold_a_path_back_are_explained() {
    let mut hub = hub().await;
    let mut one = join(91, &hub).await;
    let _two = join(92, &hub).await;
    let _three = join(93, &hub).await;
    hub.set(|desired| {
        let three = desired.peers.get_mut(&"127.0.0.93".into()).unwrap();
        three.export = rule("not-inside", "10.10.0.0/24", None, Verdict::Reject);
    });
    say(&mut one, "10.10.0.0/24", 91, |a| {
        a.communities = vec![Community::NO_EXPORT]
    })
    .await;
    let held = why(&hub, "10.10.0.0/24", 1).await;
    told(&held, 92, false, "path carries NO_EXPORT");
    told(
        &held,
        93,
        false,
        "rejected by export policy, rule not-inside",
    );
    told(&held, 94, false, "its session is");
    let only: Why = ask(&hub, "/why/10.10.0.0/24?peer=127.0.0.92").await;
    assert_eq!(1, only.peers.len());
}
