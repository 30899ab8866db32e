//! What every test here asks: is the error seen, does the rest work, is all well again?

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, LIMIT};
use e2e::node::Node;
use e2e::wait;
use serde_json::Value;

/// Header of a manifest of Calico's group.
pub(crate) fn calico(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: crd.projectcalico.org/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

/// Writes a manifest of the user; returns where it is.
pub(crate) fn apply(cluster: &Cluster, file: &str, text: &str) -> Result<PathBuf> {
    let path = cluster.datastore().join(file);
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Changes the manifest the cluster began with; returns what it was.
pub(crate) fn edit(cluster: &Cluster, from: &str, to: &str) -> Result<String> {
    let path = cluster.datastore().join("cluster.yaml");
    let before = std::fs::read_to_string(&path)?;
    ensure!(before.contains(from), "cluster.yaml has no {from:?}");
    std::fs::write(&path, before.replacen(from, to, 1))?;
    Ok(before)
}

/// Puts the manifest back that [`edit`] returned.
pub(crate) fn restore(cluster: &Cluster, before: &str) -> Result<()> {
    Ok(std::fs::write(
        cluster.datastore().join("cluster.yaml"),
        before,
    )?)
}

/// The page `/state` of an agent.
pub(crate) fn state(node: &Node) -> Result<Value> {
    let answer = node.get("/state")?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    Ok(serde_json::from_str(body)?)
}

/// What an agent says is wrong.
pub(crate) fn problems(node: &Node) -> Result<Vec<String>> {
    let state = state(node)?;
    let problems = state["problems"].as_array().context("no problems")?;
    Ok(problems
        .iter()
        .filter_map(|problem| problem.as_str().map(str::to_owned))
        .collect())
}

/// Waits until one problem of the agent has all these words: object, field, remedy.
pub(crate) fn told(node: &Node, words: &[&str]) -> Result<()> {
    let what = format!("{} to tell of {words:?}", node.name);
    wait::until(&what, LIMIT, || {
        let problems = problems(node)?;
        let found = problems
            .iter()
            .any(|problem| words.iter().all(|word| problem.contains(word)));
        ensure!(found, "its problems are {problems:#?}");
        Ok(Some(()))
    })?;
    Ok(())
}

/// Waits until the condition `ConfigurationValid` in the datastore is false for these words.
pub(crate) fn in_status(cluster: &Cluster, node: usize, words: &[&str]) -> Result<()> {
    let name = &cluster.nodes[node].name;
    wait::until("the condition in NodeStatus", LIMIT, || {
        let condition = configuration_valid(cluster, name)?;
        let message = condition["message"].as_str().unwrap_or_default();
        let found =
            condition["status"] == "False" && words.iter().all(|word| message.contains(word));
        ensure!(found, "the condition is {condition}");
        Ok(Some(()))
    })?;
    Ok(())
}

fn configuration_valid(cluster: &Cluster, node: &str) -> Result<Value> {
    let statuses = cluster.objects("nodestatuses")?;
    let status = statuses
        .iter()
        .find(|status| status["metadata"]["name"] == node)
        .context("no NodeStatus")?;
    let conditions = status["status"]["conditions"].as_array();
    let condition = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "ConfigurationValid");
    Ok(condition.cloned().unwrap_or_default())
}

/// Waits until no agent has anything to complain about, without any restart.
pub(crate) fn well_again(cluster: &Cluster) -> Result<()> {
    for node in &cluster.nodes {
        let what = format!("{} to have no problem", node.name);
        wait::until(&what, LIMIT, || {
            let problems = problems(node)?;
            ensure!(problems.is_empty(), "its problems are {problems:#?}");
            let (ready, answer) = node.ready()?;
            ensure!(ready, "{answer}");
            Ok(Some(()))
        })?;
    }
    for node in &cluster.nodes {
        wait::until(
            "NodeStatus to say that all is well",
            LIMIT,
            || match configuration_valid(cluster, &node.name)? {
                condition if condition["status"] == "True" => Ok(Some(())),
                condition => anyhow::bail!("{}: {condition}", node.name),
            },
        )?;
    }
    works(cluster)
}

/// Every pod reaches every other one, and no session is down.
pub(crate) fn works(cluster: &Cluster) -> Result<()> {
    pods_reach_each_other(cluster)?;
    sessions_are_up(cluster)
}

/// Every pod reaches every other one.
pub(crate) fn pods_reach_each_other(cluster: &Cluster) -> Result<()> {
    for from in &cluster.pods {
        for to in cluster.pods.iter().filter(|to| to.name != from.name) {
            for v6 in [false, true] {
                let target = to.address(v6)?;
                from.namespace
                    .run(&format!("ping -n -q -c 2 -i 0.2 -W 1 {target}"))
                    .with_context(|| format!("{} to {}", from.name, to.name))?;
            }
        }
    }
    Ok(())
}

/// BIRD has its session with every node, and the mesh is whole.
pub(crate) fn sessions_are_up(cluster: &Cluster) -> Result<()> {
    wait::until("all sessions to be up", LIMIT, || {
        let up = cluster.tor.established()?;
        let nodes = cluster.nodes.len();
        ensure!(up == nodes, "BIRD has {up} sessions with {nodes} nodes");
        for node in &cluster.nodes {
            for peer in peers(node, "Mesh_")? {
                ensure!(
                    peer["state"] == "Established",
                    "{}: session {peer}",
                    node.name
                );
            }
        }
        Ok(Some(()))
    })?;
    Ok(())
}

/// How often sessions of the mesh and with BIRD were lost on this node.
pub(crate) fn flaps(node: &Node) -> Result<u64> {
    let mut flaps = 0;
    for prefix in ["Mesh_", "Global_"] {
        for peer in peers(node, prefix)? {
            flaps += peer["flaps"].as_u64().unwrap_or(0);
        }
    }
    Ok(flaps)
}

/// The peers of an agent whose names begin with `prefix`.
pub(crate) fn peers(node: &Node, prefix: &str) -> Result<Vec<Value>> {
    let state = state(node)?;
    let peers = state["bgp"]["peers"].as_array().context("no BGP section")?;
    Ok(peers
        .iter()
        .filter(|peer| {
            peer["name"]
                .as_str()
                .is_some_and(|name| name.starts_with(prefix))
        })
        .cloned()
        .collect())
}

/// One pod on each of the first two nodes, everybody knows everybody.
pub(crate) fn two_pods(cluster: &mut Cluster) -> Result<()> {
    cluster.plug(0, "pod0")?;
    cluster.plug(1, "pod1")?;
    cluster.wait_converged()?;
    well_again(cluster)
}
