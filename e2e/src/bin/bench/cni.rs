//! Latency of the CNI plugin beside the reference plugins `ptp` and `host-local`.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::cluster::Cluster;
use e2e::lab::Namespace;
use e2e::pod::{Plugin, Pod, configuration};
use serde_json::{Value, json};

use super::percentile;

const ROUNDS: usize = 200;
const CROWD: usize = 100;
const WORKERS: usize = 8;

/// Times of one plugin's verbs.
#[derive(Default)]
struct Times {
    add: Vec<Duration>,
    del: Vec<Duration>,
}

/// Both plugins take turns in the same node namespace and the same pod namespace.
pub(crate) fn bench() -> Result<()> {
    let mut cluster = Cluster::prepare("bench", 1)?;
    cluster.start()?;
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    let sandbox = cluster.lab.namespace("sandbox")?;
    for round in 0..ROUNDS {
        one_of_ours(&cluster, &sandbox, round, &mut ours)?;
        one_of_theirs(&cluster, &sandbox, round, &mut theirs)?;
    }
    println!("\nCNI latency, {ROUNDS} rounds in turn, one pod at a time (ms)");
    println!(
        "  {:<24} {:>8} {:>8} {:>8} {:>8}",
        "", "ADD p50", "ADD p99", "DEL p50", "DEL p99"
    );
    let rows = [("tortie-cni", &mut ours), ("ptp + host-local", &mut theirs)];
    let rows = rows.map(|(name, times)| (name, times.row()));
    for (name, row) in &rows {
        println!(
            "  {name:<24} {:>8.2} {:>8.2} {:>8.2} {:>8.2}",
            row[0], row[1], row[2], row[3]
        );
    }
    let ratio: Vec<_> = rows[0]
        .1
        .iter()
        .zip(&rows[1].1)
        .map(|(a, b)| a / b)
        .collect();
    println!(
        "  {:<24} {:>8.2} {:>8.2} {:>8.2} {:>8.2}",
        "ratio", ratio[0], ratio[1], ratio[2], ratio[3]
    );
    crowd(&cluster)
}

impl Times {
    fn row(&mut self) -> [f64; 4] {
        self.add.sort();
        self.del.sort();
        [
            percentile(&self.add, 0.5),
            percentile(&self.add, 0.99),
            percentile(&self.del, 0.5),
            percentile(&self.del, 0.99),
        ]
        .map(|time| time.as_secs_f64() * 1000.0)
    }
}

fn one_of_ours(
    cluster: &Cluster,
    sandbox: &Namespace,
    round: usize,
    times: &mut Times,
) -> Result<()> {
    let node = &cluster.nodes[0];
    let pod = Pod {
        name: format!("bench{round}"),
        node: node.name.clone(),
        namespace: sandbox.clone(),
        container_id: format!("bench-{round}"),
        addresses: Vec::new(),
    };
    // Only what both sides do: one IPv4 address.
    let mut configuration = configuration(node);
    configuration["ipam"]["assign_ipv6"] = json!("false");
    times
        .add
        .push(timed(pod.command(node, "ADD")?, &configuration)?);
    times
        .del
        .push(timed(pod.command(node, "DEL")?, &configuration)?);
    Ok(())
}

fn one_of_theirs(
    cluster: &Cluster,
    sandbox: &Namespace,
    round: usize,
    times: &mut Times,
) -> Result<()> {
    let node = &cluster.nodes[0];
    let configuration = json!({
        "cniVersion": "1.0.0",
        "name": "reference",
        "type": "ptp",
        "ipam": {
            "type": "host-local",
            "subnet": "10.99.0.0/16",
            "dataDir": cluster.lab.folder().join("host-local"),
        },
    });
    let call = |verb: &str| {
        let mut command: Command = node.namespace.command("/usr/lib/cni/ptp");
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", format!("reference-{round}"))
            .env("CNI_NETNS", sandbox.path())
            .env("CNI_IFNAME", "eth1")
            .env("CNI_PATH", "/usr/lib/cni");
        Plugin(command)
    };
    times.add.push(timed(call("ADD"), &configuration)?);
    times.del.push(timed(call("DEL"), &configuration)?);
    Ok(())
}

fn timed(plugin: Plugin, configuration: &Value) -> Result<Duration> {
    let start = Instant::now();
    let output = plugin.spawn_with(configuration)?;
    let took = start.elapsed();
    succeeded(&output)?;
    Ok(took)
}

fn succeeded(output: &Output) -> Result<()> {
    ensure!(
        output.status.success(),
        "the plugin failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A hundred pods with both families on one node, eight at a time as a runtime would.
fn crowd(cluster: &Cluster) -> Result<()> {
    let node = &cluster.nodes[0];
    let pods = (0..CROWD)
        .map(|index| {
            Ok(Pod {
                name: format!("crowd{index}"),
                node: node.name.clone(),
                namespace: cluster.lab.namespace(&format!("crowd{index}"))?,
                container_id: format!("crowd-{index}"),
                addresses: Vec::new(),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let all = |verb: &'static str| -> Result<Duration> {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    let pods = &pods;
                    scope.spawn(move || -> Result<()> {
                        for pod in pods.iter().skip(worker).step_by(WORKERS) {
                            pod.cni(node, verb)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            for worker in workers {
                match worker.join() {
                    Ok(outcome) => outcome?,
                    Err(_) => anyhow::bail!("a worker panicked"),
                }
            }
            Ok(start.elapsed())
        })
    };
    let added = all("ADD")?;
    let interfaces = node.pod_interfaces()?.len();
    ensure!(
        interfaces == CROWD,
        "{interfaces} interfaces for {CROWD} pods"
    );
    let deleted = all("DEL")?;
    println!("\n{CROWD} pods on one node, IPv4 and IPv6, {WORKERS} at a time");
    println!(
        "  plugged in {:.2} s, unplugged in {:.2} s",
        added.as_secs_f64(),
        deleted.as_secs_f64()
    );
    Ok(())
}
