//! A full table through the speaker: one external neighbour sends, another receives.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use crate::daemon::{Kind, Neighbour, Plan};
use crate::feed::{self, Feed};
use crate::link;
use crate::run::{Measured, Run};
use crate::table::{Goal, SPEAKER, way};
use crate::universe::{Random, Universe};

const SENDER: u32 = 65001;
const RECEIVER: u32 = 65002;

/// Announces, withdraws and announces again, or only the first of these `steps`.
pub(super) fn run(kind: Kind, prefixes: usize, steps: usize, limit: Duration) -> Result<Measured> {
    let universe = Rc::new(Universe::full_table(prefixes));
    let sets = feed::sets(&universe);
    let mut random = Random(3);
    let feed = Feed::new(&universe, &sets, |_| {
        feed::realistic(&mut random, Some(SENDER), link::client(0))
    });
    let neighbour = |asn, receives| Neighbour {
        asn,
        client: false,
        receives,
    };
    let neighbours = [neighbour(SENDER, false), neighbour(RECEIVER, true)];
    let plan = Plan {
        neighbours: &neighbours,
        kernel: false,
    };
    let mut run = Run::start(kind, &universe, plan, limit)?;
    run.establish()?;
    // The relay changes nothing, not even the next hop.
    let by = if kind == Kind::Relay { way(0) } else { SPEAKER };
    let all = Goal::Exactly(vec![by; prefixes].into());
    let none = Goal::Exactly(vec![0; prefixes].into());
    let receivers = run.receivers.clone();
    let all_steps = [
        ("announce", &all, &feed.announce),
        ("withdraw", &none, &feed.withdraw),
        ("announce again", &all, &feed.announce),
    ];
    for (name, goal, messages) in all_steps.into_iter().take(steps) {
        if !run.phase(name, &receivers, goal, &[(0, Rc::clone(messages))])? {
            break;
        }
    }
    Ok(run.measured)
}
