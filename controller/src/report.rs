//! A look as a table and as JSON.

use std::fmt::Write;
use std::time::Duration;

use crds::core::time_text;
use crds::ipam_block::attribute;
use ipam::gc::{Action, Finding};
use serde_json::{Value, json};

use crate::board::Look;

/// For people.
pub(crate) fn table(look: &Look, dry_run: bool) -> String {
    let sweep = &look.sweep;
    let mut text = format!(
        "{} addresses in {} blocks, {} of them not plainly in use\n",
        sweep.allocated,
        sweep.blocks,
        sweep.findings.len()
    );
    if !sweep.findings.is_empty() {
        text.push('\n');
        let header = ["NODE", "ADDRESS", "POD", "STATE", "SEEN FOR", "WHY"];
        let mut rows = vec![header.map(str::to_owned)];
        rows.extend(sweep.findings.iter().map(|finding| {
            let seen = look.at.duration_since(finding.since).unwrap_or_default();
            [
                finding.node.clone(),
                finding.held.addr.to_string(),
                pod(finding).unwrap_or_else(|| "-".to_owned()),
                finding.state.name().to_owned(),
                age(seen),
                finding.reason.to_string(),
            ]
        }));
        push_rows(&mut text, &rows);
    }
    for (node, until) in &sweep.reporting {
        // Writing into a String cannot fail, here and below.
        let _ = writeln!(
            text,
            "\nnode {node} has no Node object, but its agent reports: it is not gone before {}",
            time_text(*until)
        );
    }
    for (pool, count) in &sweep.pools {
        let _ = writeln!(
            text,
            "\nIPPool {pool} is being deleted: {count} addresses of it are in use"
        );
    }
    text.push('\n');
    match &sweep.refused {
        Some(suspicion) => {
            let _ = writeln!(text, "nothing of nodes that are gone is freed: {suspicion}");
        }
        None if sweep.actions.is_empty() => text.push_str("nothing to do\n"),
        None => {}
    }
    for action in &sweep.actions {
        let _ = writeln!(text, "{}{action}", if dry_run { "would " } else { "" });
    }
    if !dry_run && !sweep.actions.is_empty() {
        let done = &look.done;
        let _ = writeln!(
            text,
            "\ndone: {} addresses freed, {} in use again, {} nodes and {} empty blocks given back",
            done.freed.len(),
            done.spared.len(),
            done.nodes.len(),
            done.blocks.len()
        );
    }
    text
}

fn push_rows(text: &mut String, rows: &[[String; 6]]) {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// For programs.
pub(crate) fn json(look: &Look, dry_run: bool) -> Value {
    let sweep = &look.sweep;
    let addresses: Vec<Value> = sweep.findings.iter().map(finding).collect();
    let actions: Vec<Value> = sweep.actions.iter().map(action).collect();
    let reporting = sweep.reporting.iter();
    let reporting: serde_json::Map<String, Value> = reporting
        .map(|(node, until)| (node.clone(), time_text(*until).into()))
        .collect();
    let done = &look.done;
    json!({
        "at": time_text(look.at),
        "dryRun": dry_run,
        "allocated": sweep.allocated,
        "blocks": sweep.blocks,
        "addresses": addresses,
        "reporting": reporting,
        "deletedPools": sweep.pools,
        "refused": sweep.refused.as_ref().map(ToString::to_string),
        "actions": actions,
        "done": {
            "freed": done.freed,
            "spared": done.spared,
            "nodes": done.nodes,
            "blocks": done.blocks,
            "pools": done.pools,
            "statuses": done.statuses,
        },
        "error": look.error,
    })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "node": finding.node,
        "address": finding.held.addr,
        "block": finding.held.block,
        "handle": finding.held.handle,
        "pod": pod(finding),
        "state": finding.state.name(),
        "since": time_text(finding.since),
        "reason": finding.reason.to_string(),
    })
}

fn action(action: &Action) -> Value {
    match action {
        Action::Release(held) => json!({
            "do": "releaseAddress", "address": held.addr, "block": held.block,
            "handle": held.handle, "sequence": held.sequence,
        }),
        Action::ReleaseNode { node, blocks } => {
            json!({ "do": "releaseNode", "node": node, "blocks": blocks })
        }
        Action::ForgetStatus(node) => json!({ "do": "forgetStatus", "node": node }),
        Action::ReleaseEmptyBlock { node, block } => {
            json!({ "do": "releaseEmptyBlock", "node": node, "block": block })
        }
        Action::GuardPool(pool) => json!({ "do": "guardPool", "pool": pool }),
        Action::ReleasePool(pool) => json!({ "do": "releasePool", "pool": pool }),
        Action::Settle { object, problem } => {
            json!({ "do": "settle", "object": object, "problem": problem })
        }
    }
}

fn pod(finding: &Finding) -> Option<String> {
    let attributes = &finding.held.attributes;
    let (namespace, pod) = (
        attributes.get(attribute::NAMESPACE)?,
        attributes.get(attribute::POD)?,
    );
    Some(format!("{namespace}/{pod}"))
}

/// `2h5m`, `14m`, `30s`.
fn age(time: Duration) -> String {
    match time.as_secs() {
        secs @ 0..60 => format!("{secs}s"),
        secs @ 60..3600 => format!("{}m", secs / 60),
        secs => format!("{}h{}m", secs / 3600, secs / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_or_two_units() {
        for (secs, text) in [(0, "0s"), (59, "59s"), (899, "14m"), (7500, "2h5m")] {
            assert_eq!(age(Duration::from_secs(secs)), text);
        }
    }
}
