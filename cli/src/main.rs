//! `tortie`: looks at what runs on a node and, where that is harmless, has it do something.
//!
//! It asks over HTTP what `bgp-api` describes, needs no privileges but those of the socket it
//! asks at, and touches neither kernel nor datastore. `tortie cleanup` is the exception: it asks
//! nobody, runs as root on a node that leaves, and removes what is left there.

mod bgp;
#[cfg(target_os = "linux")]
mod cleanup;
mod client;
mod drain;
mod failure;
mod output;
mod table;
mod tunnels;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

#[derive(Debug, Parser)]
#[command(
    name = "tortie",
    version,
    about = "Looks at a node's routing",
    after_help = "Exit status: 0 answered or done, 1 there is no such thing or something was not done, 2 wrong arguments, 3 nobody answers."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// BGP peers, routes and why they are as they are.
    Bgp(bgp::Arguments),
    /// Removes what Tortie left on this node, when it leaves for good.
    #[cfg(target_os = "linux")]
    Cleanup(cleanup::Arguments),
    /// Takes a node out of the routing of the cluster, or lets it come back.
    Drain(drain::Arguments),
    /// The tunnels of a node, who carries their packets and what is wrong with them.
    Tunnels(tunnels::Arguments),
}

fn main() -> ExitCode {
    let answer = match Arguments::parse().command {
        Command::Bgp(arguments) => bgp::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Cleanup(arguments) => cleanup::run(&arguments),
        Command::Drain(arguments) => drain::run(&arguments),
        Command::Tunnels(arguments) => tunnels::run(&arguments),
    };
    let result = answer.and_then(|answer| {
        if let Some(note) = answer.note.filter(|_| io::stderr().is_terminal()) {
            say(&note);
        }
        print(&answer.text)
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            #[cfg(target_os = "linux")]
            if let Failure::Incomplete { text, .. } = &failure {
                // The status says that something remains, whether this is read or not.
                let _unread = print(text);
            }
            say(&failure.to_string());
            failure.status()
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // The reader had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| Failure::Output(error.to_string())),
    }
}

fn say(text: &str) {
    // Where nobody listens there is nobody to tell.
    let _closed = writeln!(io::stderr(), "tortie: {text}");
}
