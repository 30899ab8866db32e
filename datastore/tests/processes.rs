//! Several processes on one directory, some of which die, and disks that do not take what is written.
//!
//! The processes are this test binary, started again with `STORE_DIRECTORY` set.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crds::{IpPool, IpPoolSpec, IpamHandle, IpamHandleSpec, Kind};
use datastore::file::FileStore;
use datastore::{
    Datastore, Error, Key, create_typed, delete_typed, get_typed, list_typed, update_typed,
};
use nix::sys::resource::{Resource, setrlimit};

const DIRECTORY: &str = "STORE_DIRECTORY";
const TIMES: u32 = 40;

fn start(child: &str, directory: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", child, "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null());
    command.spawn().unwrap()
}

/// Set in the processes that are started, not in the test itself.
fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}

fn pool(name: &str) -> IpPool {
    IpPool::new(name, IpPoolSpec::new("10.0.0.0/16".parse().unwrap()))
}

fn handle(name: &str) -> IpamHandle {
    let spec = IpamHandleSpec {
        handle_id: name.to_owned(),
        block: BTreeMap::new(),
        deleted: false,
    };
    IpamHandle::new(name, spec)
}

#[tokio::test]
async fn counting_child() {
    let Some(directory) = directory() else { return };
    let store = FileStore::open(&directory).unwrap();
    for _ in 0..TIMES {
        loop {
            let mut typed = get_typed::<IpPool>(&store, "a").await.unwrap();
            let labels = typed.resource.metadata.labels.get_or_insert_default();
            let count: u32 = labels
                .get("count")
                .map_or(0, |count| count.parse().unwrap());
            labels.insert("count".into(), (count + 1).to_string());
            match update_typed(&store, &typed).await {
                Ok(_) => break,
                Err(error) => assert!(error.is_conflict(), "{error:?}"),
            }
        }
    }
}

#[tokio::test]
async fn processes_lose_no_update_of_each_other() {
    if directory().is_some() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::open(dir.path()).unwrap();
    create_typed(&store, &pool("a")).await.unwrap();
    let children: Vec<Child> = (0..3)
        .map(|_| start("counting_child", dir.path()))
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let labels = get_typed::<IpPool>(&store, "a")
        .await
        .unwrap()
        .resource
        .metadata
        .labels
        .unwrap();
    assert_eq!(labels["count"], (3 * TIMES).to_string());
}

#[tokio::test]
async fn endless_child() {
    let Some(directory) = directory() else { return };
    let store = FileStore::open(&directory).unwrap();
    for i in 0_u64.. {
        let name = format!("h{}", i % 7);
        match create_typed(&store, &handle(&name)).await {
            Ok(_) | Err(Error::AlreadyExists { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        let mut typed = get_typed::<IpamHandle>(&store, &name).await.unwrap();
        typed
            .resource
            .spec
            .block
            .insert("10.0.0.0/26".parse().unwrap(), i as u32);
        let typed = update_typed(&store, &typed).await.unwrap();
        if i % 3 == 0 {
            delete_typed(&store, &typed).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_whole_files_and_no_lock() {
    if directory().is_some() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 0..8 {
        let mut child = start("endless_child", dir.path());
        let start = Instant::now();
        while fs::read_dir(dir.path().join("ipamhandles")).map_or(0, Iterator::count) == 0 {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "the child writes"
            );
            std::thread::yield_now();
        }
        // Another moment each time.
        let moment = Instant::now() + Duration::from_micros(700 * round + 300);
        while Instant::now() < moment {}
        child.kill().unwrap();
        child.wait().unwrap();
        let store = FileStore::open(dir.path()).unwrap();
        assert_eq!(store.problems().await.unwrap(), []);
        for typed in list_typed::<IpamHandle>(&store).await.unwrap() {
            delete_typed(&store, &typed).await.unwrap();
        }
        let left = fs::read_dir(dir.path().join("ipamhandles"))
            .unwrap()
            .count();
        assert_eq!(left, 0, "nothing half-written is left behind");
    }
}

/// A limit on the size of files is a full disk that needs no privilege.
#[tokio::test]
async fn full_disk_child() {
    let Some(directory) = directory() else { return };
    let store = FileStore::open(&directory).unwrap();
    // The signal of the limit would end the process; ignored, the write fails.
    let ignore = nix::sys::signal::SigHandler::SigIgn;
    #[allow(unsafe_code, reason = "installs no handler")]
    // SAFETY: SIG_IGN runs no code.
    unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGXFSZ, ignore) }.unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 100, 100).unwrap();
    let error = create_typed(&store, &pool("b")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(
        error.to_string().contains("ippools/b.yaml: File too large"),
        "{error}"
    );
    let mut typed = get_typed::<IpPool>(&store, "a").await.unwrap();
    typed.resource.spec.disabled = Some(true);
    assert!(matches!(
        update_typed(&store, &typed).await,
        Err(Error::Unavailable { .. })
    ));
}

#[tokio::test]
async fn a_full_disk_is_said_and_leaves_nothing_behind() {
    if directory().is_some() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::open(dir.path()).unwrap();
    let created = create_typed(&store, &pool("a")).await.unwrap();
    assert!(
        start("full_disk_child", dir.path())
            .wait()
            .unwrap()
            .success()
    );
    let files = fs::read_dir(dir.path().join("ippools"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert_eq!(files.collect::<Vec<_>>(), ["a.yaml"]);
    let object = store.get(&Key::cluster(Kind::IpPool, "a")).await.unwrap();
    assert_eq!(object.resource_version, created.resource_version());
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    if directory().is_some() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("ippools"),
        "a file where a directory should be",
    )
    .unwrap();
    let store = FileStore::open(dir.path()).unwrap();
    let error = create_typed(&store, &pool("a")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("ippools/a.yaml"), "{error}");
}
