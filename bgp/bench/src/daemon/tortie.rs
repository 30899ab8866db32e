//! `tortie-bgp`.

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
