//! Faults that tests of other packages inject.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::time::Duration;

use crds::{IpPool, IpPoolSpec, Kind};
use datastore::memory::{Fault, MemoryStore, Operation};
use datastore::{
    Broken, Datastore, Error, Event, Remains, Typed, create_typed, get_typed, update_typed,
};

fn pool(name: &str) -> IpPool {
    IpPool::new(name, IpPoolSpec::new("10.0.0.0/16".parse().unwrap()))
}

/// Changes a pool that exists.
async fn disable(store: &MemoryStore) -> Result<Typed<IpPool>, Error> {
    let mut typed = get_typed::<IpPool>(store, "a").await?;
    typed.resource.spec.disabled = Some(true);
    update_typed(store, &typed).await
}

async fn is_disabled(store: &MemoryStore) -> bool {
    get_typed::<IpPool>(store, "a")
        .await
        .unwrap()
        .resource
        .spec
        .disabled()
}

#[tokio::test]
async fn planned_faults_come_in_order_and_once() {
    let store = MemoryStore::new();
    create_typed(&store, &pool("a")).await.unwrap();
    store.fail_next(Operation::Update, Fault::Conflict);
    store.fail_next(Operation::Update, Fault::Unavailable);
    assert!(disable(&store).await.unwrap_err().is_conflict());
    assert!(matches!(
        disable(&store).await,
        Err(Error::Unavailable { .. })
    ));
    assert!(!is_disabled(&store).await);
    disable(&store).await.unwrap();
    assert!(is_disabled(&store).await);
}

#[tokio::test]
async fn a_crash_is_before_or_after_the_write_and_lasts() {
    for (fault, written) in [(Fault::CrashBefore, false), (Fault::CrashAfter, true)] {
        let store = MemoryStore::new();
        create_typed(&store, &pool("a")).await.unwrap();
        store.fail_next(Operation::Update, fault);
        assert!(matches!(
            disable(&store).await,
            Err(Error::Unavailable { .. })
        ));
        assert!(matches!(
            store.list(Kind::IpPool).await,
            Err(Error::Unavailable { .. })
        ));
        store.restart();
        assert_eq!(is_disabled(&store).await, written);
    }
}

#[tokio::test]
async fn a_test_can_crash_at_every_write() {
    let store = MemoryStore::new();
    store.on_call(|call| {
        (call.operation.writes() && call.writes == 1).then_some(Fault::CrashBefore)
    });
    create_typed(&store, &pool("a")).await.unwrap();
    assert!(create_typed(&store, &pool("b")).await.is_err());
    store.restart();
    assert_eq!(store.list(Kind::IpPool).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_takes_its_time() {
    let store = MemoryStore::new();
    store.fail_next(Operation::Create, Fault::Delay(Duration::from_secs(3)));
    let start = tokio::time::Instant::now();
    create_typed(&store, &pool("a")).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test]
async fn broken_things_can_be_reported_as_by_a_back_end() {
    let store = MemoryStore::new();
    let mut watch = store.watch(Kind::IpPool).await.unwrap();
    let broken = Broken {
        place: "a.yaml, document 1".into(),
        key: None,
        problem: "not YAML".into(),
        remains: Remains::default(),
    };
    store.report_broken(broken.clone());
    store.report_mended("a.yaml, document 1");
    store.report_broken(broken.clone());
    assert_eq!(watch.next().await, Some(Event::InSync));
    assert_eq!(watch.next().await, Some(Event::Broken(broken)));
    store.report_mended("a.yaml, document 1");
    assert_eq!(
        watch.next().await,
        Some(Event::Mended {
            place: "a.yaml, document 1".into()
        })
    );
}
