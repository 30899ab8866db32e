//! A directory, a store on it, and hands to edit it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crds::Kind;
use datastore::file::FileStore;
use datastore::{Broken, Datastore, Event, Key, Watch};
use tempfile::TempDir;

pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) struct Lab {
    pub(crate) dir: TempDir,
    pub(crate) store: FileStore,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        Lab::with(&[])
    }

    /// A directory with these files before anybody looks.
    pub(crate) fn with(files: &[(&str, &str)]) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), text).unwrap();
        }
        let store = FileStore::open(dir.path()).unwrap();
        Lab { dir, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A watch that has delivered the present.
    pub(crate) async fn watch(&self) -> Watch {
        let mut watch = self.store.watch(Kind::IpPool).await.unwrap();
        while next(&mut watch).await != Event::InSync {}
        watch
    }

    pub(crate) async fn names(&self) -> Vec<String> {
        self.store
            .list(Kind::IpPool)
            .await
            .unwrap()
            .into_iter()
            .map(|object| object.key.name)
            .collect()
    }

    pub(crate) async fn problems(&self) -> Vec<(String, String)> {
        let problems = self.store.problems().await.unwrap().into_iter();
        problems
            .map(|Broken { place, problem, .. }| (place, problem))
            .collect()
    }

    pub(crate) async fn wait_for(&self, what: &str, mut done: impl AsyncFnMut(&Lab) -> bool) {
        let start = Instant::now();
        while !done(self).await {
            assert!(
                start.elapsed() < DEADLINE,
                "not within {DEADLINE:?}: {what}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) async fn next(watch: &mut Watch) -> Event {
    tokio::time::timeout(DEADLINE, watch.next())
        .await
        .expect("an event in time")
        .expect("an open watch")
}

pub(crate) async fn upserted(watch: &mut Watch) -> String {
    match next(watch).await {
        Event::Upsert(object) => format!(
            "{} {}",
            object.key.name,
            object.value["spec"]["cidr"].as_str().unwrap()
        ),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn pool(name: &str, cidr: &str) -> String {
    format!(
        "apiVersion: crd.projectcalico.org/v1\nkind: IPPool\nmetadata:\n  name: {name}\nspec:\n  cidr: {cidr} # chosen\n"
    )
}

pub(crate) fn key(name: &str) -> Key {
    Key::cluster(Kind::IpPool, name)
}
