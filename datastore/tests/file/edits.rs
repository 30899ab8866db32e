//! What people do to files, and what programs see of it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use crds::{IpPool, Kind};
use datastore::file::FileStore;
use datastore::{Datastore, Error, Event, Remains, create_typed, get_typed};
use serde_json::json;

use crate::lab::{DEADLINE, Lab, key, next, pool, upserted};
use crate::typed;

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

#[tokio::test]
async fn what_is_no_file_is_reported_and_not_waited_for() {
    let lab = Lab::new();
    nix::unistd::mkfifo(&lab.path("pipe.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    lab.write("a.yaml", &pool("a", "10.0.0.0/16"));
    let again = FileStore::open(lab.dir.path()).unwrap();
    assert_eq!(again.list(Kind::IpPool).await.unwrap().len(), 1);
    let problems = again.problems().await.unwrap();
    assert_eq!(
        (problems[0].place.as_str(), problems[0].problem.as_str()),
        ("pipe.yaml, document 1", "not a regular file")
    );
}

#[tokio::test]
async fn what_may_be_hidden_in_a_broken_document_is_told() {
    let invalid = pool("a", "10.0.0.0/16").replace("spec:\n", "spec:\n  blockSize: 99\n");
    let other =
        pool("b", "10.1.0.0/16").replace("crd.projectcalico.org/v1", "projectcalico.org/v3");
    let garbled = pool("c", "10.2.0.0/16").replace("metadata:\n", "metadata: [\n");
    let lab = Lab::with(&[
        ("a.yaml", &invalid),
        ("b.yaml", &other),
        ("c.yaml", &garbled),
        ("d.yaml", "kind: BGPPeer\nmetadata: ["),
        ("e.yaml", &pool("e", "10.3.0.0/16")),
    ]);
    let remains = async || {
        let problems = lab.store.problems().await.unwrap().into_iter();
        let told = problems.map(|broken| match &broken.remains {
            Remains::Object(value) => value["spec"]["cidr"].as_str().unwrap().to_owned(),
            _ if broken.may_hold(Kind::IpPool) => "a pool".to_owned(),
            _ => "no pool".to_owned(),
        });
        told.collect::<Vec<_>>()
    };
    let expected = ["10.0.0.0/16", "10.1.0.0/16", "a pool", "no pool"];
    assert_eq!(remains().await, expected);
    // Of a file that was read before, the last good objects are all there.
    lab.write("e.yaml", &garbled);
    lab.wait_for("the file to count as broken", async |lab| {
        lab.problems().await.len() == 5
    })
    .await;
    assert_eq!(remains().await[4], "no pool");
    assert_eq!(lab.names().await, ["e"]);
}
