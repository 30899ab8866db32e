//! What one receiver holds, judged prefix by prefix while it arrives.

use std::rc::Rc;

use anyhow::{Context, Result, ensure};

use crate::link;
use crate::universe::Universe;
use crate::wire;

/// Whom a route leads to: 0 is nobody (no route), else one more than the number of the tester's
/// session whose address is the next hop.
pub type Way = u16;

/// The speaker under test itself is the next hop.
pub const SPEAKER: Way = Way::MAX;

/// What receivers shall hold at the end of a phase.
#[derive(Debug, Clone)]
pub enum Goal {
    /// Way of every prefix, by its number. A receiver shall not have what it announced itself.
    Exactly(Rc<[Way]>),
    /// So many announcements, whatever they say: for the relay, which takes no decision.
    Announcements(usize),
}

/// The table of a receiver.
#[derive(Debug)]
pub struct Table {
    universe: Rc<Universe>,
    own: Way,
    held: Vec<Way>,
    goal: Goal,
    wrong: usize,
    /// Announcements and withdrawals since the last goal was set.
    pub announced: usize,
    pub withdrawn: usize,
    /// Announcements of what the receiver announced itself, since the session began.
    pub echoes: usize,
    /// How often the next hop of a prefix changed while the receiver held it.
    pub replaced: usize,
}

impl Table {
    /// Nothing is held and nothing expected.
    pub fn new(universe: Rc<Universe>, session: usize) -> Self {
        Self {
            own: way(session),
            held: vec![0; universe.len()],
            goal: Goal::Announcements(0),
            wrong: 0,
            announced: 0,
            withdrawn: 0,
            echoes: 0,
            replaced: 0,
            universe,
        }
    }

    /// Nothing is held any more: the session is gone.
    pub fn clear(&mut self) {
        self.held.fill(0);
        self.count();
    }

    /// From now on this is what shall be held.
    pub fn expect(&mut self, goal: Goal) {
        self.goal = goal;
        (self.announced, self.withdrawn, self.replaced) = (0, 0, 0);
        self.count();
    }

    fn count(&mut self) {
        self.wrong = match &self.goal {
            Goal::Announcements(number) => number.saturating_sub(self.announced),
            Goal::Exactly(ways) => self
                .held
                .iter()
                .zip(&**ways)
                .filter(|(held, way)| **held != expected(**way, self.own))
                .count(),
        };
    }

    /// How many prefixes are not as they shall be.
    pub fn wrong(&self) -> usize {
        self.wrong
    }

    /// One prefix that is not as it shall be, in words.
    pub fn example(&self) -> Option<String> {
        let Goal::Exactly(ways) = &self.goal else {
            return Some(format!("{} announcements are missing", self.wrong));
        };
        let pairs = self.held.iter().zip(&**ways).enumerate();
        pairs
            .map(|(number, (held, way))| (number, *held, expected(*way, self.own)))
            .find(|(_, held, way)| held != way)
            .map(|(number, held, way)| {
                let prefix = self.universe.show(number);
                format!("{prefix} is {}, not {}", show(held), show(way))
            })
    }

    /// Takes an UPDATE.
    ///
    /// # Errors
    /// A malformed message, a prefix that nobody announced, a next hop that nobody has.
    pub fn update(&mut self, body: &[u8]) -> Result<()> {
        let update = wire::update(body)?;
        for field in update.withdrawn {
            wire::prefixes(field, |address, bits| {
                let number = self.universe.number(address, bits)?;
                self.withdrawn += 1;
                self.set(number, 0);
                Ok(())
            })?;
        }
        if update.announced.iter().all(|field| field.is_empty()) {
            return Ok(());
        }
        let next_hop = update.next_hop.context("routes without a next hop")?;
        let way = link::way(next_hop).with_context(|| {
            let next_hop = std::net::Ipv4Addr::from(next_hop);
            format!("next hop {next_hop} belongs to nobody here")
        })?;
        for field in update.announced {
            wire::prefixes(field, |address, bits| {
                let number = self.universe.number(address, bits)?;
                self.announced += 1;
                if way == self.own {
                    self.echoes += 1;
                } else {
                    self.set(number, way);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    #[inline]
    fn set(&mut self, number: usize, way: Way) {
        let before = std::mem::replace(&mut self.held[number], way);
        if before != 0 && way != 0 && before != way {
            self.replaced += 1;
        }
        match &self.goal {
            Goal::Announcements(_) => self.wrong = self.wrong.saturating_sub(usize::from(way != 0)),
            Goal::Exactly(ways) => {
                let wanted = expected(ways[number], self.own);
                self.wrong += usize::from(way != wanted);
                self.wrong -= usize::from(before != wanted);
            }
        }
    }

    /// What was taken is as expected of a phase without a goal for every prefix.
    ///
    /// # Errors
    /// A receiver got what it had announced itself.
    pub fn no_echoes(&self) -> Result<()> {
        ensure!(
            self.echoes == 0,
            "it was sent {} routes that it had announced itself",
            self.echoes
        );
        Ok(())
    }
}

/// The way to the address of a session of the tester.
pub fn way(session: usize) -> Way {
    Way::try_from(session + 1).unwrap_or(SPEAKER)
}

#[inline]
fn expected(way: Way, own: Way) -> Way {
    if way == own { 0 } else { way }
}

fn show(way: Way) -> String {
    match way {
        0 => "absent".to_owned(),
        SPEAKER => "by the speaker".to_owned(),
        way => format!("by client {}", way - 1),
    }
}

#[cfg(test)]
mod tests;
