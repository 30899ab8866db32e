//! What an idle agent costs.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::cluster::Cluster;

const NODES: usize = 3;
const PODS: usize = 10;
const SETTLE: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_secs(20);

/// Memory and processor time of each agent of a small cluster with nothing to do.
pub(crate) fn bench() -> Result<()> {
    let mut cluster = Cluster::prepare("bench", NODES)?;
    cluster.start()?;
    for pod in 0..PODS {
        cluster.plug(0, &format!("idle{pod}"))?;
    }
    cluster.wait_converged()?;
    std::thread::sleep(SETTLE);
    let before = cluster
        .nodes
        .iter()
        .map(|node| ticks(node.pid()?))
        .collect::<Result<Vec<_>>>()?;
    std::thread::sleep(WINDOW);
    println!(
        "\nIdle agents, {NODES} nodes, {PODS} pods on node1, {} s",
        WINDOW.as_secs()
    );
    println!(
        "  {:<8} {:>12} {:>12} {:>14}",
        "", "memory (MB)", "peak (MB)", "processor (%)"
    );
    for (node, before) in cluster.nodes.iter().zip(before) {
        let pid = node.pid()?;
        // Linux counts processor time for user space in hundredths of a second.
        let percent = f64::from(ticks(pid)? - before) / WINDOW.as_secs_f64();
        println!(
            "  {:<8} {:>12.1} {:>12.1} {:>14.2}",
            node.name,
            memory(pid, "VmRSS")?,
            memory(pid, "VmHWM")?,
            percent
        );
    }
    Ok(())
}

pub(crate) fn ticks(pid: u32) -> Result<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit(')').next().context("stat without a name")?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    Ok(fields[11].parse::<u32>()? + fields[12].parse::<u32>()?)
}

pub(crate) fn memory(pid: u32, field: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text
        .lines()
        .find(|line| line.starts_with(field))
        .with_context(|| format!("status has no {field}"))?;
    let kilobytes: f64 = line
        .split_whitespace()
        .nth(1)
        .context("no figure")?
        .parse()?;
    Ok(kilobytes / 1000.0)
}
