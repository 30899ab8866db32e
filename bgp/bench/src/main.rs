//! `bgp-bench`: runs scenarios and prints what they cost.

#![allow(clippy::print_stdout, reason = "this program exists to print figures")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use bgp_bench::daemon::Kind;
use bgp_bench::figures::{Figures, megabytes};
use bgp_bench::report::Report;
use bgp_bench::run::Measured;
use bgp_bench::scenario::Scenario;
use bgp_bench::{growth, link, machine, relay};
use clap::{Parser, Subcommand, ValueEnum};

/// BGP speakers under load, one after the other, on this machine.
///
/// Exits with 1 when a receiver was told something wrong, or when ours did not end in time.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Only these speakers.
    #[arg(long, value_delimiter = ',')]
    dut: Vec<Kind>,
    /// Every scenario once instead of three times.
    #[arg(long)]
    quick: bool,
    /// How long one step of a scenario may take, in seconds.
    #[arg(long, default_value_t = 60)]
    limit: u64,
    /// Measure how memory and time grow with prefixes and peers.
    #[arg(long)]
    growth: bool,
    /// Write performance.md and its plots into this folder.
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
    /// What performance.md says how it was written.
    #[arg(long, default_value = "bgp-bench", hide = true)]
    called: String,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be the null relay; the bench starts it.
    #[command(hide = true)]
    Relay,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Relay) => relay::run().map(|()| ExitCode::SUCCESS),
        None => link::enclosed(|| bench(&arguments)),
    }
}

fn bench(arguments: &Arguments) -> Result<ExitCode> {
    let mut report = Report {
        kinds: some_or_all(&arguments.dut),
        limit: arguments.limit,
        rounds: if arguments.quick { 1 } else { 3 },
        command: arguments.called.clone(),
        ..Report::default()
    };
    let kinds = report.kinds.iter().filter(|kind| **kind != Kind::Relay);
    let versions = kinds
        .map(|kind| kind.version())
        .collect::<Result<Vec<_>>>()?;
    let machine = machine::describe();
    println!("machine: {machine}\n{}", versions.join("\n"));
    for scenario in some_or_all(&arguments.scenario) {
        measure(&mut report, scenario);
    }
    if arguments.growth {
        println!("\ngrowth");
        let kinds = report.kinds.iter().copied();
        let kinds: Vec<_> = kinds
            .filter(|kind| !matches!(kind, Kind::Relay | Kind::Gobgp))
            .collect();
        let limit = Duration::from_secs(arguments.limit);
        match growth::measure(&kinds, report.rounds, limit) {
            Ok(growth) => report.growth = Some(growth),
            Err(error) => report.failures.push(format!("growth: {error:#}")),
        }
    }
    println!("\nwall time (s)\n{}", report.wall());
    println!("processor time of the daemon (s)\n{}", report.cpu());
    println!("greatest resident memory (MB)\n{}", report.memory());
    for line in report.stuck() {
        println!("did not end: {line}");
    }
    let errors = report.errors();
    for line in &errors {
        println!("ERROR: {line}");
    }
    if let Some(folder) = &arguments.write {
        write(
            folder,
            &report,
            &report.page(&machine, &machine::today(), &versions),
        )?;
    }
    Ok(ExitCode::from(u8::from(!errors.is_empty())))
}

fn some_or_all<T: ValueEnum + Clone>(some: &[T]) -> Vec<T> {
    if some.is_empty() {
        T::value_variants().to_vec()
    } else {
        some.to_vec()
    }
}

/// All speakers take turns, so that a disturbance does not meet one of them only.
fn measure(report: &mut Report, scenario: Scenario) {
    println!("\n{}", scenario.title());
    let mut figures = Figures::new(scenario);
    for round in 0..report.rounds {
        for kind in &report.kinds {
            if !scenario.concerns(*kind) || (round > 0 && *kind == Kind::Gobgp) {
                continue;
            }
            match scenario.run(*kind, Duration::from_secs(report.limit)) {
                Ok(measured) => {
                    show(*kind, &measured);
                    figures.add(*kind, measured);
                }
                Err(error) => {
                    let text = format!("{}, {}: {error:#}", kind.name(), scenario.title());
                    println!("  ERROR {text}");
                    report.failures.push(text);
                }
            }
        }
    }
    report.figures.push(figures);
}

fn show(kind: Kind, measured: &Measured) {
    for phase in &measured.phases {
        let seconds = |wall: Duration| format!("{:.3}", wall.as_secs_f64());
        println!(
            "  {:<11} {:<25} {:>8} s  {:>8.3} s of CPU  {:>7.1} MB  (tester {:.3} s of CPU)",
            kind.name(),
            phase.name,
            phase.wall.map_or("stuck".to_owned(), seconds),
            phase.cpu.as_secs_f64(),
            megabytes(measured.memory),
            phase.tester.as_secs_f64(),
        );
    }
    for line in measured.problems.iter().chain(&measured.stuck) {
        println!("  {:<11} {line}", kind.name());
    }
}

fn write(folder: &Path, report: &Report, page: &str) -> Result<()> {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    write("performance.md", page)?;
    for (name, text) in report.growth.iter().flat_map(growth::Growth::plots) {
        write(name, &text)?;
    }
    Ok(())
}
