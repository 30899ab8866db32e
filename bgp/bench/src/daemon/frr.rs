//! FRR's bgpd alone: without zebra every next hop counts as reachable.
//!
//! As it comes, FRR holds UPDATEs back: the advertisement interval (5 s inside an AS) and the
//! coalesce time (1 s and more for many neighbours) are turned off here.

use std::fmt::Write;
use std::process::Command;

use anyhow::Result;

use super::{ASN, Neighbour};
use crate::link::{self, Link, SPEAKER};

pub(super) fn command(link: &Link, neighbours: &[Neighbour]) -> Result<Command> {
    let file = link.file("bgpd.conf", &configuration(neighbours))?;
    let mut command = link::command("/usr/lib/frr/bgpd");
    command
        .args([
            "--no_zebra",
            "--no_kernel",
            "--skip_runas",
            "--vty_port",
            "0",
        ])
        .args(["--log", "stdout", "--log-level", "errors"])
        .arg("--config_file")
        .arg(file)
        .arg("--vty_socket")
        .arg(link.path(""))
        .arg("--pid_file")
        .arg(link.path("bgpd.pid"));
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
