//! `bgp-bench`: runs scenarios and prints what they cost.

#![allow(clippy::print_stdout, reason = "this program exists to print figures")]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use bgp_bench::daemon::Kind;
use bgp_bench::run::Measured;
use bgp_bench::scenario::Scenario;
use bgp_bench::{link, relay};
use clap::{Parser, Subcommand, ValueEnum};

/// BGP speakers under load, one after the other, on this machine.
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
    let scenarios = if arguments.scenario.is_empty() {
        Scenario::value_variants().to_vec()
    } else {
        arguments.scenario.clone()
    };
    let kinds = if arguments.dut.is_empty() {
        vec![Kind::Relay, Kind::Tortie, Kind::Bird, Kind::Frr]
    } else {
        arguments.dut.clone()
    };
    let mut fine = true;
    for scenario in scenarios {
        println!("\n{}", scenario.title());
        for kind in &kinds {
            for _ in 0..if arguments.quick { 1 } else { 3 } {
                match scenario.run(*kind, Duration::from_secs(arguments.limit)) {
                    Ok(measured) => fine &= show(*kind, &measured),
                    Err(error) => {
                        println!("  {:<12} ERROR {error:#}", kind.name());
                        fine = false;
                    }
                }
            }
        }
    }
    Ok(ExitCode::from(u8::from(!fine)))
}

#[allow(clippy::cast_precision_loss, reason = "a figure with one decimal")]
fn show(kind: Kind, measured: &Measured) -> bool {
    for phase in &measured.phases {
        let wall = phase.wall.map_or("stuck".to_owned(), |wall| {
            format!("{:.3}", wall.as_secs_f64())
        });
        println!(
            "  {:<12} {:<26} {wall:>8} s {:>8.3} s of CPU {:>8.1} MB",
            kind.name(),
            phase.name,
            phase.cpu.as_secs_f64(),
            measured.memory as f64 / 1e6
        );
    }
    for problem in &measured.problems {
        println!("  {:<12} ERROR {problem}", kind.name());
    }
    measured.problems.is_empty()
}
