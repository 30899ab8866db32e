//! `tortie-bgp`, or the agent `tortie-felix` where routes go into the kernel.

use std::fmt::Write;
use std::process::Command;

use anyhow::Result;

use super::{ASN, Neighbour, binary};
use crate::link::{self, Link, PORT, SPEAKER};

pub(super) fn command(link: &Link, neighbours: &[Neighbour]) -> Result<Command> {
    let mut text = format!(
        "local: {{asn: {ASN}, router_id: {SPEAKER}, listen: ['{SPEAKER}:{PORT}']}}\npeers:\n"
    );
    for (index, neighbour) in neighbours.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  - {{address: {}, asn: {}, passive: true, families: [ipv4], restart_time: 0, \
             reflector_client: {}{}}}",
            link::client(index),
            neighbour.asn,
            neighbour.client,
            if neighbour.external() {
                ", next_hop: self"
            } else {
                ""
            }
        );
    }
    let file = link.file("tortie-bgp.yaml", &text)?;
    let mut command = link::command(binary("tortie-bgp")?);
    command
        .arg("run")
        .arg("--config")
        .arg(file)
        .arg("--socket")
        .arg(link.path("bgp.sock"));
    Ok(command)
}

pub(super) fn agent(link: &Link, neighbours: &[Neighbour]) -> Result<Command> {
    let mut text = format!(
        "apiVersion: v1
kind: Node
metadata:
  name: dut
  annotations: {{projectcalico.org/IPv4Address: {SPEAKER}/16}}
---
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {{name: pool}}
spec: {{cidr: 10.244.0.0/16, blockSize: 26, natOutgoing: false, nodeSelector: all()}}
---
apiVersion: crd.projectcalico.org/v1
kind: BGPConfiguration
metadata: {{name: default}}
spec: {{asNumber: {ASN}, nodeToNodeMeshEnabled: false}}
"
    );
    for (index, neighbour) in neighbours.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "---
apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: {{name: peer{index}}}
spec: {{peerIP: {}, asNumber: {}}}
",
            link::client(index),
            neighbour.asn
        );
    }
    let manifests = link.path("manifests");
    std::fs::create_dir_all(&manifests)?;
    std::fs::write(manifests.join("cluster.yaml"), text)?;
    let mut command = link::command(binary("tortie-felix")?);
    command
        .args(["--node-name", "dut", "--admin", "127.0.0.1:9099"])
        .arg("--datastore")
        .arg(format!("file:{}", manifests.display()))
        .arg("--state-dir")
        .arg(link.path("state"))
        .arg("--cni-socket")
        .arg(link.path("cni.sock"));
    Ok(command)
}
