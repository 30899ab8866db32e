//! FRR as a router of the lab: zebra for its addresses, bgpd.

use std::fmt::Write;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Announced, Neighbour, Path, Router, Setup, exists, is_v6, of_family};
use crate::command::run;

pub(super) fn configuration(setup: &Setup) -> String {
    let mut text = format!(
        "router bgp {}
 bgp router-id {}
 no bgp ebgp-requires-policy
 no bgp network import-check
 no bgp default ipv4-unicast
 bgp graceful-restart-disable
 coalesce-time 0
",
        setup.asn, setup.v4
    );
    for neighbour in &setup.neighbours {
        general(&mut text, neighbour);
    }
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        let _ = writeln!(text, " address-family {family} unicast");
        for announced in of_family(setup, v6) {
            let map = map_name(announced);
            let _ = writeln!(text, "  network {} route-map {map}", announced.prefix);
        }
        if setup.multipath {
            text.push_str("  maximum-paths 8\n  maximum-paths ibgp 8\n");
        }
        for neighbour in &setup.neighbours {
            if if v6 { neighbour.v6 } else { neighbour.v4 } {
                family_of(&mut text, neighbour);
            }
        }
        text.push_str(" exit-address-family\n");
    }
    text.push_str("exit\n");
    for announced in &setup.announce {
        route_map(&mut text, announced);
    }
    text
}

fn general(text: &mut String, neighbour: &Neighbour) {
    let address = &neighbour.address;
    let mut line = |words: String| {
        let _ = writeln!(text, " neighbor {address} {words}");
    };
    line(format!("remote-as {}", neighbour.asn));
    line("timers connect 2".to_owned());
    line("advertisement-interval 0".to_owned());
    if let Some(password) = &neighbour.password {
        line(format!("password {password}"));
    }
    if neighbour.ttl_security {
        line("ttl-security hops 1".to_owned());
    }
    if neighbour.passive {
        line("passive".to_owned());
    }
    if neighbour.restart {
        line("graceful-restart".to_owned());
    }
}

fn family_of(text: &mut String, neighbour: &Neighbour) {
    let address = &neighbour.address;
    let mut line = |words: &str| {
        let _ = writeln!(text, "  neighbor {address} {words}");
    };
    line("activate");
    if neighbour.client {
        line("route-reflector-client");
    }
    if neighbour.add_path {
        line("addpath-tx-all-paths");
    }
}

fn map_name(announced: &Announced) -> String {
    announced.prefix.replace([':', '.', '/'], "-")
}

fn route_map(text: &mut String, announced: &Announced) {
    let _ = writeln!(text, "route-map {} permit 10", map_name(announced));
    if !announced.communities.is_empty() {
        let _ = writeln!(text, " set community {}", announced.communities.join(" "));
    }
    if !announced.large.is_empty() {
        let _ = writeln!(text, " set large-community {}", announced.large.join(" "));
    }
    text.push_str("exit\n");
}

pub(super) fn commands(router: &Router) -> Result<Vec<Command>> {
    let zebra_socket = router.file("zebra.api");
    router.write("zebra.conf", "")?;
    // Both give up root for the user of Debian's package.
    run(
        "chown",
        &["-R", "frr:frr", &router.folder.to_string_lossy()],
    )?;
    let program = |name: &str| {
        let mut command = router.namespace.command(format!("/usr/lib/frr/{name}"));
        command
            .arg("--socket")
            .arg(&zebra_socket)
            .arg("--vty_socket")
            .arg(&router.folder)
            .arg("--pid_file")
            .arg(router.file(&format!("{name}.pid")))
            .arg("--config_file")
            .arg(router.file(&format!("{name}.conf")));
        command
    };
    let mut bgpd = program("bgpd");
    bgpd.args(["--log", "stdout"]);
    if exists(&zebra_socket) {
        // Only bgpd was ended.
        return Ok(vec![bgpd]);
    }
    // bgpd learns its own addresses from zebra, and its IPv6 next hop with them.
    crate::command::output(program("zebra").arg("--daemon"))?;
    Ok(vec![bgpd])
}

fn vtysh(router: &Router, command: &str) -> Result<String> {
    router.text(
        Command::new("vtysh")
            .arg("--vty_socket")
            .arg(&router.folder)
            .args(["-d", "bgpd", "-c", command]),
    )
}

fn json(router: &Router, command: &str) -> Result<Value> {
    let text = vtysh(router, command)?;
    serde_json::from_str(&text).with_context(|| format!("FRR printed no JSON: {text}"))
}

pub(super) fn words(router: &Router) -> Result<String> {
    let mut text = vtysh(router, "show bgp summary")?;
    for command in [
        "show bgp neighbors",
        "show bgp ipv4 unicast",
        "show bgp ipv6 unicast",
    ] {
        text += &vtysh(router, command)?;
    }
    Ok(text)
}

pub(super) fn is_established(router: &Router, neighbour: &str) -> Result<bool> {
    let answer = json(router, &format!("show bgp neighbors {neighbour} json"))?;
    Ok(answer[neighbour]["bgpState"] == "Established")
}

pub(super) fn paths(router: &Router, prefix: &str) -> Result<Vec<Path>> {
    let family = if is_v6(prefix) { "ipv6" } else { "ipv4" };
    let answer = json(router, &format!("show bgp {family} unicast {prefix} json"))?;
    let paths = answer["paths"].as_array().into_iter().flatten();
    // What it announces itself has nobody's identity.
    let learned = paths.filter(|path| !path["peer"]["peerId"].is_null() && path["sourced"] != true);
    Ok(learned.map(path).collect())
}

fn path(value: &Value) -> Path {
    let words = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let as_path = value["aspath"]["string"].as_str().unwrap_or_default();
    Path {
        next_hop: value["nexthops"][0]["ip"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        as_path: as_path
            .split_whitespace()
            .filter_map(|asn| asn.parse().ok())
            .collect(),
        communities: words(&value["community"]["list"]),
        large: words(&value["largeCommunity"]["list"]),
        originator: value["originatorId"].as_str().map(str::to_owned),
        clusters: words(&value["clusterList"]["list"]),
        stale: value["stale"] == true,
    }
}
