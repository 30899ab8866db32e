//! How long a pool takes to change its mode, with 100 nodes in the datastore.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::command::ip_batch;
use e2e::fabric;
use e2e::overlay::{LIMIT, Overlay, POOL, Pool, Setup};
use e2e::wait;

use super::flow::median;

/// Nodes in the datastore, the one with the agent included.
const NODES: usize = 100;
const DEVICE: &str = "vxlan.calico";

/// One change.
pub(crate) struct Row {
    pub(crate) change: String,
    /// Routes that it moves.
    pub(crate) routes: usize,
    /// Milliseconds until the last one was moved.
    pub(crate) ours: f64,
    /// Milliseconds that `ip -batch` takes for the same routes.
    pub(crate) batch: f64,
}

/// A pool goes from CrossSubnet to Always and back, `rounds` times.
pub(crate) fn measure(rounds: usize) -> Result<Vec<Row>> {
    let pool = |mode| Pool::new("pool", POOL).vxlan(mode);
    let mut setup = Setup::new(&[0], pool("CrossSubnet")).without_bgp();
    setup.manifests = (2..=NODES).map(manifest).collect();
    let mut overlay = Overlay::prepare("bench", &setup)?;
    overlay.start()?;
    let far = NODES / 2;
    wait_routes(&overlay, far)?;
    let mut rows = Vec::new();
    for (change, mode, tunnelled) in [
        ("CrossSubnet to Always", "Always", NODES - 1),
        ("Always to CrossSubnet", "CrossSubnet", far),
    ] {
        let moved = NODES - 1 - far;
        let (mut ours, mut batch) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            // The state before, whatever the last round left.
            let (before, count) = match mode {
                "Always" => ("CrossSubnet", far),
                _ => ("Always", NODES - 1),
            };
            overlay.pools(&[pool(before)])?;
            wait_routes(&overlay, count)?;
            std::thread::sleep(Duration::from_secs(1));
            let start = Instant::now();
            overlay.pools(&[pool(mode)])?;
            wait_routes(&overlay, tunnelled)?;
            ours.push(start.elapsed().as_secs_f64() * 1000.0);
            batch.push(by_batch(&overlay, moved)?);
        }
        rows.push(Row {
            change: change.to_owned(),
            routes: moved,
            ours: median(ours.into_iter()),
            batch: median(batch.into_iter()),
        });
    }
    for row in &rows {
        println!(
            "{} with {NODES} nodes: {} routes moved after {:.0} ms; ip -batch: {:.0} ms",
            row.change, row.routes, row.ours, row.batch
        );
    }
    Ok(rows)
}

/// The same number of routes, in the namespace of the fabric's router so as not to disturb.
fn by_batch(overlay: &Overlay, count: usize) -> Result<f64> {
    let lines: String = (0..count)
        .map(|number| format!("route replace 10.99.{number}.0/26 dev lan0 proto 80\n"))
        .collect();
    let start = Instant::now();
    ip_batch(&overlay.fabric.router, &lines)?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

fn wait_routes(overlay: &Overlay, wanted: usize) -> Result<()> {
    let node = &overlay.nodes[0].namespace;
    wait::until_true(&format!("{wanted} routes through {DEVICE}"), LIMIT, || {
        let text = node.ip(&format!("route show dev {DEVICE} proto 80"))?;
        let count = text.lines().count();
        ensure!(count == wanted, "there are {count}");
        Ok(true)
    })
    .map(drop)
    .context("a change of the pool's mode")
}

/// Node number `number` with a tunnel and a block; the first half is in the subnet of the agent.
fn manifest(number: usize) -> String {
    let subnet = usize::from(number > NODES / 2);
    let address = &fabric::addresses(subnet, 120 + number)[0];
    let third = number + 100;
    format!(
        "---
apiVersion: v1
kind: Node
metadata:
  name: far{number}
  annotations:
    projectcalico.org/IPv4Address: {address}/24
    projectcalico.org/IPv4IPIPTunnelAddr: 10.244.{third}.0
    projectcalico.org/IPv4VXLANTunnelAddr: 10.244.{third}.0
---
apiVersion: crd.projectcalico.org/v1
kind: BlockAffinity
metadata: {{name: far{number}-10-244-{third}-0-26}}
spec: {{cidr: 10.244.{third}.0/26, node: far{number}, state: confirmed, deleted: 'false'}}
"
    )
}
