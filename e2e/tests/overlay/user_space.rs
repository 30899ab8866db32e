//! A node whose agent carries the packets of its tunnels, beside one whose kernel does.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::command::{binary, output};
use e2e::overlay::{LIMIT, Overlay, scenario};
use e2e::traffic::Flow;
use e2e::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::encap::{Encap, a_pod_each, address};

const RATE: u32 = 1000;
/// How soon a fault is told.
const SOON: Duration = Duration::from_secs(2);

/// The first node has tunnels in user space, the second those of its kernel: nothing is lost
/// between their pods, and the first one says plainly what it does, counts it, and tells faults.
pub(crate) fn one_end_in_user_space(encap: Encap) -> Result<()> {
    let setup = encap.setup(&[0, 1], "Always");
    let setup = setup.first_node_with(&["--user-tunnels", "always"]);
    scenario(&encap.lab("user"), &setup, |overlay| {
        a_pod_each(overlay)?;
        overlay.wait_all_reach(encap.v6())?;
        nothing_is_lost(overlay, encap)?;
        it_is_said(overlay, encap)?;
        a_fault_is_told(overlay, encap)
    })
}

fn nothing_is_lost(overlay: &Overlay, encap: Encap) -> Result<()> {
    let mut flows = Vec::new();
    for (from, to) in [("pod1", "pod2"), ("pod2", "pod1")] {
        let target = address(overlay, to, encap)?;
        let (from, to) = (&overlay.pod(from)?.namespace, &overlay.pod(to)?.namespace);
        flows.push(Flow::start(from, to, target, RATE)?);
    }
    std::thread::sleep(Duration::from_secs(5));
    for flow in flows {
        let count = flow.stop()?;
        ensure!(count.sent > 2000 && count.lost() == 0, "{count:?}");
    }
    Ok(())
}

/// By the command line, NodeStatus and metrics.
fn it_is_said(overlay: &Overlay, encap: Encap) -> Result<()> {
    ensure!(tunnel(overlay, 0, encap)?["carrier"] == "user-space");
    ensure!(tunnel(overlay, 1, encap)?["carrier"] == "kernel");
    let counters = tunnel(overlay, 0, encap)?["counters"].clone();
    for (name, least) in [("sentPackets", 2000), ("receivedOctets", 2000 * 36)] {
        let count = counters[name].as_u64().unwrap_or(0);
        ensure!(count > least, "{name}: {counters}");
    }
    let table = tortie(overlay, &["tunnels"])?;
    ensure!(
        table.contains("user-space") && table.contains("costs more than the kernel's tunnels"),
        "{table}"
    );
    let json: Value = serde_json::from_str(&tortie(overlay, &["tunnels", "-o", "json"])?)?;
    ensure!(json[0]["device"] == encap.device(), "{json}");

    let what = "NodeStatus to say who carries the tunnels";
    wait::until_true(what, LIMIT, || {
        let statuses = overlay.objects("nodestatuses")?;
        for (node, carrier, holds) in [("node1", "UserSpace", "False"), ("node2", "Kernel", "True")]
        {
            let mut all = statuses.iter();
            let status = all.find(|status| status["metadata"]["name"] == node);
            let status = &status.context("no NodeStatus")?["status"];
            ensure!(status["tunnels"][0]["carrier"] == carrier, "{status}");
            let mut conditions = status["conditions"].as_array().into_iter().flatten();
            let condition = conditions.find(|condition| condition["type"] == "TunnelsInKernel");
            let condition = condition.context("no condition TunnelsInKernel")?;
            ensure!(condition["status"] == holds, "{condition}");
            let named = condition["message"].as_str().unwrap_or_default();
            ensure!(
                holds == "True" || named.contains(encap.device()),
                "{condition}"
            );
        }
        Ok(true)
    })?;

    let metrics = overlay.nodes[0].get("/metrics")?;
    let device = encap.device();
    for line in [
        format!("tortie_tunnel_in_place{{carrier=\"user-space\",device=\"{device}\"}} 1"),
        format!("tortie_tunnel_user_packets_total{{device=\"{device}\",direction=\"sent\"}}"),
        format!(
            "tortie_tunnel_user_dropped_packets_total{{device=\"{device}\",reason=\"loop\"}} 0"
        ),
    ] {
        ensure!(metrics.contains(&line), "no {line} in\n{metrics}");
    }
    Ok(())
}

/// Somebody else has the port when the agent comes back.
fn a_fault_is_told(overlay: &mut Overlay, encap: Encap) -> Result<()> {
    overlay.nodes[0].stop(Signal::SIGKILL)?;
    let namespace = overlay.nodes[0].namespace.clone();
    let port = namespace.inside(|| Ok(UdpSocket::bind("0.0.0.0:4789")?))?;
    overlay.nodes[0].start()?;
    wait::until_true("the agent to answer", LIMIT, || {
        let state = overlay.nodes[0].get("/state")?;
        Ok(state.contains(encap.device()))
    })?;
    wait::until_true("the fault to be told", SOON, || {
        let tunnel = tunnel(overlay, 0, encap)?;
        let problem = tunnel["problems"][0].as_str().unwrap_or_default();
        ensure!(problem.contains("Address already in use"), "{tunnel}");
        Ok(true)
    })?;
    drop(port);
    overlay.wait_all_reach(encap.v6())?;
    ensure!(tunnel(overlay, 0, encap)?["problems"][0].is_null());
    Ok(())
}

fn tunnel(overlay: &Overlay, node: usize, encap: Encap) -> Result<Value> {
    let page = overlay.nodes[node].get("/state")?;
    let body = page.split_once("\r\n\r\n").context("no body")?.1;
    let state: Value = serde_json::from_str(body)?;
    let mut tunnels = state["tunnels"].as_array().into_iter().flatten();
    let tunnel = tunnels.find(|tunnel| tunnel["device"] == encap.device());
    tunnel
        .cloned()
        .with_context(|| format!("no tunnel: {state}"))
}

/// The command line on the first node.
fn tortie(overlay: &Overlay, words: &[&str]) -> Result<String> {
    let namespace = &overlay.nodes[0].namespace;
    let mut command: Command = namespace.command(binary("tortie")?);
    let output = output(command.args(words))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
