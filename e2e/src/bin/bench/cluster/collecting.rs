//! The controller with a real API server: how soon it notices and frees a thousand leaked addresses.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::agents::API;
use e2e::apiserver::ApiServer;
use e2e::apiserver::bulk::{Bulk, Connection, Request};
use e2e::cluster::node_addresses;
use e2e::command::binary;
use e2e::lab::{Lab, Namespace};
use e2e::node::Node;
use e2e::wait;

use super::objects::{self, BLOCKS, HANDLES, NODES, PODS};

/// Nodes that stay, each with a block and pods that run.
pub(super) const STAY: usize = 90;
pub(super) const PODS_PER_NODE: usize = 10;
/// Nodes that go, each with two blocks.
pub(super) const GO: usize = 10;
/// Addresses of each block that leak.
const USED_PER_BLOCK: usize = 50;
/// All of them.
pub(super) const LEAKED: u64 = (GO * 2 * USED_PER_BLOCK) as u64;
/// Set for this; 15 minutes is what the chart says.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// After its start an agent waits this long before it looks for leaks.
pub(super) const AGENT_WAITS: Duration = Duration::from_secs(10);
/// The simulated node whose name the agent takes.
const NODE: usize = 0;
const PAGE: &str = "127.0.0.1:9094";
const LIMIT: Duration = Duration::from_secs(180);

/// What was measured.
pub(super) struct Figures {
    /// Nodes were deleted: until the first address was free, and until all were.
    pub(super) gone_first: Duration,
    pub(super) gone_all: Duration,
    /// Until their blocks were given back.
    pub(super) gone_blocks: Duration,
    /// The node is there: until the controller lists all as candidates, and until as confirmed.
    pub(super) noticed: Duration,
    pub(super) confirmed: Duration,
    /// From the start of the node's agent until the first was free, and until all were.
    pub(super) agent_first: Duration,
    pub(super) agent_all: Duration,
}

/// Fields go in this order.
struct Stage {
    controller: Option<Controller>,
    bulk: Bulk,
    node: Node,
    api: ApiServer,
    host: Namespace,
    lab: Lab,
}

/// Runs both cases.
pub(super) fn measure() -> Result<Figures> {
    let mut stage = Stage::build()?;
    stage.fill()?;
    stage.start_controller()?;
    let mut connection = stage.bulk.connect()?;
    let [gone_first, gone_all, gone_blocks] = stage.nodes_go(&mut connection)?;
    println!(
        "  {GO} nodes deleted: the first of {LEAKED} addresses free after {:.2} s, all after {:.2} s",
        gone_first.as_secs_f64(),
        gone_all.as_secs_f64()
    );
    let [noticed, confirmed] = stage.pods_vanish()?;
    println!(
        "  node stays: {LEAKED} leaks noticed after {:.2} s, confirmed after {:.2} s",
        noticed.as_secs_f64(),
        confirmed.as_secs_f64()
    );
    let [agent_first, agent_all] = stage.agent_starts(&mut connection)?;
    println!(
        "  its agent starts: the first free after {:.2} s, all after {:.2} s",
        agent_first.as_secs_f64(),
        agent_all.as_secs_f64()
    );
    Ok(Figures {
        gone_first,
        gone_all,
        gone_blocks,
        noticed,
        confirmed,
        agent_first,
        agent_all,
    })
}

impl Stage {
    fn build() -> Result<Self> {
        let lab = Lab::new(super::LAB)?;
        let host = lab.namespace("api")?;
        lab.plug(&host, "api", &[&format!("{API}/24")])?;
        let api = ApiServer::inside(&lab.folder().join("api"), &host, API.parse()?)?;
        api.apply_crds()?;
        api.apply(&objects::pool("Never"))?;
        let [address, _] = node_addresses(1);
        let name = objects::node_name(NODE);
        let mut node = Node::new(&lab, &name, &[&format!("{address}/24")], lab.folder())?;
        node.arguments.push("--bgp=false".to_owned());
        node.use_kubernetes(api.kubeconfig("agent", &["system:masters"])?);
        Ok(Self {
            controller: None,
            bulk: Bulk::start(&api)?,
            node,
            api,
            host,
            lab,
        })
    }

    /// Nodes with blocks; those that stay have the Pods that have the addresses.
    fn fill(&self) -> Result<()> {
        let mut requests = Vec::new();
        let mut pods = Vec::new();
        for number in 0..STAY + GO {
            let name = objects::node_name(number);
            requests.push(Request::create(NODES, objects::node(number)));
            if number < STAY {
                claim(&mut requests, number, &name, PODS_PER_NODE);
                for ordinal in 0..PODS_PER_NODE {
                    requests.push(objects::pod(number, ordinal, &name));
                    pods.push(objects::pod_status(number, ordinal));
                }
            } else {
                for block in [2 * number, 2 * number + 1] {
                    claim(&mut requests, block, &name, USED_PER_BLOCK);
                }
            }
        }
        self.bulk.send(&requests)?;
        self.bulk.send(&pods)?;
        Ok(())
    }

    fn start_controller(&mut self) -> Result<()> {
        let kubeconfig = self.api.kubeconfig("controller", &["system:masters"])?;
        let log = File::create(self.lab.folder().join("controller.log"))?;
        let child = self
            .host
            .command(binary("tortie-controller")?)
            .args(["--datastore=kubernetes", &format!("--admin={PAGE}")])
            .arg(format!("--leak-grace-period={}s", GRACE.as_secs()))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .env("TORTIE_POD_NAME", "bench")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start tortie-controller")?;
        let controller = self.controller.insert(Controller {
            child,
            host: self.host.clone(),
        });
        wait::until("the controller to have looked", LIMIT, || {
            let looked = controller.metric("tortie_ipam_gc_looks_total{result=\"done\"}")?;
            Ok((looked > 0.0).then_some(()))
        })?;
        Ok(())
    }

    /// Nodes are deleted; until the first address is free, all are, and the blocks are given back.
    fn nodes_go(&self, connection: &mut Connection) -> Result<[Duration; 3]> {
        let staying = (STAY * PODS_PER_NODE) as u64;
        let before = Bulk::count(connection, HANDLES)?;
        ensure!(before == staying + LEAKED, "{before} handles");
        let start = Instant::now();
        for number in STAY..STAY + GO {
            let path = format!("{NODES}/{}", objects::node_name(number));
            connection.ask(&Request::delete(path))?;
        }
        let deleted = Instant::now();
        let [first, all] = freed(connection, start, before, staying)?;
        wait::until_true("blocks to be given back", LIMIT, || {
            Ok(Bulk::count(connection, BLOCKS)? == STAY as u64)
        })?;
        ensure!(first > deleted - start, "freed before the nodes were gone");
        Ok([first, all, start.elapsed()])
    }

    /// Addresses of pods that nobody knows, on a node that is there.
    fn pods_vanish(&self) -> Result<[Duration; 2]> {
        let name = objects::node_name(NODE);
        let mut requests = Vec::new();
        for block in 1000..1000 + 2 * GO {
            claim(&mut requests, block, &name, USED_PER_BLOCK);
        }
        self.bulk.send(&requests)?;
        let start = Instant::now();
        let controller = self.controller.as_ref().context("a controller")?;
        let listed = |state: &str| -> Result<Duration> {
            let metric = format!("tortie_ipam_gc_addresses{{state=\"{state}\"}}");
            #[allow(clippy::cast_precision_loss, reason = "a thousand")]
            let wanted = LEAKED as f64;
            wait::until_true(&format!("{LEAKED} addresses {state}"), LIMIT, || {
                let count = controller.metric(&metric)?;
                ensure!(count >= wanted, "{count}");
                Ok(true)
            })?;
            Ok(start.elapsed())
        };
        Ok([listed("candidate")?, listed("confirmed")?])
    }

    /// The agent frees what the controller may not: whether a sandbox is gone is known there only.
    fn agent_starts(&mut self, connection: &mut Connection) -> Result<[Duration; 2]> {
        // Those of its pods that run elsewhere than in this lab are left out of it.
        let mut pods = Vec::new();
        for ordinal in 0..PODS_PER_NODE {
            let name = objects::pod_name(NODE, ordinal);
            pods.push(Request::delete(format!("{PODS}/{name}")));
        }
        self.bulk.send(&pods)?;
        let before = Bulk::count(connection, HANDLES)?;
        let start = Instant::now();
        self.node.start()?;
        let staying = ((STAY - 1) * PODS_PER_NODE) as u64;
        freed(connection, start, before, staying)
    }
}

/// A block with addresses that have handles.
fn claim(requests: &mut Vec<Request>, block: usize, node: &str, used: usize) {
    requests.extend(objects::claim(block, node, used));
    requests.extend(objects::handles(block, used));
}

/// Until one handle less is there than before, and until as many as stay.
fn freed(
    connection: &mut Connection,
    start: Instant,
    before: u64,
    staying: u64,
) -> Result<[Duration; 2]> {
    let mut until = |what: &str, most: u64| -> Result<Duration> {
        wait::until_true(what, LIMIT, || {
            let count = Bulk::count(connection, HANDLES)?;
            ensure!(count <= most, "{count} handles");
            Ok(true)
        })?;
        Ok(start.elapsed())
    };
    let first = until("the first address to be free", before - 1)?;
    let all = until("all leaked addresses to be free", staying)?;
    Ok([first, all])
}

/// A running controller.
struct Controller {
    child: Child,
    host: Namespace,
}

impl Controller {
    fn metric(&self, name: &str) -> Result<f64> {
        let page = self.host.inside(|| {
            let mut stream = TcpStream::connect(PAGE)?;
            write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })?;
        Ok(value(&page, name).unwrap_or(0.0))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of a metric, labels included, on a page.
fn value(page: &str, name: &str) -> Option<f64> {
    let mut lines = page.lines().filter_map(|line| line.strip_prefix(name));
    lines.find_map(|rest| rest.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let page = "# HELP a x\na{b=\"c\"} 3\na 2\nab 1\n";
        assert_eq!(value(page, "a"), Some(2.0));
        assert_eq!(value(page, "a{b=\"c\"}"), Some(3.0));
        assert_eq!(value(page, "c"), None);
    }
}
