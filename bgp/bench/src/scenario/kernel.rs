//! Routes into the kernel and out again: one external neighbour announces, the agent (or BIRD
//! with its kernel protocol, or bgpd with zebra) programs.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::daemon::{Daemon, Kind, Neighbour, Plan};
use crate::feed::{self, Feed};
use crate::link;
use crate::run::{Measured, Run};
use crate::universe::{Random, Universe};

const SENDER: u32 = 65001;
const SILENCE: Duration = Duration::from_secs(4);

/// Announces and withdraws; the kernel's own count says when that is done, and a full listing
/// whether it is right.
pub(super) fn run(kind: Kind, prefixes: usize, limit: Duration) -> Result<Measured> {
    let universe = Rc::new(Universe::full_table(prefixes));
    let sets = feed::sets(&universe);
    let mut random = Random(3);
    let feed = Feed::new(&universe, &sets, |_| {
        feed::realistic(&mut random, Some(SENDER), link::client(0))
    });
    let neighbour = Neighbour {
        asn: SENDER,
        client: false,
        receives: false,
    };
    let plan = Plan {
        neighbours: &[neighbour],
        kernel: true,
    };
    let mut run = Run::start(kind, &universe, plan, limit)?;
    run.establish()?;
    // The agent keeps off the kernel until its peers have been silent for a while.
    run.tester.stay(SILENCE)?;
    let before = count(&run.daemon)?;
    let full = before + prefixes;
    let into = run.phase_until("into the kernel", &[(0, feed.announce)], |daemon| {
        Ok(count(daemon)? >= full)
    })?;
    if into {
        run.measured.problems.extend(listing(&universe)?);
        run.phase_until("out again", &[(0, feed.withdraw)], |daemon| {
            Ok(count(daemon)? <= before)
        })?;
    }
    Ok(run.measured)
}

/// How many routes the namespace of the daemon has, in all tables.
fn count(daemon: &Daemon) -> Result<usize> {
    let pid = daemon.pids().pop().context("no process")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/fib_triestat"))
        .context("the kernel has no statistics of its routes")?;
    let counts = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Prefixes:"));
    counts.map(|count| Ok(count.trim().parse::<usize>()?)).sum()
}

/// What is wrong with the routes by the sender.
fn listing(universe: &Universe) -> Result<Option<String>> {
    let mut command = std::process::Command::new("ip");
    command.args(["-n", link::NAMESPACE, "-4", "route", "show"]);
    let text = link::run(&mut command)?;
    let by = format!("via {} ", link::client(0));
    let mut there = vec![false; universe.len()];
    for line in text.lines().filter(|line| line.contains(&by)) {
        let prefix = line.split(' ').next().unwrap_or_default();
        let (address, bits) = prefix.split_once('/').unwrap_or((prefix, "32"));
        let address: std::net::Ipv4Addr = address.parse()?;
        there[universe.number(address.to_bits(), bits.parse()?)?] = true;
    }
    let missing = there.iter().filter(|there| !**there).count();
    let first = there.iter().position(|there| !*there);
    ensure!(!text.is_empty(), "the kernel lists no routes");
    Ok(first.map(|number| {
        let prefix = universe.show(number);
        format!("{missing} routes are not in the kernel, {prefix} is one of them")
    }))
}
