//! What a BGPPeer may ask for besides a session: BFD, long-lived restart, a limit; and ADD-PATH,
//! which nodes have between them. BIRD is the judge of what it sees of the agent.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{ASN, Cluster, LIMIT, node_addresses, scenario};
use e2e::command::{binary, output};
use e2e::router::{Announced, Kind, Neighbour, Router, Setup};
use e2e::wait;
use serde_json::Value;

const PREFIXES: [&str; 3] = ["10.244.100.0/26", "10.244.101.0/26", "10.244.102.0/26"];
const ADDRESS: &str = "192.0.2.2";
/// The hold time is 90 s; five packets at 300 ms are 1.5 s. The rest is for a busy machine.
const DETECTION: Duration = Duration::from_secs(5);

const PEER: &str = "apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: {name: watched}
spec:
  peerIP: 192.0.2.2
  asNumber: 64501
  failureDetectionMode: BFDIfDirectlyConnected
  bfd: {minimumSendInterval: 300ms, minimumRecvInterval: 300ms, multiplier: 5}
  restartMode: LongLivedGracefulRestart
  maxRestartTime: 10m
  maxPrefixes: {limit: 2, action: Discard}
";

#[test]
fn a_peer_is_watched_with_bfd_kept_for_long_and_limited_as_its_object_says() -> Result<()> {
    scenario("options", 2, |cluster| {
        let mut node = Neighbour::new(&node_addresses(1)[0], ASN);
        (node.bfd, node.restart, node.long_lived) = (true, true, Some(600));
        let setup = Setup {
            asn: 64501,
            v4: ADDRESS.to_owned(),
            v6: "2001:db8::2".to_owned(),
            announce: PREFIXES.map(Announced::plain).into(),
            neighbours: vec![node],
            ..Setup::default()
        };
        let bird = Router::start(&cluster.lab, "bird", Kind::Bird, &setup)?;
        std::fs::write(cluster.datastore().join("watched.yaml"), PEER)?;
        steps(cluster, &bird).with_context(|| bird.words())
    })
}

fn steps(cluster: &Cluster, bird: &Router) -> Result<()> {
    up(cluster, bird)?;
    let says = bird.bgp_sessions()?;
    let (_, theirs) = says
        .split_once("Neighbor capabilities")
        .context("no session")?;
    let long_lived = theirs.contains("Long-lived graceful restart");
    ensure!(
        long_lived && theirs.contains("LL stale time: 600"),
        "{theirs}"
    );
    limited(cluster)?;

    // What BIRD sends is lost, so only BFD can notice that soon.
    let drop = format!("INPUT -s {ADDRESS} -j DROP");
    let node = &cluster.nodes[0];
    node.namespace.run(&format!("iptables -I {drop}"))?;
    let took = wait::until_true("the routes to go", LIMIT, || Ok(installed(cluster)? == 0))?;
    ensure!(took < DETECTION, "it took {took:?}");
    wait::until_true("BIRD to be told", LIMIT, || {
        Ok(!bird.is_established(&node_addresses(1)[0])?)
    })?;
    node.namespace.run(&format!("iptables -D {drop}"))?;
    up(cluster, bird)?;
    add_path(cluster)
}

fn up(cluster: &Cluster, bird: &Router) -> Result<()> {
    wait::until("BFD to be up in BIRD's words, at its pace", LIMIT, || {
        let says = bird.bfd_sessions()?;
        let its = says.lines().find(|line| line.contains("192.0.2.11"));
        let its = its.with_context(|| says.clone())?;
        let fast = its.contains("0.300") && its.contains("1.500");
        ensure!(its.contains(" Up ") && fast, "{its}");
        Ok(Some(()))
    })?;
    wait::until_true("two of its routes in the kernel", LIMIT, || {
        Ok(installed(cluster)? == 2 && bird.is_established(&node_addresses(1)[0])?)
    })?;
    Ok(())
}

/// How many of the prefixes the kernel has routes to.
fn installed(cluster: &Cluster) -> Result<usize> {
    let mut count = 0;
    for prefix in PREFIXES {
        count += usize::from(cluster.nodes[0].route(prefix)?.is_some());
    }
    Ok(count)
}

/// Two of the three prefixes are used.
fn limited(cluster: &Cluster) -> Result<()> {
    wait::until("the limit to be seen", LIMIT, || {
        let peer = show(cluster, &format!("peer {ADDRESS}"))?;
        let text = peer.to_string();
        ensure!(
            text.contains("\"received\":3") && text.contains("\"accepted\":2"),
            "{text}"
        );
        Ok(Some(()))
    })?;
    Ok(())
}

fn add_path(cluster: &Cluster) -> Result<()> {
    let peer = show(cluster, &format!("peer {}", node_addresses(2)[0]))?.to_string();
    let both = peer
        .matches("\"addPathReceive\":true,\"addPathSend\":true")
        .count();
    ensure!(both == 2, "of two families: {peer}");
    let router = show(cluster, &format!("peer {ADDRESS}"))?.to_string();
    ensure!(!router.contains("\"addPathSend\":true"), "{router}");
    Ok(())
}

fn show(cluster: &Cluster, what: &str) -> Result<Value> {
    let mut tortie = Command::new(binary("tortie")?);
    tortie.arg("bgp").args(what.split_whitespace());
    tortie.args(["-o", "json", "--socket"]);
    tortie.arg(cluster.nodes[0].socket().with_file_name("agent.sock"));
    Ok(serde_json::from_slice(&output(&mut tortie)?.stdout)?)
}
