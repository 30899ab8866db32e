//! The binary `tortie-controller`: the one of a cluster that collects what nodes left behind.
//!
//! Decisions are made in `ipam::gc`, writes in `ipam`; here are the loop, leadership, pages and output.
//!
//! ```text
//!  datastore ─ lists ─▶ ipam::gc::Collector ─ Sweep ─▶ Ipam::collect ─ compare and swap ─▶ datastore
//!  watch of Nodes, pools, time ▶ when               └──▶ Board ──▶ /metrics, /sweep, /livez, /readyz
//! ```
//!
//! Beside that it leads agents to reflectors that run as pods (`reflectors`), and `tortie-controller clients` is the
//! companion of such a reflector (`clients`). Where it is asked to, it makes nodes reflectors when a mesh becomes too large
//! (`topology`).

mod admin;
mod board;
mod clients;
mod collect;
mod config;
mod definitions;
mod election;
mod figures;
mod metrics;
mod place;
mod publish;
mod reflectors;
mod report;
mod service;
mod topology;
mod triggers;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tracing_subscriber::EnvFilter;

use config::{Command, Config, Flags};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // The log may not be set up yet.
            let _nobody_listens = writeln!(std::io::stderr(), "tortie-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let flags = Flags::parse();
    if let Some(Command::Clients(flags)) = flags.command {
        log(&flags.log)?;
        let config = flags.resolve()?;
        return block_on(async { clients::run(&config).await.map(|()| ExitCode::SUCCESS) });
    }
    let config = Config::resolve(flags)?;
    log(&config.log)?;
    block_on(async {
        if config.once {
            return service::once(&config).await;
        }
        service::run(&config).await.map(|()| ExitCode::SUCCESS)
    })
}

fn log(filter: &str) -> Result<()> {
    // The client would tell as errors what is told, with its object, as a warning.
    let filter = format!("kube_client=off,{}", filter.to_lowercase());
    let filter = EnvFilter::try_new(filter).context("--log")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

fn block_on(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The work is in other processes.
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let code = runtime.block_on(work);
    runtime.shutdown_background();
    code
}
