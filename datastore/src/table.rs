//! The present state in memory, and the watches that follow it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crds::Kind;
use tokio::sync::Notify;

use crate::{Broken, Error, Event, Key, Object};

/// Objects and problems of a store. Cheap to lock: nothing waits while holding it.
#[derive(Default)]
pub(crate) struct Table {
    state: Mutex<State>,
    packs: bool,
}

/// An object in the table. Cheap to copy, so that nobody reads a manifest while holding the lock.
#[derive(Clone)]
enum Entry {
    Whole(Arc<Object>),
    Packed(Packed),
}

/// An object with its manifest as text: a full address block takes a tenth of what it takes as a tree.
#[derive(Clone)]
pub(crate) struct Packed {
    version: String,
    manifest: Arc<str>,
}

impl Packed {
    pub(crate) fn new(object: &Object) -> Packed {
        Packed {
            version: object.resource_version.clone(),
            manifest: object.value.to_string().into(),
        }
    }

    pub(crate) fn object(&self, key: &Key) -> Object {
        Object {
            key: key.clone(),
            resource_version: self.version.clone(),
            // It was written by this module, so it can be read.
            value: serde_json::from_str(&self.manifest).unwrap_or_default(),
        }
    }
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Entry>,
    broken: BTreeMap<String, Broken>,
    watches: Vec<Weak<Pending>>,
    closed: bool,
}

/// What one watch has not delivered yet.
struct Pending {
    kind: Kind,
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    order: VecDeque<Item>,
    queued: BTreeSet<Item>,
}

/// Something to look at again; its content is taken when it is delivered, so a repeated change costs nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Object(Key),
    Place(String),
    InSync,
}

impl Pending {
    fn push(&self, item: Item) {
        let mut queue = lock(&self.queue);
        if queue.queued.insert(item.clone()) {
            queue.order.push_back(item);
            self.changed.notify_one();
        }
    }

    fn pop(&self) -> Option<Item> {
        let mut queue = lock(&self.queue);
        let item = queue.order.pop_front()?;
        queue.queued.remove(&item);
        Some(item)
    }
}

impl Entry {
    fn version(&self) -> &str {
        match self {
            Entry::Whole(object) => &object.resource_version,
            Entry::Packed(packed) => &packed.version,
        }
    }

    fn object(&self, key: &Key) -> Arc<Object> {
        match self {
            Entry::Whole(object) => Arc::clone(object),
            Entry::Packed(packed) => Arc::new(packed.object(key)),
        }
    }
}

impl Table {
    /// A table of many objects, of which few are asked for again.
    pub(crate) fn packed() -> Table {
        Table {
            packs: true,
            ..Table::default()
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        let entry = lock(&self.state).objects.get(key).cloned();
        entry.map(|entry| entry.object(key))
    }

    pub(crate) fn list(&self, kind: Kind) -> Vec<Object> {
        let mut objects = Vec::new();
        self.visit(kind, &mut |object| objects.push(object));
        objects
    }

    /// Shows all objects of a kind, ordered by their keys, one after the other.
    pub(crate) fn visit(&self, kind: Kind, see: &mut (dyn FnMut(Object) + Send)) {
        let entries: Vec<(Key, Entry)> = {
            let state = lock(&self.state);
            let entries = state.of_kind(kind);
            entries
                .map(|(key, entry)| (key.clone(), entry.clone()))
                .collect()
        };
        // Read and copied without the lock.
        for (key, entry) in entries {
            see(Arc::unwrap_or_clone(entry.object(&key)));
        }
    }

    /// Which objects of a kind there are, in which versions.
    pub(crate) fn versions(&self, kind: Kind) -> Vec<(Key, String)> {
        let state = lock(&self.state);
        let versions = state.of_kind(kind);
        versions
            .map(|(key, entry)| (key.clone(), entry.version().to_owned()))
            .collect()
    }

    pub(crate) fn problems(&self) -> Vec<Broken> {
        lock(&self.state).broken.values().cloned().collect()
    }

    /// Stores an object; nobody is told if it is the same as before.
    pub(crate) fn put(&self, object: Arc<Object>) {
        self.put_newer(object, |version, than| version != than);
    }

    /// As [`Table::put`], unless what is there is not older.
    pub(crate) fn put_newer(&self, object: Arc<Object>, is_newer: fn(&str, &str) -> bool) {
        let key = object.key.clone();
        let version = object.resource_version.clone();
        let entry = match self.packs {
            true => Entry::Packed(Packed::new(&object)),
            false => Entry::Whole(object),
        };
        let mut state = lock(&self.state);
        let before = state.objects.get(&key);
        if before.is_none_or(|before| is_newer(&version, before.version())) {
            state.objects.insert(key.clone(), entry);
            state.tell(Some(key.kind), &Item::Object(key));
        }
    }

    pub(crate) fn remove(&self, key: &Key) {
        let mut state = lock(&self.state);
        if state.objects.remove(key).is_some() {
            state.tell(Some(key.kind), &Item::Object(key.clone()));
        }
    }

    pub(crate) fn report(&self, broken: Broken) {
        let mut state = lock(&self.state);
        let place = broken.place.clone();
        let before = state.broken.insert(place.clone(), broken.clone());
        if before.as_ref() == Some(&broken) {
            return;
        }
        // Something else may be broken there than before.
        for kind in before
            .iter()
            .chain([&broken])
            .map(Broken::kind)
            .collect::<BTreeSet<_>>()
        {
            state.tell(kind, &Item::Place(place.clone()));
        }
    }

    pub(crate) fn mend(&self, place: &str) {
        let mut state = lock(&self.state);
        if let Some(broken) = state.broken.remove(place) {
            state.tell(
                broken.key.map(|key| key.kind),
                &Item::Place(place.to_owned()),
            );
        }
    }

    pub(crate) fn watch(self: &Arc<Self>, kind: Kind) -> Watch {
        let mut queue = Queue::default();
        let mut state = lock(&self.state);
        let objects = state
            .of_kind(kind)
            .map(|(key, _)| Item::Object(key.clone()));
        let concerns = |broken: &&Broken| broken.key.as_ref().is_none_or(|key| key.kind == kind);
        let places = state
            .broken
            .values()
            .filter(concerns)
            .map(|broken| Item::Place(broken.place.clone()));
        for item in objects.chain(places).chain([Item::InSync]) {
            queue.queued.insert(item.clone());
            queue.order.push_back(item);
        }
        let pending = Arc::new(Pending {
            kind,
            queue: Mutex::new(queue),
            changed: Notify::new(),
        });
        state.watches.retain(|watch| watch.strong_count() > 0);
        state.watches.push(Arc::downgrade(&pending));
        Watch {
            table: Arc::clone(self),
            pending,
            known: BTreeMap::new(),
            reported: BTreeSet::new(),
        }
    }

    /// Ends all watches, once they have delivered what they have.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        for watch in state.watches.iter().filter_map(Weak::upgrade) {
            watch.changed.notify_one();
        }
    }

    /// The object, with the errors every back end has in common.
    pub(crate) fn expect(&self, key: &Key, version: Option<&str>) -> Result<Arc<Object>, Error> {
        let object = self
            .get(key)
            .ok_or_else(|| Error::NotFound { key: key.clone() })?;
        match version {
            Some(version) if version != object.resource_version => {
                Err(Error::Conflict { key: key.clone() })
            }
            _ => Ok(object),
        }
    }
}

impl State {
    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Entry)> {
        let first = Key {
            kind,
            namespace: None,
            name: String::new(),
        };
        let range = self
            .objects
            .range((Bound::Included(first), Bound::Unbounded));
        range.take_while(move |(key, _)| key.kind == kind)
    }

    /// Tells the watches of a kind, or all of them.
    fn tell(&mut self, kind: Option<Kind>, item: &Item) {
        for watch in self.watches.iter().filter_map(Weak::upgrade) {
            if kind.is_none_or(|kind| kind == watch.kind) {
                watch.push(item.clone());
            }
        }
    }
}

/// Follows all objects of a kind: first what exists, then [`Event::InSync`], then every change.
pub struct Watch {
    table: Arc<Table>,
    pending: Arc<Pending>,
    /// Versions delivered.
    known: BTreeMap<Key, String>,
    /// Places delivered as broken.
    reported: BTreeSet<String>,
}

impl Watch {
    /// The next event; `None` once the store is closed. Loses nothing when the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(item) = self.pending.pop() {
                if let Some(event) = self.event(item) {
                    return Some(event);
                }
            }
            if lock(&self.table.state).closed {
                return None;
            }
            self.pending.changed.notified().await;
        }
    }

    /// What to tell about an item, given what was told before.
    fn event(&mut self, item: Item) -> Option<Event> {
        let state = lock(&self.table.state);
        match item {
            Item::InSync => Some(Event::InSync),
            Item::Object(key) => match state.objects.get(&key) {
                Some(entry) => {
                    let entry = entry.clone();
                    drop(state);
                    let object = entry.object(&key);
                    let version = object.resource_version.clone();
                    let told = self.known.insert(key, version);
                    (told.as_ref() != Some(&object.resource_version))
                        .then(|| Event::Upsert(Arc::unwrap_or_clone(object)))
                }
                None => self.known.remove(&key).map(|_| Event::Delete(key)),
            },
            Item::Place(place) => match state
                .broken
                .get(&place)
                .filter(|b| b.concerns(self.pending.kind))
            {
                Some(broken) => {
                    self.reported.insert(place);
                    Some(Event::Broken(broken.clone()))
                }
                None => self
                    .reported
                    .remove(&place)
                    .then_some(Event::Mended { place }),
            },
        }
    }
}

/// A panic elsewhere leaves these maps whole, because they are changed in single steps.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
