//! From nothing: Helm installs, pods talk, Helm upgrades under traffic, Helm uninstalls.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::kubernetes::workload::Pod;
use e2e::kubernetes::{Kubernetes, LIMIT, NODES, RELEASE};
use e2e::wait;
use serde_json::Value;

use crate::{leaving, nothing_is_lost, nothing_is_refused, scenario};

const PODS: usize = 30;
/// How long packets flow on after the release is gone.
const AFTER: Duration = Duration::from_secs(10);

#[test]
fn one_helm_install_makes_a_cluster() -> Result<()> {
    scenario("k8s-install", "", |cluster| {
        nodes_are_ready(cluster)?;
        let pods = cluster.run_pods("web", PODS)?;
        for machine in &cluster.machines {
            let here = pods.iter().filter(|pod| pod.node == machine.name).count();
            ensure!(here == PODS / NODES, "{here} pods on {}", machine.name);
        }
        cluster.all_reach_each_other(&pods)?;
        cluster.all_reach_the_service("web", &pods)?;
        let said = cluster.helm(&format!("test {RELEASE} --timeout 120s"))?;
        ensure!(said.contains("Succeeded"), "{said}");
        kubectl_shows_the_network(cluster)?;
        let lost = a_pod_loses_its_interface(cluster)?;
        nothing_is_lost(cluster, &pods, |cluster| {
            cluster.deploy("upgrade", "--set image.tag=v2")?;
            agents_run(cluster, "localhost/tortie:v2")
        })?;
        agents_see_the_namespaces_of_pods(cluster, &lost)?;
        nothing_is_refused(cluster)?;
        nothing_is_lost(cluster, &pods, |cluster| {
            let said = cluster.helm(&format!("uninstall {RELEASE} --wait"))?;
            eprintln!("{said}");
            ensure!(said.contains("tortie-how-to-clean-up"), "{said}");
            agents_are_gone(cluster)?;
            std::thread::sleep(AFTER);
            Ok(())
        })?;
        cluster.all_reach_each_other(&pods)?;
        kept(cluster)?;
        leaving::for_good(cluster, &pods)
    })
}

/// Somebody deletes the host side of a pod that runs on.
fn a_pod_loses_its_interface(cluster: &Kubernetes) -> Result<Pod> {
    let lost = cluster.run_pods("lost", 1)?.remove(0);
    let machine = cluster.machine(&lost.node)?;
    let routes = machine.namespace.ip_json("-4 route show")?;
    let own = lost.address.to_string();
    let mut routes = routes.as_array().into_iter().flatten();
    let device = routes
        .find(|route| route["dst"] == *own)
        .and_then(|route| route["dev"].as_str())
        .context("a route to the pod")?
        .to_owned();
    machine.namespace.ip(&format!("link delete {device}"))?;
    Ok(lost)
}

/// An agent that starts takes a pod without interface for one that is there, because its namespace
/// is: it keeps its address. And no namespace stays when the runtime gives it up.
fn agents_see_the_namespaces_of_pods(cluster: &Kubernetes, lost: &Pod) -> Result<()> {
    let machine = cluster.machine(&lost.node)?;
    let blocks = cluster.items("ipamblocks")?;
    let mut attributes = blocks
        .iter()
        .filter_map(|block| block["spec"]["attributes"].as_array())
        .flatten();
    let kept = attributes.any(|one| one["secondary"]["pod"] == *lost.name);
    ensure!(kept, "the address of {lost:?} was freed");
    let agent = machine.run("pgrep -x tortie-felix")?;
    let seen = |folder: &str| -> Result<Vec<String>> {
        let names = machine.run(&format!("ls {folder}"))?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    };
    let of_agent = format!("/proc/{}/root/var/run/netns", agent.trim());
    let before = seen("/run/netns")?;
    ensure!(before == seen(&of_agent)?, "{before:?}");
    cluster.kubectl("delete deployment lost --wait=true")?;
    wait::until("the namespace to be gone everywhere", LIMIT, || {
        let (node, by_agent) = (seen("/run/netns")?, seen(&of_agent)?);
        ensure!(node == by_agent, "{node:?}, the agent sees {by_agent:?}");
        ensure!(node.len() + 1 == before.len(), "{node:?} of {before:?}");
        let mounts = machine.run(&format!("cat /proc/{}/mounts", agent.trim()))?;
        let held = mounts.lines().filter(|line| line.contains("nsfs")).count();
        ensure!(held == node.len(), "{mounts}");
        Ok(Some(()))
    })
    .map(drop)
}

/// Our plugin's configuration is what makes a node ready.
fn nodes_are_ready(cluster: &Kubernetes) -> Result<()> {
    cluster
        .kubectl("wait --for=condition=Ready nodes --all --timeout=60s")
        .map(drop)
}

/// Every agent is of this image, and no other is left.
fn agents_run(cluster: &Kubernetes, image: &str) -> Result<()> {
    wait::until("the agents to be replaced", LIMIT, || {
        let agents = agents(cluster)?;
        ensure!(agents.len() == NODES, "{} agents", agents.len());
        for agent in agents {
            let own = &agent["spec"]["containers"][0]["image"];
            ensure!(own == image, "{own} runs");
        }
        Ok(Some(()))
    })
    .map(drop)
}

fn agents(cluster: &Kubernetes) -> Result<Vec<Value>> {
    cluster.items("pods -n kube-system -l app.kubernetes.io/component=agent")
}

fn agents_are_gone(cluster: &Kubernetes) -> Result<()> {
    wait::until_true("the agents to be gone", LIMIT, || {
        Ok(agents(cluster)?.is_empty())
    })
    .map(drop)
}

/// What people look at first.
fn kubectl_shows_the_network(cluster: &Kubernetes) -> Result<()> {
    for (kind, columns) in [
        ("ippools", "NAME CIDR IPIP VXLAN NAT"),
        ("blockaffinities", "NAME NODE CIDR STATE"),
        ("nodestatuses", "NAME READY AS UP PEERS ROUTES USED FREE"),
    ] {
        let shown = cluster.kubectl(&format!("get {kind}"))?;
        eprintln!("{shown}");
        let head = shown.lines().next().unwrap_or_default();
        for column in columns.split(' ') {
            ensure!(
                head.contains(column),
                "{kind} has no column {column}: {head}"
            );
        }
    }
    let blocks = cluster.items("blockaffinities")?;
    ensure!(blocks.len() == NODES, "{} blocks", blocks.len());
    Ok(())
}

/// What a release leaves behind on purpose.
fn kept(cluster: &Kubernetes) -> Result<()> {
    let pools = cluster.items("ippools")?;
    ensure!(pools.len() == 1, "{} pools", pools.len());
    let blocks = cluster.items("blockaffinities")?;
    ensure!(blocks.len() == NODES, "{} blocks", blocks.len());
    Ok(())
}
