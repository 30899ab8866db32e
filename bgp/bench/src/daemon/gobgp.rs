//! GoBGP.

use std::fmt::Write;
use std::process::Command;

use anyhow::Result;

use super::{ASN, Neighbour};
use crate::link::{self, Link, SPEAKER};

pub(super) fn command(link: &Link, neighbours: &[Neighbour]) -> Result<Command> {
    let mut text = format!(
        "[global.config]
  as = {ASN}
  router-id = \"{SPEAKER}\"
  local-address-list = [\"{SPEAKER}\"]
"
    );
    for (index, neighbour) in neighbours.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "[[neighbors]]
  [neighbors.config]
    neighbor-address = \"{}\"
    peer-as = {}
  [neighbors.transport.config]
    passive-mode = true
  [neighbors.timers.config]
    idle-hold-time-after-reset = 1
  [neighbors.route-reflector.config]
    route-reflector-client = {}
    route-reflector-cluster-id = \"{SPEAKER}\"
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = \"ipv4-unicast\"",
            link::client(index),
            neighbour.asn,
            neighbour.client,
        );
    }
    let file = link.file("gobgpd.toml", &text)?;
    let mut command = link::command("gobgpd");
    command
        .args(["--log-level", "error", "-t", "toml", "-f"])
        .arg(file);
    Ok(command)
}
