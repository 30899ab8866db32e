//! Route reflectors take the place of the mesh, and one of them dies, without a lost packet.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{ASN, Cluster, LIMIT, scenario};
use e2e::command::{binary, output};
use e2e::lab::Namespace;
use e2e::reflectors::sessions;
use e2e::traffic::Flow;
use e2e::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const RATE: u32 = 1000;
/// How long packets are counted after the last change.
const OBSERVED: Duration = Duration::from_secs(2);

#[test]
fn reflectors_replace_the_mesh_and_one_dies_without_a_lost_packet() -> Result<()> {
    scenario("reflect", 3, |cluster| {
        cluster.plug(0, "pod0")?;
        cluster.plug(1, "pod1")?;
        cluster.wait_converged()?;
        let flows = flows(cluster)?;
        cluster.add_reflectors(2)?;
        for node in 0..3 {
            let meshed = (0..3).filter(|other| *other != node);
            cluster.wait_sessions(node, &meshed.chain([3, 4]).collect::<Vec<_>>())?;
        }
        cluster.wait_converged()?;
        cluster.end_mesh()?;
        for node in 0..3 {
            cluster.wait_sessions(node, &[3, 4])?;
        }
        cluster.wait_sessions(3, &[0, 1, 2, 4])?;
        cluster.wait_converged()?;
        routes_are_reflected_as_they_are(cluster)?;
        cluster.nodes[3].stop(Signal::SIGKILL)?;
        wait::until_true("node1 to see that its reflector is gone", LIMIT, || {
            let up = |peer: &serde_json::Value| {
                peer["address"] == "192.0.2.14" && peer["state"] == "Established"
            };
            Ok(!sessions(&cluster.nodes[0])?.iter().any(up))
        })?;
        // A block that nobody knew is told by the one that is left.
        let target = cluster.plug(2, "pod2")?.address(false)?.to_string();
        let block = cluster.blocks("node3")?.remove(0);
        wait::until_true("the new block on node1", LIMIT, || {
            Ok(cluster.nodes[0].route(&block)?.is_some())
        })?;
        cluster.pods[0]
            .namespace
            .run(&format!("ping -n -q -c 2 -i 0.2 -W 1 {target}"))?;
        std::thread::sleep(OBSERVED);
        nothing_lost(flows)?;
        // The state at the end is complete again.
        cluster.nodes[3].start()?;
        cluster.nodes[3].wait_ready(LIMIT)?;
        Ok(())
    })
}

fn flows(cluster: &Cluster) -> Result<Vec<(String, Flow)>> {
    let mut flows = Vec::new();
    for (from, to) in [(0, 1), (1, 0)] {
        let (from, to) = (&cluster.pods[from], &cluster.pods[to]);
        for v6 in [false, true] {
            let address = to.address(v6)?;
            let flow = Flow::start(&from.namespace, &to.namespace, address, RATE)?;
            flows.push((format!("{} to {address}", from.name), flow));
        }
    }
    Ok(flows)
}

fn nothing_lost(flows: Vec<(String, Flow)>) -> Result<()> {
    for (name, flow) in flows {
        let count = flow.stop()?;
        ensure!(count.sent > u64::from(RATE), "{name}: {count:?}");
        ensure!(count.lost() == 0, "{name}: {count:?}");
    }
    Ok(())
}

/// The next hop is the node of the block, not the reflector (RFC 4456 §10).
fn routes_are_reflected_as_they_are(cluster: &Cluster) -> Result<()> {
    for block in cluster.blocks("node2")? {
        let route = cluster.nodes[0].route(&block)?.context("no route")?;
        let gateway = route["gateway"].as_str().unwrap_or_default();
        ensure!(
            ["192.0.2.12", "2001:db8::12"].contains(&gateway),
            "{block}: {route}"
        );
    }
    Ok(())
}

#[test]
fn a_speaker_alone_reflects_between_nodes_and_touches_no_kernel_route() -> Result<()> {
    scenario("reflone", 2, |cluster| {
        cluster.plug(0, "pod0")?;
        cluster.plug(1, "pod1")?;
        cluster.wait_converged()?;
        let reflector = Alone::start(cluster)?;
        let before = reflector.namespace.ip("route show table all")?;
        let peer = format!(
            "apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: {{name: reflector}}
spec: {{peerIP: {ADDRESS}, asNumber: {ASN}}}
"
        );
        std::fs::write(cluster.datastore().join("reflector.yaml"), peer)?;
        wait::until_true("the reflector to have both sessions", LIMIT, || {
            Ok(reflector.established()? == 2)
        })?;
        let flows = flows(cluster)?;
        cluster.end_mesh()?;
        for node in 0..2 {
            cluster.wait_sessions(node, &[])?;
        }
        std::thread::sleep(OBSERVED);
        cluster.wait_converged()?;
        nothing_lost(flows)?;
        let after = reflector.namespace.ip("route show table all")?;
        ensure!(before == after, "{before}\n{after}");
        Ok(())
    })
}

const ADDRESS: &str = "192.0.2.200";

/// `tortie-bgp` on a machine of its own that is no node.
struct Alone {
    namespace: Namespace,
    child: Child,
    socket: std::path::PathBuf,
}

impl Alone {
    fn start(cluster: &Cluster) -> Result<Alone> {
        let namespace = cluster.lab.namespace("alone")?;
        cluster
            .lab
            .plug(&namespace, "alone", &[&format!("{ADDRESS}/24")])?;
        let folder = cluster.lab.folder().join("alone");
        std::fs::create_dir_all(&folder)?;
        let mut text = format!(
            "local: {{asn: {ASN}, router_id: {ADDRESS}, listen: ['{ADDRESS}:179'], next_hop_v6: '2001:db8::200'}}\npeers:\n"
        );
        for number in 1..=cluster.nodes.len() {
            text.push_str(&format!(
                "  - {{name: node{number}, address: 192.0.2.{}, asn: {ASN}, families: [ipv4, ipv6], reflector_client: true, passive: true}}\n",
                10 + number
            ));
        }
        std::fs::write(folder.join("tortie-bgp.yaml"), text)?;
        let log = std::fs::File::create(folder.join("log"))?;
        let socket = folder.join("bgp.sock");
        let child = namespace
            .command(binary("tortie-bgp")?)
            .args(["run", "--config"])
            .arg(folder.join("tortie-bgp.yaml"))
            .arg("--socket")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start tortie-bgp")?;
        Ok(Alone {
            namespace,
            child,
            socket,
        })
    }

    fn established(&self) -> Result<usize> {
        let answer = output(
            Command::new(binary("tortie")?)
                .args(["bgp", "peers", "-o", "json", "--socket"])
                .arg(&self.socket),
        )?;
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        Ok(text.matches("\"Established\"").count())
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _status = self.child.wait();
    }
}
