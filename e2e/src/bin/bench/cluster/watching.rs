//! One agent among simulated nodes, with a real API server: what it asks, what it is sent, how much
//! memory it takes, and how soon it follows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::agents::API;
use e2e::apiserver::ApiServer;
use e2e::apiserver::bulk::{Bulk, Request};
use e2e::cluster::node_addresses;
use e2e::lab::{Lab, Namespace};
use e2e::meter::{Bytes, Meter};
use e2e::node::Node;
use e2e::wait;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::monitor::Monitor;
use super::objects::{self, BLOCKS};
use crate::agent::{memory, ticks};

/// Blocks of each simulated node.
pub(super) const BLOCKS_PER_NODE: usize = 10;
/// Addresses in use in each: with ten blocks the 110 pods that a kubelet takes by default.
pub(super) const USED: usize = 11;
/// Seconds between two reports of a kubelet that has nothing new.
pub(super) const HEARTBEAT: usize = 300;
/// Changes of blocks a second: a pod starts or ends somewhere.
pub(super) const CHANGES: usize = 10;
/// New affinities that are followed into the kernel.
const FOLLOWED: usize = 20;
const USER: &str = "agent";
/// The one that is real.
const NODE: &str = "node1";
const DEVICE: &str = "vxlan.calico";
const METER: u16 = 7443;
/// A cold start among all nodes.
const START: Duration = Duration::from_secs(120);
/// After a start, until what is done once is done: leaks are looked for after ten seconds.
const SETTLE: Duration = Duration::from_secs(20);

/// Everything about one number of nodes.
pub(super) struct Size {
    pub(super) nodes: usize,
    pub(super) blocks: usize,
    pub(super) cold: Cold,
    pub(super) windows: Vec<Window>,
    /// From the request that makes an affinity to the route, in order.
    pub(super) follows: Vec<Duration>,
    /// Megabytes after all of it.
    pub(super) memory: f64,
}

/// A start with an empty kernel.
pub(super) struct Cold {
    pub(super) ready: Duration,
    /// Until every block has its route.
    pub(super) routes: Duration,
    pub(super) processor: f64,
    pub(super) bytes: Bytes,
    pub(super) requests: BTreeMap<String, usize>,
    /// Megabytes once it is quiet.
    pub(super) memory: f64,
    pub(super) peak: f64,
}

/// Some time in which something happens in the cluster.
pub(super) struct Window {
    pub(super) what: What,
    pub(super) time: Duration,
    pub(super) bytes: Bytes,
    pub(super) requests: BTreeMap<String, usize>,
    /// Processor time of the agent in seconds.
    pub(super) processor: f64,
    /// Changes that were made.
    pub(super) nodes_changed: usize,
    pub(super) blocks_changed: usize,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Nothing,
    Heartbeats,
    Changes,
}

impl What {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Nothing => "nothing changes",
            Self::Heartbeats => "kubelets report",
            Self::Changes => "kubelets report, blocks change",
        }
    }
}

impl Window {
    /// So many in a minute.
    pub(super) fn a_minute(&self, count: u64) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let count = count as f64;
        count * 60.0 / self.time.as_secs_f64()
    }

    pub(super) fn requests_a_minute(&self) -> f64 {
        self.a_minute(self.requests.values().sum::<usize>() as u64)
    }

    pub(super) fn kilobytes_a_minute(&self) -> f64 {
        self.a_minute(self.bytes.received + self.bytes.sent) / 1000.0
    }

    /// Percent of a processor.
    pub(super) fn load(&self) -> f64 {
        100.0 * self.processor / self.time.as_secs_f64()
    }
}

/// Measures with each of these numbers of nodes, which grow; `windows` say how long each kind of
/// time is with the last number, which is a third of that with the others.
pub(super) fn measure(sizes: &[usize], windows: [(What, Duration); 3]) -> Result<Vec<Size>> {
    let mut stage = Stage::build()?;
    let mut measured = Vec::new();
    let mut before = 0;
    for nodes in sizes {
        stage.fill(before, *nodes)?;
        before = *nodes;
        let is_last = Some(nodes) == sizes.last();
        let windows =
            windows.map(|(what, time)| (what, if is_last { time } else { time.div_f64(3.0) }));
        measured.push(stage.size(*nodes, windows)?);
    }
    Ok(measured)
}

/// The agent and its API server. Fields go in this order.
struct Stage {
    bulk: Bulk,
    node: Node,
    meter: Meter,
    api: ApiServer,
    /// Reports of kubelets until now, so that none says what an earlier one said.
    beats: AtomicUsize,
    _lab: Lab,
}

/// What was counted until now.
struct Reading {
    at: Instant,
    bytes: Bytes,
    ticks: u32,
    /// Length of the audit log.
    audited: u64,
}

impl Stage {
    fn build() -> Result<Self> {
        let lab = Lab::new(super::LAB)?;
        let host = lab.namespace("api")?;
        lab.plug(&host, "api", &[&format!("{API}/24")])?;
        let api = ApiServer::inside(&lab.folder().join("api"), &host, API.parse()?)?;
        api.apply_crds()?;
        api.apply(&objects::pool("Always"))?;
        let [address, _] = node_addresses(1);
        let bulk = Bulk::start(&api)?;
        // As a kubelet makes it: without an address there an agent waits for one.
        let own = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        });
        bulk.send(&[Request::create(objects::NODES, own)])?;
        let mut node = Node::new(&lab, NODE, &[&format!("{address}/24")], lab.folder())?;
        node.namespace.ip(&format!("route add default via {API}"))?;
        node.arguments.push("--bgp=false".to_owned());
        let server = SocketAddr::new(API.parse()?, 6443);
        let listen = SocketAddr::new(API.parse()?, METER);
        let meter = Meter::inside(&host, listen, server)?;
        // What it asks is noted for service accounts only.
        let kubeconfig = api.kubeconfig(USER, &["system:masters", "system:serviceaccounts"])?;
        let text = std::fs::read_to_string(&kubeconfig)?;
        std::fs::write(
            &kubeconfig,
            text.replace(&api.url(), &format!("https://{listen}")),
        )?;
        node.use_kubernetes(kubeconfig);
        Ok(Self {
            bulk,
            node,
            meter,
            api,
            beats: AtomicUsize::new(0),
            _lab: lab,
        })
    }

    /// Makes the nodes from one number up to another, with their blocks.
    fn fill(&self, from: usize, to: usize) -> Result<()> {
        let start = Instant::now();
        let mut requests = Vec::new();
        for number in from..to {
            requests.push(Request::create(objects::NODES, objects::node(number)));
            let name = objects::node_name(number);
            let blocks = number * BLOCKS_PER_NODE..(number + 1) * BLOCKS_PER_NODE;
            requests.extend(blocks.flat_map(|block| objects::claim(block, &name, USED)));
        }
        self.bulk.send(&requests)?;
        println!(
            "  {to} nodes with {BLOCKS_PER_NODE} blocks each: {} objects made in {:.0} s",
            requests.len(),
            start.elapsed().as_secs_f64()
        );
        Ok(())
    }

    fn size(&mut self, nodes: usize, windows: [(What, Duration); 3]) -> Result<Size> {
        let blocks = nodes * BLOCKS_PER_NODE;
        let cold = self.cold_start(blocks)?;
        println!(
            "  cold start: ready after {:.1} s, all routes after {:.1} s, {:.1} MB received, {:.1} MB of memory",
            cold.ready.as_secs_f64(),
            cold.routes.as_secs_f64(),
            mega(cold.bytes.received),
            cold.memory
        );
        let mut measured = Vec::new();
        for (what, time) in windows {
            let window = self.window(nodes, what, time)?;
            println!(
                "  {}: {:.1} requests and {:.1} kB a minute, {:.2} % of a processor",
                what.text(),
                window.requests_a_minute(),
                window.kilobytes_a_minute(),
                window.load()
            );
            measured.push(window);
        }
        let follows = self.follow(nodes)?;
        let memory = memory(self.node.pid()?, "VmRSS")?;
        self.node.stop(Signal::SIGTERM)?;
        Ok(Size {
            nodes,
            blocks,
            cold,
            windows: measured,
            follows,
            memory,
        })
    }

    /// Takes away what the agent of a smaller number of nodes had, so that the next one claims its first block.
    fn forget_claims(&self) -> Result<()> {
        let of_node = format!("--field-selector spec.affinity=host:{NODE}");
        let claims = self
            .api
            .kubectl(&format!("get ipamblocks -o name {of_node}"))?;
        for block in claims.lines() {
            let name = block.rsplit('/').next().unwrap_or_default();
            let claim = format!("blockaffinities/{NODE}-{name}");
            self.api
                .kubectl(&format!("delete --wait=false {block} {claim}"))?;
        }
        self.api.kubectl(&format!(
            "delete --ignore-not-found ipamhandles/vxlan-tunnel-addr-{NODE}"
        ))?;
        let annotation = "projectcalico.org/IPv4VXLANTunnelAddr-";
        self.api
            .kubectl(&format!("annotate node {NODE} {annotation}"))
            .map(drop)
    }

    /// Nothing of an earlier run is left.
    fn cold_start(&mut self, routes: usize) -> Result<Cold> {
        let namespace = &self.node.namespace;
        if namespace.ip(&format!("link show {DEVICE}")).is_ok() {
            namespace.ip(&format!("link delete {DEVICE}"))?;
        }
        namespace.ip("route flush proto 80")?;
        let state = self.node.state_dir();
        if state.exists() {
            std::fs::remove_dir_all(state)?;
        }
        self.forget_claims()?;
        let before = self.reading(false)?;
        self.node.start()?;
        let ready = self.node.wait_ready(START)?;
        let namespace = &self.node.namespace;
        let what = format!("{routes} routes through {DEVICE}");
        wait::until_true(&what, START, || {
            let count = count_routes(namespace)?;
            ensure!(count == routes, "there are {count}");
            Ok(true)
        })?;
        let in_place = before.at.elapsed();
        std::thread::sleep(SETTLE);
        let pid = self.node.pid()?;
        Ok(Cold {
            ready,
            routes: in_place,
            processor: seconds(ticks(pid)?),
            bytes: since(self.meter.bytes(), before.bytes),
            requests: self.requests_since(&before)?,
            memory: memory(pid, "VmRSS")?,
            peak: memory(pid, "VmHWM")?,
        })
    }

    fn window(&self, nodes: usize, what: What, time: Duration) -> Result<Window> {
        let before = self.reading(true)?;
        let deadline = before.at + time;
        let blocks = nodes * BLOCKS_PER_NODE;
        let (nodes_changed, blocks_changed) = std::thread::scope(|scope| -> Result<_> {
            let heartbeats = scope.spawn(|| match what {
                What::Nothing => Ok(0),
                What::Heartbeats | What::Changes => {
                    let pause = Duration::from_secs(HEARTBEAT as u64).div_f64(as_float(nodes));
                    self.paced(pause, deadline, |count| {
                        let beat = self.beats.fetch_add(1, Ordering::Relaxed);
                        objects::heartbeat(count % nodes, beat)
                    })
                }
            });
            let changes = match what {
                What::Nothing | What::Heartbeats => 0,
                What::Changes => {
                    let pause = Duration::from_secs(1).div_f64(as_float(CHANGES));
                    self.paced(pause, deadline, |count| change(count, blocks))?
                }
            };
            std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
            let heartbeats = heartbeats.join();
            Ok((
                heartbeats.map_err(|_| anyhow::anyhow!("the heartbeats panicked"))??,
                changes,
            ))
        })?;
        let after = self.reading(true)?;
        Ok(Window {
            what,
            time: after.at - before.at,
            bytes: since(after.bytes, before.bytes),
            requests: self.requests_since(&before)?,
            processor: seconds(after.ticks - before.ticks),
            nodes_changed,
            blocks_changed,
        })
    }

    /// Sends a request each `pause` until the deadline; returns how many.
    fn paced(
        &self,
        pause: Duration,
        deadline: Instant,
        request: impl Fn(usize) -> Request,
    ) -> Result<usize> {
        let mut connection = self.bulk.connect()?;
        let mut count = 0;
        let mut next = Instant::now();
        while next < deadline {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            connection.ask(&request(count))?;
            count += 1;
            next += pause;
        }
        Ok(count)
    }

    /// How long new affinities take into the kernel.
    fn follow(&self, nodes: usize) -> Result<Vec<Duration>> {
        let monitor = Monitor::start(&self.node.namespace)?;
        let mut connection = self.bulk.connect()?;
        let mut took = Vec::new();
        for sample in 0..FOLLOWED {
            let block = (nodes + 100) * BLOCKS_PER_NODE + sample;
            let name = objects::node_name(sample % nodes);
            let start = Instant::now();
            connection.ask(&objects::affinity(block, &name))?;
            let seen = monitor.wait_for(&objects::cidr(block))?;
            took.push(seen - start);
            let name = objects::affinity_name(block, &name);
            connection.ask(&Request::delete(format!("{}/{name}", objects::AFFINITIES)))?;
            monitor.wait_for(&format!("Deleted {}", objects::cidr(block)))?;
        }
        took.sort();
        Ok(took)
    }

    fn reading(&self, runs: bool) -> Result<Reading> {
        let audited =
            std::fs::metadata(self.api.file("audit.log")).map_or(0, |metadata| metadata.len());
        Ok(Reading {
            at: Instant::now(),
            bytes: self.meter.bytes(),
            ticks: if runs { ticks(self.node.pid()?)? } else { 0 },
            audited,
        })
    }

    fn requests_since(&self, before: &Reading) -> Result<BTreeMap<String, usize>> {
        let mut log = File::open(self.api.file("audit.log"))?;
        log.seek(SeekFrom::Start(before.audited))?;
        let mut text = String::new();
        log.read_to_string(&mut text)?;
        Ok(requests(&text, USER))
    }
}

/// A pod starts in a block, and ends with the next call.
fn change(count: usize, blocks: usize) -> Request {
    // Neighbours in time are far from each other.
    let block = count / 2 * 37 % blocks;
    let node = objects::node_name(block / BLOCKS_PER_NODE);
    let spec = objects::block_spec(block, &node, USED + 1 - count % 2);
    let path = format!("{BLOCKS}/{}", objects::block_name(block));
    Request::merge(path, json!({ "spec": spec }))
}

/// Requests that began in this part of an audit log, by verb and resource.
fn requests(log: &str, user: &str) -> BTreeMap<String, usize> {
    let mut seen = BTreeSet::new();
    let mut counts = BTreeMap::new();
    for line in log.lines() {
        // The last line may be half-written.
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let verb = event["verb"].as_str().unwrap_or_default();
        // A watch that ends here began before.
        let stage = if verb == "watch" {
            "ResponseStarted"
        } else {
            "ResponseComplete"
        };
        if event["user"]["username"] != user || event["stage"] != stage {
            continue;
        }
        if seen.insert(event["auditID"].as_str().unwrap_or_default().to_owned()) {
            let object = &event["objectRef"];
            let resource = object["resource"].as_str().unwrap_or("other");
            let part = object["subresource"].as_str();
            let part = part.map_or_else(String::new, |part| format!("/{part}"));
            *counts
                .entry(format!("{verb} {resource}{part}"))
                .or_default() += 1;
        }
    }
    counts
}

fn count_routes(namespace: &Namespace) -> Result<usize> {
    let text = namespace.ip(&format!("-4 route show dev {DEVICE} proto 80"))?;
    Ok(text.lines().count())
}

fn since(now: Bytes, before: Bytes) -> Bytes {
    Bytes {
        sent: now.sent - before.sent,
        received: now.received - before.received,
    }
}

/// Linux counts processor time for user space in hundredths of a second.
fn seconds(ticks: u32) -> f64 {
    f64::from(ticks) / 100.0
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn as_float(count: usize) -> f64 {
    count as f64
}

/// Megabytes.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_once_and_by_who_made_them() {
        let event = |id: &str, user: &str, stage: &str, verb: &str, sub: Option<&str>| {
            json!({
                "auditID": id, "user": {"username": user}, "stage": stage, "verb": verb,
                "objectRef": {"resource": "nodes", "subresource": sub},
            })
            .to_string()
        };
        let log = [
            event("1", "agent", "ResponseStarted", "watch", None),
            event("1", "agent", "ResponseComplete", "watch", None),
            // It began before this part of the log.
            event("2", "agent", "ResponseComplete", "watch", None),
            event("3", "agent", "ResponseComplete", "patch", Some("status")),
            event("4", "agent", "ResponseComplete", "patch", Some("status")),
            event("5", "other", "ResponseComplete", "get", None),
            "{half".to_owned(),
        ];
        let expected = [("patch nodes/status", 2), ("watch nodes", 1)];
        let expected = expected.map(|(what, count)| (what.to_owned(), count));
        assert_eq!(requests(&log.join("\n"), "agent"), expected.into());
    }

    #[test]
    fn a_change_is_taken_back_by_the_next() {
        let used = |count| {
            let spec = &change(count, 100).body["spec"];
            spec["attributes"].as_array().unwrap().len()
        };
        assert_eq!([used(0), used(1), used(2)], [USED + 1, USED, USED + 1]);
        assert_eq!(change(0, 100).path, change(1, 100).path);
        assert_ne!(change(1, 100).path, change(2, 100).path);
    }
}
