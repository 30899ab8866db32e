//! `make bench`: figures beside a peer that does the same in the same run.
//!
//! Parts: `cni` (ADD and DEL latency beside `ptp` with `host-local`, a hundred
//! pods on one node), `routes` (100,000 kernel routes beside `ip -batch`) and
//! `agent` (memory and idle processor time); without a part, these three. `bgp`
//! (the speaker under load beside BIRD, FRR and GoBGP), `overlay` (tunnels beside
//! those made by hand) and `cluster` (pods, agents and the controller with
//! Kubernetes) take a quarter of an hour and run only when they are named;
//! `cluster-pods`, `cluster-agents` and `cluster-leaks` are the last one's parts.

#![allow(clippy::print_stdout, reason = "this program exists to print figures")]

mod agent;
mod bgp;
mod cluster;
mod cni;
mod overlay;
mod routes;

use anyhow::{Result, bail};
use clap::Parser;
use e2e::command;

/// Figures of Tortie beside its peers, measured on this machine in this run.
#[derive(Parser)]
struct Arguments {
    /// What to measure: cni, routes, agent, bgp, overlay, cluster. Nothing means the first three.
    parts: Vec<String>,
    /// Parts bgp, overlay and cluster: less of everything, and no page is written.
    #[arg(long)]
    quick: bool,
}

fn main() -> Result<()> {
    let Arguments { mut parts, quick } = Arguments::parse();
    if parts.is_empty() {
        parts = ["cni", "routes", "agent"].map(str::to_owned).to_vec();
    }
    command::require(&[("ip", "iproute2"), ("bird", "bird2"), ("iperf3", "iperf3")])?;
    if parts == [overlay::INSIDE] {
        return overlay::inside(quick);
    }
    println!("machine: {}", machine()?);
    for part in &parts {
        match part.as_str() {
            "cni" => cni::bench()?,
            "routes" => routes::bench()?,
            "agent" => agent::bench()?,
            "bgp" => bgp::bench(quick)?,
            "overlay" => overlay::bench(quick)?,
            "cluster" => cluster::bench(quick)?,
            other => match other.strip_prefix("cluster-") {
                Some(name) => cluster::one(name, quick)?,
                None => {
                    bail!("no part {other}: there are cni, routes, agent, bgp, overlay and cluster")
                }
            },
        }
    }
    Ok(())
}

/// What was measured on: cores, processor and kernel.
fn machine() -> Result<String> {
    let kernel = command::run("uname", &["-sr"])?;
    let cores = std::thread::available_parallelism()?;
    let processor = std::fs::read_to_string("/proc/cpuinfo")?;
    let mut lines = processor.lines();
    let processor = lines.find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let processor = processor.map_or("unknown", |(_, name)| name.trim());
    Ok(format!("{cores} cores, {processor}, {}", kernel.trim()))
}

/// The value below which `share` of the sorted samples lie.
fn percentile<T: Copy>(sorted: &[T], share: f64) -> T {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index into a few hundred samples"
    )]
    let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len());
    sorted[index - 1]
}
