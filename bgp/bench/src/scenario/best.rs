//! Many paths to the same prefixes: ten neighbours inside the AS send, a client of the reflector
//! is told the best.
//!
//! LOCAL_PREF makes a different sender the best for every set of prefixes, so that each prefix
//! has exactly one right answer and the best changes while the senders race.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use crate::daemon::{ASN, Kind, Neighbour, Plan};
use crate::feed::{self, Feed};
use crate::link;
use crate::run::{Measured, Run};
use crate::table::{Goal, way};
use crate::universe::{Random, Universe};

const SENDERS: usize = 10;
const PREFIXES: usize = 100_000;

/// Announces and withdraws.
pub(super) fn run(kind: Kind, limit: Duration) -> Result<Measured> {
    let universe = Rc::new(Universe::full_table(PREFIXES));
    let sets = feed::sets(&universe);
    let mut random = Random(3);
    let feeds: Vec<_> = (0..SENDERS)
        .map(|sender| {
            Feed::new(&universe, &sets, |set| {
                let mut attributes = feed::realistic(&mut random, None, link::client(sender));
                attributes.local_pref = u32::try_from(100 + (sender + set) % SENDERS).ok();
                attributes
            })
        })
        .collect();
    let neighbours: Vec<_> = (0..=SENDERS)
        .map(|index| Neighbour {
            asn: ASN,
            client: index == SENDERS,
            receives: index == SENDERS,
        })
        .collect();
    let plan = Plan {
        neighbours: &neighbours,
        kernel: false,
    };
    let mut run = Run::start(kind, &universe, plan, limit)?;
    run.establish()?;
    let mut best = vec![0; PREFIXES];
    for (number, set) in sets.iter().enumerate() {
        let sender = (2 * SENDERS - 1 - number % SENDERS) % SENDERS;
        best[set.clone()].fill(way(sender));
    }
    let all = match kind {
        Kind::Relay => Goal::Announcements(SENDERS * PREFIXES),
        _ => Goal::Exactly(best.into()),
    };
    let none = Goal::Exactly(vec![0; PREFIXES].into());
    let receivers = run.receivers.clone();
    let sends = |messages: fn(&Feed) -> &Rc<[u8]>| -> Vec<_> {
        let numbered = feeds.iter().enumerate();
        numbered
            .map(|(sender, feed)| (sender, Rc::clone(messages(feed))))
            .collect()
    };
    let _complete = run.phase("announce", &receivers, &all, &sends(|feed| &feed.announce))?
        && run.phase("withdraw", &receivers, &none, &sends(|feed| &feed.withdraw))?;
    Ok(run.measured)
}
