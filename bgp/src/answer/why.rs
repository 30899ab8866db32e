//! The story of a prefix as lines for people.

use std::net::IpAddr;

use bgp_api::{Outcome, Path, Told, Why};

/// Lines that say what a [`Why`] says.
pub(crate) fn text(why: &Why) -> Vec<String> {
    let Some(prefix) = why.prefix else {
        let asked = &why.asked;
        return vec![format!(
            "{asked}: no peer sent it or a prefix that covers it, and it is not originated here."
        )];
    };
    let mut lines = vec![headline(&prefix.to_string(), why)];
    lines.push(String::new());
    lines.push("Paths:".to_owned());
    for path in &why.paths {
        lines.push(format!("  {} {}", mark(path), path_line(path)));
    }
    if !why.peers.is_empty() {
        lines.push(String::new());
        lines.push("Told to peers:".to_owned());
        lines.extend(
            why.peers
                .iter()
                .map(|told| format!("  {}", told_line(told))),
        );
    }
    lines
}

fn headline(prefix: &str, why: &Why) -> String {
    let covers = if why.asked == prefix {
        String::new()
    } else {
        format!(" (covers {})", why.asked)
    };
    let best = why.paths.iter().find(|path| path.outcome == Outcome::Best);
    let Some(best) = best else {
        let count = why.paths.len();
        return format!("{prefix}{covers}: not reachable, none of {count} paths can be used.");
    };
    let to = match (&best.peer, &why.next_hops[..]) {
        (None, []) => "originated here".to_owned(),
        (None, hops) => format!("originated here with next hop {}", list(hops)),
        (Some(peer), hops) => format!("packets go to {}, the best path is from {peer}", list(hops)),
    };
    format!("{prefix}{covers}: {to}.")
}

fn list(addresses: &[IpAddr]) -> String {
    let words: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    words.join(" and ")
}

/// As routers mark them: best, shares the traffic, usable, not usable.
fn mark(path: &Path) -> &'static str {
    match path.outcome {
        Outcome::Best => "*>",
        Outcome::Shares => "*=",
        Outcome::Lost => "* ",
        Outcome::Unusable => "  ",
    }
}

fn path_line(path: &Path) -> String {
    let mut line = match &path.peer {
        Some(peer) => format!("from {peer}"),
        None => "originated here".to_owned(),
    };
    if path.path_id != 0 {
        line.push_str(&format!(", path {}", path.path_id));
    }
    if let Some(next_hop) = path.next_hop {
        line.push_str(&format!(", next hop {next_hop}"));
    }
    if !path.attributes.as_path.is_empty() {
        line.push_str(&format!(", AS path {}", path.attributes.as_path));
    }
    if path.stale {
        line.push_str(", stale");
    }
    format!("{line}: {}", path.reason)
}

fn told_line(told: &Told) -> String {
    let word = if told.told { "told" } else { "not told" };
    format!("{}: {word}: {}", told.peer, told.reason)
}
