//! Follows the objects of one kind: a list, then a watch from its version, and again from the newest version seen.
//!
//! A watch that ends is opened again where it stood. Only when the API server cannot continue there is the kind
//! listed anew, and what the list lacks is gone.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crds::Kind;
use futures_util::StreamExt;
use kube::core::WatchEvent;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::guard::Shrinkage;
use super::health::Health;
use super::object::{is_newer, of_value};
use super::request::{Client, Scope, path};
use crate::admission::{same_content, validate};
use crate::table::{Packed, Table};
use crate::{Broken, Error, Key, Object, Remains};

/// Between two attempts; doubled each time.
const RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// A watch that ends sooner is not opened again before.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);
/// How long the API server is asked to keep a watch open, at most; half of it at least.
const WATCH_SECS: u32 = 290;
/// Where the API server cannot select, it is asked so often whether it can by now.
const SELECT_AGAIN: Duration = Duration::from_secs(600);
/// A watch says something at least every minute (bookmarks); one that is silent for this long is dead.
const SILENCE: Duration = Duration::from_secs(150);

/// How far a follower is.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Everything that existed at some time is in the table, or the part of it that is followed.
    pub(super) listed: bool,
    /// All objects of the kind are, and the whole of them.
    pub(super) is_everything: bool,
    /// What went wrong last, before that.
    pub(super) problem: Option<String>,
}

/// Follows a kind into the table of a store.
pub(super) struct Follower {
    pub(super) kind: Kind,
    pub(super) scope: Scope,
    pub(super) every_change_of: Option<Key>,
    /// For how long lists must lack most of what was known.
    pub(super) believe: Duration,
    pub(super) client: Client,
    pub(super) table: Arc<Table>,
    pub(super) health: Arc<Health>,
    pub(super) progress: watch::Sender<Progress>,
}

/// Whether a version replaces another.
type Newer = fn(&str, &str) -> bool;

/// What comes next.
enum Next {
    List,
    Watch { after: String },
}

/// What a follower remembers between steps.
#[derive(Default)]
struct Memory {
    /// Objects that are reported as broken.
    broken: BTreeSet<Key>,
    /// Since when lists lack most of what was known.
    doubted: Option<Instant>,
    /// Newest version that the API server told.
    told: Option<String>,
    /// It could not select by fields, so everything is followed: when it was asked last.
    unselectable: Option<Instant>,
}

impl Follower {
    /// Runs until it is aborted.
    pub(super) async fn run(self) {
        let mut memory = Memory::default();
        let mut next = Next::List;
        let mut pause = RETRY;
        let mut since = SystemTime::now();
        loop {
            let begun = Instant::now();
            let done = match &next {
                Next::List => self.list(&mut memory).await,
                Next::Watch { after } => self.watch(after, &mut memory).await,
            };
            match done {
                Ok(mut then) => {
                    since = SystemTime::now();
                    if matches!(next, Next::Watch { .. }) {
                        tokio::time::sleep(SHORTEST_WATCH.saturating_sub(begun.elapsed())).await;
                        if self.can_select_now(&mut memory).await {
                            then = Next::List;
                        }
                    }
                    next = then;
                    pause = RETRY;
                }
                Err(error) => {
                    let problem = error.to_string();
                    self.health.failed(self.kind, since, problem.clone());
                    self.progress
                        .send_modify(|progress| progress.problem = Some(problem));
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// Makes the table what a new list says.
    async fn list(&self, memory: &mut Memory) -> Result<Next, Error> {
        let followed_all = memory.unselectable.is_some();
        let selected = self.pages(&self.scope).await?;
        memory.unselectable = selected.is_none().then(Instant::now);
        let (listed, version) = match selected {
            Some(selected) => selected,
            None => {
                if !followed_all {
                    tracing::warn!(
                        kind = %self.kind,
                        fields = self.scope.fields,
                        "the API server cannot select by these fields, so all objects of the kind are followed, which \
                         costs memory and traffic: apply the CRDs of this release (kubectl apply --server-side -f crds/)"
                    );
                }
                let all = self.pages(&self.scope.unselected()).await?;
                all.ok_or_else(|| {
                    Error::unavailable("the API server refuses a selection that was not asked for")
                })?
            }
        };
        // What is selected out is not lost.
        let narrowed = followed_all && memory.unselectable.is_none();
        self.reconcile(listed, &version, narrowed, memory)?;
        self.health.recovered(self.kind);
        let is_everything = self.scope(memory).is_everything();
        self.progress.send_modify(|progress| {
            progress.listed = true;
            progress.is_everything = is_everything;
            progress.problem = None;
        });
        memory.told = Some(version.clone());
        Ok(Next::Watch { after: version })
    }

    /// What is followed now.
    fn scope(&self, memory: &Memory) -> Scope {
        match memory.unselectable {
            Some(_) => self.scope.unselected(),
            None => self.scope.clone(),
        }
    }

    /// Whether the API server, which could not select before, can by now; seldom asked.
    async fn can_select_now(&self, memory: &mut Memory) -> bool {
        let Some(asked) = &mut memory.unselectable else {
            return false;
        };
        if asked.elapsed() < SELECT_AGAIN {
            return false;
        }
        *asked = Instant::now();
        let page = self.client.list_selected(self.kind, &self.scope, None);
        matches!(page.await, Ok(Some(_)))
    }

    /// All pages of a list, and its version; nothing when the API server cannot select by the fields.
    async fn pages(&self, scope: &Scope) -> Result<Option<(Vec<(Key, Packed)>, String)>, Error> {
        // A large cluster has ten thousand blocks, and a tree takes more than its text.
        let mut listed: Vec<(Key, Packed)> = Vec::new();
        let mut from = None;
        let version = loop {
            let page = self.client.list_selected(self.kind, scope, from.as_deref());
            let Some(page) = page.await? else {
                return Ok(None);
            };
            let objects = page.items.into_iter();
            let objects = objects.filter_map(|value| self.read(value));
            listed.extend(objects.map(|object| {
                let packed = Packed::new(&object);
                (object.key, packed)
            }));
            from = page.more;
            if from.is_none() {
                break page.version;
            }
        };
        Ok(Some((listed, version)))
    }

    fn reconcile(
        &self,
        listed: Vec<(Key, Packed)>,
        version: &str,
        narrowed: bool,
        memory: &mut Memory,
    ) -> Result<(), Error> {
        // Its versions begin anew, and no state known before is newer than what it says.
        let restored = memory.told.as_deref();
        let restored = restored.is_some_and(|told| is_newer(told, version));
        let newer: Newer = if restored {
            |one, other| one != other
        } else {
            is_newer
        };
        let present: BTreeSet<&Key> = listed.iter().map(|(key, _)| key).collect();
        let mut missing = self.table.versions(self.kind);
        let known = missing.len();
        // What this store wrote after the list was made is not missing.
        let written_later = |own: &str| !restored && is_newer(own, version);
        missing.retain(|(key, own)| !present.contains(key) && !written_later(own));
        let shrinkage = Shrinkage {
            known,
            missing: missing.len(),
        };
        if !narrowed {
            memory.judge(self.believe, self.kind, shrinkage)?;
        }
        let mended = memory.broken.iter().filter(|key| !present.contains(key));
        let mended: Vec<Key> = mended.cloned().collect();
        for key in missing.iter().map(|(key, _)| key).chain(&mended) {
            self.remove(key, memory);
        }
        for (key, packed) in listed {
            self.put(packed.object(&key), newer, memory);
        }
        Ok(())
    }

    /// Follows changes until the API server or the network ends the watch.
    async fn watch(&self, after: &str, memory: &mut Memory) -> Result<Next, Error> {
        let secs = jittered(Duration::from_secs(WATCH_SECS.into())).as_secs();
        let secs = u32::try_from(secs).unwrap_or(WATCH_SECS);
        let mut client = self.client.current();
        client.mark_unchanged();
        let scope = self.scope(memory);
        let opened = self.client.watch(self.kind, &scope, after, secs).await;
        let mut events = match opened {
            Ok(events) => events,
            Err(not_opened) if not_opened.relist => return Ok(Next::List),
            Err(not_opened) => return Err(not_opened.error),
        };
        self.health.recovered(self.kind);
        let mut after = after.to_owned();
        loop {
            let event = tokio::select! {
                event = timeout(SILENCE, events.next()) => event,
                // The stream is on a connection that was given up.
                _ = client.changed() => break,
            };
            let Ok(Some(event)) = event else { break };
            let version = match event {
                Ok(WatchEvent::Added(value) | WatchEvent::Modified(value)) => {
                    self.read(value).map(|object| {
                        let version = object.resource_version.clone();
                        self.put(object, is_newer, memory);
                        version
                    })
                }
                Ok(WatchEvent::Deleted(value)) => self.read(value).map(|object| {
                    let version = object.resource_version;
                    // Or it was made anew by this store.
                    let known = self.table.get(&object.key);
                    if known.is_none_or(|known| !is_newer(&known.resource_version, &version)) {
                        self.remove(&object.key, memory);
                    }
                    version
                }),
                Ok(WatchEvent::Bookmark(bookmark)) => Some(bookmark.metadata.resource_version),
                // Whatever the reason is, a list says what holds now.
                Ok(WatchEvent::Error(_)) | Err(kube::Error::SerdeError(_)) => {
                    return Ok(Next::List);
                }
                Err(_) => break,
            };
            after = version.unwrap_or(after);
            memory.told = Some(after.clone());
        }
        Ok(Next::Watch { after })
    }

    /// An object that has at least a name; without one there is nothing to report it under.
    fn read(&self, value: Value) -> Option<Object> {
        match of_value(self.kind, value) {
            Ok(object) => Some(object),
            Err(error) => {
                self.table.report(Broken {
                    place: path(self.kind, self.scope.namespace.as_deref()),
                    key: None,
                    problem: error.to_string(),
                    remains: Remains::Kinds(vec![self.kind]),
                });
                None
            }
        }
    }

    fn put(&self, object: Object, newer: Newer, memory: &mut Memory) {
        let key = object.key.clone();
        match validate(&key, &object.value) {
            Ok(()) => {
                if memory.broken.remove(&key) {
                    self.table.mend(&place(&key));
                }
                let unchanged = |known: Arc<Object>| same_content(&known.value, &object.value);
                // A Node reports every few seconds, and hardly ever is that about its metadata.
                let is_noise = self.scope.metadata_only
                    && self.every_change_of.as_ref() != Some(&key)
                    && self.table.get(&key).is_some_and(unchanged);
                if !is_noise {
                    // This store may have written a newer one, which is still to come here.
                    self.table.put_newer(Arc::new(object), newer);
                }
            }
            Err(error) => {
                self.table.report(Broken {
                    place: place(&key),
                    key: Some(key.clone()),
                    problem: error.to_string(),
                    remains: Remains::Object(object.value),
                });
                memory.broken.insert(key);
            }
        }
    }

    fn remove(&self, key: &Key, memory: &mut Memory) {
        if memory.broken.remove(key) {
            self.table.mend(&place(key));
        }
        self.table.remove(key);
    }
}

impl Memory {
    /// Refuses a list that lacks most of what was known, until lists have done so for a while.
    fn judge(&mut self, believe: Duration, kind: Kind, list: Shrinkage) -> Result<(), Error> {
        if !list.is_suspicious() {
            self.doubted = None;
            return Ok(());
        }
        if self.doubted.get_or_insert_with(Instant::now).elapsed() >= believe {
            self.doubted = None;
            return Ok(());
        }
        Err(Error::unavailable(format!(
            "{} of {} objects of kind {kind} are missing in a new list; \
             they are kept, and believed to be gone once lists have lacked them for {believe:?}",
            list.missing, list.known,
        )))
    }
}

/// Where a broken object is: its path in the API.
fn place(key: &Key) -> String {
    format!("{}/{}", path(key.kind, key.namespace.as_deref()), key.name)
}

/// Half of it at least: clients that lost the API server at one time shall not come back at one time.
fn jittered(time: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1000;
    time / 2 + time / 2 * u32::try_from(random).unwrap_or_default() / 1000
}
