//! Who leads. With a directory of manifests: whoever holds the lock on a file in it, which ends with its process.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// Hidden, so that the datastore does not read it.
const FILE: &str = ".controller.lock";
/// How often one that stands by looks.
const POLL: Duration = Duration::from_secs(1);

/// Proof of leadership, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    _locked: File,
}

/// The leader's lock in a directory of manifests.
#[derive(Clone, Debug)]
pub(crate) struct Election {
    path: PathBuf,
}

impl Election {
    pub(crate) fn in_directory(directory: &Path) -> Election {
        Election {
            path: directory.join(FILE),
        }
    }

    /// Takes the lead if nobody has it.
    ///
    /// # Errors
    /// When the file cannot be made or locked.
    pub(crate) fn try_lead(&self) -> Result<Option<Lease>> {
        let lock = |path: &Path| -> std::io::Result<Option<Lease>> {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)?;
            match file.try_lock() {
                Ok(()) => Ok(Some(Lease { _locked: file })),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(error)) => Err(error),
            }
        };
        lock(&self.path).with_context(|| format!("lock {}", self.path.display()))
    }

    /// Waits until the lead is taken.
    ///
    /// # Errors
    /// See `try_lead`.
    pub(crate) async fn lead(&self) -> Result<Lease> {
        let mut is_told = false;
        loop {
            if let Some(lease) = self.try_lead()? {
                tracing::info!("leading");
                return Ok(lease);
            }
            if !std::mem::replace(&mut is_told, true) {
                tracing::info!(lock = %self.path.display(), "another controller leads, standing by");
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_leads_and_another_follows_when_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let election = Election::in_directory(directory.path());
        let first = election.lead().await.unwrap();
        assert!(election.try_lead().unwrap().is_none());
        drop(first);
        assert!(election.lead().await.is_ok());
    }
}
