//! The lead by a lock on a file in a directory of manifests. It ends with its process.

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
pub(crate) struct Held {
    _locked: File,
}

/// The leader's lock in a directory of manifests.
#[derive(Clone, Debug)]
pub(crate) struct Lock {
    path: PathBuf,
}

impl Lock {
    pub(crate) fn in_directory(directory: &Path) -> Lock {
        Lock {
            path: directory.join(FILE),
        }
    }

    /// Takes the lead if nobody has it.
    ///
    /// # Errors
    /// When the file cannot be made or locked.
    pub(crate) fn try_take(&self) -> Result<Option<Held>> {
        let take = |path: &Path| -> std::io::Result<Option<Held>> {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)?;
            match file.try_lock() {
                Ok(()) => Ok(Some(Held { _locked: file })),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(error)) => Err(error),
            }
        };
        take(&self.path).with_context(|| format!("lock {}", self.path.display()))
    }

    /// Waits until the lead is taken.
    ///
    /// # Errors
    /// See `try_take`.
    pub(crate) async fn take(&self) -> Result<Held> {
        let mut is_told = false;
        loop {
            if let Some(held) = self.try_take()? {
                tracing::info!("leading");
                return Ok(held);
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
        let lock = Lock::in_directory(directory.path());
        let first = lock.take().await.unwrap();
        assert!(lock.try_take().unwrap().is_none());
        drop(first);
        assert!(lock.take().await.is_ok());
    }
}
