//! `tortie-bgp`: the BGP speaker without Kubernetes, for route reflectors, bare metal, tests.

mod standalone;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use bgp::Options;
use clap::{Parser, Subcommand};

use standalone::{file, run};

#[derive(Debug, Parser)]
#[command(name = "tortie-bgp", version, about = "BGP speaker")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether a configuration file makes sense, and what is wrong with it.
    Check {
        /// Configuration file (YAML).
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
    /// Speak BGP. The file is read again when it changes and on SIGHUP, SIGTERM says goodbye to the peers, SIGUSR1 ends
    /// without a word so that they keep our routes.
    Run {
        /// Configuration file (YAML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Unix socket where questions are answered (HTTP), such as those of `tortie bgp`.
        #[arg(long, value_name = "PATH", default_value = standalone::SOCKET)]
        socket: PathBuf,
        /// Address where they are answered too.
        #[arg(long, value_name = "ADDRESS:PORT")]
        http: Option<SocketAddr>,
        /// Address of metrics and nothing else, for scrapers from elsewhere.
        #[arg(long, value_name = "ADDRESS:PORT")]
        metrics: Option<SocketAddr>,
        /// Metrics have labels of peers only while there are fewer peers than this.
        #[arg(long, value_name = "PEERS", default_value_t = 128)]
        metrics_peers: usize,
        /// We come back from a restart, and traffic never stopped: peers are told so.
        #[arg(long)]
        restarting: bool,
        /// SIGTERM too ends without a word: where somebody starts us again, or others know our routes.
        #[arg(long)]
        silent_end: bool,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Check { config } => check(&config),
        Command::Run {
            config,
            socket,
            http,
            metrics,
            metrics_peers,
            restarting,
            silent_end,
        } => {
            let options = Options {
                restarting,
                metrics_peers,
                // It puts no routes into the kernel.
                best_paths: false,
                ..Options::default()
            };
            let places = run::Places {
                socket: &socket,
                http,
                metrics,
                silent_end,
            };
            run::run(&config, &places, options)
        }
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

/// Prints what a file asks for, or why it cannot be used.
fn check(config: &Path) -> Result<()> {
    let read = file::load(config)?;
    let desired = read.desired;
    let text = format!(
        "{}: AS {}, {} peers, {} ranges of peers, {} prefixes originated\n",
        config.display(),
        desired.local.asn,
        desired.peers.len(),
        desired.dynamic.len(),
        desired.originate.len()
    );
    match io::stdout().lock().write_all(text.as_bytes()) {
        // The reader had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
