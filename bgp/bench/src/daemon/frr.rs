//! FRR's bgpd alone, where every next hop counts as reachable, or with zebra for the kernel.
//!
//! As it comes, FRR holds UPDATEs back: the advertisement interval (5 s inside an AS) and the
//! coalesce time (1 s and more for many neighbours) are turned off here.

use std::fmt::Write;
use std::process::Command;

use anyhow::Result;

use super::{ASN, Neighbour, Plan};
use crate::link::{self, Link, SPEAKER};

const ZEBRA: &str = "zebra.api";

pub(super) fn command(link: &Link, plan: Plan<'_>) -> Result<Command> {
    let mut command = program(link, "bgpd", &configuration(plan.neighbours))?;
    if plan.kernel {
        command.arg("--socket").arg(link.path(ZEBRA));
    } else {
        command.args(["--no_zebra", "--no_kernel"]);
    }
    Ok(command)
}

pub(super) fn zebra(link: &Link) -> Result<Command> {
    let mut command = program(link, "zebra", "")?;
    // As Debian starts it.
    command.args(["--nl-bufsize", "90000000"]);
    command.arg("--socket").arg(link.path(ZEBRA));
    Ok(command)
}

fn program(link: &Link, name: &str, configuration: &str) -> Result<Command> {
    let file = link.file(&format!("{name}.conf"), configuration)?;
    // It gives up root for the user of Debian's package.
    link::run(
        Command::new("chown")
            .args(["-R", "frr:frr"])
            .arg(link.path("")),
    )?;
    let mut command = link::command(format!("/usr/lib/frr/{name}"));
    command
        .args(["--vty_port", "0"])
        .args(["--log", "stdout", "--log-level", "errors"])
        .arg("--config_file")
        .arg(file)
        .arg("--vty_socket")
        .arg(link.path(""))
        .arg("--pid_file")
        .arg(link.path(&format!("{name}.pid")));
    Ok(command)
}

fn configuration(neighbours: &[Neighbour]) -> String {
    let mut text = format!(
        "route-map nothing deny 1
exit
router bgp {ASN}
 bgp router-id {SPEAKER}
 no bgp ebgp-requires-policy
 no bgp network import-check
 coalesce-time 1
 read-quanta 10
"
    );
    let mut family = String::new();
    for (index, neighbour) in neighbours.iter().enumerate() {
        let address = link::client(index);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            " neighbor {address} remote-as {}
 neighbor {address} passive
 neighbor {address} advertisement-interval 0",
            neighbour.asn
        );
        if neighbour.client {
            let _ = writeln!(family, "  neighbor {address} route-reflector-client");
        }
        if neighbour.external() {
            let _ = writeln!(family, "  neighbor {address} next-hop-self");
        }
        if !neighbour.receives {
            let _ = writeln!(family, "  neighbor {address} route-map nothing out");
        }
    }
    let _ = writeln!(
        text,
        " address-family ipv4 unicast\n{family} exit-address-family"
    );
    text
}
