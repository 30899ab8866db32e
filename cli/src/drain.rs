//! `tortie drain`: has the agent annotate its Node, so that it leaves the routing of the cluster.

use clap::Args;
use serde::Deserialize;

use crate::client::{AgentPlace, parse};
use crate::failure::Failure;
use crate::output::Printed;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    agent: AgentPlace,
    /// Let the node come back.
    #[arg(long)]
    undo: bool,
}

/// What the agent answers.
#[derive(Debug, Deserialize)]
struct Done {
    node: String,
}

/// Asks and says what to print.
pub(crate) fn run(arguments: &Arguments) -> Result<Printed, Failure> {
    let page = match arguments.undo {
        true => "/drain/end",
        false => "/drain/begin",
    };
    let done: Done = parse(&arguments.agent.client().post(page)?)?;
    Ok(said(&done, arguments.undo))
}

fn said(done: &Done, undo: bool) -> Printed {
    let node = &done.node;
    let (text, note) = match undo {
        true => (format!("{node} comes back\n"), None),
        false => (
            format!("{node} leaves: peers are asked to prefer other ways, then its sessions end\n"),
            Some("pods go on running; `tortie drain --undo` lets the node come back".to_owned()),
        ),
    };
    Printed { text, note }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_said_with_the_node() {
        let done: Done = serde_json::from_str("{\"node\":\"n1\"}").unwrap();
        assert!(said(&done, false).text.starts_with("n1 leaves"));
        assert!(said(&done, false).note.is_some());
        assert_eq!(said(&done, true).text, "n1 comes back\n");
    }
}
