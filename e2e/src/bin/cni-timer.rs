//! Stands in the place of a CNI plugin, runs the real one and notes how long that took.
//!
//! A runtime finds it, under the name of each plugin, in a folder of its own; the real plugins are
//! in [`PLUGINS`]. Each call appends one line to the file `log` beside it.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;

/// Where the real plugins are.
const PLUGINS: &str = "/opt/cni/bin";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cni-timer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let own = std::env::args_os().next().context("no name of its own")?;
    let own = Path::new(&own);
    let name = own.file_name().context("no name of its own")?;
    let start = Instant::now();
    let status = Command::new(Path::new(PLUGINS).join(name))
        // Where a plugin looks for those that it calls itself.
        .env("CNI_PATH", PLUGINS)
        .status()
        .with_context(|| format!("run {}", name.display()))?;
    let took = start.elapsed();
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let arguments = variable("CNI_ARGS");
    let pod = arguments
        .split(';')
        .find_map(|pair| pair.strip_prefix("K8S_POD_NAME="));
    let line = json!({
        "plugin": name.to_string_lossy(),
        "verb": variable("CNI_COMMAND"),
        "pod": pod.unwrap_or_default(),
        "failed": !status.success(),
        "micros": u64::try_from(took.as_micros())?,
    });
    let mut log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(own.with_file_name("log"))?;
    // At once, as several write here.
    log.write_all(format!("{line}\n").as_bytes())?;
    let code = status.code().or(status.signal()).unwrap_or(1);
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}
