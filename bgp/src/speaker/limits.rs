//! How many prefixes a peer may send, and what happens when it sends more (RFC 4486 §4).
//!
//! Counted is what is held, whether it is used or not: a limit is there to bound memory.

use std::num::NonZeroU32;
use std::time::Duration;

use bgp_rib::PeerId;
use bgp_wire::notification::subcode::cease;
use bgp_wire::{Family, Notification};
use tokio::time::Instant;

use crate::config::{MaxPrefixes, MaxPrefixesAction, PeerConfig};
use crate::speaker::Owner;
use crate::speaker::peers::PeerTask;

/// What was said of the number of prefixes of one peer.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Families with so many that it was said, and in which words.
    warned: Vec<(Family, Level, String)>,
    /// The session is closed because there were too many.
    closed: Option<Closed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Near,
    Above,
}

#[derive(Debug)]
struct Closed {
    why: String,
    /// When it may open again; not before something is changed when absent.
    until: Option<Instant>,
}

/// How many prefixes of a peer are used at most.
pub(super) fn used(config: &PeerConfig) -> Option<NonZeroU32> {
    let max = config.max_prefixes?;
    match max.action {
        MaxPrefixesAction::Discard => Some(max.limit),
        MaxPrefixesAction::Warn | MaxPrefixesAction::Close { .. } => None,
    }
}

impl MaxPrefixes {
    fn level(&self, count: usize) -> Option<Level> {
        let (count, limit) = (count as u64, u64::from(self.limit.get()));
        let share = limit * u64::from(self.warning_percent);
        if count > limit {
            Some(Level::Above)
        } else if self.warning_percent > 0 && count * 100 >= share {
            Some(Level::Near)
        } else {
            None
        }
    }

    fn words(&self, family: Family, count: usize) -> String {
        let limit = self.limit;
        let what = match self.action {
            MaxPrefixesAction::Discard if count > limit.get() as usize => {
                "; the surplus is not used"
            }
            MaxPrefixesAction::Warn
            | MaxPrefixesAction::Discard
            | MaxPrefixesAction::Close { .. } => "",
        };
        format!("{count} prefixes of {family}, the limit is {limit}{what}")
    }
}

impl PeerTask {
    /// What there is to be said of the number of its prefixes.
    pub(super) fn warning(&self) -> Option<String> {
        let warned = self.limits.warned.iter();
        let words: Vec<&str> = warned.map(|(_, _, words)| words.as_str()).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// Why the session is closed, if it is for its prefixes.
    pub(super) fn why_closed(&self) -> Option<String> {
        self.limits.closed.as_ref().map(|closed| closed.why.clone())
    }

    /// Lets a session open again that was closed for its prefixes; false if it was not.
    pub(super) fn reopen(&mut self) -> bool {
        if self.limits.closed.take().is_none() {
            return false;
        }
        tracing::info!(peer = %self.key, "may open a session again");
        self.last_error = None;
        self.close(None);
        true
    }
}

impl Owner {
    /// Looks at the number of prefixes of a peer after it said something.
    pub(super) fn check_limits(&mut self, id: PeerId) {
        let Some(task) = self.tasks.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            return;
        };
        let Some(max) = task.config.max_prefixes else {
            if !task.limits.warned.is_empty() {
                task.limits.warned.clear();
                self.news.peer(id);
            }
            return;
        };
        for family in task.config.families.clone() {
            let count = self.rib.received(id, family);
            let level = max.level(count);
            if level == Some(Level::Above)
                && let MaxPrefixesAction::Close { restart_after_secs } = max.action
                && task.up.is_some()
            {
                close(task, (family, count, max), restart_after_secs);
                self.news.peer(id);
                return;
            }
            let mut warned = task.limits.warned.iter();
            let before = warned.find(|(warned, ..)| *warned == family);
            if before.map(|(_, level, _)| *level) == level {
                continue;
            }
            task.limits.warned.retain(|(warned, ..)| *warned != family);
            if let Some(level) = level {
                let words = max.words(family, count);
                tracing::warn!(peer = %task.key, "{words}");
                task.limits.warned.push((family, level, words));
            }
            self.news.peer(id);
        }
    }

    /// Uses what was held above the limit of a peer, once others of its prefixes are gone.
    pub(super) fn use_room(&mut self, id: PeerId) {
        if self.rib.has_room(id) {
            self.rib.refill(id);
            self.news.routes();
            self.changed();
        }
    }

    /// When the next closed session may open again.
    pub(super) fn reopen_at(&self) -> Option<Instant> {
        let closed = self.tasks.iter().flatten();
        let closed = closed.filter_map(|task| task.limits.closed.as_ref()?.until);
        closed.min()
    }

    /// Lets sessions open again whose time has come.
    pub(super) fn reopen(&mut self, now: Instant) {
        for index in 0..self.tasks.len() {
            let Some(task) = self.tasks[index].as_mut() else {
                continue;
            };
            let until = task.limits.closed.as_ref().and_then(|closed| closed.until);
            if until.is_some_and(|until| until <= now) {
                task.reopen();
                self.news.peer(PeerId(index as u32));
            }
        }
    }
}

fn close(
    task: &mut PeerTask,
    (family, count, max): (Family, usize, MaxPrefixes),
    secs: Option<u32>,
) {
    let words = max.words(family, count);
    let how_long = match secs {
        Some(secs) => format!("closed for {secs} s"),
        None => "closed until the peer is changed or cleared".to_owned(),
    };
    let why = format!("{words}; {how_long}");
    tracing::error!(peer = %task.key, "{why}");
    let wait = secs.map(|secs| Duration::from_secs(secs.into()));
    task.limits.closed = Some(Closed {
        until: wait.map(|wait| Instant::now() + wait),
        why,
    });
    task.limits.warned.clear();
    task.close(Some(too_many(family, max.limit)));
}

/// Cease, Maximum Number of Prefixes Reached, with the family and the limit (RFC 4486 §4).
fn too_many(family: Family, limit: NonZeroU32) -> Notification {
    let mut data = family.afi.0.to_be_bytes().to_vec();
    data.push(family.safi.0);
    data.extend(limit.get().to_be_bytes());
    Notification {
        data,
        ..Notification::cease(cease::MAXIMUM_PREFIXES)
    }
}
