//! For how long a node whose pools are used up goes by its last look at all blocks. Pure.
//!
//! A kubelet asks again every few seconds for each pod without an address, and a look reads every block of the cluster.
//! The first two looks come at once, the next ones after ever longer pauses. Other pools or settings are another
//! question; who gets an address after a look begins anew.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crds::Cidr;

use crate::range::Ranges;
use crate::shortfall::Reason;

/// Before the third look; doubled each time.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
/// What nobody has asked about for so long is a new question.
const FORGOTTEN: Duration = Duration::from_secs(900);
/// Questions that are remembered.
const MOST: usize = 32;

/// What decides about the answer, besides the blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// Who asks.
    pub(crate) node: String,
    /// Name, range and block size of the pools that may be used.
    pub(crate) pools: Vec<(String, Cidr, u8)>,
    /// What is held back.
    pub(crate) reserved: Arc<Ranges>,
    /// Addresses of others may not be borrowed, blocks may be claimed, and how many.
    pub(crate) settings: (bool, bool, u32),
}

/// The answer of the last look, which still counts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Remembered {
    pub(crate) reasons: Vec<Reason>,
    pub(crate) looked: SystemTime,
    pub(crate) again: SystemTime,
}

struct Fruitless {
    question: Question,
    times: u32,
    looked: SystemTime,
    reasons: Vec<Reason>,
}

/// Fruitless looks, the oldest first.
#[derive(Default)]
pub(crate) struct Patience(Vec<Fruitless>);

impl Patience {
    /// What to answer without a look; nothing when it is time for one.
    pub(crate) fn remembered(&self, question: &Question, now: SystemTime) -> Option<Remembered> {
        let last = self.0.iter().find(|last| last.question == *question)?;
        let again = last.looked + pause(last.times);
        // A clock that was set back says nothing.
        (last.looked <= now && now < again).then(|| Remembered {
            reasons: last.reasons.clone(),
            looked: last.looked,
            again,
        })
    }

    /// A look found nothing.
    pub(crate) fn fruitless(&mut self, question: Question, now: SystemTime, reasons: Vec<Reason>) {
        let is_recent = |last: &Fruitless| {
            now.duration_since(last.looked)
                .is_ok_and(|age| age < FORGOTTEN)
        };
        self.0.retain(is_recent);
        let before = self.0.iter().position(|last| last.question == question);
        let times = before.map_or(0, |at| self.0.remove(at).times);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(Fruitless {
            question,
            times: times.saturating_add(1),
            looked: now,
            reasons,
        });
    }

    /// A look was of use to this node.
    pub(crate) fn fruitful(&mut self, node: &str) {
        self.0.retain(|last| last.question.node != node);
    }
}

/// After so many fruitless looks.
fn pause(times: u32) -> Duration {
    match times.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => FIRST.saturating_mul(1 << doublings.min(16)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(node: &str, pool: &str) -> Question {
        Question {
            node: node.to_owned(),
            pools: vec![(pool.to_owned(), "10.0.0.0/26".parse().unwrap(), 26)],
            reserved: Arc::default(),
            settings: (false, true, 20),
        }
    }

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    fn why() -> Vec<Reason> {
        vec![Reason::PoolsExhausted(vec!["p".to_owned()])]
    }

    #[test]
    fn the_third_look_waits_and_the_next_ones_longer() {
        let mut patience = Patience::default();
        let asked = question("n", "p");
        let mut now = 1000;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            patience.fruitless(asked.clone(), at(now), why());
            let again = patience.remembered(&asked, at(now)).map(|r| r.again);
            let next = again.unwrap_or(at(now));
            assert!(patience.remembered(&asked, next).is_none());
            let pause = next.duration_since(at(now)).unwrap().as_secs();
            pauses.push(pause);
            now += pause;
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn another_question_a_gain_and_a_clock_set_back_begin_anew() {
        let mut patience = Patience::default();
        let asked = question("n", "p");
        for node in ["n", "n", "m", "m"] {
            patience.fruitless(question(node, "p"), at(100), why());
        }
        let remembered = patience.remembered(&asked, at(105)).unwrap();
        assert_eq!(remembered.reasons, why());
        assert_eq!((remembered.looked, remembered.again), (at(100), at(110)));
        assert!(patience.remembered(&question("n", "q"), at(105)).is_none());
        assert!(patience.remembered(&asked, at(99)).is_none());
        patience.fruitful("n");
        assert!(patience.remembered(&asked, at(105)).is_none());
        assert!(patience.remembered(&question("m", "p"), at(105)).is_some());
    }

    #[test]
    fn what_nobody_asks_about_is_forgotten_and_little_is_kept() {
        let mut patience = Patience::default();
        for _ in 0..9 {
            patience.fruitless(question("n", "p"), at(100), why());
        }
        patience.fruitless(question("n", "p"), at(1000), why());
        assert_eq!(patience.0[0].times, 1);
        for number in 0..100 {
            patience.fruitless(question("n", &number.to_string()), at(1001), why());
        }
        assert_eq!(patience.0.len(), MOST);
    }
}
