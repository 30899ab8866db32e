//! `tortie-bgp`: the BGP speaker without Kubernetes, for route reflectors, bare metal, tests.

mod standalone;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use standalone::{run, show};

#[derive(Debug, Parser)]
#[command(name = "tortie-bgp", version, about = "BGP speaker")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Speak BGP. SIGHUP reads the file again, SIGTERM says goodbye to the peers, SIGUSR1 ends
    /// without a word so that they keep our routes.
    Run {
        /// Configuration file (YAML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Where `show` asks.
        #[arg(long, value_name = "PATH", default_value = standalone::SOCKET)]
        socket: PathBuf,
        /// We come back from a restart, and traffic never stopped: peers are told so.
        #[arg(long)]
        restarting: bool,
    },
    /// Ask a running speaker.
    Show {
        /// About what.
        what: What,
        /// How the answer looks.
        #[arg(short, long, default_value = "table")]
        output: Output,
        /// Where the speaker answers.
        #[arg(long, value_name = "PATH", default_value = standalone::SOCKET)]
        socket: PathBuf,
    },
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// The configured peers.
    Peers,
    /// All paths to all prefixes.
    Routes,
}

/// How an answer looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run {
            config,
            socket,
            restarting,
        } => run::run(&config, &socket, restarting),
        Command::Show {
            what,
            output,
            socket,
        } => show::show(what, output, &socket),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Written by hand, as logging may not be set up.
            let _closed = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("tortie-bgp: {error:#}\n"),
            );
            ExitCode::FAILURE
        }
    }
}
