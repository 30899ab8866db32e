//! A node leaves the routing of the cluster, and comes back.
//!
//! The judge is the router beside the nodes, which is BIRD in another AS: it would keep the routes of
//! an agent that merely restarts for two minutes.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, LIMIT, scenario};
use e2e::{command, wait};
use nix::sys::signal::Signal;

/// RFC 8326, as BIRD writes it.
const GRACEFUL_SHUTDOWN: &str = "(65535,0)";
/// Well below the restart time of two minutes.
const AT_ONCE: Duration = Duration::from_secs(10);
/// Longer than peers are given to move to other ways.
const A_WHILE: Duration = Duration::from_secs(8);

#[test]
fn a_drained_node_is_forgotten_at_once_and_comes_back_when_asked() -> Result<()> {
    scenario("drain", 2, |cluster| {
        let block = a_block_of_node1(cluster)?;
        // A pod on the host's network can ask as much.
        let refused = cluster.nodes[0].ask("POST", "/drain/begin")?;
        ensure!(
            refused.starts_with("HTTP/1.1 403 ") && refused.contains("agent.sock"),
            "{refused}"
        );
        let state = cluster.nodes[0].get("/state")?;
        ensure!(state.contains("\"drain\":null"), "{state}");
        tortie_drain(cluster, &[])?;
        wait::until("BIRD to be asked to prefer other ways", AT_ONCE, || {
            let route = cluster.tor.birdc(&format!("show route all for {block}"))?;
            ensure!(route.contains(GRACEFUL_SHUTDOWN), "{route}");
            Ok(Some(()))
        })?;
        let begun = Instant::now();
        wait::until_true("BIRD to forget the block", AT_ONCE, || {
            Ok(!cluster.tor.knows(&block)?)
        })?;
        wait::until_true("node2 to forget the block", AT_ONCE, || {
            Ok(cluster.nodes[1].route(&block)?.is_none())
        })?;
        eprintln!("forgotten {:.1} s later", begun.elapsed().as_secs_f32());
        let (ready, answer) = cluster.nodes[0].ready()?;
        ensure!(ready, "the agent does what it shall: {answer}");
        let state = cluster.nodes[0].get("/state")?;
        ensure!(state.contains("\"stage\":\"Left\""), "{state}");

        // An agent that is replaced meanwhile stays out from its first moment.
        cluster.nodes[0].stop(Signal::SIGTERM)?;
        cluster.nodes[0].start()?;
        wait::until_true("the new agent to have left", LIMIT, || {
            let state = cluster.nodes[0].get("/state");
            Ok(state.is_ok_and(|state| state.contains("\"stage\":\"Left\"")))
        })?;
        let until = Instant::now() + A_WHILE;
        while Instant::now() < until {
            ensure!(!cluster.tor.knows(&block)?, "the node is back");
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = std::fs::read_to_string(cluster.nodes[0].log())?;
        let leaves = log.matches("peers shall prefer other ways").count();
        ensure!(leaves == 1, "it left {leaves} times");

        tortie_drain(cluster, &["--undo"])?;
        wait::until_true("BIRD to know the block again", LIMIT, || {
            cluster.tor.knows(&block)
        })?;
        cluster.wait_converged()?;
        let route = cluster.tor.birdc(&format!("show route all for {block}"))?;
        ensure!(!route.contains(GRACEFUL_SHUTDOWN), "{route}");
        Ok(())
    })
}

#[test]
fn a_node_to_be_deleted_serves_its_pods_to_the_end_and_is_then_forgotten() -> Result<()> {
    scenario("deleted", 2, |cluster| {
        let block = a_block_of_node1(cluster)?;
        edit_node1(cluster, "spec: {unschedulable: true}\n")?;
        std::thread::sleep(A_WHILE);
        ensure!(cluster.tor.knows(&block)?, "a cordon is no reason to leave");
        let state = cluster.nodes[0].get("/state")?;
        ensure!(state.contains("\"drain\":null"), "{state}");

        let taint = "{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}";
        edit_node1(
            cluster,
            &format!("spec: {{unschedulable: true, taints: [{taint}]}}\n"),
        )?;
        wait::until_true("the node to be leaving", LIMIT, || {
            Ok(cluster.nodes[0]
                .get("/state")?
                .contains("\"stage\":\"Leaving\""))
        })?;
        std::thread::sleep(A_WHILE);
        ensure!(cluster.tor.knows(&block)?, "a pod still runs there");
        ensure!(
            cluster.nodes[1].route(&block)?.is_some(),
            "a pod still runs there"
        );

        // The machine goes down: the agent is told to end, and this time it is for good.
        cluster.nodes[0].stop(Signal::SIGTERM)?;
        wait::until_true("BIRD to forget the block", AT_ONCE, || {
            Ok(!cluster.tor.knows(&block)?)
        })?;
        wait::until_true("node2 to forget the block", AT_ONCE, || {
            Ok(cluster.nodes[1].route(&block)?.is_none())
        })?;

        // It was not deleted after all.
        edit_node1(cluster, "")?;
        cluster.nodes[0].start()?;
        wait::until_true("BIRD to know the block again", LIMIT, || {
            cluster.tor.knows(&block)
        })?;
        // The other way to end, for comparison: an upgrade keeps everything.
        cluster.wait_converged()?;
        cluster.nodes[0].stop(Signal::SIGTERM)?;
        std::thread::sleep(A_WHILE);
        ensure!(
            cluster.tor.knows(&block)?,
            "an agent that is replaced is waited for"
        );
        cluster.nodes[0].start()?;
        cluster.wait_converged().map(drop)
    })
}

fn a_block_of_node1(cluster: &mut Cluster) -> Result<String> {
    cluster.plug(0, "pod0")?;
    cluster.wait_converged()?;
    let blocks = cluster.blocks("node1")?;
    let mut v4 = blocks.into_iter().filter(|block| block.contains('.'));
    v4.next().context("node1 has no IPv4 block")
}

fn tortie_drain(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    let mut tortie = Command::new(command::binary("tortie")?);
    tortie.arg("drain").args(arguments).arg("--socket");
    tortie.arg(cluster.nodes[0].socket().with_file_name("agent.sock"));
    let output = command::output(&mut tortie)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(said.contains("node1"), "{said}");
    Ok(())
}

/// Gives node1 this spec.
fn edit_node1(cluster: &Cluster, spec: &str) -> Result<()> {
    let path = cluster.datastore().join("cluster.yaml");
    let text = std::fs::read_to_string(&path)?;
    let documents: Vec<String> = text
        .split("---\n")
        .map(|document| {
            if !document.contains("kind: Node\n") || !document.contains("name: node1\n") {
                return document.to_owned();
            }
            let kept = document.lines().filter(|line| !line.starts_with("spec:"));
            let kept: String = kept.map(|line| format!("{line}\n")).collect();
            kept + spec
        })
        .collect();
    std::fs::write(&path, documents.join("---\n"))?;
    Ok(())
}
