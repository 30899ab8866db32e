//! On what was measured.

use std::fs;
use std::process::Command;

use crate::link::run;

/// Processor, cores, memory and kernel in one line.
pub fn describe() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split(':').nth(1));
        value.unwrap_or("unknown").trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = run(Command::new("uname").arg("-sr")).unwrap_or_default();
    let memory = field("/proc/meminfo", "MemTotal");
    let gigabytes = memory
        .split(' ')
        .next()
        .and_then(|number| number.parse::<u64>().ok());
    format!(
        "{} ({cores} cores), {} GB of memory, {}",
        field("/proc/cpuinfo", "model name"),
        gigabytes.unwrap_or(0) / 1_000_000,
        kernel.trim()
    )
}

/// The day, as UTC.
pub fn today() -> String {
    let date = run(Command::new("date").args(["-u", "+%Y-%m-%d"]));
    date.unwrap_or_default().trim().to_owned()
}
