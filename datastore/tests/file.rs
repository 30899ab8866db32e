//! A directory that people edit while programs use it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crds::{IpPool, IpPoolSpec, Kind};
use datastore::file::FileStore;
use datastore::{
    Broken, Datastore, Error, Event, Key, Watch, create_typed, get_typed, update_typed,
};
use serde_json::json;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(10);

struct Lab {
    dir: TempDir,
    store: FileStore,
}

impl Lab {
    fn new() -> Lab {
        Lab::with(&[])
    }

    /// A directory with these files before anybody looks.
    fn with(files: &[(&str, &str)]) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), text).unwrap();
        }
        let store = FileStore::open(dir.path()).unwrap();
        Lab { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A watch that has delivered the present.
    async fn watch(&self) -> Watch {
        let mut watch = self.store.watch(Kind::IpPool).await.unwrap();
        while next(&mut watch).await != Event::InSync {}
        watch
    }

    async fn names(&self) -> Vec<String> {
        self.store
            .list(Kind::IpPool)
            .await
            .unwrap()
            .into_iter()
            .map(|object| object.key.name)
            .collect()
    }

    async fn problems(&self) -> Vec<(String, String)> {
        let problems = self.store.problems().await.unwrap().into_iter();
        problems
            .map(|Broken { place, problem, .. }| (place, problem))
            .collect()
    }

    async fn wait_for(&self, what: &str, mut done: impl AsyncFnMut(&Lab) -> bool) {
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

async fn next(watch: &mut Watch) -> Event {
    tokio::time::timeout(DEADLINE, watch.next())
        .await
        .expect("an event in time")
        .expect("an open watch")
}

async fn upserted(watch: &mut Watch) -> String {
    match next(watch).await {
        Event::Upsert(object) => format!(
            "{} {}",
            object.key.name,
            object.value["spec"]["cidr"].as_str().unwrap()
        ),
        other => panic!("{other:?}"),
    }
}

fn pool(name: &str, cidr: &str) -> String {
    format!(
        "apiVersion: crd.projectcalico.org/v1\nkind: IPPool\nmetadata:\n  name: {name}\nspec:\n  cidr: {cidr} # chosen\n"
    )
}

fn key(name: &str) -> Key {
    Key::cluster(Kind::IpPool, name)
}

#[tokio::test]
async fn files_that_are_there_are_read() {
    let documents = format!(
        "# all pools\n---\n{}---\n{}",
        pool("a", "10.0.0.0/16"),
        pool("b", "10.1.0.0/16")
    );
    let lab = Lab::with(&[
        ("pools.yaml", &documents),
        ("deep/er/c.yml", &pool("c", "10.2.0.0/16")),
        ("notes.txt", "a: 'not YAML"),
        (".hidden.yaml", "a: 'not YAML"),
        (".git/x.yaml", "a: 'not YAML"),
    ]);
    assert_eq!(lab.names().await, ["a", "b", "c"]);
    assert_eq!(lab.problems().await, []);
}

#[tokio::test]
async fn writing_moving_and_deleting_are_seen_at_once() {
    let lab = Lab::new();
    let mut watch = lab.watch().await;
    lab.write("a.yaml", &pool("a", "10.0.0.0/16"));
    assert_eq!(upserted(&mut watch).await, "a 10.0.0.0/16");
    // As an editor does: a new file under another name, moved over the old one.
    lab.write("a.yaml~", &pool("a", "10.1.0.0/16"));
    fs::rename(lab.path("a.yaml~"), lab.path("a.yaml")).unwrap();
    assert_eq!(upserted(&mut watch).await, "a 10.1.0.0/16");
    // As another editor does: the old file moved away, and written anew.
    fs::rename(lab.path("a.yaml"), lab.path("a.yaml~")).unwrap();
    lab.write("a.yaml", &pool("a", "10.2.0.0/16"));
    assert_eq!(upserted(&mut watch).await, "a 10.2.0.0/16");
    // As a shell does: emptied first, then filled.
    lab.write("a.yaml", "");
    lab.write("a.yaml", &pool("a", "10.3.0.0/16"));
    assert_eq!(upserted(&mut watch).await, "a 10.3.0.0/16");
    fs::copy(lab.path("a.yaml~"), lab.path("a.yaml")).unwrap();
    assert_eq!(upserted(&mut watch).await, "a 10.1.0.0/16");
    fs::remove_file(lab.path("a.yaml")).unwrap();
    assert_eq!(next(&mut watch).await, Event::Delete(key("a")));
}

#[tokio::test]
async fn a_renamed_file_changes_nothing() {
    let lab = Lab::with(&[("a.yaml", &pool("a", "10.0.0.0/16"))]);
    let mut watch = lab.watch().await;
    fs::rename(lab.path("a.yaml"), lab.path("z.yaml")).unwrap();
    lab.write("other.yaml", &pool("other", "10.1.0.0/16"));
    assert_eq!(upserted(&mut watch).await, "other 10.1.0.0/16");
    assert_eq!(lab.names().await, ["a", "other"]);
}

#[tokio::test]
async fn a_file_moved_away_for_good_takes_its_objects_with_it() {
    let lab = Lab::with(&[("a.yaml", &pool("a", "10.0.0.0/16"))]);
    let mut watch = lab.watch().await;
    fs::rename(lab.path("a.yaml"), lab.path("a.yaml.off")).unwrap();
    assert_eq!(next(&mut watch).await, Event::Delete(key("a")));
}

#[tokio::test]
async fn a_file_is_read_when_its_writer_is_done() {
    let lab = Lab::with(&[("a.yaml", &pool("a", "10.0.0.0/16"))]);
    let mut watch = lab.watch().await;
    let text = pool("a", "10.9.0.0/16");
    let (head, tail) = text.split_at(text.len() - 20);
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(lab.path("a.yaml"))
        .unwrap();
    file.write_all(head.as_bytes()).unwrap();
    lab.write("b.yaml", &pool("b", "10.1.0.0/16"));
    assert_eq!(upserted(&mut watch).await, "b 10.1.0.0/16");
    assert_eq!(lab.problems().await, []);
    file.write_all(tail.as_bytes()).unwrap();
    drop(file);
    assert_eq!(upserted(&mut watch).await, "a 10.9.0.0/16");
}

#[tokio::test]
async fn directories_come_and_go() {
    let lab = Lab::with(&[("sub/a.yaml", &pool("a", "10.0.0.0/16"))]);
    let mut watch = lab.watch().await;
    fs::create_dir_all(lab.path("new/deep")).unwrap();
    lab.write("new/deep/b.yaml", &pool("b", "10.1.0.0/16"));
    assert_eq!(upserted(&mut watch).await, "b 10.1.0.0/16");
    // What is below a directory that was moved is still followed.
    fs::rename(lab.path("new"), lab.path("moved")).unwrap();
    lab.wait_for("the directory under its new name", async |lab| {
        lab.names().await == ["a", "b"]
    })
    .await;
    lab.write("moved/deep/b.yaml", &pool("b", "10.2.0.0/16"));
    let cidr = async |lab: &Lab| {
        get_typed::<IpPool>(&lab.store, "b")
            .await
            .unwrap()
            .resource
            .spec
            .cidr
            .to_string()
    };
    lab.wait_for("the change below it", async |lab| {
        cidr(lab).await == "10.2.0.0/16"
    })
    .await;
    fs::remove_dir_all(lab.path("moved")).unwrap();
    fs::remove_dir_all(lab.path("sub")).unwrap();
    lab.wait_for("nothing", async |lab| lab.names().await.is_empty())
        .await;
}

#[tokio::test]
async fn a_directory_that_disappears_takes_nothing_with_it() {
    let lab = Lab::with(&[("root/a.yaml", &pool("a", "10.0.0.0/16"))]);
    let store = FileStore::open(&lab.path("root")).unwrap();
    fs::rename(lab.path("root"), lab.path("away")).unwrap();
    let problem = &store.problems().await.unwrap()[0];
    assert!(
        problem
            .problem
            .contains("its objects stay as they were last"),
        "{problem:?}"
    );
    assert_eq!(store.list(Kind::IpPool).await.unwrap().len(), 1);
    fs::rename(lab.path("away"), lab.path("root")).unwrap();
    let start = Instant::now();
    while !store.problems().await.unwrap().is_empty() {
        assert!(start.elapsed() < DEADLINE, "the directory is back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fs::remove_file(lab.path("root/a.yaml")).unwrap();
    assert!(store.list(Kind::IpPool).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_broken_document_disturbs_nothing_else() {
    let good = format!(
        "{}---\n{}",
        pool("a", "10.0.0.0/16"),
        pool("b", "10.1.0.0/16")
    );
    let lab = Lab::with(&[("pools.yaml", &good)]);
    let mut watch = lab.watch().await;
    // The first is changed and the second no longer YAML: the change counts, the second stays as it was.
    let broken = format!(
        "{}---\n{}",
        pool("a", "10.2.0.0/16"),
        pool("b", "'10.1.0.0/16")
    );
    lab.write("pools.yaml", &broken);
    assert_eq!(upserted(&mut watch).await, "a 10.2.0.0/16");
    let Event::Broken(broken) = next(&mut watch).await else {
        panic!("the second document")
    };
    assert_eq!(broken.place, "pools.yaml, document 2");
    assert!(broken.problem.contains("line 13"), "{}", broken.problem);
    assert_eq!(lab.names().await, ["a", "b"]);
    let error = lab.store.get(&key("b")).await.unwrap_err();
    assert!(
        error.to_string().contains("pools.yaml, document 2"),
        "{error}"
    );
    lab.write("pools.yaml", &good);
    assert_eq!(upserted(&mut watch).await, "a 10.0.0.0/16");
    assert_eq!(
        next(&mut watch).await,
        Event::Mended {
            place: "pools.yaml, document 2".into()
        }
    );
}

#[tokio::test]
async fn an_invalid_object_is_reported_and_its_last_good_state_stays() {
    let lab = Lab::with(&[("a.yaml", &pool("a", "10.0.0.0/16"))]);
    let mut watch = lab.watch().await;
    lab.write("a.yaml", &pool("a", "10.0.0.5/16"));
    let Event::Broken(broken) = next(&mut watch).await else {
        panic!("an invalid object")
    };
    assert_eq!(
        (broken.place.as_str(), broken.key),
        ("a.yaml, document 1", Some(key("a")))
    );
    assert!(
        broken
            .problem
            .starts_with("spec.cidr: 10.0.0.5/16 has host bits set; write 10.0.0.0/16")
    );
    assert_eq!(lab.names().await, ["a"]);
    assert!(matches!(
        lab.store.get(&key("a")).await,
        Err(Error::Invalid { .. })
    ));
    assert!(matches!(
        lab.store.patch_status(&key("a"), json!({})).await,
        Err(Error::Invalid { .. })
    ));
    assert!(matches!(
        create_typed(&lab.store, &typed("a", "10.1.0.0/16")).await,
        Err(Error::AlreadyExists { .. })
    ));
    fs::remove_file(lab.path("a.yaml")).unwrap();
    assert_eq!(next(&mut watch).await, Event::Delete(key("a")));
    assert_eq!(
        next(&mut watch).await,
        Event::Mended {
            place: "a.yaml, document 1".into()
        }
    );
}

#[tokio::test]
async fn of_two_definitions_the_first_counts_and_the_other_is_told_where() {
    let lab = Lab::with(&[("b.yaml", &pool("a", "10.1.0.0/16"))]);
    let mut watch = lab.watch().await;
    lab.write("a.yaml", &pool("a", "10.0.0.0/16"));
    assert_eq!(upserted(&mut watch).await, "a 10.0.0.0/16");
    let Event::Broken(broken) = next(&mut watch).await else {
        panic!("the second definition")
    };
    assert_eq!(broken.place, "b.yaml, document 1");
    assert!(
        broken
            .problem
            .contains("IPPool a is also in a.yaml, document 1"),
        "{}",
        broken.problem
    );
    fs::remove_file(lab.path("a.yaml")).unwrap();
    assert_eq!(upserted(&mut watch).await, "a 10.1.0.0/16");
    assert_eq!(
        next(&mut watch).await,
        Event::Mended {
            place: "b.yaml, document 1".into()
        }
    );
}

#[tokio::test]
async fn unknown_kinds_are_reported_and_ignored() {
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: x}}\n---\n{}",
        pool("a", "10.0.0.0/16")
    );
    let lab = Lab::with(&[("mixed.yaml", &text)]);
    assert_eq!(lab.names().await, ["a"]);
    let problems = lab.problems().await;
    assert_eq!(problems[0].0, "mixed.yaml, document 1");
    assert!(
        problems[0]
            .1
            .contains("kind Deployment of apps/v1 is not known here"),
        "{problems:?}"
    );
}

#[tokio::test]
async fn an_unreadable_file_is_reported() {
    let lab = Lab::with(&[("a.yaml", &pool("a", "10.0.0.0/16"))]);
    fs::write(lab.path("a.yaml"), b"\xff\xfe").unwrap();
    lab.wait_for("the problem", async |lab| !lab.problems().await.is_empty())
        .await;
    assert_eq!(lab.names().await, ["a"]);
}

fn typed(name: &str, cidr: &str) -> IpPool {
    IpPool::new(name, IpPoolSpec::new(cidr.parse().unwrap()))
}

#[tokio::test]
async fn a_created_object_gets_a_file_of_its_own() {
    let lab = Lab::new();
    create_typed(&lab.store, &typed("a", "10.0.0.0/16"))
        .await
        .unwrap();
    let text = lab.read("ippools/a.yaml");
    assert!(
        text.starts_with("apiVersion: crd.projectcalico.org/v1\nkind: IPPool\nmetadata:\n"),
        "{text}"
    );
    lab.store.delete(&key("a"), None).await.unwrap();
    assert!(!lab.path("ippools/a.yaml").exists());
}

#[tokio::test]
async fn an_update_rewrites_only_its_document() {
    let [a, b, c] = [
        pool("a", "10.0.0.0/16"),
        pool("b", "10.1.0.0/16"),
        pool("c", "10.2.0.0/16"),
    ];
    let lab = Lab::with(&[(
        "pools.yaml",
        &format!("# head\n---\n{a}---\n# about b\n{b}--- # c is next\n{c}# end\n"),
    )]);
    let mut object = get_typed::<IpPool>(&lab.store, "b").await.unwrap();
    object.resource.spec.disabled = Some(true);
    update_typed(&lab.store, &object).await.unwrap();
    let text = lab.read("pools.yaml");
    let rest = text
        .strip_prefix(&format!("# head\n---\n{a}---\n# about b\n"))
        .unwrap();
    let written = rest
        .strip_suffix(&format!("--- # c is next\n{c}# end\n"))
        .unwrap();
    assert!(
        written.contains("disabled: true") && written.contains("name: b"),
        "{written}"
    );
    lab.store.delete(&key("b"), None).await.unwrap();
    assert_eq!(
        lab.read("pools.yaml"),
        format!("# head\n---\n{a}--- # c is next\n{c}# end\n")
    );
    for name in ["a", "c"] {
        lab.store.delete(&key(name), None).await.unwrap();
    }
    assert!(!lab.path("pools.yaml").exists());
}

#[tokio::test]
async fn an_object_in_a_list_is_updated_in_the_list() {
    let item = |name: &str, net: u8| {
        format!("- metadata: {{name: {name}}}\n  spec: {{cidr: 10.{net}.0.0/16}}\n")
    };
    let list = format!(
        "apiVersion: crd.projectcalico.org/v1\nkind: IPPoolList\nitems:\n{}{}",
        item("a", 0),
        item("b", 1)
    );
    let lab = Lab::with(&[("list.yaml", &list)]);
    let mut object = get_typed::<IpPool>(&lab.store, "b").await.unwrap();
    object.resource.spec.disabled = Some(true);
    update_typed(&lab.store, &object).await.unwrap();
    lab.store.delete(&key("a"), None).await.unwrap();
    assert_eq!(lab.names().await, ["b"]);
    assert!(lab.read("list.yaml").contains("disabled: true"));
    lab.store.delete(&key("b"), None).await.unwrap();
    assert!(!lab.path("list.yaml").exists());
}

#[tokio::test]
async fn an_edit_by_hand_conflicts_with_an_older_read() {
    let lab = Lab::with(&[("a.yaml", &pool("a", "10.0.0.0/16"))]);
    let mut object = get_typed::<IpPool>(&lab.store, "a").await.unwrap();
    object.resource.spec.disabled = Some(true);
    lab.write("a.yaml", &pool("a", "10.1.0.0/16"));
    assert!(
        update_typed(&lab.store, &object)
            .await
            .unwrap_err()
            .is_conflict()
    );
    assert_eq!(lab.read("a.yaml"), pool("a", "10.1.0.0/16"));
    // A comment is no change.
    let mut object = get_typed::<IpPool>(&lab.store, "a").await.unwrap();
    object.resource.spec.disabled = Some(true);
    lab.write("a.yaml", &(pool("a", "10.1.0.0/16") + "# a comment\n"));
    update_typed(&lab.store, &object).await.unwrap();
    assert!(lab.read("a.yaml").ends_with("# a comment\n"));
}

#[tokio::test]
async fn a_linked_file_is_written_where_it_is() {
    let lab = Lab::new();
    lab.write("real.txt", &pool("a", "10.0.0.0/16"));
    std::os::unix::fs::symlink("real.txt", lab.path("a.yaml")).unwrap();
    lab.store
        .patch_status(&key("a"), json!({ "conditions": [] }))
        .await
        .unwrap();
    assert!(lab.read("real.txt").contains("conditions"));
    assert!(
        fs::symlink_metadata(lab.path("a.yaml"))
            .unwrap()
            .is_symlink()
    );
}

#[tokio::test]
async fn a_watch_ends_with_its_store() {
    let lab = Lab::with(&[("a.yaml", &pool("a", "10.0.0.0/16"))]);
    let mut watch = lab.watch().await;
    drop(lab.store);
    assert_eq!(tokio::time::timeout(DEADLINE, watch.next()).await, Ok(None));
}
