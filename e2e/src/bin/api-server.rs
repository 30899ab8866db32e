//! Starts a Kubernetes API server that serves our CRDs, runs a command, and ends it again.
//!
//! The command finds it by `KUBECONFIG`, as kubectl does, and kubectl of its release in `PATH`.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use e2e::apiserver::ApiServer;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("api-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().context("usage: api-server COMMAND...")?;
    let folder = std::env::temp_dir().join(format!("tortie-api-server-{}", std::process::id()));
    let server = ApiServer::on_loopback(&folder)?;
    server.apply_crds()?;
    let status = Command::new(&program)
        .args(words)
        .env("KUBECONFIG", folder.join("admin.kubeconfig"))
        .env("PATH", path(server.tools())?)
        .status()
        .with_context(|| format!("run {}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn path(first: &Path) -> Result<std::ffi::OsString> {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(first.to_owned()).chain(std::env::split_paths(&rest));
    Ok(std::env::join_paths(folders)?)
}
