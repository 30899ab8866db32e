//! Collection over a datastore: random lives of nodes and pods, with collectors that are cut off at any call and started
//! anew. Whether a sandbox is alive only the test knows; an address of one that is must never be freed.
//!
//! A failure prints its seed; run that one alone with `IPAM_GC_SEED=<seed>`, or more with `IPAM_GC_CASES=<number>`.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/stepped.rs"]
#[allow(
    dead_code,
    reason = "only its random numbers and its executor are used here"
)]
mod stepped;
#[path = "support/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use cluster::{Cluster, named, v4};
use crds::core::{Node, Pod, time_text};
use crds::{Kind, NodeStatus, NodeStatusSpec};
use datastore::memory::Fault;
use datastore::{Datastore, Key, create_typed};
use ipam::gc::{Collector, Lists, Settings, Snapshot, State, Sweep};
use ipam::{AutoAssign, Collected};
use serde_json::json;
use stepped::{Random, block_on};
use world::World;

const START_SECS: u64 = 1_800_000_000;
const NODES: usize = 4;
const STEPS: usize = 120;

/// What is true, whoever knows.
#[derive(Default)]
struct Host {
    is_up: bool,
    /// Handles of sandboxes that run, and of deletions not served.
    sandboxes: BTreeSet<String>,
}

struct Life {
    cluster: Cluster,
    random: Random,
    collector: Collector,
    now_secs: u64,
    hosts: Vec<Host>,
    /// Handle to node and addresses, for ever.
    given: BTreeMap<String, (usize, BTreeSet<IpAddr>)>,
    pods: usize,
    /// Nothing interferes with a collector any more.
    is_calm: bool,
}

fn name(node: usize) -> String {
    format!("node-{node}")
}

fn settings() -> Settings {
    Settings {
        // Half of the nodes may be lost at once here.
        max_gone_percent: 100,
        ..Settings::default()
    }
}

impl Life {
    fn new(seed: u64) -> Life {
        let cluster = block_on(Cluster::with_pools(&[("pool", "10.0.0.0/24")]));
        block_on(cluster.change_pool("pool", |spec| spec.block_size = Some(28)));
        let mut life = Life {
            cluster,
            random: Random::new(seed),
            collector: Collector::new(settings()),
            now_secs: START_SECS,
            hosts: (0..NODES).map(|_| Host::default()).collect(),
            given: BTreeMap::new(),
            pods: 0,
            is_calm: false,
        };
        for node in 0..NODES {
            life.boot(node);
        }
        life
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.now_secs)
    }

    /// The host starts without sandboxes and its agent cleans up.
    fn boot(&mut self, node: usize) {
        let store = &self.cluster.store;
        let object = Node {
            metadata: named(&name(node)),
            ..Node::default()
        };
        // It is there already when only the host was down.
        let _exists = block_on(create_typed(store, &object));
        self.hosts[node].is_up = true;
        self.report(node);
        self.collect_on_node(node);
    }

    fn report(&self, node: usize) {
        let store = &self.cluster.store;
        let object = NodeStatus {
            metadata: named(&name(node)),
            spec: NodeStatusSpec {
                node: Some(name(node)),
            },
            status: None,
        };
        let _exists = block_on(create_typed(store, &object));
        let key = Key::cluster(Kind::NodeStatus, name(node));
        let status = json!({ "observedAt": time_text(self.now()) });
        block_on(store.patch_status(&key, status)).unwrap();
    }

    /// What the agent does about its own leaks.
    fn collect_on_node(&self, node: usize) {
        let live = self.hosts[node].sandboxes.clone();
        let agent = self.cluster.another_process();
        let held = block_on(agent.allocations_of_node(&name(node))).unwrap();
        block_on(agent.release_dead(held, None, live)).unwrap();
    }

    fn pass(&mut self, secs: u64) {
        let mut left = secs;
        while left > 0 {
            let step = left.min(250);
            self.now_secs += step;
            self.cluster.pass(step);
            left -= step;
            for node in 0..NODES {
                if self.hosts[node].is_up {
                    self.report(node);
                }
            }
        }
    }

    fn add_pod(&mut self, node: usize) {
        self.pods += 1;
        let (pod, handle) = (
            format!("pod-{}", self.pods),
            format!("net.pod-{}", self.pods),
        );
        let attributes = [("namespace", "default"), ("pod", pod.as_str())];
        let request = AutoAssign {
            attributes: attributes
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..v4(&name(node), &handle, 1)
        };
        let addresses = block_on(self.cluster.ipam.auto_assign(&request))
            .unwrap()
            .v4;
        if addresses.is_empty() {
            // The pool is used up, and the runtime gives up.
            return;
        }
        let has_status = self.random.percent(70);
        let mut object: Pod = serde_json::from_value(json!({
            "metadata": { "name": pod, "namespace": "default" },
            "spec": { "nodeName": name(node), "containers": [] },
        }))
        .unwrap();
        if has_status && let Some(address) = addresses.first() {
            let status = json!({ "podIP": address, "podIPs": [{ "ip": address }] });
            object.status = Some(serde_json::from_value(status).unwrap());
        }
        block_on(create_typed(&self.cluster.store, &object)).unwrap();
        self.hosts[node].sandboxes.insert(handle.clone());
        self.given
            .insert(handle, (node, addresses.into_iter().collect()));
    }

    fn delete_pod_object(&self, handle: &str) {
        let pod = handle.strip_prefix("net.").unwrap();
        let key = Key::namespaced(Kind::Pod, "default", pod);
        let _gone_already = block_on(self.cluster.store.delete(&key, None));
    }

    /// The API forgets a pod; its sandbox may run on, end without notice, or be deleted as it should.
    fn end_pod(&mut self, node: usize) {
        let sandboxes: Vec<String> = self.hosts[node].sandboxes.iter().cloned().collect();
        if sandboxes.is_empty() {
            return;
        }
        let handle = self.random.pick(&sandboxes).clone();
        self.delete_pod_object(&handle);
        match self.random.below(3) {
            0 => {}
            1 => drop(self.hosts[node].sandboxes.remove(&handle)),
            _ => {
                self.hosts[node].sandboxes.remove(&handle);
                block_on(self.cluster.ipam.release_handle(&handle)).unwrap();
            }
        }
    }

    fn kill_host(&mut self, node: usize) {
        self.hosts[node].is_up = false;
        self.hosts[node].sandboxes.clear();
    }

    fn delete_node_object(&self, node: usize) {
        let key = Key::cluster(Kind::Node, name(node));
        let _gone_already = block_on(self.cluster.store.delete(&key, None));
    }

    fn sweep(&mut self) -> Sweep {
        let lists = block_on(Lists::read(&self.cluster.store)).unwrap();
        let now = self.now();
        self.collector.sweep(now, &Snapshot::new(lists, now))
    }

    /// Sweeps and acts, perhaps cut off, and checks that no address of a running sandbox was freed.
    fn collect(&mut self) {
        let sweep = self.sweep();
        if !self.is_calm && self.random.percent(30) {
            // The world goes on between deciding and acting.
            let node = self.random.below(NODES);
            if self.random.percent(50) {
                self.boot(node);
            }
            self.add_pod_if_up(node);
        }
        if !self.is_calm && self.random.percent(40) {
            let mut left = self.random.below(40);
            let fault = self
                .random
                .pick(&[Fault::CrashBefore, Fault::CrashAfter])
                .clone();
            self.cluster.store.on_call(move |_| {
                left = left.wrapping_sub(1);
                (left == 0).then(|| fault.clone())
            });
        }
        let mut done = Collected::default();
        // A process of its own: what the agents know it does not.
        let ended = block_on(self.cluster.another_process().collect(&sweep, &mut done));
        self.cluster.store.on_call(|_| None);
        if ended.is_err() {
            self.cluster.store.restart();
            self.collector = Collector::new(settings());
        }
        self.check();
    }

    fn add_pod_if_up(&mut self, node: usize) {
        let key = Key::cluster(Kind::Node, name(node));
        if self.hosts[node].is_up && block_on(self.cluster.store.get(&key)).is_ok() {
            self.add_pod(node);
        }
    }

    fn check(&self) {
        let world = World::read(&self.cluster.store);
        for host in &self.hosts {
            for handle in &host.sandboxes {
                for address in &self.given[handle].1 {
                    assert_eq!(
                        world.held.get(address),
                        Some(handle),
                        "address of a running sandbox"
                    );
                }
            }
        }
    }

    fn step(&mut self) {
        let node = self.random.below(NODES);
        match self.random.below(10) {
            0..=2 => self.add_pod_if_up(node),
            3 => self.end_pod(node),
            4 => self.kill_host(node),
            5 => self.delete_node_object(node),
            6 => self.boot(node),
            7 => {
                let secs = [5, 100, 400, 1000][self.random.below(4)];
                self.pass(secs);
            }
            _ => self.collect(),
        }
        self.check();
    }

    /// All but the first node are gone for good: what remains is exactly what runs.
    fn finish(mut self) {
        self.is_calm = true;
        self.boot(0);
        self.add_pod(0);
        for node in 1..NODES {
            self.kill_host(node);
            self.delete_node_object(node);
        }
        let lost = self.given.iter().filter(|(_, (node, _))| *node > 0);
        for handle in lost.map(|(handle, _)| handle.clone()).collect::<Vec<_>>() {
            self.delete_pod_object(&handle);
        }
        for round in 0.. {
            self.pass(1000);
            self.collect_on_node(0);
            self.collect();
            let sweep = self.sweep();
            if sweep.actions.is_empty() && round > 3 {
                assert_eq!(sweep.count(State::Free), 0);
                break;
            }
            assert!(round < 20, "{:?}", sweep.actions);
        }
        let world = World::read(&self.cluster.store);
        world.check_settled();
        let running = &self.hosts[0].sandboxes;
        let held: BTreeSet<String> = world.held.into_values().collect();
        assert_eq!(&held, running);
        assert!(
            world.affinities.iter().all(|(node, ..)| *node == name(0)),
            "{:?}",
            world.affinities
        );
        let statuses = block_on(self.cluster.store.list(Kind::NodeStatus)).unwrap();
        assert_eq!(statuses.len(), 1);
    }
}

#[test]
fn no_address_of_a_running_sandbox_is_freed_and_everything_else_is() {
    let number = |variable: &str| {
        let text = std::env::var(variable).ok()?;
        Some(text.parse::<u64>().unwrap())
    };
    let seeds = match number("IPAM_GC_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("IPAM_GC_CASES").unwrap_or(60),
    };
    for seed in seeds {
        let run = || {
            let mut life = Life::new(seed);
            for _ in 0..STEPS {
                life.step();
            }
            life.finish();
        };
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
            print_seed(seed);
            std::panic::resume_unwind(panic);
        }
    }
}

#[allow(clippy::print_stdout, reason = "the seed is what a person needs")]
fn print_seed(seed: u64) {
    println!("failed with IPAM_GC_SEED={seed}");
}
