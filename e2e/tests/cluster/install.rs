//! From nothing: Helm installs, pods talk, Helm upgrades under traffic, Helm uninstalls.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::kubernetes::{Kubernetes, LIMIT, NODES, RELEASE};
use e2e::wait;
use serde_json::Value;

use crate::{nothing_is_lost, nothing_is_refused, scenario};

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
        nothing_is_lost(cluster, &pods, |cluster| {
            cluster.deploy("upgrade", "--set image.tag=v2")?;
            agents_run(cluster, "localhost/tortie:v2")
        })?;
        nothing_is_refused(cluster)?;
        nothing_is_lost(cluster, &pods, |cluster| {
            let said = cluster.helm(&format!("uninstall {RELEASE} --wait"))?;
            eprintln!("{said}");
            agents_are_gone(cluster)?;
            std::thread::sleep(AFTER);
            Ok(())
        })?;
        cluster.all_reach_each_other(&pods)?;
        kept(cluster)
    })
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
