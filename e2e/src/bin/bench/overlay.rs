//! Tunnels: throughput and packets a second from pod to pod on two nodes, ours beside the same
//! made by hand with `ip`, in turn; and how long a pool takes to change its mode.
//!
//! IPIP needs a kernel that has it. Where this one has not, the program calls itself once more
//! through `e2e/vm/run`, and that part says so: what counts there is the ratio.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use e2e::command::{binary, output, run};

mod change;
mod flow;

use flow::Row;

/// Page that a full run writes.
const PAGE: &str = "docs/performance-overlay.md";
/// How the call in the emulated machine is told what to do.
pub(crate) const INSIDE: &str = "overlay-ipip";

/// Everything that was measured.
struct Figures {
    rows: Vec<Row>,
    ipip: Vec<Row>,
    emulated: bool,
    changes: Vec<change::Row>,
    /// The table of `bench_tunnels`.
    user_space: String,
}

/// Measures all modes; writes the page unless `quick`.
pub(crate) fn bench(quick: bool) -> Result<()> {
    let rounds = if quick { 1 } else { 7 };
    ensure!(
        quick || Path::new("docs").is_dir(),
        "there is no folder docs here: run this in the root of the repository"
    );
    let rows = flow::measure(&flow::NATIVE, rounds)?;
    print(&rows);
    let changes = change::measure(if quick { 1 } else { 5 })?;
    let emulated = !has_ipip()?;
    let ipip = if emulated {
        in_the_machine(quick)?
    } else {
        flow::measure(&flow::IPIP, rounds)?
    };
    print(&ipip);
    let user_space = user_space(if quick { 1 } else { 5 })?;
    print!("{user_space}");
    let figures = Figures {
        rows,
        ipip,
        emulated,
        changes,
        user_space,
    };
    if !quick {
        std::fs::write(PAGE, figures.page()?)?;
        println!("\nwritten: {PAGE}");
    }
    Ok(())
}

/// What the call in the emulated machine does: figures on standard output, one JSON a line.
pub(crate) fn inside(quick: bool) -> Result<()> {
    for row in flow::measure(&flow::IPIP, if quick { 1 } else { 5 })? {
        println!("{}", serde_json::to_string(&row)?);
    }
    Ok(())
}

fn has_ipip() -> Result<bool> {
    // A program that does nothing says where it was run.
    let machine = concat!(env!("CARGO_MANIFEST_DIR"), "/vm/run");
    Ok(run(machine, &["printenv", "TORTIE_VM"]).is_err())
}

fn in_the_machine(quick: bool) -> Result<Vec<Row>> {
    let machine = concat!(env!("CARGO_MANIFEST_DIR"), "/vm/run");
    println!("\nIPIP, in an emulated machine with Debian's kernel:");
    let mut command = Command::new(machine);
    command.arg(std::env::current_exe()?).arg(INSIDE);
    if quick {
        command.arg("--quick");
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(
        output.status.success(),
        "the emulated machine: {}",
        output.status
    );
    String::from_utf8(output.stdout)?
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}

/// The tunnels in user space, by themselves: an example of `ipip` measures them.
fn user_space(rounds: usize) -> Result<String> {
    println!("\nTunnels in user space:");
    let program = binary("examples/bench_tunnels")?;
    let printed = output(Command::new(program).arg(rounds.to_string()))?;
    Ok(String::from_utf8(printed.stdout)?)
}

fn print(rows: &[Row]) {
    println!("{}", table(rows));
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| mode | Mbit/s ours | by hand | ratio | packets/s ours | by hand | ratio |\n|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {:.2} | {:.0} | {:.0} | {:.2} |",
            row.mode,
            row.throughput.ours,
            row.throughput.hand,
            row.throughput.ratio,
            row.packets.ours,
            row.packets.hand,
            row.packets.ratio
        );
    }
    text
}

impl Figures {
    fn page(&self) -> Result<String> {
        let machine = crate::machine()?;
        let iperf = run("iperf3", &["--version"])?;
        let iperf = iperf.lines().next().unwrap_or_default();
        let place = if self.emulated {
            "in an emulated machine (QEMU without KVM, Debian's kernel), so only the ratios say something"
        } else {
            "on the same machine"
        };
        let mut text = format!(
            "# Performance of the overlay

Written by `make bench BENCH=overlay`.
Machine: {machine}; {iperf}.
Everything is in network namespaces of that machine: two nodes in two subnets, a router between them, a pod on each.

## From pod to pod

TCP with one stream, and UDP packets of 64 octets as many as the receiver gets; ours beside the same tunnel, routes and pods made by hand with `ip`, in turn.
The pools have `natOutgoing`, and the hosts made by hand one rule of nftables that masquerades what leaves the pods' range: NAT makes the kernel track every flow.
Figures are medians, the ratio is the median of the ratios of neighbouring runs.
All processes share the cores with each other, so a figure says how much work a packet is, not what a network card could do.

{}
IPIP was measured {place}.

{}
## A pool changes its mode

One agent, BGP off, 100 nodes in the datastore, half of them in its subnet, a block each; from the moment the manifest is saved to the last route in the kernel.
Beside it `ip -batch` with the same routes, which were written before.

| change | routes | median ms | `ip -batch` ms |
|---|---|---|---|
",
            table(&self.rows),
            table(&self.ipip)
        );
        for row in &self.changes {
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | {:.0} |",
                row.change, row.routes, row.ours, row.batch
            );
        }
        let _ = write!(
            text,
            "
## In user space

The tunnels for hosts whose kernel has none, by `target/release/examples/bench_tunnels`: two nodes on one wire, medians.
The naive tunnel is what one would write first: a packet per read, a system call per packet, no offloads.
Processor seconds are those of the tunnel's two processes for a gigabyte of TCP.

{}",
            self.user_space
        );
        Ok(text)
    }
}
