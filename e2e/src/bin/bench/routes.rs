//! 100,000 kernel routes: the agent's dataplane beside `ip -batch`.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::command::{binary, output, run};
use e2e::lab::{Lab, Namespace};

const ROUTES: u32 = 100_000;
const ROUNDS: usize = 3;

/// Both program the same /32 routes by a gateway, each into a fresh namespace,
/// in turn.
pub(crate) fn bench() -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let lab = Lab::new("bench")?;
        ours.push(dataplane(&lab, round)?);
        theirs.push(batch(&lab, round)?);
    }
    ours.sort();
    theirs.sort();
    println!("\n{ROUTES} routes into the kernel, median of {ROUNDS} (routes per second)");
    let rate = |times: &[Duration]| f64::from(ROUTES) / times[times.len() / 2].as_secs_f64();
    println!("  {:<24} {:>10.0}", "felix-dataplane", rate(&ours));
    println!("  {:<24} {:>10.0}", "ip -batch", rate(&theirs));
    println!("  {:<24} {:>10.2}", "ratio", rate(&ours) / rate(&theirs));
    Ok(())
}

fn host(lab: &Lab, name: &str) -> Result<Namespace> {
    let namespace = lab.namespace(name)?;
    lab.plug(&namespace, name, &["192.0.2.11/24"])?;
    Ok(namespace)
}

fn dataplane(lab: &Lab, round: usize) -> Result<Duration> {
    let namespace = host(lab, &format!("ours{round}"))?;
    let program = binary("examples/program_routes")?;
    let printed = output(namespace.command(program).arg(ROUTES.to_string()))?;
    let seconds: f64 = String::from_utf8_lossy(&printed.stdout).trim().parse()?;
    check(&namespace)?;
    Ok(Duration::from_secs_f64(seconds))
}

fn batch(lab: &Lab, round: usize) -> Result<Duration> {
    let namespace = host(lab, &format!("batch{round}"))?;
    let mut text = String::new();
    for number in 0..ROUTES {
        let [_, b, c, d] = number.to_be_bytes();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "route add 10.{b}.{c}.{d}/32 via 192.0.2.1 proto 80");
    }
    let file = lab.folder().join("routes.batch");
    std::fs::write(&file, text)?;
    let start = Instant::now();
    run(
        "ip",
        &[
            "-n",
            &namespace.name,
            "-batch",
            file.to_str().context("path")?,
        ],
    )?;
    let took = start.elapsed();
    check(&namespace)?;
    Ok(took)
}

fn check(namespace: &Namespace) -> Result<()> {
    let text = namespace.ip("route show proto 80")?;
    let count = text.lines().count();
    ensure!(
        count == ROUTES as usize,
        "{count} routes are in the kernel, not {ROUTES}"
    );
    Ok(())
}
