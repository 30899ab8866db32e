//! Tunnels: throughput and packets a second from pod to pod on two nodes, ours beside the same
//! made by hand with `ip`, bare and with rules that protect it, in turn; and how long a pool takes to change its mode.
//!
//! IPIP needs a kernel that has it. Where this one has not, the program calls itself once more
//! through `e2e/vm/run`, and that part says so: what counts there is the ratio.

use std::fmt::{self, Display, Formatter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use e2e::command::{binary, output, run};

mod change;
mod flow;

use flow::{Ratio, Row};

/// Page that a full run writes.
const PAGE: &str = "docs/performance-overlay.md";
/// How the call in the emulated machine is told what to do.
pub(crate) const INSIDE: &str = "overlay-ipip";

/// Each of the four pairs is measured that often; of both a multiple of four, so that each is first
/// as often as the others. What is measured natively takes four to five minutes.
const ROUNDS: usize = 12;
const ROUNDS_INSIDE: usize = 4;

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
    let rounds = if quick { 1 } else { ROUNDS };
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
    for row in flow::measure(&flow::IPIP, if quick { 1 } else { ROUNDS_INSIDE })? {
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
        "| mode | measured | ours | by hand | by hand, protected | ours to by hand | ours to protected | the same thing twice |\n|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        for (unit, figures) in [("Mbit/s", &row.throughput), ("packets/s", &row.packets)] {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {unit} | {:.0} | {:.0} | {:.0} | {} | {} | {} |",
                row.mode,
                figures.ours,
                figures.bare,
                figures.guarded,
                figures.to_bare,
                figures.to_guarded,
                figures.noise
            );
        }
    }
    text
}

impl Display for Ratio {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Ratio { low, median, high } = self;
        write!(f, "{median:.2} ({low:.2} to {high:.2})")
    }
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

TCP with one stream, and UDP packets of 64 octets as many as the receiver gets.
Four pairs of hosts are there at the same time, and take turns of a second; each begins as often as the others.

- *ours*: two nodes with the agent; the pool has `natOutgoing`, and as always pods can neither send with foreign addresses nor forge tunnel packets, and strangers cannot send into a tunnel.
- *by hand*: the same tunnel, routes and pods made with `ip`, and one rule of nftables that masquerades what leaves the pods' range, which makes the kernel track every flow. Nothing is filtered.
- *by hand, protected*: the same with the rules that an administrator writes against such packets: a pod sends from its address only and no tunnel packets, and the tunnel's packets come from the two hosts only.
- *the same thing twice*: a second pair by hand to the first, which differ in nothing. As far as this is from 1 nobody's fault is seen, only the machine's.

Figures are medians of {ROUNDS} rounds (IPIP in an emulated machine: {ROUNDS_INSIDE}). A ratio is the median of the ratios within each round, in brackets the range of the middle half of them; above 1 ours is faster.
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
