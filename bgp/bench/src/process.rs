//! What processes cost, as Linux counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Processor time of all threads of these processes.
///
/// # Errors
/// One of them is gone.
pub fn cpu(pids: &[u32]) -> Result<Duration> {
    pids.iter().map(|pid| one(*pid)).sum()
}

fn one(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("the daemon is gone")?;
    let fields: Vec<_> = text
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = |place: usize| {
        fields
            .get(place)
            .and_then(|field| field.parse::<u64>().ok())
    };
    let ticks = ticks(11)
        .zip(ticks(12))
        .context("a malformed /proc/<pid>/stat")?;
    // Hundredths of a second, threads that ended included.
    let coarse = Duration::from_millis((ticks.0 + ticks.1) * 10);
    // Nanoseconds, living threads only.
    let mut fine = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let nanoseconds = text.split(' ').next().and_then(|field| field.parse().ok());
        fine += Duration::from_nanos(nanoseconds.unwrap_or(0));
    }
    Ok(coarse.max(fine))
}

/// Greatest resident memory so far of these processes together, in octets.
///
/// # Errors
/// One of them is gone.
pub fn peak_memory(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|pid| memory(*pid, "VmHWM")).sum()
}

fn memory(pid: u32, field: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the daemon is gone")?;
    let line = text.lines().find(|line| line.starts_with(field));
    let kibibytes: u64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .context("a process without memory")?
        .parse()?;
    Ok(kibibytes * 1024)
}
