//! Agents that find everything in a real Kubernetes API server.
//!
//! `make e2e-api` runs it; `cargo test` does not, because it needs kube-apiserver, which
//! `e2e/kubernetes/get-tools` builds.
//!
//! Pods are plugged as a runtime does; see [`e2e::agents`].

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::agents::{ACCOUNT, API, Agents, NAMESPACE};
use e2e::apiserver::ApiServer;
use e2e::cluster::{LIMIT, no_errors_logged, node_addresses};
use e2e::diagnostics;
use e2e::lab::Lab;
use e2e::node::Node;
use e2e::pod::Pod;
use e2e::traffic::Flow;
use e2e::{rights, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

const RATE: u32 = 1000;
/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(8);

struct Cluster {
    nodes: Vec<Node>,
    api: ApiServer,
    lab: Lab,
}

impl Cluster {
    fn start(name: &str) -> Result<Self> {
        let Agents { nodes, api, lab } = Agents::prepare(name, POOL)?;
        let mut cluster = Self { nodes, api, lab };
        for (number, node) in (1..).zip(&mut cluster.nodes) {
            // As a kubelet does; the agent finds the prefix length itself.
            let ([v4, _], name) = (node_addresses(number), &node.name);
            cluster.api.kubectl(&format!(
                "patch node {name} --subresource=status --type=merge \
                 -p={{\"status\":{{\"addresses\":[{{\"type\":\"InternalIP\",\"address\":\"{v4}\"}}]}}}}"
            ))?;
            node.start()?;
        }
        Ok(cluster)
    }

    fn names(&self, kind: &str) -> Result<String> {
        self.api.kubectl(&format!("get {kind} -o name"))
    }

    fn plug(&self, node: usize, name: &str) -> Result<Pod> {
        self.api.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: default}}, spec: \
             {{nodeName: {}, containers: [{{name: c, image: none}}]}}}}",
            self.nodes[node].name
        ))?;
        let mut network = e2e::pod::configuration(&self.nodes[node]);
        network["ipam"]["assign_ipv6"] = "false".into();
        Pod::plug_with(&self.lab, &self.nodes[node], name, &network)
    }

    /// What an agent says of itself.
    fn state(&self, node: usize) -> Result<Value> {
        let answer = self.nodes[node].get("/state")?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
        Ok(serde_json::from_str(body)?)
    }

    /// Status of a node, as kubectl shows it.
    fn status(&self, node: usize) -> Result<Value> {
        let name = &self.nodes[node].name;
        let object = self.api.kubectl_json(&format!("get nodestatus {name}"))?;
        Ok(object["status"].clone())
    }

    fn wait_for_blocks(&self) -> Result<()> {
        let what = "each node to route the other's block";
        wait::until(what, LIMIT, || {
            let affinities = self.api.kubectl_json("get blockaffinities")?;
            let affinities = affinities["items"].as_array().context("a list")?;
            ensure!(affinities.len() == 2, "{affinities:#?}");
            for affinity in affinities {
                let spec = &affinity["spec"];
                ensure!(spec["state"] == "confirmed", "{spec}");
                let block = spec["cidr"].as_str().context("a block")?;
                for node in self.nodes.iter().filter(|node| spec["node"] != *node.name) {
                    let route = node.route(block)?;
                    ensure!(route.is_some(), "{} has no route to {block}", node.name);
                }
            }
            Ok(Some(()))
        })
        .map(drop)
    }
}

const POOL: &str = "apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: default-ipv4-ippool}
spec: {cidr: 10.244.0.0/16, blockSize: 26, ipipMode: Never, vxlanMode: Never, natOutgoing: false, nodeSelector: all()}
";

fn scenario(name: &str, test: impl FnOnce(&mut Cluster) -> Result<()>) -> Result<()> {
    let mut cluster = Cluster::start(name)?;
    let ready = cluster
        .nodes
        .iter()
        .try_for_each(|node| node.wait_ready(LIMIT).map(drop));
    let outcome = ready
        .and_then(|()| test(&mut cluster))
        .and_then(|()| no_errors_logged(&cluster.nodes));
    outcome.map_err(|error| {
        let state = diagnostics::collect(&cluster.nodes, None);
        error.context(format!("{state}\n{name} failed"))
    })
}

#[test]
fn agents_work_from_an_api_server_and_without_it() -> Result<()> {
    scenario("kube", |cluster| {
        let one = cluster.plug(0, "one")?;
        let two = cluster.plug(1, "two")?;
        let gone = cluster.plug(1, "gone")?;
        cluster.wait_for_blocks()?;
        what_agents_write_is_seen_by_kubectl(cluster, &one)?;

        let address = two.address(false)?;
        let flow = Flow::start(&one.namespace, &two.namespace, address, RATE)?;
        let routes = routes(cluster)?;
        cluster.api.stop(Signal::SIGKILL)?;
        headless(cluster)?;
        a_pod_gets_no_address(cluster)?;
        // The runtime is told that the pod is gone; its address is given back later.
        gone.unplug(&cluster.lab, &cluster.nodes[1])?;
        std::thread::sleep(AWAY);
        ensure!(
            routes_without(cluster, &gone)? == without(&routes, &gone)?,
            "routes changed while headless"
        );
        cluster.api.start_server()?;
        back(cluster)?;
        let count = flow.stop()?;
        ensure!(count.lost() == 0, "{count:?}");
        eprintln!("{count:?}");

        cluster.plug(0, "three")?;
        addresses_are_those_of_pods(cluster, 3)?;
        what_is_seldom_needed(cluster)?;
        rights::are_used(&cluster.api, NAMESPACE, ACCOUNT, &[])?;
        agents_watch_the_blocks_of_their_nodes(cluster)
    })
}

/// And no others, as the API server has written down.
fn agents_watch_the_blocks_of_their_nodes(cluster: &Cluster) -> Result<()> {
    let log = std::fs::read_to_string(cluster.api.file("audit.log"))?;
    let mut seen = BTreeSet::new();
    for line in log.lines() {
        // The last line may be half-written.
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        if event["verb"] != "watch" || event["objectRef"]["resource"] != "ipamblocks" {
            continue;
        }
        let uri = event["requestURI"].as_str().context("a request")?;
        let (_, selector) = uri
            .split_once("fieldSelector=spec.affinity%3Dhost%3A")
            .with_context(|| format!("all blocks are watched: {uri}"))?;
        let node = selector.split('&').next().unwrap_or_default();
        seen.insert(node.to_owned());
    }
    let nodes: BTreeSet<String> = cluster.nodes.iter().map(|n| n.name.clone()).collect();
    ensure!(seen == nodes, "blocks of {seen:?} are watched");
    Ok(())
}

/// A block that another node was faster to get, one that nobody owns any more, a session that ends.
fn what_is_seldom_needed(cluster: &mut Cluster) -> Result<()> {
    let api = &cluster.api;
    let all = |what: &dyn Fn(usize) -> String| (0..64).map(what).collect::<Vec<_>>().join(", ");
    api.apply(
        &SECOND_POOL
            .replace("ALLOCATIONS", &all(&|_| "null".to_owned()))
            .replace("FREE", &all(&|ordinal| ordinal.to_string())),
    )?;
    api.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: four, namespace: default, annotations: \
         {cni.projectcalico.org/ipv4pools: '[\"second\"]'}}, spec: {nodeName: node1, \
         containers: [{name: c, image: none}]}}",
    )?;
    let node = &cluster.nodes[0];
    wait::until_true("the pool to be known", LIMIT, || {
        let table = node.namespace.run("nft list table inet tortie")?;
        Ok(table.contains("10.245.0.0/25"))
    })?;
    let mut network = e2e::pod::configuration(node);
    network["ipam"]["assign_ipv6"] = "false".into();
    let four = Pod::plug_with(&cluster.lab, node, "four", &network)?;
    let affinities = cluster.names("blockaffinities")?;
    ensure!(
        !affinities.contains("node1-10-245-0-0-26"),
        "node2 has that block: {affinities}"
    );
    let name = "10-245-0-64-26";
    api.kubectl(&format!("delete blockaffinity node1-{name}"))?;
    api.kubectl(&format!(
        "patch ipamblock {name} --type=merge -p={{\"spec\":{{\"affinity\":null}}}}"
    ))?;
    four.unplug(&cluster.lab, node)?;
    wait::until("the block of nobody to be gone", LIMIT, || {
        let blocks = cluster.names("ipamblocks")?;
        ensure!(!blocks.contains(name), "{blocks}");
        Ok(Some(()))
    })?;
    cluster.nodes[1].stop(Signal::SIGTERM)?;
    wait::until("the lost session to be told", LIMIT, || {
        let events = cluster.api.kubectl("get events -n default")?;
        ensure!(events.contains("BGPSessionDown"), "{events}");
        Ok(Some(()))
    })
    .map(drop)
}

/// A pool of two blocks, of which node2 has one; node1 was about to take it.
const SECOND_POOL: &str = "apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: second}
spec: {cidr: 10.245.0.0/25, blockSize: 26, ipipMode: Never, vxlanMode: Never, natOutgoing: true, nodeSelector: all()}
---
apiVersion: crd.projectcalico.org/v1
kind: IPAMBlock
metadata: {name: 10-245-0-0-26}
spec:
  cidr: 10.245.0.0/26
  affinity: host:node2
  allocations: [ALLOCATIONS]
  attributes: []
  unallocated: [FREE]
  strictAffinity: false
  deleted: false
---
apiVersion: crd.projectcalico.org/v1
kind: BlockAffinity
metadata: {name: node2-10-245-0-0-26}
spec: {state: confirmed, node: node2, cidr: 10.245.0.0/26, deleted: 'false'}
---
apiVersion: crd.projectcalico.org/v1
kind: BlockAffinity
metadata: {name: node1-10-245-0-0-26}
spec: {state: pending, node: node1, cidr: 10.245.0.0/26, deleted: 'false'}
";

/// Addresses, blocks, sessions and pods, without asking the agents.
fn what_agents_write_is_seen_by_kubectl(cluster: &Cluster, pod: &Pod) -> Result<()> {
    let node = cluster.api.kubectl_json("get node node1")?;
    let address = &node["metadata"]["annotations"]["projectcalico.org/IPv4Address"];
    let [v4, _] = node_addresses(1);
    ensure!(*address == format!("{v4}/24"), "{address}");
    wait::until("the pod to be annotated with its address", LIMIT, || {
        let object = cluster.api.kubectl_json(&format!("get pod {}", pod.name))?;
        let noted = &object["metadata"]["annotations"]["cni.projectcalico.org/podIP"];
        ensure!(*noted == format!("{}/32", pod.address(false)?), "{noted}");
        Ok(Some(()))
    })?;
    for number in 0..cluster.nodes.len() {
        wait::until(
            "the status to show the session and the routes",
            LIMIT,
            || {
                let status = cluster.status(number)?;
                ensure!(status["peersEstablished"] == 1, "{status:#}");
                ensure!(status["routes"]["learned"] == 1, "{status:#}");
                ensure!(status["blocks"][0]["state"] == "confirmed", "{status:#}");
                Ok(Some(()))
            },
        )?;
    }
    eprintln!(
        "{}",
        cluster
            .api
            .kubectl("get nodestatuses,blockaffinities,ippools")?
    );
    Ok(())
}

/// Every agent says that it is headless, and that this is no reason to be replaced.
fn headless(cluster: &Cluster) -> Result<()> {
    for (number, node) in cluster.nodes.iter().enumerate() {
        wait::until("the agent to be headless", LIMIT, || {
            let state = cluster.state(number)?;
            let headless = &state["headless"];
            ensure!(headless["since"].is_string(), "{headless}");
            let problem = headless["problem"].as_str().context("a problem")?;
            ensure!(problem.contains(API), "{problem}");
            eprintln!(
                "{}: headless since {}: {problem}",
                node.name, headless["since"]
            );
            Ok(Some(()))
        })?;
        let (ready, answer) = node.ready()?;
        ensure!(ready, "{answer}");
    }
    Ok(())
}

/// The datastore is there again for every agent, and everybody sees that the agents are alive.
fn back(cluster: &Cluster) -> Result<()> {
    let before: Vec<Value> = (0..cluster.nodes.len())
        .map(|number| Ok(cluster.status(number)?["observedAt"].clone()))
        .collect::<Result<_>>()?;
    for (number, before) in before.iter().enumerate() {
        wait::until("the agent to find its datastore", LIMIT, || {
            let state = cluster.state(number)?;
            ensure!(state["headless"].is_null(), "{}", state["headless"]);
            let status = cluster.status(number)?;
            ensure!(status["observedAt"] != *before, "{status:#}");
            let conditions = status["conditions"].as_array().context("conditions")?;
            let reachable = conditions
                .iter()
                .find(|c| c["type"] == "DatastoreReachable");
            ensure!(
                reachable.is_some_and(|c| c["status"] == "True"),
                "{conditions:#?}"
            );
            Ok(Some(()))
        })?;
    }
    Ok(())
}

/// The plugin says "try again later" (11) as long as no address can be claimed.
fn a_pod_gets_no_address(cluster: &Cluster) -> Result<()> {
    let network = e2e::pod::configuration(&cluster.nodes[0]);
    let refused = Pod::plug_with(&cluster.lab, &cluster.nodes[0], "refused", &network);
    let text = format!(
        "{:#}",
        refused.err().context("an address without datastore")?
    );
    ensure!(
        text.contains("\"code\":11") || text.contains("\"code\": 11"),
        "{text}"
    );
    Ok(())
}

/// Destinations in the main table of every node.
fn routes(cluster: &Cluster) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for node in &cluster.nodes {
        for route in node.routes("-4")? {
            all.push(format!(
                "{}: {} via {}",
                node.name, route["dst"], route["gateway"]
            ));
        }
    }
    Ok(all)
}

fn routes_without(cluster: &Cluster, pod: &Pod) -> Result<Vec<String>> {
    without(&routes(cluster)?, pod)
}

fn without(routes: &[String], pod: &Pod) -> Result<Vec<String>> {
    let own = format!("\"{}\"", pod.address(false)?);
    Ok(routes
        .iter()
        .filter(|route| !route.contains(&own))
        .cloned()
        .collect())
}

/// As many addresses are in use as there are pods, in the blocks and by handle.
fn addresses_are_those_of_pods(cluster: &Cluster, pods: usize) -> Result<()> {
    wait::until("addresses in use to be those of pods", LIMIT, || {
        let blocks = cluster.api.kubectl_json("get ipamblocks")?;
        let blocks = blocks["items"].as_array().context("a list")?;
        let used: usize = blocks
            .iter()
            .flat_map(|block| block["spec"]["allocations"].as_array())
            .map(|all| all.iter().filter(|one| !one.is_null()).count())
            .sum();
        let handles = cluster.api.kubectl("get ipamhandles -o name")?;
        ensure!(used == pods, "{used} addresses are in use, by {handles}");
        ensure!(handles.lines().count() == pods, "{handles}");
        Ok(Some(()))
    })
    .map(drop)
}
