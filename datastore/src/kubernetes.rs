//! A Kubernetes API server.
//!
//! One list and one watch per kind, shared by everybody who follows it. Reads and writes of single objects go to the API
//! server at once, so they are never behind; reads of one object that wait at the same time are one. A watch, and a list
//! of a kind that is followed whole, is behind by what is on the way, but for the writes of this store. Of blocks, those
//! of one node may be followed ([`Settings::blocks_of_node`]): they all together are the bulk of what changes in a
//! cluster. [`Datastore::list`] is still about all of them.
//!
//! What is wrong is reported and never stops the rest:
//! - An object that does not pass `crds` is [`crate::Event::Broken`]; its last good state stays until it is mended or
//!   deleted.
//! - While the API server is away, or refuses, every watch keeps what it knows, [`Datastore::outage`] says since when
//!   and why, and it is tried again, at most 10 s apart. Only an event of the API server, or an object that is missing
//!   in a later list, is a deletion.
//! - A list that lacks most of what was known is believed only when lists have lacked it for a minute: a server that was
//!   just set up anew or restored does not empty the routing tables of a cluster.
//!
//! Differences to the other back ends, all made by the API server:
//! - Fields that the schema of a kind does not know are dropped when they are written.
//! - `status` of a new or updated object is ignored; [`Datastore::patch_status`] applies it on the server's side under
//!   [`Settings::field_manager`], so fields of other managers stay.
//! - `metadata.managedFields` is not part of an object here; the API server keeps it.

mod events;
mod failure;
mod follow;
mod guard;
mod health;
mod lease;
mod object;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use crds::Kind;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admission::{admit, validate};
use crate::shared::Shared;
use crate::table::{Table, lock};
use crate::{Broken, Datastore, Error, Key, Notice, Object, Outage, Watch};
use follow::{Follower, Progress};
use health::Health;
pub use lease::{LeaseClient, LeaseSpec, StoredLease};
use request::{Client, Scope};

/// How long [`Datastore::watch`] waits for the first list of a kind.
const FIRST_LIST: Duration = Duration::from_secs(10);

/// Pods of a namespace by their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSelection {
    /// The namespace.
    pub namespace: String,
    /// Labels, as the API server takes them: `a=b,c in (d, e)`.
    pub labels: String,
}

/// Where the API server is and what is followed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Kubeconfig to use; without one the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// Name under which fields are owned.
    pub field_manager: String,
    /// Follow and list only pods of this node.
    pub pods_of_node: Option<String>,
    /// Follow only blocks that are affine to this node. All are followed where the API server cannot select them: the
    /// CRDs must say that it can.
    pub blocks_of_node: Option<String>,
    /// Follow and list only pods that this selects.
    pub pods_selected: Option<PodSelection>,
    /// Follow and list only Secrets of this namespace.
    pub secrets_of_namespace: Option<String>,
    /// Kinds of which a watch delivers the metadata alone, and no change of anything else.
    pub metadata_only: BTreeSet<Kind>,
    /// Of this object every change is told nevertheless, so that whoever wants the rest of it knows when to read it.
    pub every_change_of: Option<Key>,
    /// After this time lists that lack most of what was known are believed.
    pub believe_losses_after: Duration,
}

impl Settings {
    /// Everything is followed.
    pub fn new(field_manager: impl Into<String>) -> Settings {
        Settings {
            kubeconfig: None,
            field_manager: field_manager.into(),
            pods_of_node: None,
            blocks_of_node: None,
            pods_selected: None,
            secrets_of_namespace: None,
            metadata_only: BTreeSet::new(),
            every_change_of: None,
            believe_losses_after: Duration::from_secs(60),
        }
    }

    /// What is followed.
    fn followed(&self, kind: Kind) -> Scope {
        let mut scope = self.scope(kind);
        if kind == Kind::IpamBlock
            && let Some(affinity) = self.affinity()
        {
            scope.fields = Some(format!("spec.affinity={affinity}"));
        }
        scope
    }

    /// What the blocks say that are followed, if not all are.
    fn affinity(&self) -> Option<String> {
        let node = self.blocks_of_node.as_ref()?;
        Some(format!("host:{node}"))
    }

    /// Whether an object belongs to a part of its kind that is followed.
    fn selects(&self, object: &Object) -> bool {
        let affinity = self.affinity();
        object.key.kind == Kind::IpamBlock
            && affinity.is_some()
            && object.value["spec"]["affinity"].as_str() == affinity.as_deref()
    }

    /// What is listed.
    fn scope(&self, kind: Kind) -> Scope {
        let pods = self.pods_of_node.as_ref().filter(|_| kind == Kind::Pod);
        let selected = self.pods_selected.as_ref().filter(|_| kind == Kind::Pod);
        let secrets = self.secrets_of_namespace.as_ref();
        let secrets = secrets.filter(|_| kind == Kind::Secret);
        Scope {
            namespace: secrets.or(selected.map(|pods| &pods.namespace)).cloned(),
            labels: selected.map(|pods| pods.labels.clone()),
            fields: pods.map(|node| format!("spec.nodeName={node}")),
            metadata_only: self.metadata_only.contains(&kind),
        }
    }
}

/// A store in a Kubernetes API server.
pub struct KubernetesStore {
    settings: Settings,
    client: Client,
    table: Arc<Table>,
    health: Arc<Health>,
    followed: Mutex<BTreeMap<Kind, Followed>>,
    /// `None` = there is no such object.
    reads: Shared<Key, Option<Object>>,
    lists: Shared<Kind, Arc<Vec<Object>>>,
}

/// The task that follows a kind.
struct Followed {
    progress: watch::Receiver<Progress>,
    task: JoinHandle<()>,
}

impl Drop for KubernetesStore {
    fn drop(&mut self) {
        for followed in lock(&self.followed).values() {
            followed.task.abort();
        }
        self.table.close();
    }
}

impl KubernetesStore {
    /// Reads the configuration; the API server need not be there yet.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the configuration cannot be used.
    pub async fn connect(settings: Settings) -> Result<KubernetesStore, Error> {
        Ok(KubernetesStore {
            client: Client::connect(settings.kubeconfig.as_deref()).await?,
            settings,
            table: Arc::new(Table::packed()),
            health: Arc::default(),
            followed: Mutex::default(),
            reads: Shared::default(),
            lists: Shared::default(),
        })
    }

    /// Makes a CustomResourceDefinition what this manifest says, or makes it (server-side apply, as the field
    /// manager of this store).
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the API server is away or refuses.
    pub async fn apply_definition(&self, manifest: &Value) -> Result<(), Error> {
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
        self.client
            .apply_definition(name, manifest, &self.settings.field_manager)
            .await
    }

    /// A Lease in the same API server.
    pub fn lease(&self, namespace: &str, name: &str) -> LeaseClient {
        LeaseClient {
            client: self.client.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            manager: self.settings.field_manager.clone(),
        }
    }

    /// Starts to follow a kind, unless it is followed already.
    fn follow(&self, kind: Kind) -> watch::Receiver<Progress> {
        let mut followed = lock(&self.followed);
        let start = || {
            let (sender, progress) = watch::channel(Progress::default());
            let follower = Follower {
                kind,
                scope: self.settings.followed(kind),
                every_change_of: self.settings.every_change_of.clone(),
                believe: self.settings.believe_losses_after,
                client: self.client.clone(),
                table: Arc::clone(&self.table),
                health: Arc::clone(&self.health),
                progress: sender,
            };
            let task = tokio::spawn(follower.run());
            Followed { progress, task }
        };
        followed.entry(kind).or_insert_with(start).progress.clone()
    }

    /// Whether all objects of a kind, whole, are in the table.
    fn follows_whole(&self, kind: Kind) -> bool {
        let whole = |followed: &Followed| {
            let progress = followed.progress.borrow();
            progress.listed && progress.is_everything
        };
        lock(&self.followed).get(&kind).is_some_and(whole)
    }

    fn has_listed(&self, kind: Kind) -> bool {
        let listed = |followed: &Followed| followed.progress.borrow().listed;
        lock(&self.followed).get(&kind).is_some_and(listed)
    }

    /// Asks for all of these, page by page.
    async fn visit_pages(
        &self,
        kind: Kind,
        mut scope: Scope,
        see: &mut (dyn FnMut(Object) + Send),
    ) -> Result<(), Error> {
        let mut from = None;
        loop {
            let listed = self.client.list_selected(kind, &scope, from.as_deref());
            let Some(page) = listed.await? else {
                scope = scope.unselected();
                continue;
            };
            let read = page.items.into_iter().filter_map(|value| {
                let object = object::of_value(kind, value).ok()?;
                match validate(&object.key, &object.value) {
                    Ok(()) => Some(object),
                    Err(_) => self.table.get(&object.key).map(Arc::unwrap_or_clone),
                }
            });
            read.for_each(&mut *see);
            from = page.more;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// What tells an object from another of the same name; one that cannot be read has it too.
    async fn uid(&self, kind: Kind, name: &str) -> Option<String> {
        let of = |value: &Value| value["metadata"]["uid"].as_str().map(str::to_owned);
        if let Some(known) = self.table.get(&Key::cluster(kind, name)) {
            return of(&known.value);
        }
        let scope = Scope {
            fields: Some(format!("metadata.name={name}")),
            metadata_only: true,
            ..Scope::default()
        };
        let page = self.client.list_selected(kind, &scope, None).await.ok()??;
        page.items.first().and_then(of)
    }

    /// An object as the API server returned it after a write. Who lists the kind next shall find it.
    fn written(&self, key: &Key, value: Value) -> Result<Object, Error> {
        let object = read(key, value)?;
        // What is being deleted may be gone by now, and the watch may have said so already.
        if object.value["metadata"]["deletionTimestamp"].is_string() {
            return Ok(object);
        }
        let is_followed = self.settings.selects(&object) && self.has_listed(key.kind);
        let shown = if is_followed || self.follows_whole(key.kind) {
            Some(object.clone())
        } else if self.settings.metadata_only.contains(&key.kind) && self.has_listed(key.kind) {
            // The watch may be behind, or dead: an agent that gives its node another address loses it.
            Some(object::metadata_of(&object))
        } else {
            None
        };
        if let Some(shown) = shown {
            self.table.put_newer(Arc::new(shown), object::is_newer);
        }
        Ok(object)
    }
}

/// An object as the API server returned it.
fn read(key: &Key, value: Value) -> Result<Object, Error> {
    object::of_value(key.kind, value).map_err(|error| Error::invalid(key, error))
}

#[async_trait]
impl Datastore for KubernetesStore {
    async fn get(&self, key: &Key) -> Result<Object, Error> {
        let asked = async {
            match self.client.get(key).await {
                Ok(value) => read(key, value).map(Some),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        };
        let found = self.reads.read(key, asked).await?;
        let object = found.ok_or_else(|| Error::NotFound { key: key.clone() })?;
        validate(key, &object.value).map_err(|error| Error::invalid(key, error))?;
        Ok(object)
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Object>, Error> {
        let visited = async {
            let mut objects = Vec::new();
            self.visit(kind, &mut |object| objects.push(object)).await?;
            objects.sort_by(|one, other| one.key.cmp(&other.key));
            Ok(Arc::new(objects))
        };
        let objects = self.lists.read(&kind, visited).await?;
        Ok(Arc::unwrap_or_clone(objects))
    }

    async fn visit(&self, kind: Kind, see: &mut (dyn FnMut(Object) + Send)) -> Result<(), Error> {
        if self.follows_whole(kind) && !self.health.is_failing(kind) {
            self.table.visit(kind, see);
            return Ok(());
        }
        let scope = Scope {
            metadata_only: false,
            ..self.settings.scope(kind)
        };
        self.visit_pages(kind, scope, see).await
    }

    async fn visit_followed(
        &self,
        kind: Kind,
        see: &mut (dyn FnMut(Object) + Send),
    ) -> Result<(), Error> {
        let scope = self.settings.followed(kind);
        let is_told = !self.health.is_failing(kind) && !scope.metadata_only;
        if is_told && self.has_listed(kind) {
            self.table.visit(kind, see);
            return Ok(());
        }
        let whole = Scope {
            metadata_only: false,
            ..scope
        };
        self.visit_pages(kind, whole, see).await
    }

    async fn watch(&self, kind: Kind) -> Result<Watch, Error> {
        let mut progress = self.follow(kind);
        let listed = async { progress.wait_for(|progress| progress.listed).await.is_ok() };
        if tokio::time::timeout(FIRST_LIST, listed).await != Ok(true) {
            let problem = progress.borrow().problem.clone();
            return Err(Error::unavailable(problem.unwrap_or_else(|| {
                format!("objects of kind {kind} are not listed within {FIRST_LIST:?}")
            })));
        }
        Ok(self.table.watch(kind))
    }

    async fn create(&self, object: Object) -> Result<Object, Error> {
        let mut object = admit(object)?;
        object::for_create(&mut object.value);
        let manager = &self.settings.field_manager;
        let created = self.client.create(&object.key, &object.value, manager);
        self.written(&object.key, created.await?)
    }

    async fn update(&self, object: Object) -> Result<Object, Error> {
        let mut object = admit(object)?;
        if object.resource_version.is_empty() {
            // The API server would take this as "whatever the version" for some kinds.
            return Err(Error::Conflict { key: object.key });
        }
        crate::admission::set_version(&mut object.value, &object.resource_version)
            .map_err(|error| Error::invalid(&object.key, error))?;
        let manager = &self.settings.field_manager;
        let updated = self.client.replace(&object.key, &object.value, manager);
        self.written(&object.key, updated.await?)
    }

    async fn delete(&self, key: &Key, resource_version: Option<&str>) -> Result<(), Error> {
        self.client.delete(key, resource_version).await
    }

    async fn patch_status(&self, key: &Key, status: Value) -> Result<Object, Error> {
        let mut apply = object::bare(key);
        if !status.is_null() {
            apply["status"] = status;
        }
        let manager = &self.settings.field_manager;
        let patched = self.client.apply_status(key, &apply, manager).await?;
        self.written(key, patched)
    }

    async fn patch_annotations(
        &self,
        key: &Key,
        annotations: BTreeMap<String, Option<String>>,
    ) -> Result<Object, Error> {
        let patch = json!({ "metadata": { "annotations": annotations } });
        let manager = &self.settings.field_manager;
        let patched = self.client.merge(key, &patch, manager).await?;
        self.written(key, patched)
    }

    fn reconnect(&self) {
        self.client.reconnect();
    }

    async fn record(&self, notice: &Notice) -> Result<(), Error> {
        // That of a Node is its name.
        let uid = match notice.kind {
            Kind::Node => None,
            kind => self.uid(kind, &notice.object).await,
        };
        let manager = &self.settings.field_manager;
        events::create(&self.client, notice, uid.as_deref(), manager).await
    }

    async fn problems(&self) -> Result<Vec<Broken>, Error> {
        Ok(self.table.problems())
    }

    fn outage(&self) -> watch::Receiver<Option<Outage>> {
        self.health.outage()
    }
}
