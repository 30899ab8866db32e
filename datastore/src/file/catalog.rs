//! Which file says what about which object, and what follows from that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::manifest::{Content, Entry, Manifest};
use crate::table::Table;
use crate::{Broken, Key, Object, Remains};

/// Everything the files of a directory say. The table is told when [`Catalog::publish`] is called.
pub(super) struct Catalog {
    table: Arc<Table>,
    files: BTreeMap<PathBuf, FileState>,
    /// Who defines an object, in the order of path and position: the first counts.
    claims: BTreeMap<Key, BTreeSet<Slot>>,
    /// Places told as broken, per file.
    reported: BTreeMap<PathBuf, BTreeSet<String>>,
    /// Objects the table has not been told about.
    unpublished: BTreeSet<Key>,
    /// Files whose problems it has not been told about.
    touched: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug, Default)]
struct FileState {
    manifest: Manifest,
    /// Last good objects that the file no longer says clearly.
    kept: BTreeMap<Key, Arc<Object>>,
    /// Its documents could be told apart before, and the last good objects of it are all there.
    was_clear: bool,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) path: PathBuf,
    /// Number of the document counted from 0; beyond all documents for an object the file no longer says clearly.
    pub(super) document: usize,
    /// Position in a list.
    pub(super) item: Option<usize>,
}

/// What the files say about one object.
pub(super) enum Claim {
    /// It is defined here.
    Good(Slot, Arc<Object>),
    /// It is defined here, but cannot be used.
    Broken(Slot, String),
    /// It is not defined.
    None,
}

impl FileState {
    fn entry(&self, slot: &Slot) -> Option<&Entry> {
        self.manifest
            .documents
            .get(slot.document)?
            .entries
            .iter()
            .find(|entry| entry.item == slot.item)
    }

    fn slots<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a Key, Slot)> {
        let slot = |document, item| Slot {
            path: path.to_owned(),
            document,
            item,
        };
        let stated = self.manifest.entries().filter_map(move |(number, entry)| {
            Some((entry.key.as_ref()?, slot(number, entry.item)))
        });
        stated.chain(
            self.kept
                .keys()
                .map(move |key| (key, slot(usize::MAX, None))),
        )
    }

    /// The objects that can be used.
    fn good(&self) -> impl Iterator<Item = (&Key, &Arc<Object>)> {
        let stated = self
            .manifest
            .entries()
            .filter_map(|(_, entry)| match &entry.content {
                Content::Good(object) => Some((&object.key, object)),
                Content::Broken(_) | Content::Ignored(_) => None,
            });
        stated.chain(&self.kept)
    }
}

impl Catalog {
    pub(super) fn new(table: Arc<Table>) -> Catalog {
        Catalog {
            table,
            files: BTreeMap::new(),
            claims: BTreeMap::new(),
            reported: BTreeMap::new(),
            unpublished: BTreeSet::new(),
            touched: BTreeSet::new(),
        }
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.files.keys().cloned().collect()
    }

    pub(super) fn manifest(&self, path: &Path) -> Option<&Manifest> {
        self.files.get(path).map(|file| &file.manifest)
    }

    /// Whether accepting this would lose objects or bring a problem, as a file does that is only half written.
    pub(super) fn looks_half_written(&self, path: &Path, manifest: &Manifest) -> bool {
        let Some(before) = self.files.get(path) else {
            return false;
        };
        let emptied = manifest.documents.is_empty() && !before.manifest.documents.is_empty();
        emptied || (manifest.is_unclear() && !before.manifest.is_unclear())
    }

    /// A file says this now; nothing when it is gone.
    pub(super) fn set(&mut self, path: &Path, manifest: Option<Manifest>) {
        let before = self.files.remove(path);
        let clear = |before: &FileState| before.was_clear || !before.manifest.is_unclear();
        let was_clear = before.as_ref().is_some_and(clear);
        let before = before.unwrap_or_default();
        let exists = manifest.is_some();
        let mut after = FileState {
            manifest: manifest.unwrap_or_default(),
            kept: BTreeMap::new(),
            was_clear,
        };
        if after.manifest.is_unclear() {
            let stated: BTreeSet<&Key> = after
                .manifest
                .entries()
                .filter_map(|(_, entry)| entry.key.as_ref())
                .collect();
            let lost = before.good().filter(|(key, _)| !stated.contains(key));
            after.kept = lost
                .map(|(key, object)| (key.clone(), Arc::clone(object)))
                .collect();
        }
        for (key, slot) in before.slots(path) {
            self.unpublished.insert(key.clone());
            if let Some(slots) = self.claims.get_mut(key) {
                slots.remove(&slot);
            }
        }
        for (key, slot) in after.slots(path) {
            self.unpublished.insert(key.clone());
            self.claims.entry(key.clone()).or_default().insert(slot);
        }
        if exists {
            self.files.insert(path.to_owned(), after);
        }
        self.touched.insert(path.to_owned());
    }

    /// Tells the table what has changed since the last time: several files at once, because an object that moves from
    /// one to another has not changed.
    pub(super) fn publish(&mut self) {
        let mut paths = std::mem::take(&mut self.touched);
        for key in &std::mem::take(&mut self.unpublished) {
            match self.claim(key) {
                Claim::Good(_, object) => self.table.put(object),
                // The last good state stays; it may be the one of another file if that has come first until now.
                Claim::Broken(slot, _) => {
                    let kept = self
                        .files
                        .get(&slot.path)
                        .and_then(|file| file.kept.get(key));
                    kept.into_iter()
                        .for_each(|object| self.table.put(object.clone()));
                }
                Claim::None => {
                    self.claims.remove(key);
                    self.table.remove(key);
                }
            }
            paths.extend(
                self.claims
                    .get(key)
                    .into_iter()
                    .flatten()
                    .map(|slot| slot.path.clone()),
            );
        }
        // Files that share an object have a problem, or have it no longer.
        for path in paths {
            let problems = self.problems(&path);
            let before = self.reported.remove(&path).unwrap_or_default();
            if !problems.is_empty() {
                self.reported.insert(
                    path,
                    problems.iter().map(|broken| broken.place.clone()).collect(),
                );
            }
            let mended = before
                .iter()
                .filter(|place| problems.iter().all(|broken| broken.place != **place));
            mended.for_each(|place| self.table.mend(place));
            problems
                .into_iter()
                .for_each(|broken| self.table.report(broken));
        }
    }

    /// What counts for an object.
    pub(super) fn claim(&self, key: &Key) -> Claim {
        let Some(slot) = self.claims.get(key).and_then(BTreeSet::first) else {
            return Claim::None;
        };
        let Some(file) = self.files.get(&slot.path) else {
            return Claim::None;
        };
        match file.entry(slot).map(|entry| &entry.content) {
            Some(Content::Good(object)) => Claim::Good(slot.clone(), object.clone()),
            Some(Content::Broken(problem) | Content::Ignored(problem)) => {
                Claim::Broken(slot.clone(), problem.clone())
            }
            None => {
                let problem = self.problems(&slot.path).into_iter().next();
                let problem = problem.map_or_else(String::new, |broken| {
                    format!("{}: {}", broken.place, broken.problem)
                });
                Claim::Broken(slot.clone(), problem)
            }
        }
    }

    fn problems(&self, path: &Path) -> Vec<Broken> {
        let file = self.files.get(path);
        let was_clear = file.is_some_and(|file| file.was_clear);
        let entries = file.into_iter().flat_map(|file| file.manifest.entries());
        let problem = |(document, entry): (usize, &Entry)| {
            let slot = Slot {
                path: path.to_owned(),
                document,
                item: entry.item,
            };
            let problem = match &entry.content {
                Content::Broken(problem) | Content::Ignored(problem) => problem.clone(),
                Content::Good(object) => {
                    let first = self
                        .claims
                        .get(&object.key)?
                        .first()
                        .filter(|first| **first != slot)?;
                    format!(
                        "{} is also in {first}, which counts; remove one of the two",
                        object.key
                    )
                }
            };
            let broken = matches!(entry.content, Content::Broken(_));
            let remains = match was_clear && broken && entry.key.is_none() {
                true => Remains::Nothing,
                false => entry.remains.clone(),
            };
            Some(Broken {
                place: slot.to_string(),
                key: entry.key.clone(),
                problem,
                remains,
            })
        };
        entries.filter_map(problem).collect()
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.document != usize::MAX {
            write!(f, ", document {}", self.document + 1)?;
        }
        match self.item {
            Some(item) => write!(f, ", item {}", item + 1),
            None => Ok(()),
        }
    }
}
