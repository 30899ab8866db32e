//! A path is told on only where its next hop can be reached, and the way to it counts.
//!
//! ```text
//!  near (BIRD, AS 64501)   far (BIRD, AS 64502)     node1     tor (BIRD, AS 64500)
//!   |  next hop 198.18.1.9  |  next hop 198.18.2.9   |         |
//!  -+-----------------------+------------------------+---------+--  192.0.2.0/24
//! ```

use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{ASN, Cluster, LIMIT, ROUTER, node_addresses, scenario};
use e2e::command::{binary, output};
use e2e::router::{Announced, Kind, Neighbour, Router, Setup};
use e2e::wait;
use serde_json::Value;

/// What only the near router announces, and what both do.
const ALONE: &str = "10.244.100.0/26";
const BOTH: &str = "10.244.101.0/26";
/// Where the next hops of each are.
const NEAR: &str = "198.18.1.0/24";
const FAR: &str = "198.18.2.0/24";

#[test]
fn a_route_whose_next_hop_cannot_be_reached_is_not_told_and_the_way_to_it_decides() -> Result<()> {
    scenario("nexthop", 1, |cluster| {
        let ip = |words: &str| cluster.nodes[0].namespace.ip(words);
        // With a default route there would be a way to everything.
        ip("route del default")?;
        ip(&format!("route add {NEAR} via {} metric 10", ROUTER[0]))?;
        ip(&format!("route add {FAR} via {} metric 20", ROUTER[0]))?;
        let near = router(cluster, "near", 2, 64501, "198.18.1.9", &[ALONE, BOTH])?;
        let far = router(cluster, "far", 3, 64502, "198.18.2.9", &[BOTH])?;
        std::fs::write(cluster.datastore().join("routers.yaml"), PEERS)?;
        let told = || -> Result<()> {
            as_path(cluster, ALONE, Some("64512 64501"))?;
            as_path(cluster, BOTH, Some("64512 64501"))
        };
        told().with_context(|| near.words() + &far.words())?;
        let lost = "not best: IGP metric to the next hop 20, 10 is better";
        wait::until_true("the metric as the reason", LIMIT, || {
            Ok(why(cluster, BOTH)?.contains(lost))
        })
        .with_context(|| why(cluster, BOTH).unwrap_or_default())?;

        ip(&format!("route add {NEAR} via {} metric 30", ROUTER[0]))?;
        ip(&format!("route del {NEAR} metric 10"))?;
        as_path(cluster, BOTH, Some("64512 64502"))?;
        as_path(cluster, ALONE, Some("64512 64501"))?;
        ip(&format!("route del {NEAR} metric 30"))?;
        as_path(cluster, ALONE, None)?;
        let text = why(cluster, ALONE)?;
        ensure!(text.contains("not usable: next hop unreachable"), "{text}");
        wait::until_true("the next hop among the problems", LIMIT, || {
            let state = cluster.nodes[0].get("/state")?;
            Ok(state.contains("BGP next hop 198.18.1.9 are left out"))
        })?;
        ip(&format!("route add {NEAR} via {} metric 10", ROUTER[0]))?;
        as_path(cluster, ALONE, Some("64512 64501"))?;
        as_path(cluster, BOTH, Some("64512 64501"))
    })
}

const PEERS: &str = "apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: {name: near}
spec: {peerIP: 192.0.2.2, asNumber: 64501}
---
apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: {name: far}
spec: {peerIP: 192.0.2.3, asNumber: 64502}
";

/// A router beside the node that announces what is behind somebody else.
fn router(
    cluster: &Cluster,
    name: &str,
    number: u8,
    asn: u32,
    next_hop: &str,
    prefixes: &[&str],
) -> Result<Router> {
    let announce = prefixes.iter().map(|prefix| Announced {
        next_hop: Some(next_hop.to_owned()),
        ..Announced::plain(prefix)
    });
    let setup = Setup {
        asn,
        v4: format!("192.0.2.{number}"),
        v6: format!("2001:db8::{number}"),
        announce: announce.collect(),
        neighbours: vec![Neighbour::new(&node_addresses(1)[0], ASN)],
        ..Setup::default()
    };
    Router::start(&cluster.lab, name, Kind::Bird, &setup)
}

/// Waits until BIRD behind the node has the prefix with this AS path, or not at all.
fn as_path(cluster: &Cluster, prefix: &str, path: Option<&str>) -> Result<()> {
    let what = format!("{prefix} with AS path {path:?} on BIRD behind the node");
    wait::until(&what, LIMIT, || {
        let words = cluster.tor.route(prefix)?;
        let seen = words
            .lines()
            .find_map(|line| line.trim().strip_prefix("BGP.as_path: "));
        ensure!(seen == path, "{seen:?}");
        Ok(Some(()))
    })?;
    Ok(())
}

/// `tortie bgp why`, as people read it.
fn why(cluster: &Cluster, prefix: &str) -> Result<String> {
    let mut tortie = Command::new(binary("tortie")?);
    tortie.args(["bgp", "why", prefix, "-o", "json", "--socket"]);
    tortie.arg(cluster.nodes[0].socket().with_file_name("agent.sock"));
    let answer: Value = serde_json::from_slice(&output(&mut tortie)?.stdout)?;
    let lines = answer["text"].as_array().context("no text")?;
    let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
    Ok(lines.join("\n"))
}
