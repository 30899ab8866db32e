//! Forwarding goes on while agents die and come back.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::cluster::{Cluster, LIMIT, OUTSIDE, scenario};
use e2e::traffic::Flow;
use e2e::wait;
use nix::sys::signal::Signal;

const RATE: u32 = 1000;

#[test]
fn sigkill_loses_no_packet() -> Result<()> {
    scenario("kill", 2, |cluster| lossless(cluster, &[Signal::SIGKILL]))
}

#[test]
fn sigterm_loses_no_packet() -> Result<()> {
    scenario("term", 2, |cluster| lossless(cluster, &[Signal::SIGTERM]))
}

#[test]
fn a_second_kill_inside_the_restart_window_loses_no_packet() -> Result<()> {
    scenario("twice", 2, |cluster| {
        lossless(cluster, &[Signal::SIGKILL, Signal::SIGKILL])
    })
}

/// Flows in every direction that a restart of node1 could break: pod to pod both
/// ways, and from beyond BIRD to the pod.
fn lossless(cluster: &mut Cluster, signals: &[Signal]) -> Result<()> {
    cluster.plug(0, "pod0")?;
    cluster.plug(1, "pod1")?;
    cluster.wait_converged()?;
    let mut flows = Vec::new();
    for v6 in [false, true] {
        let (a, b) = (&cluster.pods[0], &cluster.pods[1]);
        for (from, to) in [(a, b), (b, a)] {
            flows.push(Flow::start(
                &from.namespace,
                &to.namespace,
                to.address(v6)?,
                RATE,
            )?);
        }
    }
    let outside = OUTSIDE[0].parse()?;
    let tor = cluster.tor.namespace.clone();
    flows.push(Flow::start(
        &cluster.pods[0].namespace,
        &tor,
        outside,
        RATE,
    )?);
    std::thread::sleep(Duration::from_millis(500));
    for (round, signal) in signals.iter().enumerate() {
        cluster.nodes[0].stop(*signal)?;
        std::thread::sleep(Duration::from_secs(1));
        cluster.nodes[0].start()?;
        // The next blow comes while sessions and routes are being restored.
        if round + 1 < signals.len() {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    cluster.nodes[0].wait_ready(LIMIT)?;
    cluster.wait_converged()?;
    std::thread::sleep(Duration::from_secs(2));
    for flow in flows {
        let count = flow.stop()?;
        ensure!(count.sent > 1000, "the flow did not run: {count:?}");
        ensure!(count.lost() == 0, "{count:?}");
    }
    Ok(())
}

#[test]
fn a_dead_node_does_not_delay_a_restarting_one() -> Result<()> {
    scenario("dead", 3, |cluster| {
        for node in 0..3 {
            cluster.plug(node, &format!("pod{node}"))?;
        }
        cluster.wait_converged()?;
        cluster.nodes[2].stop(Signal::SIGKILL)?;
        cluster.nodes[2].namespace.ip("link set eth0 down")?;
        cluster.nodes[0].stop(Signal::SIGKILL)?;
        // What the kernel kept would hide that nothing is learned.
        let block = cluster.blocks("node2")?.remove(0);
        cluster.nodes[0]
            .namespace
            .ip(&format!("route del {block}"))?;
        cluster.nodes[0].start()?;
        // node2 is alive: its block comes although node3 never sends an End-of-RIB.
        let what = format!("the restarted node to learn {block}");
        wait::until_true(&what, Duration::from_secs(10), || {
            Ok(cluster.nodes[0].route(&block)?.is_some())
        })?;
        // The wait for node3 is bounded.
        cluster.nodes[0].wait_ready(Duration::from_secs(60))?;
        Ok(())
    })
}
