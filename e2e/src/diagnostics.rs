//! Everything from every node, for the reader of a failed run.

use std::fmt::Write;

use crate::bird::Bird;
use crate::node::Node;

const LOG_LINES: usize = 60;

/// Collects routes, links, packet rules and the end of the log of each node, and BIRD's view.
pub fn collect(nodes: &[Node], bird: Option<&Bird>) -> String {
    let mut text = String::new();
    for node in nodes {
        section(
            &mut text,
            &node.name,
            "ip -4 route",
            node.namespace.ip("-4 route"),
        );
        section(
            &mut text,
            &node.name,
            "ip -6 route",
            node.namespace.ip("-6 route"),
        );
        section(
            &mut text,
            &node.name,
            "ip -d address",
            node.namespace.ip("-d address"),
        );
        section(
            &mut text,
            &node.name,
            "nft list ruleset",
            node.namespace.run("nft list ruleset"),
        );
        section(&mut text, &node.name, "/readyz", node.get("/readyz"));
        let log = std::fs::read_to_string(node.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        section(&mut text, &node.name, "end of the agent's log", Ok(tail));
    }
    if let Some(bird) = bird {
        section(
            &mut text,
            "bird",
            "protocols",
            bird.birdc("show protocols all"),
        );
        section(&mut text, "bird", "routes", bird.birdc("show route all"));
    }
    text
}

fn section(text: &mut String, place: &str, what: &str, content: anyhow::Result<String>) {
    let content = content.unwrap_or_else(|error| format!("({error:#})"));
    // Writing to a string cannot fail.
    let _ = writeln!(text, "--- {place}: {what}\n{}", content.trim_end());
}
