//! Which kinds cannot be followed at the moment, and since when.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::SystemTime;

use crds::Kind;
use tokio::sync::watch;

use crate::Outage;
use crate::table::lock;

/// What the followers of a store say together.
pub(super) struct Health {
    failing: Mutex<BTreeMap<Kind, Outage>>,
    outage: watch::Sender<Option<Outage>>,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            failing: Mutex::default(),
            outage: watch::channel(None).0,
        }
    }
}

impl Health {
    pub(super) fn outage(&self) -> watch::Receiver<Option<Outage>> {
        self.outage.subscribe()
    }

    pub(super) fn is_failing(&self, kind: Kind) -> bool {
        lock(&self.failing).contains_key(&kind)
    }

    /// A kind cannot be followed; the time counts when it could before.
    pub(super) fn failed(&self, kind: Kind, since: SystemTime, problem: String) {
        let mut failing = lock(&self.failing);
        let outage = failing.entry(kind).or_insert_with(|| Outage {
            since,
            problem: String::new(),
        });
        outage.problem = problem;
        self.publish(&failing);
    }

    /// A kind is followed again.
    pub(super) fn recovered(&self, kind: Kind) {
        let mut failing = lock(&self.failing);
        if failing.remove(&kind).is_some() {
            self.publish(&failing);
        }
    }

    /// The longest of them stands for all.
    fn publish(&self, failing: &BTreeMap<Kind, Outage>) {
        let longest = failing.values().min_by_key(|outage| outage.since).cloned();
        self.outage.send_if_modified(|before| {
            let changed = *before != longest;
            *before = longest;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_longest_failure_is_told_until_the_last_is_over() {
        let health = Health::default();
        let outage = health.outage();
        let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        let told = || outage.borrow().clone().map(|o| (o.since, o.problem));
        health.failed(Kind::Node, at(20), "n".into());
        health.failed(Kind::IpPool, at(10), "p".into());
        assert_eq!(told(), Some((at(10), "p".into())));
        health.failed(Kind::IpPool, at(30), "p again".into());
        assert_eq!(told(), Some((at(10), "p again".into())), "it began at 10");
        health.recovered(Kind::IpPool);
        assert_eq!(told(), Some((at(20), "n".into())));
        health.recovered(Kind::Node);
        assert_eq!(told(), None);
    }
}
