//! `tortie-bgp` as a router of the lab.

use std::fmt::Write;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Path, Router, Setup};
use crate::command::binary;

pub(super) fn configuration(setup: &Setup) -> String {
    let mut text = format!(
        "local:
  asn: {}
  router_id: {v4}
  listen: ['{v4}:179', '[{v6}]:179']
  next_hop_v4: {v4}
  next_hop_v6: {v6}
  multipath: {}
peers:
",
        setup.asn,
        if setup.multipath { 16 } else { 1 },
        v4 = setup.v4,
        v6 = setup.v6,
    );
    for neighbour in &setup.neighbours {
        let families = match (neighbour.v4, neighbour.v6) {
            (true, true) => "ipv4, ipv6",
            (true, false) => "ipv4",
            (false, _) => "ipv6",
        };
        let mut line = |words: std::fmt::Arguments<'_>| {
            let _ = text.write_fmt(words);
        };
        line(format_args!(
            "  - name: '{0}'\n    address: '{0}'\n    asn: {1}\n    families: [{families}]\n",
            neighbour.address, neighbour.asn
        ));
        if let Some(password) = &neighbour.password {
            line(format_args!("    password: '{password}'\n"));
        }
        if neighbour.ttl_security {
            line(format_args!("    ttl_security: 1\n"));
        }
        if neighbour.add_path {
            line(format_args!("    add_path: both\n"));
        }
        if neighbour.client {
            line(format_args!("    reflector_client: true\n"));
        }
        if !neighbour.restart {
            line(format_args!("    restart_time: 0\n"));
        }
        if let Some(seconds) = neighbour.long_lived {
            line(format_args!("    long_lived: {seconds}\n"));
        }
        if neighbour.passive {
            line(format_args!("    passive: true\n"));
        }
    }
    text.push_str("originate:\n");
    for announced in &setup.announce {
        let quoted = |all: &[String]| {
            let all: Vec<String> = all.iter().map(|one| format!("'{one}'")).collect();
            all.join(", ")
        };
        let _ = writeln!(
            text,
            "  - {{prefix: '{}', communities: [{}], large_communities: [{}]}}",
            announced.prefix,
            quoted(&announced.communities),
            quoted(&announced.large)
        );
    }
    text
}

pub(super) fn command(router: &Router, arguments: &[&str]) -> Result<Command> {
    let mut command = router.namespace.command(binary("tortie-bgp")?);
    command
        .arg("run")
        .arg("--config")
        .arg(router.file("tortie-bgp.yaml"))
        .arg("--socket")
        .arg(router.file("bgp.sock"))
        .args(arguments);
    Ok(command)
}

fn ask(router: &Router, words: &[&str]) -> Result<String> {
    router.text(
        Command::new(binary("tortie")?)
            .arg("bgp")
            .args(words)
            .arg("--socket")
            .arg(router.file("bgp.sock")),
    )
}

fn json(router: &Router, words: &[&str]) -> Result<Value> {
    let text = ask(router, &[words, &["-o", "json"]].concat())?;
    serde_json::from_str(&text).context("tortie printed no JSON")
}

pub(super) fn is_established(router: &Router, neighbour: &str) -> Result<bool> {
    let peer = json(router, &["peer", neighbour])?;
    Ok(peer["state"] == "Established")
}

pub(super) fn words(router: &Router) -> Result<String> {
    Ok(ask(router, &["summary"])? + &ask(router, &["routes"])?)
}

pub(super) fn paths(router: &Router, prefix: &str) -> Result<Vec<Path>> {
    let answer = json(router, &["route", prefix])?;
    let paths = answer["exact"]["paths"].as_array().into_iter().flatten();
    let learned = paths.filter(|path| !path["peer"].is_null());
    Ok(learned.map(path).collect())
}

fn path(value: &Value) -> Path {
    let attributes = &value["attributes"];
    let words = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let as_path = attributes["asPath"].as_str().unwrap_or_default();
    Path {
        next_hop: value["nextHop"].as_str().unwrap_or_default().to_owned(),
        as_path: as_path
            .split_whitespace()
            .filter_map(|asn| asn.parse().ok())
            .collect(),
        communities: words(&attributes["communities"]),
        large: words(&attributes["largeCommunities"]),
        originator: attributes["originatorId"].as_str().map(str::to_owned),
        clusters: words(&attributes["clusterList"]),
        stale: value["stale"] == true,
    }
}
