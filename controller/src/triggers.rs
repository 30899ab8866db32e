//! What makes a look worth it before its time.

use std::time::Duration;

use crds::{Kind, names};
use datastore::{Datastore, Event, Object, Watch};

/// How soon a datastore that cannot be watched is asked again; until then time alone triggers.
const RETRY: Duration = Duration::from_secs(10);

/// A Node that disappears, and where pools are guarded one that is new or deleted.
pub(crate) struct Triggers {
    nodes: Followed,
    pools: Option<Followed>,
}

impl Triggers {
    pub(crate) fn new(guard_pools: bool) -> Triggers {
        Triggers {
            nodes: Followed::new(Kind::Node),
            pools: guard_pools.then(|| Followed::new(Kind::IpPool)),
        }
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self, store: &dyn Datastore) {
        let pools = async {
            match &mut self.pools {
                Some(pools) => pools.changed(store).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.nodes.gone(store) => {}
            () = pools => {}
        }
    }
}

struct Followed {
    kind: Kind,
    watch: Option<Watch>,
    in_sync: bool,
}

impl Followed {
    fn new(kind: Kind) -> Followed {
        Followed {
            kind,
            watch: None,
            in_sync: false,
        }
    }

    async fn gone(&mut self, store: &dyn Datastore) {
        loop {
            if let Event::Delete(key) = self.next(store).await {
                tracing::info!(%key, "deleted");
                return;
            }
        }
    }

    async fn changed(&mut self, store: &dyn Datastore) {
        loop {
            match self.next(store).await {
                Event::Upsert(pool) if self.in_sync && matters(&pool) => return,
                Event::InSync => self.in_sync = true,
                Event::Upsert(_) | Event::Delete(_) | Event::Broken(_) | Event::Mended { .. } => {}
            }
        }
    }

    async fn next(&mut self, store: &dyn Datastore) -> Event {
        loop {
            let watch = match &mut self.watch {
                Some(watch) => watch,
                None => match store.watch(self.kind).await {
                    Ok(watch) => {
                        self.in_sync = false;
                        self.watch.insert(watch)
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot watch, trying again");
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                },
            };
            match watch.next().await {
                Some(event) => return event,
                None => {
                    self.watch = None;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// Its status is written all the time.
fn matters(pool: &Object) -> bool {
    let metadata = &pool.value["metadata"];
    let finalizers = metadata["finalizers"].as_array();
    let is_guarded =
        finalizers.is_some_and(|all| all.iter().any(|name| name == names::POOL_FINALIZER));
    !is_guarded || metadata["deletionTimestamp"].is_string()
}
