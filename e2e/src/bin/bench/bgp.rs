//! BGP under load beside BIRD, FRR and GoBGP: the program `bgp-bench`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::command::binary;

/// Runs all scenarios and writes `docs/performance.md`; with `quick` each scenario
/// runs once and nothing is written.
pub(crate) fn bench(quick: bool) -> Result<()> {
    // What is killed with this program: the load tester, and with it all that it started.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(binary("bgp-bench")?);
    if quick {
        command.arg("--quick");
    } else {
        ensure!(
            Path::new("docs").is_dir(),
            "there is no folder docs here: run this in the root of the repository"
        );
        command
            .args(["--growth", "--write", "docs"])
            .args(["--called", "make bench BENCH=bgp"]);
    }
    let status = command.status().context("start bgp-bench")?;
    ensure!(status.success(), "bgp-bench found errors");
    Ok(())
}
