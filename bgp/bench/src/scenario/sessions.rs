//! Sessions without routes, or with few.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::daemon::{ASN, Kind, Neighbour, Plan};
use crate::feed::{Attributes, Feed};
use crate::link;
use crate::run::{Measured, Run};
use crate::table::Goal;
use crate::universe::Universe;

const SESSIONS: usize = 500;
const BLOCKS: usize = 4;
const FIRST: u32 = 0x0a00_0000;
const WINDOW: Duration = Duration::from_secs(10);
/// A daemon that has nothing to do should not be caught at starting up.
const REST: Duration = Duration::from_secs(2);

fn start(kind: Kind, limit: Duration) -> Result<(Rc<Universe>, Run)> {
    let universe = Rc::new(Universe::blocks(FIRST, u32::try_from(SESSIONS * BLOCKS)?));
    let neighbour = Neighbour {
        asn: ASN,
        client: false,
        receives: true,
    };
    let plan = Plan {
        neighbours: &[neighbour; SESSIONS],
        kernel: false,
    };
    let run = Run::start(kind, &universe, plan, limit)?;
    Ok((universe, run))
}

/// All sessions are dialled at once, after the daemon has shown with one of them that it listens.
pub(super) fn storm(kind: Kind, limit: Duration) -> Result<Measured> {
    let (_, mut run) = start(kind, limit)?;
    run.tester.establish(&[0], 1, limit)?;
    run.daemon.settle(&mut run.tester, limit)?;
    let clocks = run.clocks()?;
    let others: Vec<_> = (1..SESSIONS).collect();
    let wall = match run.tester.establish(&others, SESSIONS, limit) {
        Ok(wall) => Some(wall),
        Err(error) => {
            run.gave_up(format!("sessions: {error:#}"));
            None
        }
    };
    run.note("sessions", wall, clocks)?;
    Ok(run.measured)
}

/// Each neighbour has announced its blocks, which nobody is told inside a mesh; then nothing.
pub(super) fn idle(kind: Kind, limit: Duration) -> Result<Measured> {
    let (universe, mut run) = start(kind, limit)?;
    run.establish()?;
    let sends: Vec<_> = (0..SESSIONS)
        .map(|client| {
            let mut attributes = Attributes::new(link::client(client));
            attributes.local_pref = Some(100);
            let blocks = &universe.prefixes()[client * BLOCKS..(client + 1) * BLOCKS];
            (client, Feed::plain(blocks, &attributes).announce)
        })
        .collect();
    let none = Goal::Exactly(vec![0; universe.len()].into());
    let receivers = run.receivers.clone();
    run.tester.expect(&receivers, &none);
    run.tester.run(&sends, limit)?;
    run.daemon.settle(&mut run.tester, limit)?;
    run.tester.stay(REST)?;
    let clocks = run.clocks()?;
    let start = Instant::now();
    run.tester.stay(WINDOW)?;
    run.note("idle", Some(start.elapsed()), clocks)?;
    run.measured.problems.extend(run.tester.missing());
    Ok(run.measured)
}
