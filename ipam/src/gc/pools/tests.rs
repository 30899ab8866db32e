use std::time::UNIX_EPOCH;

use crds::ipam_block::attribute;

use super::super::Settings;
use super::super::snapshot::AffinityFacts;
use super::*;
use crate::request::Held;

fn at(secs: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + secs)
}

fn pool(name: &str, cidr: &str, is_deleting: bool, is_guarded: bool) -> PoolFacts {
    PoolFacts {
        name: name.to_owned(),
        cidr: cidr.parse().unwrap(),
        is_deleting,
        is_guarded,
    }
}

fn block(cidr: &str, held: Vec<Held>) -> BlockFacts {
    BlockFacts {
        cidr: cidr.parse().unwrap(),
        affinity: Some("host:a".to_owned()),
        is_empty: held.is_empty(),
        free: 60,
        held,
        version: "1".to_owned(),
    }
}

fn held(address: &str, attributes: &[(&str, &str)]) -> Held {
    let attributes = attributes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Held {
        addr: address.parse().unwrap(),
        block: "10.0.0.0/26".parse().unwrap(),
        handle: Some("h".to_owned()),
        attributes: attributes.collect(),
        sequence: Some(1),
    }
}

fn of_pod(address: &str) -> Held {
    let pod = [
        (attribute::NODE, "a"),
        (attribute::NAMESPACE, "default"),
        (attribute::POD, "x"),
    ];
    held(address, &pod)
}

fn tunnel(address: &str) -> Held {
    let tunnel = [
        (attribute::NODE, "a"),
        (attribute::TYPE, attribute::TYPE_IPIP),
    ];
    held(address, &tunnel)
}

/// Node `a` with these blocks.
fn cluster(pools: Vec<PoolFacts>, blocks: Vec<BlockFacts>) -> Snapshot {
    let affinities = blocks.iter().map(|block| AffinityFacts {
        node: "a".to_owned(),
        cidr: block.cidr,
        state: AffinityState::Confirmed,
        version: "1".to_owned(),
    });
    Snapshot {
        nodes: ["a".to_owned()].into(),
        pools,
        cidrs: blocks.iter().map(|block| block.cidr).collect(),
        affinities: affinities.collect(),
        blocks,
        ..Snapshot::default()
    }
}

/// What is done about pools and blocks after 0, 10, 20 s of the same.
fn done(snapshot: &Snapshot) -> Vec<Vec<String>> {
    let mut collector = Collector::new(Settings::default());
    let looks = [0, 10, 20].map(|secs| {
        let sweep = collector.sweep(at(secs), snapshot);
        let actions = sweep
            .actions
            .iter()
            .filter(|a| !matches!(a, Action::Settle { .. }));
        actions.map(ToString::to_string).collect()
    });
    looks.into()
}

const GO: &str = "let IPPool p go, which is deleted and not in use";

#[test]
fn a_pool_is_guarded_unless_it_is_already_or_goes() {
    let snapshot = cluster(
        vec![
            pool("new", "10.0.0.0/16", false, false),
            pool("known", "10.1.0.0/16", false, true),
            pool("going", "10.2.0.0/16", true, false),
        ],
        vec![],
    );
    assert_eq!(
        done(&snapshot)[0],
        ["keep IPPool new from going while in use"]
    );
    let settings = Settings {
        guard_pools: false,
        ..Settings::default()
    };
    let sweep = Collector::new(settings).sweep(at(0), &snapshot);
    assert_eq!(sweep.actions, []);
}

#[test]
fn a_pool_that_nobody_uses_goes_when_nobody_can_be_about_to() {
    let snapshot = cluster(vec![pool("p", "10.0.0.0/16", true, true)], vec![]);
    let none: [&str; 0] = [];
    let looks = done(&snapshot);
    assert_eq!(looks[0], none);
    assert_eq!(looks[1], [GO]);
    let mut collector = Collector::new(Settings::default());
    let sweep = collector.sweep(at(0), &snapshot);
    assert_eq!(sweep.due, Some(at(10)));
}

#[test]
fn an_address_of_a_pod_keeps_the_pool_and_empty_blocks_go() {
    let blocks = vec![
        block("10.0.0.0/26", vec![of_pod("10.0.0.1")]),
        block("10.0.0.64/26", vec![]),
        block("10.9.0.0/26", vec![]),
    ];
    let pools = vec![
        pool("p", "10.0.0.0/16", true, true),
        pool("other", "10.9.0.0/16", false, true),
    ];
    let snapshot = cluster(pools, blocks);
    let give_back = "give back block 10.0.0.64/26 of node a, which does not need it";
    for look in done(&snapshot) {
        assert_eq!(look, [give_back]);
    }
    let sweep = Collector::new(Settings::default()).sweep(at(0), &snapshot);
    assert_eq!(sweep.pools, BTreeMap::from([("p".to_owned(), 1)]));
    assert_eq!(sweep.due, Some(at(60)));
}

#[test]
fn tunnel_addresses_do_not_keep_a_pool() {
    let blocks = vec![block("10.0.0.0/26", vec![tunnel("10.0.0.1")])];
    let snapshot = cluster(vec![pool("p", "10.0.0.0/16", true, true)], blocks);
    assert_eq!(done(&snapshot)[1], [GO]);
}

#[test]
fn what_is_under_way_or_cannot_be_read_keeps_a_pool() {
    let pools = || vec![pool("p", "10.0.0.0/16", true, true)];
    let mut unreadable = cluster(pools(), vec![]);
    unreadable.cidrs.insert("10.0.7.0/26".parse().unwrap());
    let mut claimed = cluster(pools(), vec![]);
    claimed.affinities.push(AffinityFacts {
        node: "a".to_owned(),
        cidr: "10.0.7.0/26".parse().unwrap(),
        state: AffinityState::Pending,
        version: "1".to_owned(),
    });
    let mut cooling = block("10.0.0.0/26", vec![]);
    cooling.is_empty = false;
    let cooling = cluster(pools(), vec![cooling]);
    let going = cluster(pools(), vec![block("10.0.0.0/26", vec![])]);
    for snapshot in [unreadable, claimed, cooling, going] {
        for look in done(&snapshot) {
            assert!(!look.contains(&GO.to_owned()), "{look:?}");
        }
    }
}

#[test]
fn a_block_counts_for_the_smallest_pool_around_it() {
    let blocks = || vec![block("10.0.0.0/26", vec![of_pod("10.0.0.1")])];
    let inner = pool("inner", "10.0.0.0/24", false, true);
    let snapshot = cluster(vec![pool("p", "10.0.0.0/16", true, true), inner], blocks());
    assert_eq!(done(&snapshot)[1], [GO]);
    let outer = pool("outer", "10.0.0.0/8", false, true);
    let snapshot = cluster(vec![pool("p", "10.0.0.0/16", true, true), outer], blocks());
    assert_eq!(done(&snapshot)[1], [""; 0]);
}
