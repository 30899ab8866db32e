//! What the kernel says has changed below a directory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use inotify::{EventMask, EventOwned, Inotify, WatchDescriptor, WatchMask};
use nix::errno::Errno;

/// A change; paths are relative to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A file was written, closed, linked or moved here.
    Written(PathBuf),
    /// A file was deleted, or moved to another manifest.
    Gone(PathBuf),
    /// A file was moved away; an editor does this and writes a new one.
    MovedAway(PathBuf),
    /// A directory is new.
    Directory(PathBuf),
    /// A directory is gone.
    DirectoryGone(PathBuf),
    /// Anything may have changed.
    Rescan,
}

/// Watches a directory and those below it.
pub(super) struct Changes {
    inotify: Inotify,
    root: PathBuf,
    directories: BTreeMap<PathBuf, WatchDescriptor>,
}

impl Changes {
    pub(super) fn open(root: &Path) -> io::Result<Changes> {
        Ok(Changes {
            inotify: Inotify::init()
                .map_err(|error| limit(error, "fs.inotify.max_user_instances"))?,
            root: root.to_owned(),
            directories: BTreeMap::new(),
        })
    }

    /// Watches one directory. Watch first and list then, so that nothing is missed between the two.
    pub(super) fn watch(&mut self, directory: &Path) -> io::Result<()> {
        // Not MODIFY: a file is read when its writer is done with it.
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::ATTRIB
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let descriptor = self
            .inotify
            .watches()
            .add(self.root.join(directory), mask)
            .map_err(|error| limit(error, "fs.inotify.max_user_watches"))?;
        self.directories.insert(directory.to_owned(), descriptor);
        Ok(())
    }

    /// Stops watching a directory and those below it.
    pub(super) fn forget(&mut self, directory: &Path) {
        let below: Vec<PathBuf> = self
            .directories
            .keys()
            .filter(|path| path.starts_with(directory))
            .cloned()
            .collect();
        for path in below {
            if let Some(descriptor) = self.directories.remove(&path) {
                // Fails when the directory is gone, and its watch with it.
                let _ = self.inotify.watches().remove(descriptor);
            }
        }
    }

    /// The directories that are watched.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.keys().map(PathBuf::as_path)
    }

    /// Everything that changed since the last call; does not wait. The kernel queues a change before the call that
    /// made it returns, so nothing that happened before is missing.
    pub(super) fn drain(&mut self) -> Vec<Change> {
        let mut events = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.inotify.read_events(&mut buffer) {
                Ok(read) => events.extend(read.map(|event| event.to_owned())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return vec![Change::Rescan],
            }
        }
        let moved_to_manifest = |index: usize, event: &EventOwned| {
            let mut later = events[index + 1..].iter();
            let to = later.find(|other| {
                other.mask.contains(EventMask::MOVED_TO) && other.cookie == event.cookie
            });
            to.is_some_and(|to| to.name.as_deref().is_some_and(is_manifest))
        };
        let interpret = |(index, event): (usize, &EventOwned)| {
            let to_manifest =
                event.mask.contains(EventMask::MOVED_FROM) && moved_to_manifest(index, event);
            self.interpret(&event.wd, event.mask, event.name.as_deref(), to_manifest)
        };
        events.iter().enumerate().filter_map(interpret).collect()
    }

    fn interpret(
        &self,
        descriptor: &WatchDescriptor,
        mask: EventMask,
        name: Option<&OsStr>,
        moved_to_manifest: bool,
    ) -> Option<Change> {
        if mask.contains(EventMask::Q_OVERFLOW) {
            return Some(Change::Rescan);
        }
        let (directory, _) = self
            .directories
            .iter()
            .find(|(_, watched)| *watched == descriptor)?;
        let Some(name) = name else {
            // The root itself; other directories are told by their parents.
            let gone = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT;
            return (directory.as_os_str().is_empty() && mask.intersects(gone))
                .then_some(Change::Rescan);
        };
        // A mounted ConfigMap is replaced by moving this link.
        if name == "..data" {
            return Some(Change::Rescan);
        }
        let path = directory.join(name);
        if mask.contains(EventMask::ISDIR) {
            return match () {
                () if is_hidden(name) => None,
                () if mask.intersects(EventMask::CREATE | EventMask::MOVED_TO) => {
                    Some(Change::Directory(path))
                }
                () if mask.intersects(EventMask::DELETE | EventMask::MOVED_FROM) => {
                    Some(Change::DirectoryGone(path))
                }
                () => None,
            };
        }
        if !is_manifest(name) {
            return None;
        }
        if mask.contains(EventMask::DELETE) || moved_to_manifest {
            return Some(Change::Gone(path));
        }
        if mask.contains(EventMask::MOVED_FROM) {
            return Some(Change::MovedAway(path));
        }
        // A file that was just opened for writing is still empty; its end of writing follows.
        let fresh = mask.contains(EventMask::CREATE) && is_being_written(&self.root.join(&path));
        (!fresh).then_some(Change::Written(path))
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The kernel's own words for its limits, "too many open files" and "no space left", mislead.
fn limit(error: io::Error, sysctl: &str) -> io::Error {
    match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::EMFILE | Errno::ENOSPC => io::Error::other(format!(
            "the limit of watches is reached; raise sysctl {sysctl}"
        )),
        _ => error,
    }
}

/// Links appear with their content; other files appear empty.
fn is_being_written(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}

/// Whether a file of this name is read: `*.yaml` and `*.yml`, unless hidden.
pub(super) fn is_manifest(name: &OsStr) -> bool {
    let extension = Path::new(name).extension();
    !is_hidden(name) && extension.is_some_and(|extension| extension == "yaml" || extension == "yml")
}

pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}
