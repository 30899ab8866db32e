//! Starts a real cluster with our chart, runs a command beside it, and removes it again.
//!
//! The command finds it by `KUBECONFIG`; kubectl and helm are in `PATH`. It runs on a host on the
//! link of the nodes. With Ctrl-C or any other end everything goes too.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use e2e::kubernetes::{Kubernetes, diagnostics, janitor};

/// Name of the lab.
const LAB: &str = "k8s";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kubernetes: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let usage = "usage: kubernetes COMMAND...  (with BARE=1 set: without our chart)";
    let mut words = std::env::args_os().skip(1);
    let program = words.next().context(usage)?;
    if program == janitor::WORD {
        let name = words.next().context(usage)?;
        janitor::work(&name.to_string_lossy())?;
        return Ok(ExitCode::SUCCESS);
    }
    let cluster = Kubernetes::start(LAB)?;
    if std::env::var_os("BARE").is_none() {
        let installed = cluster.deploy("install", "");
        installed.with_context(|| diagnostics::collect(&cluster))?;
    }
    let status = cluster
        .command(&program)
        .args(words)
        .env("PATH", path(cluster.tools())?)
        .status()
        .with_context(|| format!("run {}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn path(mut first: Vec<PathBuf>) -> Result<std::ffi::OsString> {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    first.extend(std::env::split_paths(&rest));
    Ok(std::env::join_paths(first)?)
}
