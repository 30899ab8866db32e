//! BIRD 2, without protocols that it does not need here.

use std::fmt::Write;
use std::process::Command;

use anyhow::Result;

use super::{ASN, Plan};
use crate::link::{self, Link, SPEAKER};

pub(super) fn command(link: &Link, plan: Plan<'_>) -> Result<Command> {
    let mut text = format!(
        "log stderr {{ warning, error, fatal, bug }};\nrouter id {SPEAKER};\n\
         protocol device {{ }}\n\
         template bgp common {{
    local {SPEAKER} as {ASN};
    direct; passive; connect delay time 1; error wait time 1, 1;
}}\n"
    );
    if plan.kernel {
        text.push_str("protocol kernel { scan time 60; ipv4 { export all; }; }\n");
    }
    for (index, neighbour) in plan.neighbours.iter().enumerate() {
        // All clients are on the link, so next hops need no lookup.
        let next_hop = if neighbour.external() {
            "next hop self;"
        } else {
            ""
        };
        let client = if neighbour.client { "rr client;" } else { "" };
        let export = if neighbour.receives { "all" } else { "none" };
        let _ = writeln!(
            text,
            "protocol bgp c{index} from common {{
    neighbor {} as {}; {client}
    ipv4 {{ import all; export {export}; gateway direct; {next_hop} }};
}}",
            link::client(index),
            neighbour.asn,
        );
    }
    let file = link.file("bird.conf", &text)?;
    let mut command = link::command("bird");
    command
        .args(["-f", "-c"])
        .arg(file)
        .arg("-s")
        .arg(link.path("bird.ctl"));
    Ok(command)
}
