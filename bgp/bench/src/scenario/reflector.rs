//! A route reflector of a cluster: every node announces its blocks and is told all others.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use crate::daemon::{ASN, Kind, Neighbour, Plan};
use crate::feed::{Attributes, Feed};
use crate::link;
use crate::run::{GENTLE, Measured, Run};
use crate::table::{Goal, Way, way};
use crate::universe::Universe;

const BLOCKS: usize = 4;
/// The first block, 10.0.0.0/26.
const FIRST: u32 = 0x0a00_0000;

/// The clients, and what they have.
struct Cluster {
    run: Run,
    feeds: Vec<Feed>,
    /// Who has each block.
    ways: Vec<Way>,
}

/// Announces, withdraws and announces again; then `flapping` clients die and return.
pub(super) fn run(
    kind: Kind,
    clients: usize,
    flapping: usize,
    limit: Duration,
) -> Result<Measured> {
    let mut cluster = Cluster::start(kind, clients, limit)?;
    let complete = cluster.announce("announce")?
        && cluster.withdraw()?
        && cluster.announce("announce again")?;
    if complete && flapping > 0 && kind != Kind::Relay {
        cluster.flap(flapping)?;
    }
    Ok(cluster.run.measured)
}

/// Only announces.
pub(super) fn announce(kind: Kind, clients: usize, limit: Duration) -> Result<Measured> {
    let mut cluster = Cluster::start(kind, clients, limit)?;
    cluster.announce("announce")?;
    Ok(cluster.run.measured)
}

impl Cluster {
    fn start(kind: Kind, clients: usize, limit: Duration) -> Result<Self> {
        let blocks = clients * BLOCKS;
        let universe = Rc::new(Universe::blocks(FIRST, u32::try_from(blocks)?));
        let feeds = universe.prefixes().chunks(BLOCKS).enumerate();
        let feeds = feeds.map(|(client, blocks)| {
            let mut attributes = Attributes::new(link::client(client));
            attributes.local_pref = Some(100);
            Feed::plain(blocks, &attributes)
        });
        let neighbour = Neighbour {
            asn: ASN,
            client: true,
            receives: true,
        };
        let plan = Plan {
            neighbours: &vec![neighbour; clients],
            kernel: false,
        };
        let mut run = Run::start(kind, &universe, plan, limit)?;
        run.establish()?;
        Ok(Self {
            run,
            feeds: feeds.collect(),
            ways: (0..blocks).map(|block| way(block / BLOCKS)).collect(),
        })
    }

    fn announce(&mut self, name: &'static str) -> Result<bool> {
        let all = Goal::Exactly(self.ways.clone().into());
        self.everybody(name, &all, self.feeds.len(), |feed| &feed.announce)
    }

    fn withdraw(&mut self) -> Result<bool> {
        let none = Goal::Exactly(vec![0; self.ways.len()].into());
        self.everybody("withdraw", &none, self.feeds.len(), |feed| &feed.withdraw)
    }

    /// The first `senders` clients send, all receive.
    fn everybody(
        &mut self,
        name: &'static str,
        goal: &Goal,
        senders: usize,
        messages: fn(&Feed) -> &Rc<[u8]>,
    ) -> Result<bool> {
        let sends = self.feeds[..senders].iter().enumerate();
        let sends: Vec<_> = sends
            .map(|(client, feed)| (client, Rc::clone(messages(feed))))
            .collect();
        let receivers = self.run.receivers.clone();
        self.run.phase(name, &receivers, goal, &sends)
    }

    fn flap(&mut self, flapping: usize) -> Result<()> {
        let everybody = self.run.receivers.clone();
        let (gone, left) = everybody.split_at(flapping);
        let mut fewer = self.ways.clone();
        fewer[..flapping * BLOCKS].fill(0);
        let fewer = Goal::Exactly(fewer.into());
        if self
            .run
            .phase_of_loss("100 die: others lose", gone, left, &fewer)?
        {
            let limit = self.run.limit;
            self.run.tester.establish(gone, GENTLE, limit)?;
            // They hold what is left before they announce their own.
            self.run.tester.expect(&everybody, &fewer);
            self.run.tester.run(&[], limit)?;
            let all = Goal::Exactly(self.ways.clone().into());
            let name = "100 return: others regain";
            self.everybody(name, &all, flapping, |feed| &feed.announce)?;
        }
        Ok(())
    }
}
