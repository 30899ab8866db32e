//! Who leads, by a Lease: the rules of client-go's leader election. Pure.
//!
//! Times that are compared are of the own monotonic clock: since the Lease was last seen to change, and since the own
//! last write of it was sent. What stands in the Lease as times is for people.
//!
//! A leader counts from when it sent a write and stops after [`Timing::renew`]; another counts from when it saw the
//! write and waits for [`Timing::lease`], which is longer. So there are never two, however late the answers come. The
//! exception is somebody who deletes the Lease while a candidate starts that has never seen it.

use std::time::{Duration, Instant, SystemTime};

use crds::core::time_text;
use datastore::kubernetes::{LeaseSpec, StoredLease};

/// The times of an election.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// For how long a Lease that does not change is left alone.
    pub(crate) lease: Duration,
    /// For how long a leader works after its last write that succeeded.
    pub(crate) renew: Duration,
    /// Between two attempts.
    pub(crate) retry: Duration,
}

impl Default for Timing {
    /// Those of client-go.
    fn default() -> Self {
        Timing {
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Next {
    /// Nothing before this time.
    Wait(Instant),
    Read,
    Create(LeaseSpec),
    Replace(StoredLease, LeaseSpec),
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The Lease as it is now.
    Found(StoredLease),
    /// There is no Lease.
    Missing,
    /// The write was done.
    Written(StoredLease),
    /// Somebody else was quicker, so nothing was written.
    Refused,
    /// Nobody knows.
    Failed,
}

/// The Lease as it was last seen.
#[derive(Clone, Debug)]
struct Seen {
    spec: LeaseSpec,
    /// Since when it has been like this, at most.
    since: Instant,
    /// As it can be written; `None` when it is not there any more.
    stored: Option<StoredLease>,
}

/// One of those who want to lead.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    identity: String,
    timing: Timing,
    seen: Option<Seen>,
    /// Whether what was seen is good enough to write on.
    is_fresh: bool,
    due: Instant,
    asked_at: Instant,
    leads_until: Option<Instant>,
}

impl Candidate {
    /// One that knows nothing. No other, before or after, may have the same identity.
    pub(crate) fn new(identity: String, timing: Timing, now: Instant) -> Candidate {
        Candidate {
            identity,
            timing,
            seen: None,
            is_fresh: false,
            due: now,
            asked_at: now,
            leads_until: None,
        }
    }

    /// Until when it leads, if nothing happens; in the past when it has lost the lead.
    pub(crate) fn leads_until(&self) -> Option<Instant> {
        self.leads_until
    }

    pub(crate) fn leads(&self, now: Instant) -> bool {
        self.leads_until.is_some_and(|until| now < until)
    }

    pub(crate) fn is_own(&self, identity: &str) -> bool {
        self.identity == identity
    }

    /// Who holds the Lease as far as is known.
    pub(crate) fn holder(&self) -> Option<&str> {
        holder(&self.seen.as_ref()?.spec)
    }

    /// What to do now. Whatever is not to wait is to be answered before it is asked again.
    pub(crate) fn next(&mut self, now: Instant, wall: SystemTime) -> Next {
        if now < self.due {
            return Next::Wait(self.due);
        }
        self.asked_at = now;
        if !self.is_fresh {
            return Next::Read;
        }
        let Some(seen) = &self.seen else {
            return Next::Create(self.claim(None, wall));
        };
        if self.is_left_alone(seen, now) {
            self.is_fresh = false;
            self.due = now + self.timing.retry;
            return Next::Wait(self.due);
        }
        let claim = self.claim(Some(&seen.spec), wall);
        match &seen.stored {
            Some(stored) => Next::Replace(stored.clone(), claim),
            None => Next::Create(claim),
        }
    }

    /// Takes in what came of what `next` said.
    pub(crate) fn answered(&mut self, now: Instant, answer: Answer) {
        match answer {
            Answer::Found(stored) => {
                self.is_fresh = true;
                self.see(now, stored);
            }
            Answer::Missing => {
                self.is_fresh = true;
                if let Some(seen) = &mut self.seen {
                    seen.stored = None;
                }
            }
            Answer::Written(stored) => {
                self.is_fresh = true;
                self.see(now, stored);
                self.leads_until = Some(self.asked_at + self.timing.renew);
                self.due = self.asked_at + self.timing.retry;
            }
            Answer::Refused => {
                self.is_fresh = false;
                // Somebody who writes all the time must not be answered all the time.
                self.due = now + self.timing.retry / 4;
            }
            Answer::Failed => {
                self.is_fresh = false;
                self.due = now + self.timing.retry;
            }
        }
    }

    /// How to give up the Lease, so that nobody has to wait.
    pub(crate) fn release(&mut self, wall: SystemTime) -> Option<(StoredLease, LeaseSpec)> {
        self.leads_until = None;
        let seen = self.seen.as_ref()?;
        let is_own = holder(&seen.spec) == Some(&*self.identity);
        let stored = seen.stored.clone().filter(|_| is_own)?;
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(micro_time(wall)),
            ..seen.spec.clone()
        };
        Some((stored, spec))
    }

    fn see(&mut self, now: Instant, stored: StoredLease) {
        let spec = stored.spec.clone();
        if holder(&spec) != Some(&*self.identity) {
            // Given away by somebody's hand.
            self.leads_until = None;
        }
        let known = self.seen.take().filter(|seen| seen.spec == spec);
        self.seen = Some(Seen {
            spec,
            since: known.map_or(now, |known| known.since),
            stored: Some(stored),
        });
    }

    /// Whether another has it and may still work.
    fn is_left_alone(&self, seen: &Seen, now: Instant) -> bool {
        let of_another = holder(&seen.spec).is_some_and(|holder| holder != self.identity);
        let told = seen.spec.lease_duration_seconds;
        let duration = told.map_or(self.timing.lease, |secs| Duration::from_secs(secs.into()));
        of_another && now < seen.since + duration
    }

    fn claim(&self, before: Option<&LeaseSpec>, wall: SystemTime) -> LeaseSpec {
        let now = micro_time(wall);
        let own = before.filter(|spec| holder(spec) == Some(&*self.identity));
        let transitions = before.map_or(0, |spec| spec.lease_transitions.unwrap_or(0));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: u32::try_from(self.timing.lease.as_secs()).ok(),
            acquire_time: own
                .and_then(|spec| spec.acquire_time.clone())
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(match (own, before) {
                (Some(_), _) | (None, None) => transitions,
                (None, Some(_)) => transitions.saturating_add(1),
            }),
        }
    }
}

fn holder(spec: &LeaseSpec) -> Option<&str> {
    spec.holder_identity
        .as_deref()
        .filter(|holder| !holder.is_empty())
}

/// The text of Kubernetes' `MicroTime`.
fn micro_time(wall: SystemTime) -> String {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH);
    let micros = since.unwrap_or_default().subsec_micros();
    format!("{}.{micros:06}Z", time_text(wall).trim_end_matches('Z'))
}

#[cfg(test)]
mod tests;
