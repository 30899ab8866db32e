//! A route reflector of a cluster: every node announces its blocks and is told all others.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use crate::daemon::{ASN, Kind, Neighbour};
use crate::feed::{Attributes, Feed};
use crate::link;
use crate::run::{GENTLE, Measured, Run};
use crate::table::{Goal, Way, way};
use crate::universe::Universe;

const BLOCKS: usize = 4;
/// The first block, 10.0.0.0/26.
const FIRST: u32 = 0x0a00_0000;

/// Announces, withdraws and announces again; then `flapping` clients die and return.
pub(super) fn run(
    kind: Kind,
    clients: usize,
    flapping: usize,
    limit: Duration,
) -> Result<Measured> {
    let count = u32::try_from(clients * BLOCKS)?;
    let universe = Rc::new(Universe::blocks(FIRST, count));
    let feeds: Vec<_> = (0..clients)
        .map(|client| {
            let mut attributes = Attributes::new(link::client(client));
            attributes.local_pref = Some(100);
            let blocks = &universe.prefixes()[client * BLOCKS..(client + 1) * BLOCKS];
            Feed::plain(blocks, &attributes)
        })
        .collect();
    let neighbour = Neighbour {
        asn: ASN,
        client: true,
        receives: true,
    };
    let mut run = Run::start(kind, &universe, &vec![neighbour; clients], limit)?;
    run.establish()?;
    let ways: Vec<Way> = (0..clients * BLOCKS)
        .map(|block| way(block / BLOCKS))
        .collect();
    let all = Goal::Exactly(ways.clone().into());
    let none = Goal::Exactly(vec![0; ways.len()].into());
    let everybody = run.receivers.clone();
    let sends = |messages: fn(&Feed) -> &Rc<[u8]>, until: usize| -> Vec<_> {
        let numbered = feeds[..until].iter().enumerate();
        numbered
            .map(|(client, feed)| (client, Rc::clone(messages(feed))))
            .collect()
    };
    let announce = sends(|feed| &feed.announce, clients);
    let withdraw = sends(|feed| &feed.withdraw, clients);
    let complete = run.phase("announce", &everybody, &all, &announce)?
        && run.phase("withdraw", &everybody, &none, &withdraw)?
        && run.phase("announce again", &everybody, &all, &announce)?;
    if complete && flapping > 0 && kind != Kind::Relay {
        let (gone, left) = everybody.split_at(flapping);
        let mut fewer = ways;
        fewer[..flapping * BLOCKS].fill(0);
        let fewer = Goal::Exactly(fewer.into());
        if run.phase_of_loss("100 die: others lose", gone, left, &fewer)? {
            run.tester.establish(gone, GENTLE, limit)?;
            // They hold what is left before they announce their own.
            run.tester.expect(&everybody, &fewer);
            run.tester.run(&[], limit)?;
            let back = sends(|feed| &feed.announce, flapping);
            run.phase("100 return: others regain", &everybody, &all, &back)?;
        }
    }
    Ok(run.measured)
}
