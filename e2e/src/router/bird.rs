//! BIRD 2 as a router of the lab.

use std::fmt::Write;
use std::process::Command;

use anyhow::Result;

use super::{Announced, Neighbour, Path, Router, Setup, is_v6, of_family};
use crate::bird::birdc;

pub(super) fn configuration(setup: &Setup) -> String {
    let mut text = format!(
        "log stderr all;
router id {};
protocol device {{ }}
protocol direct {{ ipv4; ipv6; }}
",
        setup.v4
    );
    if setup.neighbours.iter().any(|neighbour| neighbour.bfd) {
        text.push_str(BFD);
    }
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        let _ = writeln!(text, "protocol static {{ {family};");
        for announced in of_family(setup, v6) {
            let _ = writeln!(
                text,
                "  route {} blackhole {{ {}}};",
                announced.prefix,
                changes(announced)
            );
        }
        text.push_str("}\n");
    }
    for (number, neighbour) in setup.neighbours.iter().enumerate() {
        protocol(&mut text, setup, number, neighbour);
    }
    text
}

const BFD: &str = "protocol bfd {
  interface \"*\" { min rx interval 300 ms; min tx interval 300 ms; multiplier 5; };
}
";

fn changes(announced: &Announced) -> String {
    let mut text = String::new();
    if let Some(next_hop) = &announced.next_hop {
        let _ = write!(text, "bgp_next_hop = {next_hop}; ");
    }
    for community in &announced.communities {
        let _ = write!(
            text,
            "bgp_community.add(({})); ",
            community.replace(':', ",")
        );
    }
    for large in &announced.large {
        let _ = write!(
            text,
            "bgp_large_community.add(({})); ",
            large.replace(':', ",")
        );
    }
    text
}

fn protocol(text: &mut String, setup: &Setup, number: usize, neighbour: &Neighbour) {
    let own = if is_v6(&neighbour.address) {
        &setup.v6
    } else {
        &setup.v4
    };
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    line(format!("protocol bgp n{number} {{"));
    line(format!("  local {own} as {};", setup.asn));
    line(format!(
        "  neighbor {} as {};",
        neighbour.address, neighbour.asn
    ));
    line("  connect retry time 2; connect delay time 1; error wait time 1, 2;".to_owned());
    line("  enable extended messages on;".to_owned());
    if let Some(password) = &neighbour.password {
        line(format!("  password \"{password}\";"));
    }
    if neighbour.ttl_security {
        line("  ttl security on;".to_owned());
    }
    if neighbour.client {
        line("  rr client;".to_owned());
    }
    if neighbour.bfd {
        line("  bfd on;".to_owned());
    }
    if neighbour.passive {
        line("  passive on;".to_owned());
    }
    line(format!(
        "  graceful restart {};",
        if neighbour.restart { "on" } else { "off" }
    ));
    if let Some(seconds) = neighbour.long_lived {
        line("  long lived graceful restart on;".to_owned());
        line(format!("  long lived stale time {seconds};"));
    }
    let keep = setup.announce.iter().any(|one| one.next_hop.is_some());
    let keep = if keep { "next hop keep;" } else { "" };
    for (wanted, family) in [(neighbour.v4, "ipv4"), (neighbour.v6, "ipv6")] {
        if wanted {
            let add_path = if neighbour.add_path {
                "add paths on;"
            } else {
                ""
            };
            line(format!(
                "  {family} {{ import all; {add_path} {keep} export where source ~ [RTS_STATIC, RTS_BGP]; }};"
            ));
        }
    }
    line("}".to_owned());
}

pub(super) fn command(router: &Router) -> Command {
    let mut command = router.namespace.command("bird");
    command
        .args(["-f", "-c"])
        .arg(router.file("bird.conf"))
        .arg("-s")
        .arg(router.file("bird.ctl"));
    command
}

pub(super) fn ask(router: &Router, words: &str) -> Result<String> {
    birdc(&router.file("bird.ctl"), words)
}

pub(super) fn words(router: &Router) -> Result<String> {
    Ok(ask(router, "show protocols all")? + &ask(router, "show route all")?)
}

pub(super) fn is_established(router: &Router, neighbour: &str) -> Result<bool> {
    let protocols = ask(router, "show protocols all")?;
    Ok(protocols.split("\n\n").any(|protocol| {
        let mut words = protocol.lines().map(str::trim);
        words.any(|line| {
            line.strip_prefix("Neighbor address:")
                .is_some_and(|address| address.trim() == neighbour)
        }) && protocol.contains("BGP state:          Established")
    }))
}

pub(super) fn paths(router: &Router, prefix: &str) -> Result<Vec<Path>> {
    let table = if is_v6(prefix) { "master6" } else { "master4" };
    match ask(router, &format!("show route {prefix} table {table} all")) {
        Ok(text) => Ok(parse(&text)),
        // That answer comes with a failure status.
        Err(error) if error.to_string().contains("Network not found") => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

pub(super) fn has_large_communities(router: &Router, prefix: &str, count: usize) -> Result<bool> {
    let table = if is_v6(prefix) { "master6" } else { "master4" };
    let question =
        format!("show route {prefix} table {table} where bgp_large_community.len = {count}");
    match ask(router, &question) {
        Ok(text) => Ok(text.contains(prefix)),
        Err(error) if error.to_string().contains("Network not found") => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads `show route all`: a line with `[protocol time]` begins a path.
fn parse(text: &str) -> Vec<Path> {
    let mut paths: Vec<Path> = Vec::new();
    let mut current: Option<Path> = None;
    for line in text.lines() {
        if line.contains('[') && line.contains("unicast") {
            paths.extend(current.take());
            current = Some(Path {
                stale: line.contains("(100s") || line.contains(" s "),
                ..Path::default()
            });
        } else if line.contains('[') {
            // A blackhole of its own.
            paths.extend(current.take());
        }
        let Some(path) = &mut current else { continue };
        let Some((name, value)) = line.trim().split_once(": ") else {
            continue;
        };
        match name {
            "BGP.next_hop" => {
                path.next_hop = value.split(' ').next().unwrap_or_default().to_owned()
            }
            "BGP.as_path" => {
                path.as_path = value
                    .split(' ')
                    .filter_map(|asn| asn.parse().ok())
                    .collect();
            }
            "BGP.community" => path.communities = groups(value),
            "BGP.large_community" => path.large = groups(value),
            "BGP.originator_id" => path.originator = Some(value.to_owned()),
            "BGP.cluster_list" => path.clusters = value.split(' ').map(str::to_owned).collect(),
            _ => {}
        }
    }
    paths.extend(current);
    paths.retain(|path| !path.next_hop.is_empty());
    paths
}

/// `(64500,1) (64500,2)` as `64500:1` and `64500:2`.
fn groups(value: &str) -> Vec<String> {
    value
        .split('(')
        .filter_map(|part| part.split(')').next())
        .filter(|part| !part.trim().is_empty())
        .map(|part| part.replace(' ', "").replace(',', ":"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_birds_own_words() {
        let text = "Table master4:
203.0.113.0/24       unicast [n0 02:10:01.123] * (100) [AS64512i]
\tvia 192.0.2.1 on eth0
\tType: BGP univ
\tBGP.as_path: 64512 4200000001
\tBGP.next_hop: 192.0.2.1
\tBGP.community: (64512,1) (64512,2)
\tBGP.large_community: (64512, 1, 2)
                     unicast [n1 02:10:01.123] (100) [AS64512i]
\tBGP.next_hop: 192.0.2.3
\tBGP.originator_id: 192.0.2.9
\tBGP.cluster_list: 192.0.2.1 192.0.2.2
                     blackhole [static1 02:10:01.123] * (200)
\tType: static univ
";
        let paths = parse(text);
        assert_eq!(paths.len(), 2);
        assert_eq!(paths[0].as_path, [64512, 4_200_000_001]);
        assert_eq!(paths[0].communities, ["64512:1", "64512:2"]);
        assert_eq!(paths[0].large, ["64512:1:2"]);
        assert_eq!(paths[1].next_hop, "192.0.2.3");
        assert_eq!(paths[1].originator.as_deref(), Some("192.0.2.9"));
        assert_eq!(paths[1].clusters, ["192.0.2.1", "192.0.2.2"]);
    }
}
