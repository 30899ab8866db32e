//! Requests to the API server, each with a deadline.
//!
//! A server that says "too many requests" is asked again after as long as it says; nothing else is repeated here.

use std::path::Path;
use std::time::Duration;

use crds::Kind;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use kube::api::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{Request, Status, WatchEvent, request};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::failure::Question;
use crate::{Error, Key};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the answer about one object may take.
const ANSWER: Duration = Duration::from_secs(15);
/// How long a page of a list may take, and the beginning of a watch.
const PAGE: Duration = Duration::from_secs(60);
/// Objects in a page of a list.
const PAGE_OBJECTS: u32 = 500;

/// Which objects of a kind, and how much of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub(super) namespace: Option<String>,
    pub(super) fields: Option<String>,
    pub(super) labels: Option<String>,
    pub(super) metadata_only: bool,
}

impl Scope {
    /// All objects, and all of them.
    pub(super) fn is_everything(&self) -> bool {
        self.namespace.is_none()
            && self.fields.is_none()
            && self.labels.is_none()
            && !self.metadata_only
    }

    /// The same without what the API server may be unable to select by.
    pub(super) fn unselected(&self) -> Scope {
        Scope {
            fields: None,
            ..self.clone()
        }
    }
}

/// A part of a list.
pub(super) struct Page {
    pub(super) items: Vec<Value>,
    /// Where the next page begins.
    pub(super) more: Option<String>,
    /// Version of the list as a whole.
    pub(super) version: String,
}

/// Events of a watch; it ends when the API server ends it.
pub(super) type Events = BoxStream<'static, Result<WatchEvent<Value>, kube::Error>>;

/// Why a watch was not opened.
pub(super) struct NotOpened {
    /// The server cannot continue from this version: it is too old, or of a life before a restore.
    pub(super) relist: bool,
    pub(super) error: Error,
}

pub(super) type Built = Result<http::Request<Vec<u8>>, request::Error>;

/// The API server.
#[derive(Clone)]
pub(super) struct Client {
    config: kube::Config,
    /// Another one when the connections of before are given up.
    current: watch::Sender<kube::Client>,
    address: String,
}

impl Client {
    pub(super) async fn connect(kubeconfig: Option<&Path>) -> Result<Client, Error> {
        let mut config = match kubeconfig {
            Some(path) => read(path).await?,
            None => kube::Config::incluster().map_err(|error| {
                let what = "cannot use the service account of this pod";
                let remedy = "outside of a cluster name a kubeconfig";
                Error::unavailable(format!("{what}: {error}; {remedy}"))
            })?,
        };
        config.connect_timeout = Some(CONNECT);
        // The client would repeat what timed out in the server, a write perhaps, and hide why for minutes.
        config.default_retry = false;
        let address = config.cluster_url.to_string();
        let client = kube::Client::try_from(config.clone())
            .map_err(|error| Error::unavailable(format!("cannot connect to {address}: {error}")))?;
        Ok(Client {
            config,
            current: watch::Sender::new(client),
            address: address.trim_end_matches('/').to_owned(),
        })
    }

    /// Leaves the connections there are to whoever waits on them, and makes new ones.
    pub(super) fn reconnect(&self) {
        // It was made of this configuration before.
        if let Ok(client) = kube::Client::try_from(self.config.clone()) {
            self.current.send_replace(client);
        }
    }

    /// The client of now; it changes when the connections are given up.
    pub(super) fn current(&self) -> watch::Receiver<kube::Client> {
        self.current.subscribe()
    }

    pub(super) async fn get(&self, key: &Key) -> Result<Value, Error> {
        let built = collection(key).get(&key.name, &GetParams::default());
        self.about(key, "read", built).await
    }

    pub(super) async fn create(
        &self,
        key: &Key,
        value: &Value,
        manager: &str,
    ) -> Result<Value, Error> {
        let built = collection(key).create(&post(manager), value.to_string().into_bytes());
        self.about(key, "create", built).await
    }

    /// Succeeds only on the version that stands in the manifest.
    pub(super) async fn replace(
        &self,
        key: &Key,
        value: &Value,
        manager: &str,
    ) -> Result<Value, Error> {
        let data = value.to_string().into_bytes();
        let built = collection(key).replace(&key.name, &post(manager), data);
        self.about(key, "update", built).await
    }

    pub(super) async fn delete(&self, key: &Key, version: Option<&str>) -> Result<(), Error> {
        let params = DeleteParams {
            preconditions: version.map(|version| Preconditions {
                resource_version: Some(version.to_owned()),
                uid: None,
            }),
            ..DeleteParams::background()
        };
        let built = collection(key).delete(&key.name, &params);
        // The object, or that it is gone.
        let _answer: Value = self.about(key, "delete", built).await?;
        Ok(())
    }

    /// Server-side apply of `status`; what the manager had set before and is not there now goes.
    pub(super) async fn apply_status(
        &self,
        key: &Key,
        apply: &Value,
        manager: &str,
    ) -> Result<Value, Error> {
        let params = PatchParams::apply(manager).force();
        let built =
            collection(key).patch_subresource("status", &key.name, &params, &Patch::Apply(apply));
        self.about(key, "write the status of", built).await
    }

    pub(super) async fn apply_definition(
        &self,
        name: &str,
        manifest: &Value,
        manager: &str,
    ) -> Result<(), Error> {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let params = PatchParams::apply(manager).force();
        let built = Request::new(path).patch(name, &params, &Patch::Apply(manifest));
        let what = format!("apply CustomResourceDefinition {name}");
        let _applied = self.ask_unless(&what, built, &[], ANSWER).await?;
        Ok(())
    }

    pub(super) async fn merge(
        &self,
        key: &Key,
        patch: &Value,
        manager: &str,
    ) -> Result<Value, Error> {
        let params = PatchParams {
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        let built = collection(key).patch(&key.name, &params, &Patch::Merge(patch));
        self.about(key, "annotate", built).await
    }

    /// A page of a list that is not older than this request; nothing when the API server cannot select by these fields.
    pub(super) async fn list_selected(
        &self,
        kind: Kind,
        scope: &Scope,
        from: Option<&str>,
    ) -> Result<Option<Page>, Error> {
        let mut params = ListParams::default().limit(PAGE_OBJECTS);
        params.field_selector.clone_from(&scope.fields);
        params.label_selector.clone_from(&scope.labels);
        params.continue_token = from.map(str::to_owned);
        let request = Request::new(path(kind, scope.namespace.as_deref()));
        let built = match scope.metadata_only {
            true => request.list_metadata(&params),
            false => request.list(&params),
        };
        let question = self.question(None, format!("list objects of kind {kind}"));
        let mut list: Value = match self.answer(&question, PAGE, built).await? {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if scope.fields.is_some() && is_unselectable(&status) => {
                return Ok(None);
            }
            Err(error) => return Err(question.failed(error)),
        };
        let Value::Array(items) = list["items"].take() else {
            return Err(question.unanswered("the answer is no list"));
        };
        let text = |field: &str| list["metadata"][field].as_str().unwrap_or_default();
        Ok(Some(Page {
            items,
            more: Some(text("continue").to_owned()).filter(|token| !token.is_empty()),
            version: text("resourceVersion").to_owned(),
        }))
    }

    /// Opens a watch that begins after `version` and lasts about `secs` seconds.
    pub(super) async fn watch(
        &self,
        kind: Kind,
        scope: &Scope,
        version: &str,
        secs: u32,
    ) -> Result<Events, NotOpened> {
        let mut params = WatchParams::default().timeout(secs);
        params.field_selector.clone_from(&scope.fields);
        params.label_selector.clone_from(&scope.labels);
        let request = Request::new(path(kind, scope.namespace.as_deref()));
        let built = match scope.metadata_only {
            true => request.watch_metadata(&params, version),
            false => request.watch(&params, version),
        };
        let question = self.question(None, format!("watch objects of kind {kind}"));
        let not_opened = |relist, error| NotOpened { relist, error };
        let request =
            built.map_err(|error| not_opened(false, question.unanswered(&error.to_string())))?;
        let client = self.current.borrow().clone();
        match timeout(PAGE, client.request_events(request)).await {
            Ok(Ok(events)) => Ok(events.boxed()),
            Ok(Err(error)) => {
                let relist = matches!(&error, kube::Error::Api(status) if matches!(status.code, 400 | 410 | 504));
                Err(not_opened(relist, question.failed(error)))
            }
            Err(_) => Err(not_opened(false, question.unanswered("no answer"))),
        }
    }

    fn question<'a>(&'a self, key: Option<&'a Key>, what: String) -> Question<'a> {
        Question {
            what,
            key,
            address: &self.address,
        }
    }

    async fn about(&self, key: &Key, verb: &str, built: Built) -> Result<Value, Error> {
        let question = self.question(Some(key), format!("{verb} {key}"));
        self.ask(&question, ANSWER, built).await
    }

    /// Asks about something that is no object of ours; `None` when it is refused with one of these codes.
    pub(super) async fn ask_unless(
        &self,
        what: &str,
        built: Built,
        accepted: &[u16],
        limit: Duration,
    ) -> Result<Option<Value>, Error> {
        let question = self.question(None, what.to_owned());
        match self.answer(&question, limit, built).await? {
            Ok(value) => Ok(Some(value)),
            Err(kube::Error::Api(status)) if accepted.contains(&status.code) => Ok(None),
            // It is not one of our CRDs that is missing.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(question.unanswered(&status.message))
            }
            Err(error) => Err(question.failed(error)),
        }
    }

    async fn ask(
        &self,
        question: &Question<'_>,
        limit: Duration,
        built: Built,
    ) -> Result<Value, Error> {
        let answer = self.answer(question, limit, built).await?;
        answer.map_err(|error| question.failed(error))
    }

    async fn answer(
        &self,
        question: &Question<'_>,
        limit: Duration,
        built: Built,
    ) -> Result<Result<Value, kube::Error>, Error> {
        let request = built.map_err(|error| question.unanswered(&error.to_string()))?;
        let mut current = self.current();
        let client = current.borrow_and_update().clone();
        let answer = async {
            loop {
                match client.request(request.clone()).await {
                    Err(kube::Error::Api(status)) if status.code == 429 => {
                        tokio::time::sleep(as_told(&status)).await;
                    }
                    answer => return answer,
                }
            }
        };
        let answer = async {
            tokio::select! {
                answer = answer => Some(answer),
                _ = current.changed() => None,
            }
        };
        match timeout(limit, answer).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(question.unanswered("its connection was given up")),
            Err(_) => Err(question.unanswered(&format!("no answer within {limit:?}"))),
        }
    }
}

async fn read(path: &Path) -> Result<kube::Config, Error> {
    let unusable = |error: kube::config::KubeconfigError| {
        Error::unavailable(format!("cannot use kubeconfig {}: {error}", path.display()))
    };
    let file = Kubeconfig::read_from(path).map_err(unusable)?;
    kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(unusable)
}

/// Whether a field is none of those that the definition of the kind allows to select by.
fn is_unselectable(status: &Status) -> bool {
    status.code == 400 && status.message.contains("field label not supported")
}

/// How long to wait before asking again.
fn as_told(status: &Status) -> Duration {
    let told = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    Duration::from_secs(told.max(1).into())
}

pub(super) fn post(manager: &str) -> PostParams {
    PostParams {
        field_manager: Some(manager.to_owned()),
        ..PostParams::default()
    }
}

fn collection(key: &Key) -> Request {
    Request::new(path(key.kind, key.namespace.as_deref()))
}

/// Path of the objects of a kind, of one namespace or of all.
pub(super) fn path(kind: Kind, namespace: Option<&str>) -> String {
    let root = match kind.group() {
        "" => format!("/api/{}", kind.version()),
        group => format!("/apis/{group}/{}", kind.version()),
    };
    match namespace {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{}", kind.plural()),
        None => format!("{root}/{}", kind.plural()),
    }
}
