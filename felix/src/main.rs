//! The binary `tortie-felix`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use felix::config::{Config, Flags};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not be set up yet.
            let _nobody_listens = writeln!(std::io::stderr(), "tortie-felix: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let config = Config::load(Flags::parse(), |name| std::env::var(name).ok())?;
    // The Kubernetes client logs every failed request as an error; the agent says what follows from it. Filters of the
    // setting come later and win.
    let filter = format!("kube_client=off,{}", config.log);
    let filter = EnvFilter::try_new(filter).context("setting log")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The work is in the kernel and in other processes.
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = runtime.block_on(felix::agent::run(config));
    // Whatever still runs had its time in the agent's own shutdown.
    runtime.shutdown_background();
    result
}
