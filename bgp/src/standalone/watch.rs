//! Notices that the configuration file changed.
//!
//! It is looked at every second, which needs no more than a path: editors replace files, and
//! mounted ConfigMaps are links that are swapped.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// What tells one state of a file from another.
type Stamp = Option<(u64, u64, i64, i64)>;

/// A file that is looked at.
#[derive(Debug)]
pub(crate) struct Watch {
    path: PathBuf,
    /// As it was when it was read.
    read: Stamp,
    /// As it was a second ago.
    last: Stamp,
    ticks: Option<Interval>,
}

impl Watch {
    /// Takes note of the file as it is; call it before the file is read.
    pub(crate) fn new(path: &Path) -> Self {
        let stamp = stamp(path);
        Watch {
            path: path.to_owned(),
            read: stamp,
            last: stamp,
            ticks: None,
        }
    }

    /// Returns once the file is another one than before and has been the same for a second: it
    /// may still be written. Nothing is lost when this is dropped and called again.
    pub(crate) async fn changed(&mut self) {
        let ticks = self.ticks.get_or_insert_with(|| {
            let mut ticks = interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        loop {
            ticks.tick().await;
            let now = stamp(&self.path);
            let last = std::mem::replace(&mut self.last, now);
            if now.is_some() && now != self.read && now == last {
                self.read = now;
                return;
            }
        }
    }
}

fn stamp(path: &Path) -> Stamp {
    let data = fs::metadata(path).ok()?;
    Some((data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_file_that_was_replaced_has_changed_and_one_that_is_gone_has_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bgp.yaml");
        fs::write(&path, "a").unwrap();
        let mut watch = Watch::new(&path);
        fs::remove_file(&path).unwrap();
        assert!(timeout(LONG, watch.changed()).await.is_err());
        fs::write(&path, "longer").unwrap();
        timeout(LONG, watch.changed()).await.expect("not noticed");
        assert!(timeout(LONG, watch.changed()).await.is_err());
    }

    /// The one who waits has other things to do more often than the file is looked at.
    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_broken_off_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bgp.yaml");
        fs::write(&path, "a").unwrap();
        let mut watch = Watch::new(&path);
        fs::write(&path, "longer").unwrap();
        let short = Duration::from_millis(10);
        let mut waits = 0;
        while timeout(short, watch.changed()).await.is_err() {
            waits += 1;
            assert!(waits < 1000, "not noticed");
        }
    }
}
