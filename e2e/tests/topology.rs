//! A controller that makes nodes reflectors when there are too many for a mesh, on a real API server, with the rights
//! that the chart grants: packets flow all the while, and none is lost.
//!
//! `make e2e-api` runs it; `cargo test` does not, because it needs kube-apiserver, which
//! `e2e/kubernetes/get-tools` builds. See [`e2e::agents`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::agents::Agents;
use e2e::apiserver::ApiServer;
use e2e::cluster::{LIMIT, no_errors_logged, node_addresses};
use e2e::command::binary;
use e2e::diagnostics;
use e2e::lab::Lab;
use e2e::node::Node;
use e2e::pod::Pod;
use e2e::process::Process;
use e2e::traffic::{Count, Flow};
use e2e::wait;
use e2e::{pod, rights};
use nix::sys::signal::Signal;
use serde_json::Value;

const NODES: usize = 5;
const RATE: u32 = 1000;
const NAMESPACE: &str = "kube-system";
const ACCOUNT: &str = "t-tortie-controller";
/// As the chart has them, with a limit that the nodes exceed.
const VALUES: [&str; 3] = [
    "reflectors.mode=auto",
    "reflectors.auto.meshLimit=3",
    "reflectors.auto.count=2",
];
/// Leases run out, and what is gone is waited for, before anything is taken away.
const CHANGE: Duration = Duration::from_secs(240);
/// How long packets are counted after the last change.
const OBSERVED: Duration = Duration::from_secs(2);
const CLUSTER_ID: &str = "projectcalico.org/RouteReflectorClusterID";
const POOL: &str = "apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: default-ipv4-ippool}
spec: {cidr: 10.244.0.0/16, blockSize: 26, ipipMode: Never, vxlanMode: Never, natOutgoing: false, nodeSelector: all()}
";

struct Cluster {
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    controllers: usize,
    kubeconfig: PathBuf,
    api: ApiServer,
    lab: Lab,
}

impl Cluster {
    fn start(name: &str) -> Result<Self> {
        let Agents { nodes, api, lab } = Agents::prepare_nodes(name, POOL, NODES)?;
        let templates = ["templates/controller.yaml"];
        api.apply(&rights::of_chart_with(NAMESPACE, &VALUES, &templates)?)?;
        let kubeconfig = api.kubeconfig_of_account(NAMESPACE, ACCOUNT)?;
        let mut cluster = Self {
            nodes,
            pods: Vec::new(),
            controllers: 0,
            kubeconfig,
            api,
            lab,
        };
        for (number, node) in (1..).zip(&mut cluster.nodes) {
            // As a kubelet and a cloud do.
            let ([v4, _], name) = (node_addresses(number), &node.name);
            cluster.api.kubectl(&format!(
                "label node {name} kubernetes.io/hostname={name} topology.kubernetes.io/zone=zone{}",
                number % 2
            ))?;
            cluster.api.kubectl(&format!(
                "patch node {name} --subresource=status --type=merge \
                 -p={{\"status\":{{\"addresses\":[{{\"type\":\"InternalIP\",\"address\":\"{v4}\"}}]}}}}"
            ))?;
            node.start()?;
        }
        Ok(cluster)
    }

    fn plug(&mut self, node: usize) -> Result<()> {
        let name = format!("pod{node}");
        self.api.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: default}}, spec: \
             {{nodeName: {}, containers: [{{name: c, image: none}}]}}}}",
            self.nodes[node].name
        ))?;
        let mut network = pod::configuration(&self.nodes[node]);
        network["ipam"]["assign_ipv6"] = "false".into();
        let pod = Pod::plug_with(&self.lab, &self.nodes[node], &name, &network)?;
        self.pods.push(pod);
        Ok(())
    }

    fn controller(&mut self) -> Result<Process> {
        self.controllers += 1;
        let log = format!("controller{}.log", self.controllers);
        let arguments = [
            "--datastore=kubernetes".to_owned(),
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--admin=127.0.0.1:{}", 9100 + self.controllers),
            "--mesh-limit=3".to_owned(),
            "--reflector-count=2".to_owned(),
            "--topology-settle=10s".to_owned(),
        ];
        let program = binary("tortie-controller")?;
        let child = self.api.spawn(&program, &arguments, &log)?;
        Ok(Process::new(child, self.api.file(&log)))
    }

    fn items(&self, what: &str) -> Result<Vec<Value>> {
        let list = self.api.kubectl_json(&format!("get {what}"))?;
        Ok(list["items"].as_array().context("a list")?.clone())
    }

    /// Numbers of the nodes that reflect.
    fn reflectors(&self) -> Result<BTreeSet<usize>> {
        let nodes = self.items("nodes")?.into_iter();
        let marked = nodes.filter(|node| node["metadata"]["annotations"][CLUSTER_ID].is_string());
        marked
            .map(|node| self.number(node["metadata"]["name"].as_str().unwrap_or_default()))
            .collect()
    }

    fn number(&self, name: &str) -> Result<usize> {
        let found = self.nodes.iter().position(|node| node.name == name);
        found.with_context(|| format!("{name} is no node"))
    }

    /// Names of the controller's BGPPeers.
    fn peerings(&self) -> Result<BTreeSet<String>> {
        let all = self.items("bgppeers -l tortie.dev/made-for=topology")?;
        let names = all
            .iter()
            .filter_map(|one| one["metadata"]["name"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn mesh(&self) -> Result<Option<bool>> {
        let all = self.items("bgpconfigurations")?;
        let default = all.iter().find(|one| one["metadata"]["name"] == "default");
        Ok(default.and_then(|one| one["spec"]["nodeToNodeMeshEnabled"].as_bool()))
    }

    /// Waits until each of these nodes has established sessions with exactly those, says its status.
    fn wait_sessions(&self, wanted: &BTreeMap<usize, BTreeSet<usize>>) -> Result<()> {
        let what = format!("sessions to be {wanted:?}");
        slowly(&what, || {
            let statuses = self.items("nodestatuses")?;
            for (node, others) in wanted {
                let name = &self.nodes[*node].name;
                let status = statuses
                    .iter()
                    .find(|one| one["metadata"]["name"] == **name);
                let peers = status.and_then(|one| one["status"]["peers"].as_array());
                let peers = peers.context("no peers")?.iter();
                let mut up = BTreeSet::new();
                for peer in peers {
                    let address = peer["peerIP"].as_str().unwrap_or_default();
                    let number = (0..NODES).find(|n| node_addresses(n + 1)[0] == address);
                    let number = number.with_context(|| format!("{name}: {peer}"))?;
                    // A node that is dead is a peer as long as its Node is there.
                    if wanted.contains_key(&number) {
                        ensure!(peer["state"] == "Established", "{name}: {peer}");
                        up.insert(number);
                    }
                }
                ensure!(up == *others, "{name} has sessions with {up:?}");
            }
            Ok(Some(()))
        })
    }

    /// What nodes with these reflectors have as peers.
    fn led(
        &self,
        nodes: &BTreeSet<usize>,
        reflectors: &BTreeSet<usize>,
    ) -> BTreeMap<usize, BTreeSet<usize>> {
        let of = |node: &usize| match reflectors.contains(node) {
            true => nodes.clone(),
            false => reflectors.clone(),
        };
        let others = nodes.iter().map(|node| {
            let mut others = of(node);
            others.remove(node);
            (*node, others)
        });
        others.collect()
    }

    /// From each of these nodes' pods to the next one's.
    fn flows(&self, nodes: &BTreeSet<usize>) -> Result<Vec<Flow>> {
        let nodes: Vec<usize> = nodes.iter().copied().collect();
        let next = nodes.iter().cycle().skip(1);
        let pairs = nodes.iter().zip(next);
        let flow = |(from, to): (&usize, &usize)| {
            let (from, to) = (&self.pods[*from], &self.pods[*to]);
            Flow::start(&from.namespace, &to.namespace, to.address(false)?, RATE)
        };
        pairs.map(flow).collect()
    }
}

/// Waits; every look costs some processes.
fn slowly(what: &str, mut look: impl FnMut() -> Result<Option<()>>) -> Result<()> {
    wait::until(what, CHANGE, || {
        std::thread::sleep(Duration::from_millis(500));
        look()
    })
    .map(|((), took)| eprintln!("{what}: after {:.1} s", took.as_secs_f32()))
}

fn nothing_is_lost(flows: Vec<Flow>) -> Result<()> {
    std::thread::sleep(OBSERVED);
    let counts: Vec<Count> = flows.into_iter().map(Flow::stop).collect::<Result<_>>()?;
    eprintln!("{counts:?}");
    for count in counts {
        ensure!(
            count.sent > u64::from(RATE) && count.lost() == 0,
            "{count:?}"
        );
    }
    Ok(())
}

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
        let log = cluster
            .api
            .file(&format!("controller{}.log", cluster.controllers));
        let log = std::fs::read_to_string(log).unwrap_or_default();
        error.context(format!("{state}\ncontroller:\n{log}\n{name} failed"))
    })
}

#[test]
fn mesh_and_reflectors_follow_the_number_of_nodes_without_a_lost_packet() -> Result<()> {
    scenario("topology", |cluster| {
        let all: BTreeSet<usize> = (0..NODES).collect();
        for node in &all {
            cluster.plug(*node)?;
        }
        let meshed = cluster.led(&all, &all);
        cluster.wait_sessions(&meshed)?;
        every_block_is_routed(cluster, &all)?;

        let flows = cluster.flows(&all)?;
        let (mut controller, reflectors) = to_reflectors(cluster, &all)?;
        nothing_is_lost(flows)?;
        what_is_changed_is_corrected(cluster)?;

        let dead = *reflectors.first().context("a reflector")?;
        let alive: BTreeSet<usize> = all.iter().copied().filter(|node| *node != dead).collect();
        let flows = cluster.flows(&alive)?;
        let reflectors = a_reflector_dies(cluster, dead, &alive, &reflectors)?;
        nothing_is_lost(flows)?;

        // One that reflects and one that does not stay.
        let stays = alive.difference(&reflectors).next().context("a client")?;
        let stay: BTreeSet<usize> = [*stays, *reflectors.first().context("one")?].into();
        let flows = cluster.flows(&stay)?;
        to_mesh(cluster, &all, &stay)?;
        nothing_is_lost(flows)?;

        rights_are_used(cluster)?;
        controller.end(Signal::SIGKILL)
    })
}

/// More nodes than the limit; the first controller dies on the way.
fn to_reflectors(
    cluster: &mut Cluster,
    all: &BTreeSet<usize>,
) -> Result<(Process, BTreeSet<usize>)> {
    let mut first = cluster.controller()?;
    slowly("the first BGPPeer", || {
        Ok((!cluster.peerings()?.is_empty()).then_some(()))
    })?;
    first.end(Signal::SIGKILL)?;
    let second = cluster.controller()?;
    slowly("the end of the mesh", || {
        ensure!(cluster.mesh()? == Some(false));
        Ok(Some(()))
    })?;
    let reflectors = cluster.reflectors()?;
    ensure!(reflectors.len() == 2, "{reflectors:?}");
    let zones: BTreeSet<usize> = reflectors.iter().map(|node| (node + 1) % 2).collect();
    ensure!(zones.len() == 2, "{reflectors:?} are in one zone");
    cluster.wait_sessions(&cluster.led(all, &reflectors))?;
    ensure!(cluster.peerings()?.len() == 2);
    every_block_is_routed(cluster, all)?;
    Ok((second, reflectors))
}

/// By somebody, and without consequence meanwhile.
fn what_is_changed_is_corrected(cluster: &Cluster) -> Result<()> {
    let name = cluster.peerings()?.pop_first().context("a BGPPeer")?;
    cluster.api.kubectl(&format!(
        "patch bgppeer {name} --type=merge -p={{\"spec\":{{\"nodeSelector\":\"has(kubernetes.io/hostname)\"}}}}"
    ))?;
    slowly("the BGPPeer to be right again", || {
        let spec = &cluster.api.kubectl_json(&format!("get bgppeer {name}"))?["spec"];
        ensure!(spec["nodeSelector"] == "all()", "{spec}");
        Ok(Some(()))
    })
}

/// Another one takes its place, in its zone, and the one that is left stays.
fn a_reflector_dies(
    cluster: &mut Cluster,
    dead: usize,
    alive: &BTreeSet<usize>,
    before: &BTreeSet<usize>,
) -> Result<BTreeSet<usize>> {
    cluster.nodes[dead].stop(Signal::SIGKILL)?;
    slowly("another reflector", || {
        let reflectors = cluster.reflectors()?;
        let is_replaced = reflectors.len() == 2 && !reflectors.contains(&dead);
        ensure!(is_replaced, "{reflectors:?} reflect");
        ensure!(cluster.peerings()?.len() == 2);
        Ok(Some(()))
    })?;
    let after = cluster.reflectors()?;
    let stayed: BTreeSet<&usize> = after.intersection(before).collect();
    ensure!(stayed.len() == 1, "{before:?}, then {after:?}");
    let zones: BTreeSet<usize> = after.iter().map(|node| (node + 1) % 2).collect();
    ensure!(zones.len() == 2, "{after:?} are in one zone");
    cluster.wait_sessions(&cluster.led(alive, &after))?;
    every_block_is_routed(cluster, alive)?;
    Ok(after)
}

/// The others are removed.
fn to_mesh(cluster: &mut Cluster, all: &BTreeSet<usize>, stay: &BTreeSet<usize>) -> Result<()> {
    for node in all.difference(stay) {
        let node = &mut cluster.nodes[*node];
        if node.pid().is_ok() {
            node.stop(Signal::SIGTERM)?;
        }
        cluster.api.kubectl(&format!("delete node {}", node.name))?;
    }
    slowly("the mesh alone", || {
        ensure!(cluster.mesh()? == Some(true), "the mesh is off");
        let (reflectors, peerings) = (cluster.reflectors()?, cluster.peerings()?);
        ensure!(
            reflectors.is_empty() && peerings.is_empty(),
            "{reflectors:?} {peerings:?}"
        );
        Ok(Some(()))
    })?;
    cluster.wait_sessions(&cluster.led(stay, stay))?;
    every_block_is_routed(cluster, stay)
}

/// Among these nodes.
fn every_block_is_routed(cluster: &Cluster, nodes: &BTreeSet<usize>) -> Result<()> {
    slowly("each node to route the others' blocks", || {
        for affinity in cluster.items("blockaffinities")? {
            let spec = &affinity["spec"];
            let owner = cluster.number(spec["node"].as_str().unwrap_or_default())?;
            let block = spec["cidr"].as_str().context("a block")?;
            let others = nodes.iter().filter(|node| **node != owner);
            for node in others.filter(|_| nodes.contains(&owner)) {
                let node = &cluster.nodes[*node];
                ensure!(node.route(block)?.is_some(), "{} lacks {block}", node.name);
            }
        }
        Ok(Some(()))
    })
}

/// What the chart grants for this was asked for, and nothing beyond it.
fn rights_are_used(cluster: &Cluster) -> Result<()> {
    let used = cluster.api.granted(NAMESPACE, ACCOUNT)?;
    for (verbs, resource) in [
        (
            &["list", "watch", "create", "update", "delete"][..],
            "bgppeers",
        ),
        (&["list", "watch", "create", "update"], "bgpconfigurations"),
        (&["get", "list", "watch", "patch"], "nodes"),
    ] {
        let used_here = used.iter().filter(|(_, used)| used == resource);
        let used_here: BTreeSet<&str> = used_here.map(|(verb, _)| verb.as_str()).collect();
        let granted: BTreeSet<&str> = verbs.iter().copied().collect();
        ensure!(used_here == granted, "{resource}: {used_here:?}");
    }
    let refused = cluster.api.refused(NAMESPACE, ACCOUNT)?;
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(())
}
