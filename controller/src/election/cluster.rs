//! The lead by a Lease in the API server: asks what [`Candidate`] says, and tells until when it leads.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use datastore::kubernetes::LeaseClient;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::candidate::{Answer, Candidate, Next, Timing};

/// What giving up the Lease may take at the end.
const RELEASE: Duration = Duration::from_secs(2);

/// A candidacy: a task renews the Lease as long as this lives.
pub(crate) struct Candidacy {
    leads_until: watch::Receiver<Option<Instant>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Candidacy {
    /// Begins to compete for a Lease.
    ///
    /// # Errors
    /// When this host cannot tell what distinguishes this process.
    pub(crate) fn start(lease: LeaseClient, timing: Timing) -> Result<Candidacy> {
        let (sender, leads_until) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let keeper = Keeper {
            lease,
            candidate: Candidate::new(identity()?, timing, now()),
            // Two attempts fit into the time that a leader has.
            limit: timing.renew / 2,
            leads_until: sender,
            told: None,
        };
        Ok(Candidacy {
            leads_until,
            stop,
            task: tokio::spawn(keeper.run(stopped)),
        })
    }

    /// Waits until this process leads.
    ///
    /// # Errors
    /// When the task has died.
    pub(crate) async fn gained(&mut self) -> Result<()> {
        let leads = |until: &Option<Instant>| until.is_some_and(|until| now() < until);
        if self.leads_until.wait_for(leads).await.is_err() {
            bail!("the task that renews the Lease has ended");
        }
        Ok(())
    }

    /// Waits until this process does not lead any more.
    pub(crate) async fn lost(&mut self) {
        loop {
            let until = *self.leads_until.borrow_and_update();
            let Some(until) = until.filter(|until| now() < *until) else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                changed = self.leads_until.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Gives up the lead, so that another need not wait for it.
    pub(crate) async fn release(self) {
        if self.stop.send(()).is_ok() && self.task.await.is_err() {
            tracing::error!("the task that renews the Lease has died");
        }
    }
}

struct Keeper {
    lease: LeaseClient,
    candidate: Candidate,
    limit: Duration,
    leads_until: watch::Sender<Option<Instant>>,
    /// The holder that the log was told, and whether this process leads.
    told: Option<(String, bool)>,
}

impl Keeper {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        // A request is never cut off: what came of it decides whether the Lease can be given up.
        while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            let next = self.candidate.next(now(), SystemTime::now());
            if let Next::Wait(until) = next {
                tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    _ = &mut stopped => break,
                }
                continue;
            }
            let answer = self.ask(next).await;
            self.candidate.answered(now(), answer);
            self.leads_until.send_replace(self.candidate.leads_until());
            self.tell();
        }
        self.leads_until.send_replace(None);
        if let Some((stored, spec)) = self.candidate.release(SystemTime::now()) {
            match self.lease.replace(&stored, &spec, RELEASE).await {
                Ok(_) => tracing::info!("lead given up"),
                Err(error) => tracing::warn!(%error, "the lead ends by time"),
            }
        }
    }

    async fn ask(&self, next: Next) -> Answer {
        let written = |stored| match stored {
            Some(stored) => Answer::Written(stored),
            None => Answer::Refused,
        };
        let answer = match next {
            Next::Read | Next::Wait(_) => {
                let stored = self.lease.read(self.limit).await;
                stored.map(|stored| stored.map_or(Answer::Missing, Answer::Found))
            }
            Next::Create(spec) => self.lease.create(&spec, self.limit).await.map(written),
            Next::Replace(stored, spec) => {
                let replaced = self.lease.replace(&stored, &spec, self.limit);
                replaced.await.map(written)
            }
        };
        answer.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot compete for the lead, trying again");
            Answer::Failed
        })
    }

    fn tell(&mut self) {
        let leads = self.candidate.leads(now());
        let state = self
            .candidate
            .holder()
            .map(|holder| (holder.to_owned(), leads));
        if state == self.told {
            return;
        }
        match &state {
            Some((holder, true)) => tracing::info!(holder, "leading"),
            Some((holder, false)) if !self.candidate.is_own(holder) => {
                tracing::info!(holder, "another controller leads, standing by");
            }
            Some(_) | None => {}
        }
        self.told = state;
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Name of the host, which is that of the pod, and what no other process has.
fn identity() -> Result<String> {
    let read = |file: &str| {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {file}"))?;
        Ok::<_, anyhow::Error>(text.trim().to_owned())
    };
    let host = std::env::var("TORTIE_POD_NAME").ok();
    let host = host.map_or_else(|| read("/proc/sys/kernel/hostname"), Ok)?;
    Ok(format!("{host}_{}", read("/proc/sys/kernel/random/uuid")?))
}
