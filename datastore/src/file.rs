//! A directory of YAML manifests.
//!
//! Every `*.yaml` and `*.yml` below the directory is read, hidden ones excepted; a file may hold several documents and
//! lists. Edit them by hand, copy them here, keep them in version control: changes are seen at once, because the kernel
//! reports them (so the directory must be on a local file system, and a file is read when its writer closes it). A link
//! to a file is read and written through, but a change made to its target elsewhere is not reported.
//!
//! What is wrong is reported and never stops the rest:
//! - A document that is not an object of ours, or an invalid one, is [`crate::Event::Broken`] with file, document, line
//!   or field and remedy. The last good objects of the file stay until it can be read again or is deleted.
//! - Two documents that define the same object: the first counts, by path and position; the other is reported.
//! - A file that looks half written (emptied, or no longer YAML) or was moved away is believed 100 ms later.
//! - A directory that disappears as a whole takes no object away.
//!
//! Programs write through here too. A new object becomes `<dir>/<plural>/<name>.yaml`; an existing one is rewritten
//! where it is, the other documents of its file byte for byte as they were. All writers take `<dir>/.lock` and read the
//! file again under it, so compare-and-swap holds between processes; the version of an object contains a fingerprint of
//! its content, so an edit by hand conflicts as well. Readers need no lock: files are replaced by renaming.
//!
//! A write survives a loss of power once it returns, with one exception: address management and status
//! (`IPAMBlock`, `IPAMHandle`, `BlockAffinity`, `NodeStatus`) is not forced to the disk. It describes pods that end with
//! the power, it is written for every pod, and forcing it would cost each pod several times the rest of its start.

mod catalog;
mod changes;
mod disk;
mod document;
mod follow;
mod manifest;
mod tree;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use crds::{FieldError, Kind};
use serde_json::Value;

use crate::admission::{
    admit, same_content, set_creation_time, set_version, with_annotations, with_status,
};
use crate::table::{Table, lock};
use crate::{Broken, Datastore, Error, Key, Object, Watch};
use catalog::{Claim, Slot};
use disk::{Durability, Lock};
use document::Document;
use follow::Follower;
use manifest::Written;
use tree::Tree;

/// A store in a directory of manifests.
pub struct FileStore {
    shared: Arc<Shared>,
    /// Ends with the store.
    _follower: Follower,
}

struct Shared {
    root: PathBuf,
    table: Arc<Table>,
    tree: Arc<Mutex<Tree>>,
    /// One writer of this process at a time; the lock file keeps those of others away.
    writer: Mutex<()>,
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.shared.table.close();
    }
}

impl FileStore {
    /// Opens a directory, makes it if needed, and reads everything in it.
    pub fn open(dir: &Path) -> Result<FileStore, Error> {
        let fail = |error| disk::unavailable("cannot open", dir, error);
        std::fs::create_dir_all(dir).map_err(fail)?;
        let root = std::fs::canonicalize(dir).map_err(fail)?;
        let table = Arc::new(Table::default());
        let tree = Arc::new(Mutex::new(
            Tree::open(&root, Arc::clone(&table)).map_err(fail)?,
        ));
        let follower = Follower::start(Arc::clone(&tree)).map_err(fail)?;
        Ok(FileStore {
            shared: Arc::new(Shared {
                root,
                table,
                tree,
                writer: Mutex::new(()),
            }),
            _follower: follower,
        })
    }

    /// Runs a write on a thread that may wait for the disk and for other processes. It is done even if nobody waits.
    async fn write<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Shared) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || {
            let _writer = lock(&shared.writer);
            let _lock = Lock::acquire(&shared.root)?;
            run(&shared)
        });
        done.await.unwrap_or_else(|error| {
            Err(Error::unavailable(format!(
                "the write was not done: {error}"
            )))
        })
    }

    /// The state with every change made before this call.
    fn fresh(&self) -> &Table {
        lock(&self.shared.tree).refresh();
        &self.shared.table
    }
}

/// An object in its file, as it is while the lock is held.
struct Located {
    slot: Slot,
    object: Arc<Object>,
    text: String,
    document: Document,
}

impl Shared {
    /// Finds an object and reads its file, so that nothing written before the lock was taken is missed.
    fn locate(&self, key: &Key, expected: Option<&str>) -> Result<Located, Error> {
        let mut tree = lock(&self.tree);
        tree.refresh();
        if let Claim::Good(slot, _) | Claim::Broken(slot, _) = tree.catalog.claim(key) {
            tree.reload(&slot.path, false);
        }
        let (slot, object) = match tree.catalog.claim(key) {
            Claim::Good(slot, object) => (slot, object),
            Claim::Broken(slot, problem) => return Err(broken(key, &slot, problem)),
            Claim::None => return Err(Error::NotFound { key: key.clone() }),
        };
        let changed = expected.is_some_and(|version| version != object.resource_version);
        if changed || tree.is_unsettled(&slot.path) {
            return Err(Error::Conflict { key: key.clone() });
        }
        let path = self.root.join(&slot.path);
        let text =
            disk::read(&path).map_err(|error| disk::unavailable("cannot read", &path, error))?;
        // Somebody without the lock may have written again since.
        let seen = tree
            .catalog
            .manifest(&slot.path)
            .map(|manifest| manifest.fingerprint);
        let current = seen == Some(manifest::fingerprint(text.as_bytes()));
        match document::split(&text).into_iter().nth(slot.document) {
            Some(document) if current => Ok(Located {
                slot,
                object,
                text,
                document,
            }),
            _ => Err(Error::Conflict { key: key.clone() }),
        }
    }

    fn create(&self, object: Object) -> Result<Object, Error> {
        let Object { key, mut value, .. } = admit(object)?;
        let path = path_of(&key);
        let mut tree = lock(&self.tree);
        tree.refresh();
        tree.reload(&path, false);
        if !matches!(tree.catalog.claim(&key), Claim::None) {
            return Err(Error::AlreadyExists { key });
        }
        let unclear = tree
            .catalog
            .manifest(&path)
            .is_some_and(manifest::Manifest::is_unclear);
        drop(tree);
        if unclear {
            let problem = "holds something that cannot be read".to_owned();
            return Err(broken(
                &key,
                &Slot {
                    path,
                    document: usize::MAX,
                    item: None,
                },
                problem,
            ));
        }
        let fail = |error| Error::invalid(&key, error);
        set_creation_time(&mut value, &crds::core::time_text(SystemTime::now())).map_err(fail)?;
        set_version(&mut value, &next_counter(&Value::Null)).map_err(fail)?;
        let before = disk::read(&self.root.join(&path)).unwrap_or_default();
        let text = document::append(&before, &emit(&key, &value)?);
        let written = Written {
            document: document::split(&before).len(),
            key: key.clone(),
            value,
        };
        self.store(&key, &path, &text, Some(written))
    }

    /// Replaces the content of an object that has this version, or any.
    fn replace(
        &self,
        key: &Key,
        expected: Option<&str>,
        change: impl FnOnce(&Value) -> Result<Value, FieldError>,
    ) -> Result<Object, Error> {
        let Located {
            slot,
            object: before,
            text,
            document,
        } = self.locate(key, expected)?;
        let fail = |error| Error::invalid(key, error);
        let value = change(&before.value).map_err(fail)?;
        let mut after = admit(Object {
            key: key.clone(),
            resource_version: String::new(),
            value,
        })?;
        if same_content(&before.value, &after.value) {
            return Ok(Arc::unwrap_or_clone(before));
        }
        set_version(&mut after.value, &next_counter(&before.value)).map_err(fail)?;
        let (content, written) = match slot.item {
            None => {
                let written = Written {
                    document: slot.document,
                    key: key.clone(),
                    value: after.value,
                };
                (emit(key, &written.value)?, Some(written))
            }
            Some(item) => {
                let list = with_item(key, &text, &document, |items| items[item] = after.value)?;
                (emit(key, &list)?, None)
            }
        };
        let text = document::replace(&text, &document, &content);
        self.store(key, &slot.path, &text, written)
    }

    fn delete(&self, key: &Key, expected: Option<&str>) -> Result<(), Error> {
        let Located {
            slot,
            text,
            document,
            ..
        } = self.locate(key, expected)?;
        let mut last = true;
        let mut rest = String::new();
        if let Some(item) = slot.item {
            let list = with_item(key, &text, &document, |items| {
                items.remove(item);
                last = items.is_empty();
            })?;
            rest = document::replace(&text, &document, &emit(key, &list)?);
        }
        if last {
            rest = document::remove(&text, &document);
        }
        let path = self.root.join(&slot.path);
        if rest.is_empty() {
            disk::remove(&path, durability(key.kind))?;
        } else {
            disk::write(&path, &rest, durability(key.kind))?;
        }
        lock(&self.tree).reload(&slot.path, true);
        Ok(())
    }

    /// Writes a file and takes it in; the object is then what a reader gets.
    fn store(
        &self,
        key: &Key,
        path: &Path,
        text: &str,
        written: Option<Written>,
    ) -> Result<Object, Error> {
        lock(&self.tree).begin_write(path, text);
        let result = disk::write(&self.root.join(path), text, durability(key.kind));
        let mut tree = lock(&self.tree);
        tree.end_write(path, result.is_ok().then_some((text, written)));
        result?;
        match tree.catalog.claim(key) {
            Claim::Good(_, object) => Ok(Arc::unwrap_or_clone(object)),
            // Another file that comes first has appeared meanwhile, from somebody who does not take the lock.
            Claim::Broken(..) | Claim::None => Err(Error::Conflict { key: key.clone() }),
        }
    }
}

/// Changes the items of the list a document is. It is the text the position of an item was found in, so that the item is
/// there.
fn with_item(
    key: &Key,
    text: &str,
    document: &Document,
    change: impl FnOnce(&mut Vec<Value>),
) -> Result<Value, Error> {
    let changed = |_| Error::Conflict { key: key.clone() };
    let mut list = yaml::parse(&text[document.range.clone()], document.line).map_err(changed)?;
    match list.get_mut("items").and_then(Value::as_array_mut) {
        Some(items) => change(items),
        None => return Err(Error::Conflict { key: key.clone() }),
    }
    Ok(list)
}

fn emit(key: &Key, value: &Value) -> Result<String, Error> {
    yaml::write(value).map_err(|problem| {
        Error::invalid(
            key,
            FieldError::new("the manifest", problem, "report this as a bug"),
        )
    })
}

fn broken(key: &Key, slot: &Slot, problem: String) -> Error {
    let object = format!("{key} in {slot}");
    Error::Invalid {
        object,
        field: "the manifest".into(),
        problem,
        remedy: "correct the file or delete it".into(),
    }
}

/// Grows with every write of an object, and is larger in a new object than in one of the same name before it.
fn next_counter(before: &Value) -> String {
    let micros = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros();
    let now = u64::try_from(micros).unwrap_or(u64::MAX);
    now.max(manifest::stored_counter(before).saturating_add(1))
        .to_string()
}

/// See the description of the module.
fn durability(kind: Kind) -> Durability {
    match kind {
        Kind::IpamBlock | Kind::IpamHandle | Kind::BlockAffinity | Kind::NodeStatus => {
            Durability::Processes
        }
        _ => Durability::PowerLoss,
    }
}

/// Where an object goes that somebody creates. Admission has checked the name, so it stays below the directory.
fn path_of(key: &Key) -> PathBuf {
    /// With its extension a longer name may be too long for a file.
    const MAX: usize = 240;
    let mut path = PathBuf::from(key.kind.plural());
    path.extend(key.namespace.as_deref());
    let file = match key.name.get(..MAX) {
        Some(head) if key.name.len() > MAX => format!(
            "{head}-{:x}.yaml",
            manifest::fingerprint(key.name.as_bytes()) >> 32
        ),
        _ => format!("{}.yaml", key.name),
    };
    path.join(file)
}

#[async_trait]
impl Datastore for FileStore {
    async fn get(&self, key: &Key) -> Result<Object, Error> {
        let mut tree = lock(&self.shared.tree);
        tree.refresh();
        match tree.catalog.claim(key) {
            Claim::Good(_, object) => Ok(Arc::unwrap_or_clone(object)),
            Claim::Broken(slot, problem) => Err(broken(key, &slot, problem)),
            Claim::None => Err(Error::NotFound { key: key.clone() }),
        }
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Object>, Error> {
        Ok(self.fresh().list(kind))
    }

    async fn watch(&self, kind: Kind) -> Result<Watch, Error> {
        lock(&self.shared.tree).refresh();
        Ok(self.shared.table.watch(kind))
    }

    async fn create(&self, object: Object) -> Result<Object, Error> {
        self.write(|shared| shared.create(object)).await
    }

    async fn update(&self, object: Object) -> Result<Object, Error> {
        let Object {
            key,
            resource_version,
            value,
        } = object;
        self.write(move |shared| shared.replace(&key, Some(&resource_version), |_| Ok(value)))
            .await
    }

    async fn delete(&self, key: &Key, resource_version: Option<&str>) -> Result<(), Error> {
        let (key, version) = (key.clone(), resource_version.map(str::to_owned));
        self.write(move |shared| shared.delete(&key, version.as_deref()))
            .await
    }

    async fn patch_status(&self, key: &Key, status: Value) -> Result<Object, Error> {
        let key = key.clone();
        self.write(move |shared| shared.replace(&key, None, |value| with_status(value, status)))
            .await
    }

    async fn patch_annotations(
        &self,
        key: &Key,
        annotations: BTreeMap<String, Option<String>>,
    ) -> Result<Object, Error> {
        let key = key.clone();
        self.write(move |shared| {
            shared.replace(&key, None, |value| with_annotations(value, annotations))
        })
        .await
    }

    async fn problems(&self) -> Result<Vec<Broken>, Error> {
        Ok(self.fresh().problems())
    }
}
