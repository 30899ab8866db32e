//! Nodes as calico-node leaves them are taken over: the pods keep their addresses, and no packet is
//! lost.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use e2e::kubernetes::machine::Machine;
use e2e::kubernetes::{Kubernetes, LIMIT, NODES};
use e2e::wait;

use crate::{nothing_is_lost, with_cluster};

const PODS: usize = 9;
/// In place of Calico's plugin.
const PLUGIN: &str = include_str!("calico-plugin");
/// As Calico's installer writes it.
const CONFLIST: &str = r#"{
  "name": "k8s-pod-network",
  "cniVersion": "0.3.1",
  "plugins": [
    {"type": "calico", "log_level": "info", "datastore_type": "kubernetes", "mtu": 0,
     "ipam": {"type": "calico-ipam"}, "policy": {"type": "k8s"},
     "kubernetes": {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"}},
    {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}
  ]
}
"#;
/// The CRDs and the pool are there already; our configuration takes the place of Calico's.
const VALUES: &str = "--set-json pools=[] --set cni.confName=10-calico.conflist";

#[test]
fn nodes_of_calico_are_taken_over() -> Result<()> {
    with_cluster("k8s-takeover", |cluster| {
        cluster.api.apply_crds()?;
        for machine in &cluster.machines {
            as_calico_leaves_it(cluster, machine)?;
        }
        let pods = cluster.run_pods("web", PODS)?;
        for machine in &cluster.machines {
            cluster.api.apply(&objects(machine)?)?;
        }
        cluster.all_reach_each_other(&pods)?;
        nothing_is_lost(cluster, &pods, |cluster| {
            cluster.deploy("install", VALUES)?;
            for machine in &cluster.machines {
                no_route_of_bird_is_left(machine)?;
            }
            cluster.wait_for_accounts()
        })?;
        ensure!(cluster.pods("web")? == pods, "pods were replaced");
        // What is added and what is deleted from now on is ours.
        let new = cluster.run_pods("new", PODS)?;
        let all = [&pods[..], &new].concat();
        cluster.all_reach_each_other(&all)?;
        cluster.wait_for_accounts()?;
        ensure!(cluster.items("ipamblocks")?.len() == NODES, "more blocks");
        cluster.kubectl("delete deployment web --wait")?;
        cluster.wait_for_accounts()
    })
}

fn number(machine: &Machine) -> Result<usize> {
    let number = machine.name.strip_prefix("node");
    Ok(number.context("a node by number")?.parse()?)
}

fn block(number: usize) -> String {
    format!("10.244.{number}.0/26")
}

/// Plugin, configuration, annotation, and the routes that BIRD made.
fn as_calico_leaves_it(cluster: &Kubernetes, machine: &Machine) -> Result<()> {
    let own = number(machine)?;
    let plugin = machine.path("/opt/cni/bin/calico");
    fs::write(&plugin, PLUGIN)?;
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755))?;
    fs::create_dir_all(machine.path("/var/lib/calico"))?;
    fs::write(machine.path("/var/lib/calico/block"), block(own))?;
    fs::write(machine.path("/var/lib/calico/leases"), "")?;
    machine.run("sysctl -qw net.ipv4.ip_forward=1")?;
    for other in 1..=NODES {
        let to = block(other);
        let route = if other == own {
            format!("blackhole {to}")
        } else {
            let [address, _] = e2e::cluster::node_addresses(other);
            format!("{to} via {address} dev eth0")
        };
        machine.run(&format!("ip route add {route} proto bird"))?;
    }
    cluster.kubectl(&format!(
        "annotate node {} projectcalico.org/IPv4Address={}/24",
        machine.name, machine.address
    ))?;
    // Its appearance makes the node ready.
    fs::write(machine.path("/etc/cni/net.d/10-calico.conflist"), CONFLIST)?;
    Ok(())
}

/// What Calico's address management wrote for the pods of a node.
fn objects(machine: &Machine) -> Result<String> {
    let (name, own) = (&machine.name, number(machine)?);
    let cidr = block(own);
    let object = cidr.replace(['.', '/'], "-");
    let leases = fs::read_to_string(machine.path("/var/lib/calico/leases"))?;
    let mut allocations = vec!["null".to_owned(); 64];
    let (mut attributes, mut handles) = (String::new(), String::new());
    for (index, line) in leases.lines().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let [namespace, pod, container, ordinal] = words[..] else {
            anyhow::bail!("a lease is {line:?}");
        };
        *allocations
            .get_mut(ordinal.parse::<usize>()?)
            .context("a lease within the block")? = index.to_string();
        let handle = format!("k8s-pod-network.{container}");
        writeln!(
            attributes,
            "    - {{handle_id: {handle}, secondary: {{namespace: {namespace}, node: {name}, pod: {pod}, timestamp: '2026-01-02 03:04:05 +0000 UTC'}}}}"
        )?;
        writeln!(
            handles,
            "---\napiVersion: crd.projectcalico.org/v1\nkind: IPAMHandle\nmetadata: {{name: {handle}}}\n\
             spec: {{block: {{{cidr}: 1}}, deleted: false, handleID: {handle}}}"
        )?;
    }
    let free: Vec<String> = (0..allocations.len())
        .filter(|ordinal| allocations.get(*ordinal).is_some_and(|one| one == "null"))
        .map(|ordinal| ordinal.to_string())
        .collect();
    Ok(format!(
        "apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {{name: default-ipv4-ippool}}
spec: {{cidr: 10.244.0.0/16, blockSize: 26, ipipMode: Never, vxlanMode: Never, natOutgoing: true, nodeSelector: all()}}
---
apiVersion: crd.projectcalico.org/v1
kind: BlockAffinity
metadata: {{name: {name}-{object}}}
spec: {{cidr: {cidr}, deleted: 'false', node: {name}, state: confirmed}}
---
apiVersion: crd.projectcalico.org/v1
kind: IPAMBlock
metadata: {{name: {object}}}
spec:
  cidr: {cidr}
  affinity: host:{name}
  deleted: false
  strictAffinity: false
  allocations: [{}]
  unallocated: [{}]
  attributes:
{attributes}{handles}",
        allocations.join(", "),
        free.join(", ")
    ))
}

/// Replaced, not left beside ours.
fn no_route_of_bird_is_left(machine: &Machine) -> Result<()> {
    let what = format!("the routes of BIRD on {} to be replaced", machine.name);
    wait::until(&what, LIMIT, || {
        let left = machine.run("ip route show proto bird")?;
        ensure!(left.trim().is_empty(), "{left}");
        let own = machine.run("ip route show proto 80")?;
        for other in 1..=NODES {
            ensure!(own.contains(&block(other)), "{own}");
        }
        Ok(Some(()))
    })
    .map(drop)
}
