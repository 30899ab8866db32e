//! ExaBGP as a router of the lab. It has no table: what it hears it writes to a
//! file as JSON lines, and the last word about a prefix counts.

use std::fmt::Write;
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use super::{Neighbour, Path, Router, Setup, is_v6};

pub(super) fn configure(router: &Router, setup: &Setup) -> Result<()> {
    let heard = router.file("heard.json");
    let script = router.file("listen.sh");
    std::fs::write(
        &script,
        format!(
            "#!/bin/sh\n# ExaBGP ends a helper that closes its output.\ncat >>{}\n",
            heard.display()
        ),
    )?;
    crate::command::run("chmod", &["755", &script.to_string_lossy()])?;
    // It gives up root.
    std::fs::write(&heard, "")?;
    crate::command::run("chmod", &["666", &heard.to_string_lossy()])?;
    let mut text = format!(
        "process listener {{
  run {};
  encoder json;
}}
",
        script.display()
    );
    for neighbour in &setup.neighbours {
        session(&mut text, setup, neighbour);
    }
    router.write("exabgp.conf", &text)
}

fn session(text: &mut String, setup: &Setup, neighbour: &Neighbour) {
    let own = if is_v6(&neighbour.address) {
        &setup.v6
    } else {
        &setup.v4
    };
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    line(format!("neighbor {} {{", neighbour.address));
    line(format!("  router-id {}; local-address {own};", setup.v4));
    line(format!(
        "  local-as {}; peer-as {};",
        setup.asn, neighbour.asn
    ));
    if let Some(password) = &neighbour.password {
        line(format!("  md5-password '{password}';"));
    }
    if neighbour.ttl_security {
        line("  incoming-ttl 255; outgoing-ttl 255;".to_owned());
    }
    if neighbour.passive {
        line("  passive true;".to_owned());
    }
    line("  family {".to_owned());
    for (wanted, family) in [(neighbour.v4, "ipv4"), (neighbour.v6, "ipv6")] {
        if wanted {
            line(format!("    {family} unicast;"));
        }
    }
    line("  }".to_owned());
    line("  capability {".to_owned());
    if neighbour.add_path {
        line("    add-path send/receive;".to_owned());
    }
    if neighbour.restart {
        line("    graceful-restart 60;".to_owned());
    }
    line("    extended-message enable;\n  }".to_owned());
    line(
        "  api { processes [ listener ]; neighbor-changes; receive { parsed; update; } }"
            .to_owned(),
    );
    line("  static {".to_owned());
    for announced in &setup.announce {
        let v6 = is_v6(&announced.prefix);
        if if v6 { !neighbour.v6 } else { !neighbour.v4 } {
            continue;
        }
        let next_hop = if v6 { &setup.v6 } else { &setup.v4 };
        let mut route = format!("    route {} next-hop {next_hop}", announced.prefix);
        if !announced.communities.is_empty() {
            let _ = write!(route, " community [{}]", announced.communities.join(" "));
        }
        if !announced.large.is_empty() {
            let _ = write!(route, " large-community [{}]", announced.large.join(" "));
        }
        line(route + ";");
    }
    line("  }\n}".to_owned());
}

pub(super) fn command(router: &Router) -> Command {
    let mut command = router.namespace.command("env");
    command
        .args([
            "exabgp.daemon.user=root",
            "exabgp.tcp.bind=",
            "exabgp.api.cli=false",
            "exabgp",
        ])
        .arg(router.file("exabgp.conf"));
    command
}

fn heard(router: &Router) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(router.file("heard.json"))?;
    // The last line may still be in the writing.
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

pub(super) fn is_established(router: &Router, neighbour: &str) -> Result<bool> {
    let heard = heard(router)?;
    let is_about =
        |line: &&Value| line["type"] == "state" && line["neighbor"]["address"]["peer"] == neighbour;
    let last = heard.iter().rfind(is_about);
    Ok(last.is_some_and(|line| line["neighbor"]["state"] == "up"))
}

pub(super) fn paths(router: &Router, prefix: &str) -> Result<Vec<Path>> {
    let mut paths: Vec<(String, Path)> = Vec::new();
    for line in heard(router)? {
        let peer = line["neighbor"]["address"]["peer"].to_string();
        if line["neighbor"]["state"] == "down" {
            paths.retain(|(key, _)| !key.starts_with(&peer));
        }
        let update = &line["neighbor"]["message"]["update"];
        let families = update["withdraw"].as_object().into_iter().flatten();
        for nlri in families.flat_map(|(_, list)| list.as_array().cloned().unwrap_or_default()) {
            if nlri["nlri"] == prefix {
                let key = format!("{peer} {}", nlri["path-information"]);
                paths.retain(|(other, _)| *other != key);
            }
        }
        let families = update["announce"].as_object().into_iter().flatten();
        let hops = families.flat_map(|(_, hops)| hops.as_object().into_iter().flatten());
        for (next_hop, list) in hops {
            for nlri in list.as_array().into_iter().flatten() {
                if nlri["nlri"] == prefix {
                    let key = format!("{peer} {}", nlri["path-information"]);
                    paths.retain(|(other, _)| *other != key);
                    paths.push((key, path(next_hop, &update["attribute"])));
                }
            }
        }
    }
    Ok(paths.into_iter().map(|(_, path)| path).collect())
}

fn path(next_hop: &str, attributes: &Value) -> Path {
    let groups = |name: &str| -> Vec<String> {
        let list = attributes[name].as_array().into_iter().flatten();
        let words = list.filter_map(|group| {
            let numbers = group.as_array()?.iter().map(Value::to_string);
            Some(numbers.collect::<Vec<_>>().join(":"))
        });
        words.collect()
    };
    let clusters = attributes["cluster-list"].as_array().into_iter().flatten();
    // A list, or since some version an object with numbered segments.
    let as_path = &attributes["as-path"];
    let flat: Vec<Value> = match as_path {
        Value::Array(list) => list.clone(),
        Value::Object(segments) => segments
            .values()
            .flat_map(|segment| segment["value"].as_array().cloned().unwrap_or_default())
            .collect(),
        _ => Vec::new(),
    };
    Path {
        next_hop: next_hop.to_owned(),
        as_path: flat
            .iter()
            .filter_map(|asn| u32::try_from(asn.as_u64()?).ok())
            .collect(),
        communities: groups("community"),
        large: groups("large-community"),
        originator: attributes["originator-id"].as_str().map(str::to_owned),
        clusters: clusters
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        stale: false,
    }
}
