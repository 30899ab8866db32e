//! Forwarding goes on while agents die and come back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::cluster::{ASN, Cluster, LIMIT, OUTSIDE, node_addresses, scenario};
use e2e::command::binary;
use e2e::router::{Kind, Neighbour, Router, Setup};
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

#[test]
fn a_router_that_is_frr_keeps_forwarding_over_kills_of_the_agent() -> Result<()> {
    let signals = [Signal::SIGKILL, Signal::SIGKILL, Signal::SIGTERM];
    scenario("killfrr", 2, |cluster| {
        let nodes = [1, 2].map(|number| {
            let mut node = Neighbour::new(&node_addresses(number)[0], ASN);
            node.restart = true;
            node
        });
        let setup = Setup {
            asn: 64501,
            v4: "192.0.2.2".to_owned(),
            v6: "2001:db8::2".to_owned(),
            neighbours: nodes.to_vec(),
            ..Setup::default()
        };
        let frr = Router::start(&cluster.lab, "frr", Kind::Frr, &setup)?;
        std::fs::write(cluster.datastore().join("frr.yaml"), FRR_PEER)?;
        let pod = cluster.plug(0, "behind")?;
        let (pod, addresses) = (
            pod.namespace.clone(),
            [pod.address(false)?, pod.address(true)?],
        );
        let mut flows = Vec::new();
        for address in addresses {
            let what = format!("a route to {address} in the kernel of FRR's machine");
            wait::until_true(&what, LIMIT, || {
                let route = frr.namespace.ip(&format!("route get {address}"));
                Ok(route.is_ok_and(|route| route.contains(" via ")))
            })
            .with_context(|| frr.words())?;
            flows.push(Flow::start(&frr.namespace, &pod, address, RATE)?);
        }
        let kept = lossless(cluster, &signals);
        for flow in flows {
            let count = flow.stop()?;
            ensure!(count.sent > 1000, "the flow did not run: {count:?}");
            ensure!(count.lost() == 0, "through FRR: {count:?}\n{}", frr.words());
        }
        kept
    })
}

/// FRR as another router of every node.
const FRR_PEER: &str = "apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: {name: frr}
spec: {peerIP: 192.0.2.2, asNumber: 64501}
";

/// Kills or ends the agent of node1 while packets flow, and starts it again.
fn lossless(cluster: &mut Cluster, signals: &[Signal]) -> Result<()> {
    let flows = flows(cluster)?;
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
    nothing_lost(flows)
}

/// Flows in every direction that a restart of node1 could break: pod to pod both
/// ways, from the pod to the router and from the router, BIRD, to the pod.
fn flows(cluster: &mut Cluster) -> Result<Vec<Flow>> {
    cluster.plug(0, "pod0")?;
    cluster.plug(1, "pod1")?;
    cluster.wait_converged()?;
    let mut flows = Vec::new();
    let pod = |name: &str| {
        let pod = cluster.pods.iter().find(|pod| pod.name == name);
        pod.with_context(|| format!("{name} is not there"))
    };
    let tor = &cluster.tor.namespace;
    for v6 in [false, true] {
        let (a, b) = (pod("pod0")?, pod("pod1")?);
        flows.push(Flow::start(tor, &a.namespace, a.address(v6)?, RATE)?);
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
    flows.push(Flow::start(&pod("pod0")?.namespace, tor, outside, RATE)?);
    std::thread::sleep(Duration::from_millis(500));
    Ok(flows)
}

fn nothing_lost(flows: Vec<Flow>) -> Result<()> {
    // What the restart left stale would go about now.
    std::thread::sleep(Duration::from_secs(2));
    for flow in flows {
        let count = flow.stop()?;
        ensure!(count.sent > 1000, "the flow did not run: {count:?}");
        ensure!(count.lost() == 0, "{count:?}");
    }
    Ok(())
}

/// A router that is configured and never answers: the trap in which a restarting speaker waits for
/// everybody before it tells anybody anything.
const DEAD_PEER: &str = "apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: {name: dead}
spec: {peerIP: 192.0.2.99, asNumber: 64599}
";

/// How long a peer that may still come is waited for.
const SETTLE: Duration = Duration::from_secs(20);

#[test]
fn a_peer_that_is_dead_for_good_costs_a_restart_no_packet_and_no_time() -> Result<()> {
    scenario("trap", 2, |cluster| {
        std::fs::write(cluster.datastore().join("dead.yaml"), DEAD_PEER)?;
        let flows = flows(cluster)?;
        let remembered = cluster.nodes[0].state_dir().join("bgp-peers.json");
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            wait::until_true("the peers that are up to be written down", LIMIT, || {
                let text = std::fs::read_to_string(&remembered)?;
                Ok(["192.0.2.1\"", "192.0.2.12\""]
                    .iter()
                    .all(|peer| text.contains(peer)))
            })?;
            cluster.nodes[0].stop(signal)?;
            let start = Instant::now();
            cluster.nodes[0].start()?;
            cluster.nodes[0].wait_ready(LIMIT)?;
            // Ready means converged: everybody who is waited for has told everything.
            let took = start.elapsed();
            ensure!(took < SETTLE, "ready after {took:?}");
            cluster.wait_converged()?;
        }
        nothing_lost(flows)
    })
}

#[test]
fn without_a_list_of_peers_a_dead_one_costs_time_and_no_packet() -> Result<()> {
    scenario("nolist", 2, |cluster| {
        std::fs::write(cluster.datastore().join("dead.yaml"), DEAD_PEER)?;
        let flows = flows(cluster)?;
        cluster.nodes[0].stop(Signal::SIGKILL)?;
        let remembered = cluster.nodes[0].state_dir().join("bgp-peers.json");
        std::fs::write(remembered, "{\"version\": 1, \"pe")?;
        cluster.nodes[0].start()?;
        cluster.nodes[0].wait_ready(LIMIT)?;
        cluster.wait_converged()?;
        nothing_lost(flows)
    })
}

/// Every node in turn, as an orchestrator does it: the old program is asked to end, another file
/// takes its place, and what the old one did not write is not there.
#[test]
fn an_upgrade_of_every_node_in_turn_loses_no_packet() -> Result<()> {
    scenario("upgrade", 2, |cluster| {
        let flows = flows(cluster)?;
        let new = cluster.lab.folder().join("tortie-felix-new");
        std::fs::copy(binary("tortie-felix")?, &new)?;
        // At first so long that the other side dials seldom, then as long as it takes.
        let times = [Duration::from_secs(20), Duration::ZERO];
        for (node, away) in cluster.nodes.iter_mut().zip(times) {
            node.stop(Signal::SIGTERM)?;
            std::thread::sleep(away);
            std::fs::remove_file(node.state_dir().join("bgp-peers.json"))?;
            node.start_program(&new)?;
            node.wait_ready(LIMIT)?;
        }
        cluster.wait_converged()?;
        nothing_lost(flows)
    })
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
