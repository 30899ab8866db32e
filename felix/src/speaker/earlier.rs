//! Who had a BGP session when the agent last ran, so that a restart waits for those only.
//!
//! One file in the state directory, replaced as a whole and never forced to disk: after a power cut
//! there is no route to keep either. A peer counts while its session is up or its routes are kept
//! for its own restart; what an earlier run left counts until convergence, so that a second restart
//! inside the window waits for the same peers.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bgp::{PeerInfo, PeerKey, State};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const NAME: &str = "bgp-peers.json";
const VERSION: u32 = 1;
/// More than any list of peers.
const LONGEST: u64 = 1 << 20;
/// Changes of this time are written together.
const PAUSE: Duration = Duration::from_millis(100);

/// The peers that count.
#[derive(Debug)]
pub struct Earlier {
    path: PathBuf,
    left: Option<BTreeSet<PeerKey>>,
    up: BTreeSet<PeerKey>,
    written: BTreeSet<PeerKey>,
    due: Option<Instant>,
    failed: bool,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    peers: Vec<String>,
}

impl Earlier {
    /// Reads what an earlier run left; a file that cannot be used counts as absent.
    pub fn open(state_dir: &Path) -> Earlier {
        let path = state_dir.join(NAME);
        let left = read(&path).unwrap_or_else(|error| {
            let file = path.display();
            tracing::warn!(%file, "{error:#}; waiting for every peer as after a first start");
            None
        });
        Earlier {
            path,
            written: left.clone().unwrap_or_default(),
            left,
            up: BTreeSet::new(),
            due: None,
            failed: false,
        }
    }

    /// The peers that were up; absent when nothing is known.
    pub(super) fn expected(&self) -> Option<BTreeSet<PeerKey>> {
        self.left.clone()
    }

    /// It is known that the run before had no session when it ended, and nobody keeps its routes.
    pub fn were_none(&self) -> bool {
        self.left.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// A peer is in this state now.
    pub(super) fn saw(&mut self, info: &PeerInfo) {
        let counts = info.state == State::Established || !info.stale.is_empty();
        let news = match counts {
            true => self.up.insert(info.key.clone()),
            false => self.up.remove(&info.key),
        };
        self.changed(news);
    }

    /// A peer is not configured any more.
    pub(super) fn gone(&mut self, key: &PeerKey) {
        let left = self.left.as_mut().is_some_and(|left| left.remove(key));
        let news = self.up.remove(key) | left;
        self.changed(news);
    }

    /// Nobody is waited for any more.
    pub(super) fn converged(&mut self) {
        self.left = None;
        self.changed(true);
    }

    /// Every peer is told that we leave for good, so that nobody waits for us or we for them.
    pub(super) fn said_goodbye(&mut self) {
        self.left = None;
        self.up.clear();
        self.write();
    }

    fn changed(&mut self, news: bool) {
        if news && self.counted() != self.written {
            self.due.get_or_insert_with(|| Instant::now() + PAUSE);
        }
    }

    fn counted(&self) -> BTreeSet<PeerKey> {
        let left = self.left.iter().flatten();
        left.chain(&self.up).cloned().collect()
    }

    /// When to write.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Writes the file; when that cannot be done the next start waits for peers of an older one.
    pub(super) fn write(&mut self) {
        self.due = None;
        let counted = self.counted();
        match write(&self.path, &counted) {
            Ok(()) => {
                self.written = counted;
                self.failed = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    let file = self.path.display();
                    tracing::warn!(%file, "{error:#}; is the state directory writable?");
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<BTreeSet<PeerKey>>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("cannot be opened"),
    };
    let mut text = Vec::new();
    let octets = file.take(LONGEST).read_to_end(&mut text);
    let octets = octets.context("cannot be read")?;
    ensure!((octets as u64) < LONGEST, "is too long");
    let file: File = serde_json::from_slice(&text).context("is not a list of peers")?;
    ensure!(file.version == VERSION, "is of version {}", file.version);
    let peers = file.peers.into_iter().map(PeerKey::from);
    Ok(Some(peers.collect()))
}

fn write(path: &Path, peers: &BTreeSet<PeerKey>) -> Result<()> {
    let file = File {
        version: VERSION,
        peers: peers.iter().map(ToString::to_string).collect(),
    };
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(&file)?).context("cannot be written")?;
    std::fs::rename(&new, path).context("cannot be replaced")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> BTreeSet<PeerKey> {
        names.iter().map(|name| PeerKey::from(*name)).collect()
    }

    /// A run that saw these peers up.
    fn run(state_dir: &Path, up: &[&str]) -> Earlier {
        let mut earlier = Earlier::open(state_dir);
        earlier.up = keys(up);
        earlier.changed(true);
        earlier
    }

    #[test]
    fn who_was_up_is_known_after_a_restart_and_a_second_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = run(folder.path(), &["192.0.2.1", "192.0.2.2"]);
        assert_eq!(first.expected(), None, "nothing is known at first");
        assert!(!first.were_none());
        assert!(first.due().is_some());
        first.write();
        assert_eq!(first.due(), None);

        // Ends again before the second peer is back.
        let mut second = run(folder.path(), &["192.0.2.1"]);
        assert_eq!(second.expected(), Some(keys(&["192.0.2.1", "192.0.2.2"])));
        assert_eq!(second.due(), None, "nothing new");
        let mut third = run(folder.path(), &["192.0.2.1"]);
        assert_eq!(third.expected(), second.expected());
        third.converged();
        third.write();
        second = Earlier::open(folder.path());
        assert_eq!(second.expected(), Some(keys(&["192.0.2.1"])));
        second.gone(&"192.0.2.1".into());
        second.write();
        let last = Earlier::open(folder.path());
        assert_eq!(last.expected(), Some(BTreeSet::new()));
        assert!(last.were_none() && !third.were_none());
        let mut leaves = run(folder.path(), &["192.0.2.1"]);
        leaves.write();
        assert!(!Earlier::open(folder.path()).were_none());
        leaves.said_goodbye();
        assert!(Earlier::open(folder.path()).were_none());
    }

    #[test]
    fn a_file_that_cannot_be_used_counts_as_absent_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let long = vec![b' '; LONGEST as usize];
        let later = br#"{"version": 2, "peers": []}"#;
        for text in [&b""[..], b"{}", b"[1", b"\xff", later, &long] {
            std::fs::write(&path, text).unwrap();
            let mut earlier = run(folder.path(), &["192.0.2.1"]);
            assert_eq!(earlier.expected(), None);
            earlier.write();
            let next = Earlier::open(folder.path());
            assert_eq!(next.expected(), Some(keys(&["192.0.2.1"])));
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let mut earlier = run(folder.path(), &["192.0.2.1"]);
        earlier.write();
        assert!(earlier.failed, "a folder is in the way");
    }
}
