//! What the agent owns is repaired within a second, what it does not own stays.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::cluster::scenario;
use e2e::node::Node;
use e2e::wait;

const A_SECOND: Duration = Duration::from_secs(1);

#[test]
fn deleted_and_changed_objects_are_repaired_within_a_second() -> Result<()> {
    scenario("repair", 2, |cluster| {
        cluster.plug(0, "pod0")?;
        cluster.plug(1, "pod1")?;
        cluster.wait_converged()?;
        let node = &cluster.nodes[0];
        for v6 in [false, true] {
            let flag = if v6 { "-6" } else { "-4" };
            let pod = cluster.pods[0].address(v6)?.to_string();
            let own = block(cluster.blocks("node1")?, v6)?;
            let remote = block(cluster.blocks("node2")?, v6)?;
            for destination in [pod.as_str(), own.as_str(), remote.as_str()] {
                let kind = if destination == own { "blackhole " } else { "" };
                break_and_wait(
                    node,
                    destination,
                    &format!("{flag} route del {kind}{destination}"),
                )?;
            }
            // A changed gateway is as wrong as a missing route.
            let wrong = if v6 { "2001:db8::1" } else { "192.0.2.1" };
            break_and_wait(
                node,
                &remote,
                &format!(
                    "{flag} route replace {remote} via {wrong} dev eth0 proto 80 {}",
                    metric(node, &remote)?
                ),
            )?;
        }
        let interface = node.pod_interfaces()?.remove(0);
        for (key, wrong, right) in [("proxy_arp", "0", "1"), ("forwarding", "0", "1")] {
            let path = format!("net.ipv4.conf.{interface}.{key}");
            node.namespace.run(&format!("sysctl -qw {path}={wrong}"))?;
            wait::until_true(&path, A_SECOND, || {
                Ok(node.namespace.run(&format!("sysctl -n {path}"))?.trim() == right)
            })?;
        }
        Ok(())
    })
}

#[test]
fn foreign_routes_are_left_alone() -> Result<()> {
    scenario("foreign", 1, |cluster| {
        let node = &cluster.nodes[0];
        let foreign = [
            "198.51.100.0/24 via 192.0.2.1 dev eth0 proto static",
            "203.0.113.0/24 via 192.0.2.1 dev eth0 proto bird",
            "10.244.200.0/26 via 192.0.2.1 dev eth0 proto boot",
        ];
        for route in foreign {
            node.namespace.ip(&format!("route add {route}"))?;
        }
        cluster.plug(0, "pod0")?;
        let before = foreign_routes(&cluster.nodes[0])?;
        cluster.nodes[0].stop(nix::sys::signal::Signal::SIGKILL)?;
        cluster.nodes[0].start()?;
        cluster.nodes[0].wait_ready(e2e::cluster::LIMIT)?;
        cluster.plug(0, "pod1")?;
        let after = foreign_routes(&cluster.nodes[0])?;
        ensure!(
            before == after && after.len() >= foreign.len(),
            "before {before:?}, after {after:?}"
        );
        Ok(())
    })
}

fn block(blocks: Vec<String>, v6: bool) -> Result<String> {
    blocks
        .into_iter()
        .find(|block| block.contains(':') == v6)
        .ok_or_else(|| anyhow::anyhow!("no block of this family"))
}

fn metric(node: &Node, destination: &str) -> Result<String> {
    let route = node.route(destination)?.unwrap_or_default();
    Ok(route["metric"]
        .as_u64()
        .map_or_else(String::new, |metric| format!("metric {metric}")))
}

fn break_and_wait(node: &Node, destination: &str, how: &str) -> Result<()> {
    let before = node.route(destination)?;
    ensure!(before.is_some(), "no route to {destination} to begin with");
    let start = Instant::now();
    node.namespace.ip(how)?;
    wait::until_true(
        &format!("{destination} after {how}"),
        Duration::from_secs(5),
        || Ok(node.route(destination)? == before),
    )?;
    ensure!(
        start.elapsed() < A_SECOND,
        "{destination} took {:?}",
        start.elapsed()
    );
    Ok(())
}

fn foreign_routes(node: &Node) -> Result<Vec<String>> {
    Ok(node
        .routes("-4")?
        .into_iter()
        .filter(|route| route["protocol"] != "80")
        .map(|route| route.to_string())
        .collect())
}
