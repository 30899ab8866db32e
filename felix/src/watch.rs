//! One watch per kind, guarded: a watch that ends is opened again, and what disappeared meanwhile
//! is told as gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use crds::{AnyResource, Kind};
use datastore::{Broken, Datastore, Event, Key, Object, Remains, Watch};
use felix_calc::{Problem, ResourceKey, UnreadPool, Update};
use tokio::sync::mpsc;

use crate::board::Board;

const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// Follows a kind until the calculation is gone.
///
/// # Errors
/// Never for a failing datastore, which is retried for ever.
pub async fn run(
    store: Arc<dyn Datastore>,
    kind: Kind,
    updates: mpsc::Sender<Update>,
    board: Arc<Board>,
) -> Result<()> {
    let mut known = BTreeSet::new();
    let mut pause = RETRY;
    loop {
        match store.watch(kind).await {
            Ok(mut watch) => {
                pause = RETRY;
                let mut follower = Follower {
                    kind,
                    updates: &updates,
                    board: &board,
                    seen: BTreeSet::new(),
                };
                follower.follow(&mut watch, &mut known).await?;
                tracing::warn!(%kind, "watch ended, opening it again");
            }
            Err(error) => tracing::warn!(%kind, %error, "cannot watch"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_RETRY);
    }
}

struct Follower<'a> {
    kind: Kind,
    updates: &'a mpsc::Sender<Update>,
    board: &'a Board,
    /// Objects of the present that this watch has told.
    seen: BTreeSet<Key>,
}

impl Follower<'_> {
    async fn follow(&mut self, watch: &mut Watch, known: &mut BTreeSet<Key>) -> Result<()> {
        let mut in_sync = false;
        while let Some(event) = watch.next().await {
            match event {
                Event::Upsert(object) => {
                    known.insert(object.key.clone());
                    if !in_sync {
                        self.seen.insert(object.key.clone());
                    }
                    self.note_unknown(&object);
                    self.send(update_of(object)).await?;
                }
                Event::Delete(key) => {
                    known.remove(&key);
                    self.forget_unknown(&key);
                    self.send(Update::Gone(resource_key(key))).await?;
                }
                Event::InSync => {
                    in_sync = true;
                    let gone: Vec<Key> = known.difference(&self.seen).cloned().collect();
                    *known = std::mem::take(&mut self.seen);
                    for key in gone {
                        self.forget_unknown(&key);
                        self.send(Update::Gone(resource_key(key))).await?;
                    }
                    self.send(Update::InSync(self.kind)).await?;
                }
                Event::Broken(broken) => {
                    tracing::warn!(place = broken.place, problem = broken.problem, "unusable");
                    if self.kind == Kind::IpPool {
                        let unread = broken.may_hold(Kind::IpPool).then(|| unread_pool(&broken));
                        self.send(Update::UnreadPool(broken.place.clone(), unread))
                            .await?;
                    }
                    self.board.stored.send_modify(|stored| {
                        stored.insert((self.kind, broken.place.clone()), problem_of(broken));
                    });
                }
                Event::Mended { place } => {
                    if self.kind == Kind::IpPool {
                        self.send(Update::UnreadPool(place.clone(), None)).await?;
                    }
                    self.board.stored.send_modify(|stored| {
                        stored.remove(&(self.kind, place));
                    });
                }
            }
        }
        Ok(())
    }

    /// Fields that nobody here knows are kept by every write, but what they ask for is not done.
    fn note_unknown(&self, object: &Object) {
        let unknown = crds::unknown_fields(object.key.kind, &object.value);
        if unknown.is_empty() {
            return self.forget_unknown(&object.key);
        }
        let problem = Problem {
            object: format!("{}/{}", object.key.kind, object.key.name),
            field: unknown.join(", "),
            problem: "not known to this version: it is kept, and has no effect".to_owned(),
            remedy: "correct or remove it".to_owned(),
        };
        self.board.unknown.send_if_modified(|all| {
            all.insert(object.key.clone(), problem.clone()) != Some(problem)
        });
    }

    fn forget_unknown(&self, key: &Key) {
        self.board
            .unknown
            .send_if_modified(|all| all.remove(key).is_some());
    }

    async fn send(&self, update: Update) -> Result<()> {
        if self.updates.send(update).await.is_err() {
            bail!("the calculation has ended");
        }
        Ok(())
    }
}

/// What an object means; what cannot be read counts as gone, and is reported.
fn update_of(object: Object) -> Update {
    match AnyResource::parse(object.key.kind, &object.value) {
        Ok(resource) => Update::Resource(resource),
        Err(errors) => {
            let name = format!("{}/{}", object.key.kind, object.key.name);
            let problems = errors.into_iter().map(|error| Problem {
                object: name.clone(),
                field: error.field,
                problem: error.problem,
                remedy: error.remedy,
            });
            Update::Broken(resource_key(object.key), problems.collect())
        }
    }
}

fn resource_key(key: Key) -> ResourceKey {
    ResourceKey {
        kind: key.kind,
        namespace: key.namespace,
        name: key.name,
    }
}

fn unread_pool(broken: &Broken) -> UnreadPool {
    UnreadPool {
        name: broken.key.as_ref().map(|key| key.name.clone()),
        manifest: match &broken.remains {
            Remains::Object(value) => Some(value.clone()),
            Remains::Nothing | Remains::Kinds(_) => None,
        },
    }
}

fn problem_of(broken: Broken) -> Problem {
    let (object, field) = match broken.key {
        Some(key) => (key.to_string(), broken.place),
        None => (broken.place, String::new()),
    };
    Problem {
        object,
        field,
        problem: broken.problem,
        remedy: "the last good state is in use until it is mended or the agent restarts".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use datastore::memory::MemoryStore;
    use datastore::{Object, Typed};
    use serde_json::json;

    use super::*;

    async fn store(nodes: &[&str]) -> MemoryStore {
        let store = MemoryStore::new();
        for name in nodes {
            let value = json!({ "metadata": { "name": name } });
            let key = Key::cluster(Kind::Node, *name);
            let object = Object {
                key,
                resource_version: String::new(),
                value,
            };
            let created = store.create(object).await.unwrap();
            Typed::<crds::core::Node>::from_object(created).unwrap();
        }
        store
    }

    /// Follows a store until it is in sync, then until the store is gone.
    async fn follow(store: MemoryStore, known: &mut BTreeSet<Key>) -> Vec<String> {
        let (updates, mut receiver) = mpsc::channel(64);
        let board = Board::default();
        let mut watch = store.watch(Kind::Node).await.unwrap();
        let mut follower = Follower {
            kind: Kind::Node,
            updates: &updates,
            board: &board,
            seen: BTreeSet::new(),
        };
        let mut told = Vec::new();
        let listen = async {
            while let Some(update) = receiver.recv().await {
                match update {
                    Update::Resource(resource) => told.push(format!("here {}", resource.name())),
                    Update::Gone(key) => told.push(format!("gone {}", key.name)),
                    Update::InSync(_) => break,
                    other => panic!("{other:?}"),
                }
            }
            drop(store);
        };
        let (followed, ()) = tokio::join!(follower.follow(&mut watch, known), listen);
        followed.unwrap();
        told
    }

    #[tokio::test]
    async fn what_disappeared_while_nobody_watched_is_told_as_gone() {
        let mut known = BTreeSet::new();
        assert_eq!(
            follow(store(&["a", "b"]).await, &mut known).await,
            ["here a", "here b"]
        );
        let told = follow(store(&["b", "c"]).await, &mut known).await;
        assert_eq!(told, ["here b", "here c", "gone a"]);
        assert_eq!(
            follow(store(&[]).await, &mut known).await,
            ["gone b", "gone c"]
        );
    }
}
