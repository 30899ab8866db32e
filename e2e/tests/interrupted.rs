//! The plugin and the agent killed at random points of 200 ADD and DEL rounds:
//! afterwards nothing is leaked and nothing is there twice.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, LIMIT, scenario};
use e2e::lab::Namespace;
use e2e::pod::{Pod, configuration};
use e2e::wait;
use nix::sys::signal::Signal;

const ROUNDS: u64 = 200;
/// Every so many rounds the agent is killed too.
const AGENT_EVERY: u64 = 10;
/// Longest time before a kill: an undisturbed ADD takes less.
const WITHIN_MICROS: u64 = 20_000;

#[test]
fn two_hundred_interrupted_rounds_leak_nothing() -> Result<()> {
    let seed = std::env::var("TORTIE_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761 + 1);
    println!("TORTIE_SEED={seed} repeats these kills");
    scenario("interrupted", 1, |cluster| {
        // One pod that lives through everything: its address must never move.
        cluster.plug(0, "steady")?;
        let sandboxes = (0..4)
            .map(|number| cluster.lab.namespace(&format!("sandbox{number}")))
            .collect::<Result<Vec<_>>>()?;
        let mut random = Random(seed);
        for round in 0..ROUNDS {
            let sandbox = &sandboxes[usize::try_from(round)? % sandboxes.len()];
            interrupted_round(cluster, sandbox, round, &mut random)?;
        }
        settled(cluster)
    })
    .with_context(|| format!("TORTIE_SEED={seed}"))
}

fn interrupted_round(
    cluster: &mut Cluster,
    sandbox: &Namespace,
    round: u64,
    random: &mut Random,
) -> Result<()> {
    let mut pod = Pod {
        name: format!("round{round}"),
        node: cluster.nodes[0].name.clone(),
        namespace: sandbox.clone(),
        container_id: format!("round-{round}"),
        addresses: Vec::new(),
    };
    killed_call(cluster, &pod, "ADD", random)?;
    if round.is_multiple_of(AGENT_EVERY) {
        let node = &mut cluster.nodes[0];
        let call = pod.command(node, "ADD")?.start(&configuration(node))?;
        std::thread::sleep(random.pause());
        node.stop(Signal::SIGKILL)?;
        // Whatever the plugin made of that, the runtime asks again below.
        call.wait_with_output()?;
        node.start()?;
        node.wait_ready(LIMIT)?;
    }
    // A runtime tries again, or gives up and cleans up.
    if random.next().is_multiple_of(2) {
        let result = pod
            .cni(&cluster.nodes[0], "ADD")?
            .context("ADD printed no result")?;
        pod.addresses = result["ips"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok())
            .collect();
        ensure!(
            pod.addresses.len() == 2,
            "one address of each family, not {result}"
        );
    }
    killed_call(cluster, &pod, "DEL", random)?;
    pod.cni(&cluster.nodes[0], "DEL")?;
    let left = sandbox.ip("-br link show type veth")?;
    ensure!(left.trim().is_empty(), "round {round} left {left}");
    Ok(())
}

fn killed_call(cluster: &Cluster, pod: &Pod, verb: &str, random: &mut Random) -> Result<()> {
    let node = &cluster.nodes[0];
    let mut child = pod.command(node, verb)?.start(&configuration(node))?;
    std::thread::sleep(random.pause());
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// What one counts at the end: exactly the steady pod is left, everywhere.
fn settled(cluster: &Cluster) -> Result<()> {
    let node = &cluster.nodes[0];
    let steady: BTreeSet<_> = cluster.pods[0]
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    wait::until("only the steady pod to be left", LIMIT, || {
        let interfaces = node.pod_interfaces()?;
        ensure!(interfaces.len() == 1, "interfaces {interfaces:?}");
        let held = held(cluster)?;
        ensure!(
            held == steady,
            "IPAM holds {held:?}, the pod has {steady:?}"
        );
        let handles = cluster.objects("ipamhandles")?;
        ensure!(handles.len() == 1, "handles {handles:?}");
        let routed = pod_routes(cluster)?;
        ensure!(
            routed == steady,
            "routes to {routed:?}, the pod has {steady:?}"
        );
        // Its file goes last of all that a deletion leaves.
        let tombstones = std::fs::read_dir(node.state_dir().join("cni/deleted"));
        let tombstones = tombstones.map_or(0, Iterator::count);
        ensure!(tombstones == 0, "{tombstones} tombstones");
        Ok(Some(()))
    })?;
    let blocks = cluster.objects("ipamblocks")?.len();
    let affinities = cluster.objects("blockaffinities")?.len();
    ensure!(
        blocks == 2 && affinities == 2,
        "{blocks} blocks, {affinities} affinities"
    );
    let records = std::fs::read_dir(node.state_dir().join("endpoints"))?.count();
    ensure!(records == 1, "{records} endpoint records");
    Ok(())
}

/// Addresses that the blocks say are held; an address held twice is an error.
fn held(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let mut held = BTreeSet::new();
    for block in cluster.objects("ipamblocks")? {
        let cidr = block["spec"]["cidr"]
            .as_str()
            .context("a block has no cidr")?;
        let base: std::net::IpAddr = cidr.split('/').next().unwrap_or(cidr).parse()?;
        let allocations = block["spec"]["allocations"]
            .as_array()
            .context("no allocations")?;
        for (ordinal, allocation) in allocations.iter().enumerate() {
            if !allocation.is_null() {
                let address = offset(base, ordinal)?;
                ensure!(held.insert(address.clone()), "{address} is held twice");
            }
        }
    }
    Ok(held)
}

fn offset(base: std::net::IpAddr, ordinal: usize) -> Result<String> {
    Ok(match base {
        std::net::IpAddr::V4(base) => {
            std::net::Ipv4Addr::from(u32::from(base) + u32::try_from(ordinal)?).to_string()
        }
        std::net::IpAddr::V6(base) => {
            std::net::Ipv6Addr::from(u128::from(base) + u128::try_from(ordinal)?).to_string()
        }
    })
}

fn pod_routes(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let mut destinations = BTreeSet::new();
    for family in ["-4", "-6"] {
        for route in cluster.nodes[0].routes(family)? {
            let device = route["dev"].as_str().unwrap_or_default();
            let destination = route["dst"].as_str().unwrap_or_default();
            if device.starts_with("cali") && !destination.starts_with("fe80:") {
                destinations.insert(destination.to_owned());
            }
        }
    }
    Ok(destinations)
}

/// SplitMix64: repeatable from the seed that a failure names.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn pause(&mut self) -> Duration {
        Duration::from_micros(self.next() % WITHIN_MICROS)
    }
}
