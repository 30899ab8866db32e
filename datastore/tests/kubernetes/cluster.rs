//! An API server, for one test at a time.

use std::process::{Command, Stdio};
use std::sync::Arc;

use crds::Kind;
use datastore::Datastore;
use datastore::kubernetes::{KubernetesStore, Settings};
use tokio::sync::{Mutex, MutexGuard};

use crate::suite::Backend;

/// Tests share the server, and each wants it empty.
static TURN: Mutex<()> = Mutex::const_new(());

pub(crate) struct Cluster {
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// A store with other settings.
    pub(crate) async fn store(&self, change: impl FnOnce(&mut Settings)) -> KubernetesStore {
        let path = std::env::var_os("KUBECONFIG")
            .expect("KUBECONFIG names an API server to test with: run `make e2e-api`");
        let mut settings = Settings::new("tortie-test");
        settings.kubeconfig = Some(path.into());
        change(&mut settings);
        KubernetesStore::connect(settings).await.unwrap()
    }

    /// Runs kubectl; `line` is split at spaces.
    pub(crate) fn kubectl(&self, line: &str, input: &str) -> String {
        let mut child = Command::new("kubectl")
            .args(line.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {line}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Backend for Cluster {
    async fn new() -> Self {
        let cluster = Cluster {
            _turn: TURN.lock().await,
        };
        let store = cluster.store(|_| {}).await;
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_custom()) {
            empty(&store, kind).await;
        }
        // Without a kubelet nobody confirms that a pod has ended.
        cluster.kubectl(
            "delete pods --all --all-namespaces --force --grace-period=0",
            "",
        );
        for kind in [Kind::Secret, Kind::Node] {
            empty(&store, kind).await;
        }
        cluster
    }

    async fn open(&self) -> Arc<dyn Datastore> {
        Arc::new(self.store(|_| {}).await)
    }

    async fn namespace(&self, name: &str) {
        let manifest = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
        self.kubectl("apply -f -", &manifest);
    }
}

async fn empty(store: &KubernetesStore, kind: Kind) {
    for object in store.list(kind).await.unwrap() {
        match store.delete(&object.key, None).await {
            Ok(()) => {}
            Err(error) => assert!(error.is_not_found(), "{error}"),
        }
    }
}
