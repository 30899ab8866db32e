//! A directory of manifests, kept fresh.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::catalog::Catalog;
use super::changes::{Change, Changes, is_hidden, is_manifest};
use super::disk::{self, Lock};
use super::manifest::{Manifest, Written, fingerprint};
use crate::table::Table;
use crate::{Broken, Remains};

/// How long a file that looks half written, or was moved away, may take to become whole.
const SETTLE: Duration = Duration::from_millis(100);
/// How soon a directory that is away is looked for again.
const RETRY: Duration = Duration::from_secs(1);

/// The files, and what the kernel says about them.
pub(super) struct Tree {
    root: PathBuf,
    table: Arc<Table>,
    pub(super) catalog: Catalog,
    pub(super) changes: Changes,
    /// Files to look at again, and when.
    unsettled: BTreeMap<PathBuf, Instant>,
    /// What this process is writing, to be taken in by its writer: file and fingerprint.
    writing: Option<(PathBuf, u64)>,
    /// When to look for the whole directory again.
    rescan_at: Option<Instant>,
}

impl Tree {
    pub(super) fn open(root: &Path, table: Arc<Table>) -> io::Result<Tree> {
        let mut tree = Tree {
            root: root.to_owned(),
            catalog: Catalog::new(Arc::clone(&table)),
            table,
            changes: Changes::open(root)?,
            unsettled: BTreeMap::new(),
            writing: None,
            rescan_at: None,
        };
        tree.list_all()?;
        tree.catalog.publish();
        // A directory that cannot be locked cannot be written either; reading it is fine.
        if let Ok(Some(lock)) = Lock::try_acquire(root) {
            tree.changes
                .directories()
                .for_each(|directory| lock.clean(&root.join(directory)));
        }
        Ok(tree)
    }

    /// Takes in everything that has changed so far.
    pub(super) fn refresh(&mut self) {
        for change in self.changes.drain() {
            match change {
                Change::Written(path) => self.load(&path, false),
                Change::Gone(path) => self.forget(&path),
                Change::MovedAway(path) => self.settle_later(&path),
                Change::Directory(path) => self.add_directory(&path),
                Change::DirectoryGone(path) => self.remove_directory(&path),
                Change::Rescan => self.rescan(),
            }
        }
        let now = Instant::now();
        if self.rescan_at.is_some_and(|at| at <= now) {
            self.rescan();
        }
        let due: Vec<PathBuf> = self
            .unsettled
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(path, _)| path.clone())
            .collect();
        due.iter().for_each(|path| self.load(path, true));
        self.catalog.publish();
    }

    /// Takes in one file, whether or not it was reported as changed.
    pub(super) fn reload(&mut self, path: &Path, settled: bool) {
        self.load(path, settled);
        self.catalog.publish();
    }

    /// How long nothing has to be done unless something changes.
    pub(super) fn idle_time(&self) -> Option<Duration> {
        let next = self.unsettled.values().chain(&self.rescan_at).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Reads a file again, if it says something else than before. One that looks half written is believed only when
    /// `settled`.
    fn load(&mut self, path: &Path, settled: bool) {
        let manifest = match disk::read(&self.root.join(path)) {
            Ok(text) => {
                let (before, found) = (self.catalog.manifest(path), fingerprint(text.as_bytes()));
                if self
                    .writing
                    .as_ref()
                    .is_some_and(|(writing, written)| writing == path && *written == found)
                {
                    return;
                }
                if before.is_some_and(|before| before.fingerprint == found) {
                    self.unsettled.remove(path);
                    return;
                }
                Manifest::parse(&text, before)
            }
            Err(error) if is_absent(&error) => return self.forget(path),
            Err(error) => Manifest::unreadable(error.to_string()),
        };
        if !settled && self.catalog.looks_half_written(path, &manifest) {
            return self.settle_later(path);
        }
        self.unsettled.remove(path);
        self.catalog.set(path, Some(manifest));
    }

    /// A file is about to become this; it need not be read when it does.
    pub(super) fn begin_write(&mut self, path: &Path, text: &str) {
        self.writing = Some((path.to_owned(), fingerprint(text.as_bytes())));
    }

    /// The file has become that, or the write has failed.
    pub(super) fn end_write(&mut self, path: &Path, written: Option<(&str, Option<Written>)>) {
        self.writing = None;
        match written {
            Some((text, written)) => {
                self.unsettled.remove(path);
                let manifest = Manifest::parse_with(text, self.catalog.manifest(path), written);
                self.catalog.set(path, Some(manifest));
            }
            // It may have failed after the file was replaced.
            None => self.load(path, true),
        }
        self.catalog.publish();
    }

    /// Whether the content of a file is not believed yet.
    pub(super) fn is_unsettled(&self, path: &Path) -> bool {
        self.unsettled.contains_key(path)
    }

    fn settle_later(&mut self, path: &Path) {
        self.unsettled
            .entry(path.to_owned())
            .or_insert_with(|| Instant::now() + SETTLE);
    }

    fn forget(&mut self, path: &Path) {
        self.unsettled.remove(path);
        self.catalog.set(path, None);
    }

    fn add_directory(&mut self, directory: &Path) {
        // One that is gone again is told by the next change.
        for path in self.list(directory).unwrap_or_default() {
            self.load(&path, false);
        }
    }

    fn remove_directory(&mut self, directory: &Path) {
        self.changes.forget(directory);
        let below = self
            .catalog
            .paths()
            .into_iter()
            .filter(|path| path.starts_with(directory));
        below.for_each(|path| self.forget(&path));
    }

    /// Lists everything again. A directory that cannot be listed takes nothing away: what was there stays.
    fn rescan(&mut self) {
        self.rescan_at = None;
        self.changes.forget(Path::new(""));
        let place = self.root.display().to_string();
        match self.list_all() {
            Ok(()) => self.table.mend(&place),
            Err(error) => {
                self.rescan_at = Some(Instant::now() + RETRY);
                let problem = format!(
                    "cannot list the directory: {error}; its objects stay as they were last"
                );
                self.table.report(Broken {
                    place,
                    key: None,
                    problem,
                    remains: Remains::Nothing,
                });
            }
        }
    }

    fn list_all(&mut self) -> io::Result<()> {
        let found = self.list(Path::new(""))?;
        found.iter().for_each(|path| self.load(path, false));
        let found: BTreeSet<PathBuf> = found.into_iter().collect();
        let gone = self
            .catalog
            .paths()
            .into_iter()
            .filter(|path| !found.contains(path));
        gone.for_each(|path| self.forget(&path));
        Ok(())
    }

    /// Watches a directory and those below it, and lists their manifests.
    fn list(&mut self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut directories = vec![directory.to_owned()];
        while let Some(directory) = directories.pop() {
            let entries = self
                .changes
                .watch(&directory)
                .and_then(|()| fs::read_dir(self.root.join(&directory)));
            let entries = match entries {
                Ok(entries) => entries,
                // Gone since it was listed.
                Err(error) if is_absent(&error) && directory != Path::new("") => continue,
                Err(error) => {
                    let path = self.root.join(&directory);
                    return Err(io::Error::new(
                        error.kind(),
                        format!("{}: {error}", path.display()),
                    ));
                }
            };
            for entry in entries.flatten() {
                let (name, path) = (entry.file_name(), directory.join(entry.file_name()));
                // The type of the entry itself: links to directories are not followed, so there are no circles.
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.extend((!is_hidden(&name)).then_some(path));
                } else if is_manifest(&name) && !entry.path().is_dir() {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// There is no such file, or something else stands where its directory should be.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use crds::Kind;

    use super::*;

    #[test]
    fn an_overflow_of_the_kernels_queue_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let table = Arc::new(Table::default());
        let mut tree = Tree::open(directory.path(), Arc::clone(&table)).unwrap();
        let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let limit: usize = limit.trim().parse().unwrap();
        // Two files in turn, because the kernel folds equal events.
        let files = ["x", "y"].map(|name| directory.path().join(name));
        files.iter().for_each(|file| fs::write(file, "").unwrap());
        for file in files.iter().cycle().take(limit) {
            fs::set_permissions(file, fs::metadata(file).unwrap().permissions()).unwrap();
        }
        let pool = "apiVersion: crd.projectcalico.org/v1\nkind: IPPool\nmetadata: {name: a}\nspec: {cidr: 10.0.0.0/16}\n";
        fs::write(directory.path().join("a.yaml"), pool).unwrap();
        assert!(
            tree.changes.drain().contains(&Change::Rescan),
            "the queue has overflowed"
        );
        tree.rescan();
        tree.catalog.publish();
        assert_eq!(table.list(Kind::IpPool).len(), 1);
        // And changes are still followed.
        fs::remove_file(directory.path().join("a.yaml")).unwrap();
        tree.refresh();
        assert_eq!(table.list(Kind::IpPool).len(), 0);
    }
}
