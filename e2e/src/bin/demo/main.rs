//! `make demo`: pods on four nodes, one of them behind a router, routed by our own BGP beside a
//! real BIRD.
//!
//! Prints what happens, checks each claim it prints, and exits with 0 only when
//! all of them held. `--keep` leaves the lab running.

#![allow(
    clippy::print_stdout,
    reason = "this program exists to show people something"
)]

mod wire;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use e2e::cluster::{Cluster, OUTSIDE};
use e2e::far::Tunnel;
use e2e::pod::Pod;
use e2e::traffic::{Count, Flow};
use e2e::{command, diagnostics, lab, wait};
use nix::sys::signal::{SigSet, Signal};

const LAB: &str = "demo";
const PODS_PER_NODE: usize = 2;
/// Nodes on one link; one more is behind the router.
const NEAR: usize = 3;
const FAR: usize = NEAR;
const NODES: usize = NEAR + 1;

/// Pods on four nodes, routed by BGP, in network namespaces of this machine.
#[derive(Parser)]
struct Arguments {
    /// Leave the lab running at the end.
    #[arg(long)]
    keep: bool,
    /// What carries packets of pods between subnets.
    #[arg(long, value_enum, default_value = "vxlan")]
    encap: Encap,
    /// Only remove a lab that was left running.
    #[arg(long)]
    clean: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Encap {
    /// UDP 4789, both families.
    Vxlan,
    /// Protocol 4; IPv6, for which there is none, goes by VXLAN.
    Ipip,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = clean_up_when_interrupted() {
        eprintln!("demo: {error:#}");
        return ExitCode::FAILURE;
    }
    let outcome = if arguments.clean {
        lab::remove(LAB)
    } else {
        demo(&arguments)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// SIGINT and SIGTERM remove the lab: a thread waits for them, all others block them.
fn clean_up_when_interrupted() -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            eprintln!("\ndemo: {signal}: removing the lab");
            if let Err(error) = lab::remove(LAB) {
                eprintln!("demo: {error:#}");
            }
            #[allow(
                clippy::disallowed_methods,
                reason = "main is busy in the lab that was just removed"
            )]
            std::process::exit(130);
        }
    });
    Ok(())
}

fn demo(arguments: &Arguments) -> Result<()> {
    let tunnel = match arguments.encap {
        Encap::Vxlan => Tunnel::Vxlan,
        Encap::Ipip => Tunnel::Ipip,
    };
    ensure!(
        !arguments.keep || wait::slowness() == 1,
        "the emulated machine ends with the demo: there is nothing to keep"
    );
    command::require(&[
        ("ip", "iproute2"),
        ("bird", "bird2"),
        ("ping", "iputils-ping"),
        ("traceroute", "traceroute"),
        ("sysctl", "procps"),
        ("tcpdump", "tcpdump"),
    ])?;
    let mut cluster = Cluster::prepare(LAB, NEAR)?;
    cluster.add_far_node(tunnel)?;
    let outcome = steps(&mut cluster, tunnel);
    if outcome.is_err() {
        eprintln!(
            "{}",
            diagnostics::collect(&cluster.nodes, Some(&cluster.tor))
        );
    }
    if arguments.keep {
        cluster.lab.keep();
        how_to_look_around(&cluster);
    }
    outcome
}

fn steps(cluster: &mut Cluster, tunnel: Tunnel) -> Result<()> {
    start(cluster)?;
    plug(cluster)?;
    show_blocks(cluster)?;
    show_sessions(cluster)?;
    show_routes(cluster)?;
    matrix(cluster)?;
    wire::show(cluster, tunnel)?;
    trace(cluster)?;
    kill_agent(cluster)?;
    delete_route(cluster)?;
    unplug(cluster)?;
    reflect(cluster)?;
    heading("Done: every check above held");
    Ok(())
}

fn start(cluster: &mut Cluster) -> Result<()> {
    heading(&format!(
        "Three nodes on a link, a top-of-rack router (BIRD), and node{NODES} behind it"
    ));
    for node in &mut cluster.nodes {
        node.start()?;
        println!("  {:<8} tortie-felix, pid {}", node.name, node.pid()?);
    }
    println!("  {:<8} {}", "tor", cluster.tor.version()?);
    for node in &cluster.nodes {
        let took = node.wait_ready(e2e::cluster::LIMIT)?;
        println!("  {:<8} ready ({took:.0?} more)", node.name);
    }
    println!(
        "\n  the datastore is a folder of manifests: {}",
        cluster.datastore().display()
    );
    let text = std::fs::read_to_string(cluster.datastore().join("cluster.yaml"))?;
    for line in text.lines().filter(|line| line.contains("cidr:")) {
        println!("  IPPool   {}", line.trim_start_matches("spec: "));
    }
    for (index, node) in cluster.nodes.iter().enumerate() {
        println!("  Node     {} {}", node.name, cluster.address(index));
    }
    Ok(())
}

fn plug(cluster: &mut Cluster) -> Result<()> {
    heading("Pods: one call of the CNI plugin tortie-cni each");
    for index in 0..NODES {
        for letter in ["a", "b"].iter().take(PODS_PER_NODE) {
            let name = format!("pod{}{letter}", index + 1);
            let start = Instant::now();
            let pod = cluster.plug(index, &name)?;
            let took = start.elapsed();
            println!(
                "  {:<8} on {:<8} {:<16} {:<24} {took:.0?}",
                pod.name,
                pod.node,
                pod.address(false)?,
                pod.address(true)?
            );
        }
    }
    Ok(())
}

fn show_blocks(cluster: &Cluster) -> Result<()> {
    heading("Blocks: what IPAM gave each node (BlockAffinity objects)");
    for node in &cluster.nodes {
        let blocks = cluster.blocks(&node.name)?;
        ensure!(
            blocks.len() == 2,
            "{} has blocks {blocks:?}, expected one of each family",
            node.name
        );
        println!("  {:<8} {}", node.name, blocks.join("  "));
    }
    Ok(())
}

fn show_sessions(cluster: &Cluster) -> Result<()> {
    heading("BGP: full mesh between the nodes, and each node with the router");
    let took = cluster.wait_converged()?;
    println!("  every block is known everywhere (waited {took:.0?})\n");
    wait::until("BIRD's sessions", e2e::cluster::LIMIT, || {
        Ok((cluster.tor.established()? == NODES).then_some(()))
    })?;
    indent(&cluster.tor.birdc("show protocols")?);
    heading("BIRD's own view of every block");
    for node in &cluster.nodes {
        for block in cluster.blocks(&node.name)? {
            let text = cluster.tor.route(&block)?;
            ensure!(text.contains("BGP.next_hop"), "BIRD does not know {block}");
            let wanted = ["unicast", "via", "BGP.as_path", "BGP.next_hop"];
            for line in text
                .lines()
                .filter(|line| wanted.iter().any(|word| line.contains(word)))
            {
                println!("  {}", line.trim_end());
            }
        }
    }
    Ok(())
}

fn show_routes(cluster: &Cluster) -> Result<()> {
    let pod = cluster.pods.first().context("no pod")?;
    heading(&format!("Routes in {}", pod.name));
    indent(&pod.namespace.ip("-4 route")?);
    indent(&pod.namespace.ip("-6 route")?);
    for node in [&cluster.nodes[0], &cluster.nodes[FAR]] {
        heading(&format!("Routes on {} (proto 80 is ours)", node.name));
        indent(&node.namespace.ip("-4 route")?);
        indent(&node.namespace.ip("-6 route")?);
    }
    heading("Routes on the router, written by BIRD");
    indent(&cluster.tor.namespace.ip("-4 route")?);
    Ok(())
}

fn matrix(cluster: &Cluster) -> Result<()> {
    for (v6, family, outside) in [(false, "IPv4", OUTSIDE[0]), (true, "IPv6", OUTSIDE[1])] {
        heading(&format!(
            "Ping, {family}: from each pod (row) to each pod and beyond the router"
        ));
        let columns: Vec<_> = cluster.pods.iter().map(|pod| pod.name.as_str()).collect();
        println!("  {:<8} {} outside", "", columns.join(" "));
        let mut failed = 0;
        for from in &cluster.pods {
            let mut row = format!("  {:<8}", from.name);
            let targets = cluster
                .pods
                .iter()
                .map(|to| to.address(v6).map(|address| address.to_string()));
            for target in targets.chain([Ok(outside.to_owned())]) {
                let reached = ping(from, &target?);
                failed += usize::from(!reached);
                row.push_str(if reached { " ok   " } else { " FAIL " });
            }
            println!("{}", row.trim_end());
        }
        ensure!(failed == 0, "{failed} {family} pings failed");
    }
    Ok(())
}

fn ping(from: &Pod, target: &str) -> bool {
    // Two tries: the first packet may wait for neighbour discovery.
    from.namespace
        .run(&format!("ping -n -q -c 1 -W 1 {target}"))
        .is_ok()
        || from
            .namespace
            .run(&format!("ping -n -q -c 2 -i 0.2 -W 1 {target}"))
            .is_ok()
}

fn trace(cluster: &Cluster) -> Result<()> {
    for v6 in [false, true] {
        let (flag, family) = if v6 { ("-6", "IPv6") } else { ("-4", "IPv4") };
        heading(&format!(
            "Traceroute, {family}: the node of the pod, the other node, the other pod"
        ));
        for from in &cluster.pods {
            for to in cluster.pods.iter().filter(|to| to.node != from.node) {
                let target = to.address(v6)?.to_string();
                let text = from
                    .namespace
                    .run(&format!("traceroute -n {flag} -q 1 -w 1 -m 5 {target}"))?;
                let hops: Vec<_> = text
                    .lines()
                    .skip(1)
                    .filter_map(|line| line.split_whitespace().nth(1))
                    .collect();
                ensure!(
                    hops.len() == 3 && hops[2] == target,
                    "{} to {}: {text}",
                    from.name,
                    to.name
                );
                if from.name.ends_with('a') && to.name.ends_with('a') {
                    println!("  {} -> {}: {}", from.name, to.name, hops.join(" -> "));
                }
            }
        }
    }
    Ok(())
}

fn kill_agent(cluster: &mut Cluster) -> Result<()> {
    heading(&format!(
        "SIGKILL to an agent while {} packets a second flow",
        rate()
    ));
    let flows = flows(cluster)?;
    std::thread::sleep(Duration::from_secs(1));
    let node = &mut cluster.nodes[0];
    let old = node.pid()?;
    node.stop(Signal::SIGKILL)?;
    println!("  killed   pid {old}; nobody is in charge of node1 for 2 s");
    std::thread::sleep(Duration::from_secs(2));
    node.start()?;
    let took = node.wait_ready(e2e::cluster::LIMIT)?;
    println!("  started  pid {}, ready after {took:.0?}", node.pid()?);
    cluster.wait_converged()?;
    std::thread::sleep(Duration::from_secs(2));
    nothing_lost(flows)
}

/// Packets a second of each flow. An emulated machine drops what is more than its processor
/// handles; three times 100 a second are what it was seen to carry on a busy host.
fn rate() -> u32 {
    if wait::slowness() == 1 { 1000 } else { 50 }
}

/// Traffic both ways between pods of node1, node2 and the node behind the router.
/// Emulated, three flows are what the machine carries.
fn flows(cluster: &Cluster) -> Result<Vec<(String, Flow)>> {
    let all = [
        ("pod1a", "pod4a", false),
        ("pod4a", "pod1a", false),
        ("pod2a", "pod1a", false),
        ("pod1a", "pod2a", false),
        ("pod1a", "pod2a", true),
        ("pod2a", "pod1a", true),
        ("pod1a", "pod4a", true),
        ("pod4a", "pod1a", true),
    ];
    let count = if wait::slowness() == 1 { all.len() } else { 3 };
    all.into_iter()
        .take(count)
        .map(|(from, to, v6)| {
            let name = format!("{from} to {to}, IPv{}", if v6 { 6 } else { 4 });
            let (from, to) = (pod(cluster, from)?, pod(cluster, to)?);
            let flow = Flow::start(&from.namespace, &to.namespace, to.address(v6)?, rate())?;
            Ok((name, flow))
        })
        .collect()
}

fn nothing_lost(flows: Vec<(String, Flow)>) -> Result<()> {
    let mut lost = 0;
    for (name, flow) in flows {
        let count = flow.stop()?;
        let Count {
            sent,
            received,
            longest_gap,
            ..
        } = count;
        println!(
            "  {name:<21} sent {sent}, received {received}, lost {}, longest gap {longest_gap:.0?}",
            count.lost()
        );
        lost += count.lost();
    }
    ensure!(lost == 0, "{lost} packets were lost");
    Ok(())
}

fn delete_route(cluster: &Cluster) -> Result<()> {
    heading("A pod route deleted behind the agent's back");
    let node = &cluster.nodes[0];
    let pod = pod(cluster, "pod1a")?;
    for v6 in [false, true] {
        let (flag, address) = (if v6 { "-6" } else { "-4" }, pod.address(v6)?);
        let show = format!("{flag} route show table main {address}");
        println!("  before   {}", node.namespace.ip(&show)?.trim());
        let start = Instant::now();
        node.namespace.ip(&format!("{flag} route del {address}"))?;
        wait::until("the route to be back", Duration::from_secs(5), || {
            Ok((!node.namespace.ip(&show)?.trim().is_empty()).then_some(()))
        })?;
        let took = start.elapsed();
        println!("  after    {}", node.namespace.ip(&show)?.trim());
        println!("  repaired in {took:.0?}");
        ensure!(
            took < Duration::from_secs(1) * wait::slowness(),
            "the repair took {took:?}"
        );
    }
    Ok(())
}

fn unplug(cluster: &Cluster) -> Result<()> {
    heading("A pod deleted: its interface, routes and addresses are gone");
    let pod = pod(cluster, "pod1b")?;
    let node = &cluster.nodes[0];
    pod.unplug(&cluster.lab, node)?;
    let address = pod.address(false)?.to_string();
    wait::until("the pod's route to go", Duration::from_secs(5), || {
        Ok(node.route(&address)?.is_none().then_some(()))
    })?;
    println!(
        "  {}: no route to {address}, interfaces left: {}",
        node.name,
        node.pod_interfaces()?.join(" ")
    );
    ensure!(
        node.pod_interfaces()?.len() == PODS_PER_NODE - 1,
        "an interface is left over"
    );
    Ok(())
}

fn reflect(cluster: &mut Cluster) -> Result<()> {
    heading(&format!(
        "From the mesh to two route reflectors while {} packets a second flow",
        rate()
    ));
    let flows = flows(cluster)?;
    cluster.add_reflectors(2)?;
    let reflectors = [NODES, NODES + 1];
    let names = reflectors.map(|node| cluster.nodes[node].name.clone());
    for node in 0..NODES {
        let meshed = (0..NODES).filter(|other| *other != node);
        cluster.wait_sessions(node, &meshed.chain(reflectors).collect::<Vec<_>>())?;
    }
    println!(
        "  added    {} with a cluster id, and a BGPPeer that selects them",
        names.join(" and ")
    );
    cluster.wait_converged()?;
    cluster.end_mesh()?;
    for node in 0..NODES {
        cluster.wait_sessions(node, &reflectors)?;
    }
    cluster.wait_converged()?;
    println!("  edited   nodeToNodeMeshEnabled: false; sessions of node1 now:");
    for peer in e2e::reflectors::sessions(&cluster.nodes[0])? {
        let text = |name: &str| peer[name].as_str().unwrap_or("?").to_owned();
        println!(
            "           {:<12} {:<12} {}",
            text("address"),
            text("type"),
            text("state")
        );
    }
    let reflector = &mut cluster.nodes[NODES];
    let old = reflector.pid()?;
    reflector.stop(Signal::SIGKILL)?;
    println!(
        "  killed   the agent of reflector {}, pid {old}, with SIGKILL",
        names[0]
    );
    std::thread::sleep(Duration::from_secs(3));
    cluster.wait_converged()?;
    nothing_lost(flows)?;
    let reflector = &mut cluster.nodes[NODES];
    reflector.start()?;
    let took = reflector.wait_ready(e2e::cluster::LIMIT)?;
    println!("  started  {} again, ready after {took:.0?}", names[0]);
    Ok(())
}

fn how_to_look_around(cluster: &Cluster) {
    heading("The lab is left running");
    println!("  ip netns exec {LAB}-node1 ip route          ip netns exec {LAB}-pod1a ip route");
    println!(
        "  birdc -r -s {}/tor/bird.ctl show route",
        cluster.lab.folder().display()
    );
    println!(
        "  ip netns exec {LAB}-node1 curl -s http://{}/state",
        e2e::node::ADMIN
    );
    println!(
        "  ls -R {}     logs: {}/node*/felix.log",
        cluster.datastore().display(),
        cluster.lab.folder().display()
    );
    println!("  remove it: make demo CLEAN=1");
}

fn pod<'a>(cluster: &'a Cluster, name: &str) -> Result<&'a Pod> {
    cluster
        .pods
        .iter()
        .find(|pod| pod.name == name)
        .with_context(|| format!("no pod {name}"))
}

fn heading(text: &str) {
    println!("\n== {text}");
}

fn indent(text: &str) {
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        println!("  {}", line.trim_end());
    }
}
