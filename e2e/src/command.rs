//! Runs foreign programs and reads what they print.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Runs a command and returns its standard output; a non-zero exit is an error
/// that carries the command line and its standard error.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    let output = output(Command::new(program).args(arguments))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As [`run`], split at spaces: `ip("netns list")`.
pub fn ip(arguments: &str) -> Result<String> {
    run("ip", &arguments.split_whitespace().collect::<Vec<_>>())
}

/// Feeds lines to `ip -batch` in a namespace: one process for many changes, which is what
/// costs in an emulated machine.
pub fn ip_batch(namespace: &crate::lab::Namespace, lines: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-n", &namespace.name, "-batch", "-"]);
    feed(&mut command, lines).map(drop)
}

/// Runs a prepared command with `input` on its standard input; returns what it printed.
pub fn feed(command: &mut Command, input: &str) -> Result<String> {
    let line = format!("{command:?}").replace('"', "");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {line}"))?;
    let mut pipe = child.stdin.take().context("no standard input")?;
    // A program that ends early says why itself.
    let _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{line}: {}: {}\nits input was:\n{input}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `ip -j` and parses its answer; an empty answer is an empty list.
pub fn ip_json(arguments: &str) -> Result<Value> {
    let text = ip(&format!("-j {arguments}"))?;
    if text.trim().is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_str(&text).with_context(|| format!("ip -j {arguments} printed no JSON"))
}

/// Runs a prepared command and fails on a non-zero exit.
pub fn output(command: &mut Command) -> Result<Output> {
    let line = format!("{command:?}").replace('"', "");
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {line}"))?;
    if !output.status.success() {
        bail!(
            "{line}: {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim(),
            String::from_utf8_lossy(&output.stdout).trim(),
        );
    }
    Ok(output)
}

/// Where the programs under test are: `TORTIE_BIN_DIR`, or the folder that cargo
/// puts them into beside this program.
pub fn binary(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("TORTIE_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe()?;
            let folder = own.parent().context("this program has no folder")?;
            // Test programs live in `deps`, one below the binaries.
            match folder.file_name() {
                Some(last) if last == "deps" => folder.parent().unwrap_or(folder).to_path_buf(),
                _ => folder.to_path_buf(),
            }
        }
    };
    let path = folder.join(name);
    if !path.exists() {
        bail!(
            "{} is missing: build it with `cargo build --workspace`",
            path.display()
        );
    }
    Ok(path)
}

/// Fails with one clear line when the lab cannot run here.
pub fn require(tools: &[(&str, &str)]) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab makes network namespaces and needs root");
    }
    let missing: Vec<_> = tools
        .iter()
        .filter(|(tool, _)| run("which", &[tool]).is_err())
        .map(|(tool, package)| format!("{tool} (Debian package {package})"))
        .collect();
    if !missing.is_empty() {
        bail!(
            "missing: {}; `make packages` installs them",
            missing.join(", ")
        );
    }
    Ok(())
}
