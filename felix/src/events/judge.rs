//! Which incidents are worth an Event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// The same incident is told once in this time, however often it ends and begins.
const QUIET: Duration = Duration::from_secs(600);
/// So many are told at once, and then one in each such time.
const BURST: u32 = 10;
const REFILL: Duration = Duration::from_secs(30);
/// More than this are not remembered.
const MEMORY: usize = 1024;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Incident {
    /// In one word, for machines.
    pub(super) reason: &'static str,
    /// What makes it the same incident, together with the reason.
    pub(super) key: String,
    /// The object it is about, such as `BGPPeer/tor`; the node when absent.
    pub(super) about: Option<String>,
    /// For people.
    pub(super) text: String,
}

type Id = (&'static str, String);

/// Remembers what was wrong and what was told.
#[derive(Debug)]
pub(super) struct Judge {
    present: BTreeSet<Id>,
    told: BTreeMap<Id, Instant>,
    tokens: u32,
    refilled: Instant,
}

impl Judge {
    pub(super) fn new(now: Instant) -> Judge {
        Judge {
            present: BTreeSet::new(),
            told: BTreeMap::new(),
            tokens: BURST,
            refilled: now,
        }
    }

    /// Of everything that is wrong now, what is to be told. What is held back for its number is told
    /// later if it lasts.
    pub(super) fn news(&mut self, incidents: Vec<Incident>, now: Instant) -> Vec<Incident> {
        self.refill(now);
        self.told
            .retain(|_, at| now.saturating_duration_since(*at) < QUIET);
        let mut present = BTreeSet::new();
        let mut news = Vec::new();
        for incident in incidents {
            let id = (incident.reason, incident.key.clone());
            let is_new = !self.present.contains(&id) && !present.contains(&id);
            if is_new && !self.told.contains_key(&id) {
                if self.tokens == 0 || self.told.len() >= MEMORY {
                    continue;
                }
                self.tokens -= 1;
                self.told.insert(id.clone(), now);
                news.push(incident);
            }
            present.insert(id);
        }
        self.present = present;
        news
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled);
        let earned = u32::try_from(passed.as_secs() / REFILL.as_secs()).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(earned).min(BURST);
        self.refilled += match self.tokens {
            BURST => passed,
            _ => REFILL * earned,
        };
    }
}
