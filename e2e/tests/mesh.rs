//! Pods on several nodes reach each other over routes that our speakers announced.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, LIMIT, OUTSIDE, ROUTER, node_addresses, scenario};
use e2e::command;
use e2e::lab::Namespace;
use e2e::wait;
use serde_json::Value;

#[test]
fn pods_on_three_nodes_reach_each_other_and_the_router() -> Result<()> {
    scenario("mesh", 3, |cluster| {
        for node in 0..3 {
            cluster.plug(node, &format!("pod{node}"))?;
        }
        cluster.wait_converged()?;
        for v6 in [false, true] {
            for from in &cluster.pods {
                for to in &cluster.pods {
                    reach(&from.namespace, &to.address(v6)?.to_string())?;
                }
                reach(&from.namespace, OUTSIDE[usize::from(v6)])?;
            }
        }
        blocks_are_announced_whole(cluster)?;
        status_agrees_with_the_router(cluster)?;
        the_command_line_sees_every_session(cluster)
    })
}

/// `tortie bgp peers` over the agent's own socket.
fn the_command_line_sees_every_session(cluster: &Cluster) -> Result<()> {
    for node in &cluster.nodes {
        let mut tortie = Command::new(command::binary("tortie")?);
        tortie.args(["bgp", "peers", "-o", "json", "--socket"]);
        tortie.arg(node.socket().with_file_name("agent.sock"));
        let peers: Value = serde_json::from_slice(&command::output(&mut tortie)?.stdout)?;
        let peers = peers.as_array().context("a list of peers")?;
        ensure!(
            peers.len() == cluster.nodes.len()
                && peers.iter().all(|peer| peer["state"] == "Established"),
            "{}: {peers:#?}",
            node.name
        );
    }
    Ok(())
}

/// NodeStatus of node1: every session is up, and the numbers of the one with BIRD are BIRD's.
fn status_agrees_with_the_router(cluster: &Cluster) -> Result<()> {
    let [address, _] = node_addresses(1);
    wait::until("the status of node1 to agree with BIRD", LIMIT, || {
        let objects = cluster.objects("nodestatuses")?;
        let mut named = objects.iter();
        let object = named.find(|object| object["metadata"]["name"] == "node1");
        let status = &object.context("no NodeStatus of node1")?["status"];
        let peers = status["peers"].as_array().context("no peers")?;
        ensure!(
            peers.len() == cluster.nodes.len()
                && peers.iter().all(|peer| peer["state"] == "Established"),
            "not every session is up: {status:#}"
        );
        let mut routers = peers.iter().filter(|peer| peer["peerIP"] == ROUTER[0]);
        let router = routers.next().context("no session with the router")?;
        let (imported, exported) = cluster.tor.exchanged(&address)?;
        let shown = |name: &str| router[name].as_u64();
        ensure!(imported > 0 && exported > 0, "BIRD: {imported}, {exported}");
        ensure!(
            shown("advertised") == Some(imported)
                && ["received", "accepted", "best"].map(shown) == [Some(exported); 3],
            "BIRD took {imported} and told {exported} routes: {router:#}"
        );
        Ok(Some(()))
    })?;
    Ok(())
}

/// One route per block and no pod route: aggregation as Calico does it.
fn blocks_are_announced_whole(cluster: &Cluster) -> Result<()> {
    for pod in &cluster.pods {
        for v6 in [false, true] {
            let address = pod.address(v6)?;
            let length = if v6 { 128 } else { 32 };
            ensure!(
                !cluster.tor.knows(&format!("{address}/{length}"))?,
                "{address} went out alone"
            );
        }
        let node = cluster.node_of(pod)?;
        for block in cluster.blocks(&node.name)? {
            let route = node.route(&block)?;
            ensure!(
                route
                    .as_ref()
                    .is_some_and(|route| route["type"] == "blackhole"),
                "{} has no blackhole for its own block {block}: {route:?}",
                node.name
            );
        }
    }
    Ok(())
}

#[test]
fn a_node_without_a_default_route_still_answers_for_the_gateway() -> Result<()> {
    scenario("gateway", 2, |cluster| {
        for node in &cluster.nodes {
            node.namespace.ip("route del default")?;
        }
        cluster.plug(0, "pod0")?;
        cluster.plug(1, "pod1")?;
        cluster.wait_converged()?;
        let target = cluster.pods[1].address(false)?.to_string();
        reach(&cluster.pods[0].namespace, &target)
    })
}

#[test]
fn toggling_the_mesh_takes_routes_away_and_brings_them_back() -> Result<()> {
    scenario("toggle", 2, |cluster| {
        cluster.plug(0, "pod0")?;
        cluster.plug(1, "pod1")?;
        cluster.wait_converged()?;
        let block = cluster.blocks("node2")?.remove(0);
        let manifest = cluster.datastore().join("cluster.yaml");
        let with_mesh = std::fs::read_to_string(&manifest)?;
        let without = with_mesh.replace(
            "nodeToNodeMeshEnabled: true",
            "nodeToNodeMeshEnabled: false",
        );
        std::fs::write(&manifest, without)?;
        wait::until_true("the block to go from node1", LIMIT, || {
            Ok(cluster.nodes[0].route(&block)?.is_none())
        })?;
        ensure!(
            cluster.tor.knows(&block)?,
            "the session with BIRD must not be touched"
        );
        std::fs::write(&manifest, with_mesh)?;
        cluster.wait_converged()?;
        Ok(())
    })
}

fn reach(from: &Namespace, target: &str) -> Result<()> {
    from.run(&format!("ping -n -q -c 3 -i 0.2 -W 1 {target}"))?;
    Ok(())
}
