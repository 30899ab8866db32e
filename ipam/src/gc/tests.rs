use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use crds::block_affinity::AffinityState;
use crds::ipam_block::attribute;

use super::snapshot::{AffinityFacts, BlockFacts, HandleFacts, PodFacts};
use super::*;

const GRACE: Duration = Duration::from_secs(900);

fn at(secs: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + secs)
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn held(address: &str, handle: &str, attributes: &[(&str, &str)]) -> Held {
    let attributes = attributes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Held {
        addr: addr(address),
        block: cidr("10.0.0.0/26"),
        handle: Some(handle.to_owned()),
        attributes: attributes.collect(),
        sequence: Some(7),
    }
}

fn of_pod(address: &str, node: &str, pod: &str) -> Held {
    let attributes = [
        (attribute::NODE, node),
        (attribute::NAMESPACE, "default"),
        (attribute::POD, pod),
    ];
    held(address, &format!("net.{pod}"), &attributes)
}

fn tunnel(address: &str, node: &str) -> Held {
    let attributes = [
        (attribute::NODE, node),
        (attribute::TYPE, attribute::TYPE_VXLAN),
    ];
    held(address, &format!("vxlan-tunnel-addr-{node}"), &attributes)
}

fn pod(node: &str, addresses: &[&str]) -> PodFacts {
    PodFacts {
        node: Some(node.to_owned()),
        finished: false,
        has_status: !addresses.is_empty(),
        addresses: addresses.iter().map(|text| addr(text)).collect(),
    }
}

fn block(range: &str, owner: &str, held: Vec<Held>) -> BlockFacts {
    let held: Vec<Held> = held
        .into_iter()
        .map(|held| Held {
            block: cidr(range),
            ..held
        })
        .collect();
    BlockFacts {
        cidr: cidr(range),
        affinity: (!owner.is_empty()).then(|| format!("host:{owner}")),
        is_empty: held.is_empty(),
        free: 64 - held.len() as u32,
        held,
        version: "1".to_owned(),
    }
}

/// Nodes `a` and `c` with a pod each that is alive, and what is given of node `b`.
fn cluster(of_b: Vec<Held>) -> Snapshot {
    let mut snapshot = Snapshot {
        nodes: ["a".to_owned(), "c".to_owned()].into(),
        blocks: vec![
            block("10.0.0.0/26", "a", vec![of_pod("10.0.0.1", "a", "live")]),
            block("10.0.0.64/26", "b", of_b),
            block(
                "10.0.0.128/26",
                "c",
                vec![of_pod("10.0.0.129", "c", "other")],
            ),
        ],
        ..Snapshot::default()
    };
    snapshot.add_pod("live", pod("a", &["10.0.0.1"]));
    snapshot.add_pod("other", pod("c", &["10.0.0.129"]));
    snapshot.complete();
    snapshot
}

impl Snapshot {
    fn add_pod(&mut self, name: &str, facts: PodFacts) {
        self.pods
            .insert(("default".to_owned(), name.to_owned()), facts);
    }

    /// Affinities and handles as blocks say.
    fn complete(&mut self) {
        self.cidrs = self.blocks.iter().map(|block| block.cidr).collect();
        self.affinities = self
            .blocks
            .iter()
            .filter_map(|block| {
                Some(AffinityFacts {
                    node: block.host()?.to_owned(),
                    cidr: block.cidr,
                    state: AffinityState::Confirmed,
                    version: "1".to_owned(),
                })
            })
            .collect();
        let mut counts: BTreeMap<String, BTreeMap<Cidr, u32>> = BTreeMap::new();
        for held in self.held() {
            let handle = counts
                .entry(held.handle.clone().unwrap_or_default())
                .or_default();
            *handle.entry(held.block).or_default() += 1;
        }
        let handles = counts.into_iter().map(|(id, counts)| HandleFacts {
            id,
            counts,
            version: "1".to_owned(),
        });
        self.handles = handles.collect();
    }
}

fn sweep(snapshot: &Snapshot) -> Sweep {
    Collector::new(Settings::default()).sweep(at(0), snapshot)
}

fn shown(sweep: &Sweep) -> Vec<(String, State, String)> {
    let rows = sweep.findings.iter();
    rows.map(|f| (f.held.addr.to_string(), f.state, f.reason.to_string()))
        .collect()
}

fn row(address: &str, state: State, reason: &str) -> (String, State, String) {
    (address.to_owned(), state, reason.to_owned())
}

fn actions(sweep: &Sweep) -> Vec<String> {
    sweep.actions.iter().map(ToString::to_string).collect()
}

#[test]
fn a_gone_node_leaves_nothing_and_nothing_else_is_touched() {
    let mut snapshot = cluster(vec![
        of_pod("10.0.0.65", "b", "x"),
        tunnel("10.0.0.66", "b"),
    ]);
    snapshot
        .reports
        .insert("b".to_owned(), at(0) - Duration::from_secs(400));
    let sweep = sweep(&snapshot);
    assert_eq!(
        shown(&sweep),
        [
            row("10.0.0.65", State::Free, "its pod does not exist"),
            row("10.0.0.66", State::Free, "its node is gone"),
        ]
    );
    assert_eq!(
        actions(&sweep),
        [
            "free address 10.0.0.65",
            "free address 10.0.0.66",
            "give back blocks 10.0.0.64/26 of node b, which is gone",
            "delete NodeStatus b, whose node is gone",
        ]
    );
    assert_eq!((sweep.refused, sweep.allocated, sweep.blocks), (None, 4, 3));
}

#[test]
fn a_node_whose_agent_reports_is_not_gone() {
    let mut snapshot = cluster(vec![
        of_pod("10.0.0.65", "b", "x"),
        tunnel("10.0.0.66", "b"),
    ]);
    snapshot
        .reports
        .insert("b".to_owned(), at(0) - Duration::from_secs(300));
    let sweep = sweep(&snapshot);
    assert_eq!(
        shown(&sweep),
        [row("10.0.0.65", State::Candidate, "its pod does not exist")]
    );
    assert_eq!(actions(&sweep), [""; 0]);
    assert_eq!(sweep.reporting, BTreeMap::from([("b".to_owned(), at(60))]));
    assert_eq!(sweep.due, Some(at(60)));
}

#[test]
fn one_pod_that_is_alive_keeps_what_belongs_to_the_node() {
    let mut snapshot = cluster(vec![
        of_pod("10.0.0.65", "b", "x"),
        tunnel("10.0.0.66", "b"),
        of_pod("10.0.0.67", "b", "y"),
    ]);
    snapshot.add_pod("y", pod("b", &["10.0.0.67"]));
    let sweep = sweep(&snapshot);
    assert_eq!(
        shown(&sweep),
        [
            row("10.0.0.65", State::Free, "its pod does not exist"),
            row(
                "10.0.0.66",
                State::Kept,
                "other addresses of its node are in use"
            ),
            row("10.0.0.67", State::Kept, "its pod is alive"),
        ]
    );
    assert_eq!(actions(&sweep), ["free address 10.0.0.65"]);
}

#[test]
fn a_pod_without_address_yet_is_alive_and_others_are_judged_by_what_they_have() {
    let names = ["none", "elsewhere", "finished", "others", "noted"];
    let of_b: Vec<Held> = (65..)
        .zip(names)
        .map(|(n, name)| of_pod(&format!("10.0.0.{n}"), "b", name))
        .collect();
    let mut snapshot = cluster(of_b);
    snapshot.add_pod("none", pod("b", &[]));
    snapshot.add_pod("elsewhere", pod("c", &["10.0.0.66"]));
    snapshot.add_pod(
        "finished",
        PodFacts {
            finished: true,
            ..pod("b", &["10.0.0.67"])
        },
    );
    snapshot.add_pod("others", pod("b", &["10.0.0.130"]));
    snapshot.add_pod("noted", pod("b", &["10.0.0.131", "10.0.0.69"]));
    assert_eq!(
        shown(&sweep(&snapshot)),
        [
            row("10.0.0.65", State::Kept, "its pod is alive"),
            row("10.0.0.66", State::Free, "its pod runs on node c"),
            row("10.0.0.67", State::Free, "its pod has ended"),
            row("10.0.0.68", State::Free, "its pod has 10.0.0.130"),
            row("10.0.0.69", State::Kept, "its pod is alive"),
        ]
    );
}

#[test]
fn what_is_not_known_to_be_of_a_pod_or_a_tunnel_is_kept() {
    let node = (attribute::NODE, "b");
    let unguarded = Held {
        handle: None,
        ..of_pod("10.0.0.65", "b", "x")
    };
    let snapshot = cluster(vec![
        unguarded,
        held("10.0.0.66", "by-hand", &[node]),
        held(
            "10.0.0.67",
            "odd",
            &[node, (attribute::TYPE, "somethingNew")],
        ),
        held("10.0.0.68", "windows-reserved-ipam-handle", &[node]),
    ]);
    let sweep = sweep(&snapshot);
    assert_eq!(
        shown(&sweep),
        [
            row(
                "10.0.0.65",
                State::Kept,
                "it has no handle; release it by hand"
            ),
            row(
                "10.0.0.66",
                State::Kept,
                "nothing says which pod it is for; release it by hand"
            ),
            row(
                "10.0.0.67",
                State::Kept,
                "nothing says which pod it is for; release it by hand"
            ),
        ]
    );
    assert_eq!(actions(&sweep), [""; 0]);
}

#[test]
fn all_addresses_of_a_handle_go_or_none() {
    let second = Held {
        handle: Some("NET.live".to_owned()),
        ..of_pod("10.0.0.65", "b", "live-no-more")
    };
    let snapshot = cluster(vec![second]);
    assert_eq!(
        shown(&sweep(&snapshot)),
        [row(
            "10.0.0.65",
            State::Kept,
            "another address of its handle is in use"
        )]
    );
}

#[test]
fn a_leak_on_a_node_that_is_there_is_confirmed_after_the_grace_period_and_never_freed_here() {
    let mut snapshot = cluster(Vec::new());
    snapshot.blocks[0].held.push(of_pod("10.0.0.2", "a", "x"));
    snapshot.complete();
    snapshot.blocks.remove(1);
    snapshot.affinities.remove(1);
    let mut collector = Collector::new(Settings::default());
    let looks = [
        (0, State::Candidate),
        (899, State::Candidate),
        (900, State::Confirmed),
        (5000, State::Confirmed),
    ];
    for (secs, state) in looks {
        let sweep = collector.sweep(at(secs), &snapshot);
        assert_eq!(
            shown(&sweep),
            [row("10.0.0.2", state, "its pod does not exist")],
            "{secs}"
        );
        assert_eq!(actions(&sweep), [""; 0]);
        assert_eq!(
            sweep.due,
            (state == State::Candidate).then(|| at(0) + GRACE)
        );
    }
    // Given out again, it is another allocation and starts anew.
    let last = snapshot.blocks[0].held.last_mut().unwrap();
    last.sequence = Some(8);
    let sweep = collector.sweep(at(5001), &snapshot);
    assert_eq!(sweep.findings[0].state, State::Candidate);
}

#[test]
fn a_resurrected_address_starts_anew() {
    let mut snapshot = cluster(Vec::new());
    snapshot
        .pods
        .remove(&("default".to_owned(), "live".to_owned()));
    let mut collector = Collector::new(Settings::default());
    assert_eq!(collector.sweep(at(0), &snapshot).count(State::Candidate), 1);
    let mut back = snapshot.clone();
    back.add_pod("live", pod("a", &["10.0.0.1"]));
    assert_eq!(collector.sweep(at(500), &back).findings, []);
    assert_eq!(
        collector.sweep(at(1000), &snapshot).count(State::Candidate),
        1
    );
}

#[test]
fn without_grace_period_leaks_on_nodes_that_are_there_are_not_looked_for() {
    let mut snapshot = cluster(vec![of_pod("10.0.0.65", "b", "x")]);
    snapshot
        .pods
        .remove(&("default".to_owned(), "live".to_owned()));
    let settings = Settings {
        grace: None,
        ..Settings::default()
    };
    let sweep = Collector::new(settings).sweep(at(0), &snapshot);
    assert_eq!(
        shown(&sweep),
        [row("10.0.0.65", State::Free, "its pod does not exist")]
    );
}

#[test]
fn a_stale_looking_snapshot_frees_nothing() {
    let good = || cluster(vec![of_pod("10.0.0.65", "b", "x")]);
    assert_eq!(sweep(&good()).refused, None);

    let mut no_nodes = good();
    no_nodes.nodes.clear();
    let mut no_pods = good();
    no_pods.pods.clear();
    let mut few_nodes = good();
    few_nodes.nodes.remove("c");
    let mut unreadable = good();
    unreadable.unreadable.push("nodes.yaml".to_owned());
    for (snapshot, why) in [
        (&no_nodes, Suspicion::NoNodes),
        (&no_pods, Suspicion::NoPods),
        (&few_nodes, Suspicion::ManyNodesGone { gone: 2, all: 3 }),
        (
            &unreadable,
            Suspicion::Unreadable(vec!["nodes.yaml".to_owned()]),
        ),
    ] {
        let sweep = sweep(snapshot);
        assert_eq!((actions(&sweep), sweep.refused), (Vec::new(), Some(why)));
    }

    let trusting = Settings {
        max_gone_percent: 100,
        expect_pods: false,
        ..Settings::default()
    };
    for snapshot in [&no_pods, &few_nodes] {
        let sweep = Collector::new(trusting.clone()).sweep(at(0), snapshot);
        assert_eq!(sweep.refused, None);
        assert!(sweep.count(State::Free) > 0);
    }
}

#[test]
fn without_any_pod_object_only_nodes_that_are_gone_are_judged() {
    let mut snapshot = cluster(vec![of_pod("10.0.0.65", "b", "x")]);
    snapshot.pods.clear();
    let settings = Settings {
        expect_pods: false,
        ..Settings::default()
    };
    let sweep = Collector::new(settings).sweep(at(0), &snapshot);
    assert_eq!(
        shown(&sweep),
        [row("10.0.0.65", State::Free, "its pod does not exist")]
    );
}

#[test]
fn an_empty_block_goes_when_it_stays_empty_and_the_node_has_room_elsewhere() {
    let mut snapshot = cluster(Vec::new());
    snapshot.nodes.insert("b".to_owned());
    snapshot
        .blocks
        .push(block("10.0.0.192/26", "a", Vec::new()));
    snapshot.blocks.push(block("10.0.1.0/26", "b", Vec::new()));
    snapshot.complete();
    let mut collector = Collector::new(Settings::default());
    assert_eq!(actions(&collector.sweep(at(0), &snapshot)), [""; 0]);
    // Used in between: written, so its version is another.
    snapshot.blocks[4].version = "2".to_owned();
    let sweep = collector.sweep(at(900), &snapshot);
    assert_eq!(
        actions(&sweep),
        [
            "give back block 10.0.0.192/26 of node a, which does not need it",
            "give back block 10.0.0.64/26 of node b, which does not need it",
        ]
    );
    assert_eq!(sweep.due, Some(at(1800)));

    // The only block with a free address stays.
    snapshot.blocks[0].free = 0;
    assert_eq!(
        actions(&collector.sweep(at(901), &snapshot)),
        ["give back block 10.0.0.64/26 of node b, which does not need it"]
    );
    // Of several empty ones the lowest stays.
    let sweep = collector.sweep(at(1800), &snapshot);
    assert_eq!(
        actions(&sweep),
        ["give back block 10.0.1.0/26 of node b, which does not need it"]
    );
}

#[test]
fn leftovers_are_settled_when_they_stay_as_they_are() {
    let mut snapshot = cluster(Vec::new());
    snapshot.nodes.insert("b".to_owned());
    snapshot.affinities[0].state = AffinityState::Pending;
    snapshot.affinities.remove(1);
    snapshot.blocks.push(block("10.0.0.192/26", "", Vec::new()));
    snapshot.handles[0].counts.insert(cidr("10.0.0.192/26"), 1);
    snapshot.handles.remove(1);
    snapshot
        .deleted
        .push(("IPAMHandle gone".to_owned(), "1".to_owned()));
    let mut collector = Collector::new(Settings::default());
    assert_eq!(actions(&collector.sweep(at(0), &snapshot)), [""; 0]);
    assert_eq!(collector.sweep(at(1), &snapshot).due, Some(at(60)));
    assert_eq!(
        actions(&collector.sweep(at(60), &snapshot)),
        [
            "settle BlockAffinity a-10-0-0-0-26: its claim is not finished",
            "settle IPAMBlock 10-0-0-192-26: it has neither owner nor addresses",
            "settle IPAMBlock 10-0-0-64-26: its owner has no affinity for it",
            "settle IPAMHandle gone: its deletion is not finished",
            "settle IPAMHandle net.live: it does not count what its owner has",
            "settle IPAMHandle net.other: its owner has addresses and it does not exist",
        ]
    );
}

#[test]
fn a_clock_that_was_set_back_confirms_nothing_early() {
    let mut snapshot = cluster(Vec::new());
    snapshot
        .pods
        .remove(&("default".to_owned(), "live".to_owned()));
    let mut collector = Collector::new(Settings::default());
    for (secs, state) in [
        (5000, State::Candidate),
        (0, State::Candidate),
        (899, State::Candidate),
        (900, State::Confirmed),
    ] {
        assert_eq!(
            collector.sweep(at(secs), &snapshot).count(state),
            1,
            "{secs}"
        );
    }
}
