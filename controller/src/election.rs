//! Who leads: with a directory of manifests whoever holds a lock in it, with an API server whoever holds a Lease.

mod candidate;
mod cluster;
mod directory;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use datastore::kubernetes::LeaseClient;

pub(crate) use candidate::Timing;
use cluster::Candidacy;

/// Takes part in finding the one that leads.
pub(crate) struct Election(Means);

enum Means {
    Directory {
        lock: directory::Lock,
        held: Option<directory::Held>,
    },
    Cluster {
        lease: Box<LeaseClient>,
        timing: Timing,
        candidacy: Option<Candidacy>,
    },
}

impl Election {
    pub(crate) fn in_directory(directory: &Path) -> Election {
        Election(Means::Directory {
            lock: directory::Lock::in_directory(directory),
            held: None,
        })
    }

    pub(crate) fn by_lease(lease: LeaseClient, timing: Timing) -> Election {
        Election(Means::Cluster {
            lease: Box::new(lease),
            timing,
            candidacy: None,
        })
    }

    /// Takes the lead if nobody has it; whether somebody has may take as long as a Lease lasts to find out.
    ///
    /// # Errors
    /// When one cannot take part.
    pub(crate) async fn try_lead(&mut self) -> Result<bool> {
        match &mut self.0 {
            Means::Directory { lock, held } => {
                *held = lock.try_take()?;
                Ok(held.is_some())
            }
            Means::Cluster { timing, .. } => {
                // Seen, left alone for as long as it lasts, taken at the next attempt.
                let limit = timing.lease + 2 * timing.retry + Duration::from_secs(1);
                match tokio::time::timeout(limit, self.gained()).await {
                    Ok(gained) => gained.map(|()| true),
                    Err(_) => Ok(false),
                }
            }
        }
    }

    /// Waits until this process leads.
    ///
    /// # Errors
    /// When one cannot take part.
    pub(crate) async fn gained(&mut self) -> Result<()> {
        match &mut self.0 {
            Means::Directory { lock, held } => *held = Some(lock.take().await?),
            Means::Cluster {
                lease,
                timing,
                candidacy,
            } => {
                let candidacy = match candidacy {
                    Some(candidacy) => candidacy,
                    None => candidacy.insert(Candidacy::start((**lease).clone(), *timing)?),
                };
                candidacy.gained().await?;
            }
        }
        Ok(())
    }

    /// Waits until this process leads no more. A lock is lost only with its process.
    pub(crate) async fn lost(&mut self) {
        match &mut self.0 {
            Means::Directory { .. }
            | Means::Cluster {
                candidacy: None, ..
            } => std::future::pending().await,
            Means::Cluster {
                candidacy: Some(candidacy),
                ..
            } => candidacy.lost().await,
        }
    }

    /// Gives up the lead.
    pub(crate) async fn release(self) {
        if let Means::Cluster {
            candidacy: Some(candidacy),
            ..
        } = self.0
        {
            candidacy.release().await;
        }
    }
}
