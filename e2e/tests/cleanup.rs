//! A node leaves for good: `tortie cleanup` after a real agent.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, LIMIT, scenario};
use e2e::lab::Namespace;
use e2e::{command, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A second pool, so that there is a tunnel.
const TUNNELLED: &str = "apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: tunnelled}
spec: {cidr: 10.245.0.0/24, blockSize: 26, ipipMode: Never, vxlanMode: Always, natOutgoing: true, nodeSelector: all()}
";
const OURS: &str = r#"{"plugins": [{"type": "tortie-cni", "version": "0.1.0"}]}"#;

#[test]
fn what_a_node_had_of_us_goes_and_what_others_have_stays() -> Result<()> {
    scenario("cleanup", 2, |cluster| {
        std::fs::write(cluster.datastore().join("tunnelled.yaml"), TUNNELLED)?;
        cluster.plug(0, "pod0")?;
        cluster.wait_converged()?;
        let node = cluster.nodes[0].namespace.clone();
        wait::until_true("the tunnel and the packet rules", LIMIT, || {
            let tables = node.run("nft list tables")?;
            let links = node.ip("link show")?;
            Ok(tables.contains("inet tortie") && links.contains("vxlan.calico"))
        })?;
        let folder = cluster.lab.folder().join("disk");
        for name in ["bin", "conf"] {
            std::fs::create_dir_all(folder.join(name))?;
        }
        std::fs::write(folder.join("bin/tortie-cni"), "")?;
        std::fs::write(folder.join("conf/10-tortie.conflist"), OURS)?;

        // Not under a running agent, which would put things back.
        let before = everything(&node)?;
        let (ended, said) = cleanup(cluster, &folder, &["--yes"])?;
        ensure!(!ended.status.success(), "{said}");
        ensure!(said.contains("helm uninstall"), "{said}");
        ensure!(everything(&node)? == before, "something was removed");
        cluster.nodes[0].stop(Signal::SIGTERM)?;
        // An agent that runs removes routes of others to what may be a pod.
        others_are_there_too(&node)?;
        let foreign = of_others(&node)?;
        let before = everything(&node)?;

        let (ended, said) = cleanup(cluster, &folder, &["--dry-run"])?;
        ensure!(ended.status.success(), "{said}");
        ensure!(said.contains("would be removed"), "{said}");
        ensure!(everything(&node)? == before, "a dry run removed something");
        let (ended, said) = cleanup(cluster, &folder, &[])?;
        ensure!(!ended.status.success() && said.contains("--yes"), "{said}");

        while_pods_are_there(cluster, &folder)?;
        let (ended, said) = cleanup(cluster, &folder, &["--yes", "--pods"])?;
        eprintln!("{said}");
        ensure!(ended.status.success(), "{said}");
        nothing_of_ours(cluster, &folder)?;
        ensure!(of_others(&node)? == foreign, "{}", of_others(&node)?);
        let clean = everything(&node)?;
        let (ended, said) = cleanup(cluster, &folder, &["--yes"])?;
        ensure!(ended.status.success(), "{said}");
        ensure!(said.contains("nothing to do"), "{said}");
        ensure!(
            everything(&node)? == clean,
            "a second run changed something"
        );
        Ok(())
    })
}

/// A kube-proxy, an administrator and another plugin.
fn others_are_there_too(node: &Namespace) -> Result<()> {
    for line in [
        "nft add table ip kube-proxy",
        "nft add chain ip kube-proxy services",
        "nft add rule ip kube-proxy services ip daddr 10.96.0.1 drop",
        "ip link add cali0000other type veth peer name other",
        "ip link set cali0000other up",
        "ip route add 203.0.113.7 dev cali0000other proto static",
        "ip route add 203.0.113.128/25 via 192.0.2.1 proto static",
        "ip route add 10.9.0.0/16 via 192.0.2.1 proto 80 table 100",
        "ip rule add from 203.0.113.9 lookup 100",
    ] {
        node.run(line)?;
    }
    Ok(())
}

fn of_others(node: &Namespace) -> Result<String> {
    let mut text = String::new();
    for line in [
        "nft list table ip kube-proxy",
        "ip route show proto static",
        "ip route show table 100",
        "ip rule show",
        "ip -br link show cali0000other",
        "ip -br address show dev eth0",
    ] {
        text += &node.run(line)?;
    }
    Ok(text)
}

/// What the kernel of a node has, but for counters.
fn everything(node: &Namespace) -> Result<String> {
    let mut text = String::new();
    for line in [
        "nft --stateless list ruleset",
        "ip -4 route show table all",
        "ip -6 route show",
        "ip rule show",
        "ip -br link show",
    ] {
        text += &node.run(line)?;
    }
    Ok(text)
}

/// Pods keep their interface and their way to the node, and the runtime what takes them down.
fn while_pods_are_there(cluster: &Cluster, folder: &Path) -> Result<()> {
    let node = &cluster.nodes[0];
    let (ended, said) = cleanup(cluster, folder, &["--yes", "-o", "json"])?;
    ensure!(ended.status.success(), "{said}");
    let lines: Value = serde_json::from_slice(&ended.stdout)?;
    let lines = lines.as_array().context("a list")?;
    let count = |result: &str| lines.iter().filter(|line| line["result"] == result).count();
    ensure!(count("removed") > 3 && count("failed") == 0, "{lines:#?}");
    ensure!(node.pod_interfaces()?.len() == 2, "pod and the other");
    let address = cluster.pods[0].address(false)?;
    ensure!(node.route(&address.to_string())?.is_some(), "{said}");
    node.namespace.run(&format!("ping -c 1 -W 5 {address}"))?;
    let tables = node.namespace.run("nft list tables")?;
    ensure!(!tables.contains("tortie"), "{tables}");
    ensure!(folder.join("bin/tortie-cni").exists(), "{said}");
    ensure!(folder.join("conf/10-tortie.conflist").exists(), "{said}");
    let (_, said) = cleanup(cluster, folder, &["--yes"])?;
    ensure!(said.contains("nothing to do"), "{said}");
    ensure!(said.contains("stays"), "{said}");
    Ok(())
}

fn nothing_of_ours(cluster: &Cluster, folder: &Path) -> Result<()> {
    let node = &cluster.nodes[0];
    let named = |text: &str, values: &Value| -> Vec<String> {
        let all = values.as_array().into_iter().flatten();
        let names = all.filter_map(|one| one["ifname"].as_str().or(one["dst"].as_str()));
        names
            .filter(|name| name.starts_with(text))
            .map(str::to_owned)
            .collect()
    };
    for family in ["-4", "-6"] {
        let routes = node
            .namespace
            .ip_json(&format!("{family} route show proto 80"))?;
        ensure!(named("", &routes).is_empty(), "{routes:#}");
    }
    let links = node.namespace.ip_json("link show")?;
    ensure!(named("vxlan", &links).is_empty(), "{links:#}");
    ensure!(named("cali", &links) == ["cali0000other"], "{links:#}");
    let rules = node.namespace.run("nft -j list ruleset")?;
    ensure!(!rules.contains("tortie"), "{rules}");
    ensure!(rules.contains("kube-proxy"), "{rules}");
    let gone = [
        folder.join("bin/tortie-cni"),
        folder.join("conf/10-tortie.conflist"),
        node.state_dir(),
        node.socket(),
    ];
    let left: Vec<_> = gone.iter().filter(|path| path.exists()).collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// On node1; what it said on both outputs.
fn cleanup(cluster: &Cluster, folder: &Path, arguments: &[&str]) -> Result<(Output, String)> {
    let node = &cluster.nodes[0];
    let mut tortie: Command = node.namespace.command(command::binary("tortie")?);
    tortie.arg("cleanup").args(arguments);
    tortie.arg("--bin-dir").arg(folder.join("bin"));
    tortie.arg("--conf-dir").arg(folder.join("conf"));
    tortie.arg("--state-dir").arg(node.state_dir());
    tortie
        .arg("--run-dir")
        .arg(node.socket().with_file_name(""));
    let ended = tortie.stdin(std::process::Stdio::null()).output()?;
    let said = [&ended.stdout[..], &ended.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat();
    Ok((ended, said))
}
