//! GoBGP as a router of the lab.

use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Path, Router, Setup, is_v6};
use crate::wait;

pub(super) fn configuration(setup: &Setup) -> String {
    let mut text = format!(
        "[global.config]
  as = {}
  router-id = \"{v4}\"
  local-address-list = [\"{v4}\", \"{}\"]
",
        setup.asn,
        setup.v6,
        v4 = setup.v4
    );
    if setup.multipath {
        text.push_str("[global.use-multiple-paths.config]\n  enabled = true\n");
    }
    for neighbour in &setup.neighbours {
        let mut line = |words: String| {
            let _ = writeln!(text, "{words}");
        };
        line("[[neighbors]]\n  [neighbors.config]".to_owned());
        line(format!("    neighbor-address = \"{}\"", neighbour.address));
        line(format!("    peer-as = {}", neighbour.asn));
        if let Some(password) = &neighbour.password {
            line(format!("    auth-password = \"{password}\""));
        }
        line("  [neighbors.timers.config]\n    connect-retry = 2\n    idle-hold-time-after-reset = 2".to_owned());
        if neighbour.ttl_security {
            line(
                "  [neighbors.ttl-security.config]\n    enabled = true\n    ttl-min = 255"
                    .to_owned(),
            );
        }
        if neighbour.client {
            line(format!(
                "  [neighbors.route-reflector.config]\n    route-reflector-client = true\n    route-reflector-cluster-id = \"{}\"",
                setup.v4
            ));
        }
        if neighbour.passive {
            line("  [neighbors.transport.config]\n    passive-mode = true".to_owned());
        }
        if neighbour.restart {
            line(
                "  [neighbors.graceful-restart.config]\n    enabled = true\n    restart-time = 60"
                    .to_owned(),
            );
        }
        if neighbour.add_path {
            line("  [neighbors.add-paths.config]\n    receive = true\n    send-max = 8".to_owned());
        }
        for (wanted, family) in [(neighbour.v4, "ipv4"), (neighbour.v6, "ipv6")] {
            if !wanted {
                continue;
            }
            line(format!(
                "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"{family}-unicast\""
            ));
            if neighbour.restart {
                line(
                    "    [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true"
                        .to_owned(),
                );
            }
            if neighbour.add_path {
                line("    [neighbors.afi-safis.add-paths.config]\n      receive = true\n      send-max = 8".to_owned());
            }
        }
    }
    text
}

pub(super) fn command(router: &Router) -> Command {
    let mut command = router.namespace.command("gobgpd");
    command
        .args(["-t", "toml", "-f"])
        .arg(router.file("gobgpd.toml"));
    command
}

/// Its own prefixes are told to it once it runs.
pub(super) fn originate(router: &Router, setup: &Setup) -> Result<()> {
    wait::until("gobgpd to answer", Duration::from_secs(40), || {
        ask(router, "global").map(Some)
    })?;
    for announced in &setup.announce {
        let v6 = is_v6(&announced.prefix);
        let (family, next_hop) = if v6 {
            ("ipv6", &setup.v6)
        } else {
            ("ipv4", &setup.v4)
        };
        let mut words = format!(
            "global rib add {} -a {family} nexthop {next_hop}",
            announced.prefix
        );
        if !announced.communities.is_empty() {
            let _ = write!(words, " community {}", announced.communities.join(","));
        }
        if !announced.large.is_empty() {
            let _ = write!(words, " large-community {}", announced.large.join(","));
        }
        ask(router, &words)?;
    }
    Ok(())
}

fn ask(router: &Router, words: &str) -> Result<String> {
    router.text(
        router
            .namespace
            .command("gobgp")
            .args(words.split_whitespace()),
    )
}

fn json(router: &Router, words: &str) -> Result<Value> {
    let text = ask(router, words)?;
    if !text.trim_start().starts_with(['{', '[']) {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).context("GoBGP printed no JSON")
}

pub(super) fn words(router: &Router) -> Result<String> {
    let mut text = ask(router, "neighbor")?;
    for family in ["ipv4", "ipv6"] {
        text += &ask(router, &format!("global rib -a {family}"))?;
    }
    Ok(text)
}

pub(super) fn is_established(router: &Router, neighbour: &str) -> Result<bool> {
    let answer = json(router, &format!("neighbor {neighbour} -j"))?;
    // The number of the state in its API.
    Ok(answer["state"]["session_state"] == 6)
}

pub(super) fn paths(router: &Router, prefix: &str) -> Result<Vec<Path>> {
    let family = if is_v6(prefix) { "ipv6" } else { "ipv4" };
    let answer = json(router, &format!("global rib {prefix} -a {family} -j"))?;
    let paths = answer[prefix].as_array().into_iter().flatten();
    let learned =
        paths.filter(|path| path["source-id"].is_string() && path["neighbor-ip"] != "<nil>");
    Ok(learned.map(path).collect())
}

fn path(value: &Value) -> Path {
    let mut path = Path {
        stale: value["stale"] == true,
        ..Path::default()
    };
    for attribute in value["attrs"].as_array().into_iter().flatten() {
        let list = |name: &str| attribute[name].as_array().cloned().unwrap_or_default();
        match attribute["type"].as_u64() {
            Some(2) => {
                let segments = list("as_paths");
                let asns = segments
                    .iter()
                    .flat_map(|s| s["asns"].as_array().cloned().unwrap_or_default());
                path.as_path = asns
                    .filter_map(|asn| u32::try_from(asn.as_u64()?).ok())
                    .collect();
            }
            Some(3 | 14) => {
                if let Some(next_hop) = attribute["nexthop"].as_str() {
                    path.next_hop = next_hop.to_owned();
                }
            }
            Some(8) => {
                let numbers = list("communities");
                let numbers = numbers.iter().filter_map(Value::as_u64);
                path.communities = numbers
                    .map(|n| format!("{}:{}", n >> 16, n & 0xffff))
                    .collect();
            }
            Some(9) => path.originator = attribute["value"].as_str().map(str::to_owned),
            Some(10) => {
                let ids = list("value");
                path.clusters = ids
                    .iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect();
            }
            Some(32) => {
                let values = list("value");
                let words = values
                    .iter()
                    .map(|v| format!("{}:{}:{}", v["ASN"], v["LocalData1"], v["LocalData2"]));
                path.large = words.collect();
            }
            _ => {}
        }
    }
    path
}
