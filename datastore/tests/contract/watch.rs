//! Following objects.

use std::time::Duration;

use crds::{BgpPeer, BgpPeerSpec, Kind};
use datastore::{Event, Watch, create_typed, update_typed};
use serde_json::json;

use crate::suite::{Backend, key, pool};

async fn next(watch: &mut Watch) -> Event {
    let event = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
    event.expect("an event within 10 s").expect("an open watch")
}

/// Events up to and including `InSync`, in short.
async fn until_in_sync(watch: &mut Watch) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        let event = next(watch).await;
        let done = event == Event::InSync;
        events.push(short(&event));
        if done {
            return events;
        }
    }
}

fn short(event: &Event) -> String {
    match event {
        Event::Upsert(object) => format!("+{}", object.key.name),
        Event::Delete(key) => format!("-{}", key.name),
        Event::InSync => "in sync".into(),
        Event::Broken(broken) => format!("broken {}", broken.place),
        Event::Mended { place } => format!("mended {place}"),
    }
}

pub(crate) async fn a_watch_delivers_the_present_first(backend: &impl Backend) {
    let store = backend.open().await;
    assert_eq!(
        until_in_sync(&mut store.watch(Kind::IpPool).await.unwrap()).await,
        ["in sync"]
    );
    for (i, name) in ["b", "a"].into_iter().enumerate() {
        create_typed(&*store, &pool(name, &format!("10.{i}.0.0/16")))
            .await
            .unwrap();
    }
    // Another program sees the same; a store that followed the pools before may be behind by what is on the way.
    let other = backend.open().await;
    assert_eq!(
        until_in_sync(&mut other.watch(Kind::IpPool).await.unwrap()).await,
        ["+a", "+b", "in sync"]
    );
}

pub(crate) async fn a_watch_sees_what_others_do(backend: &impl Backend) {
    let (store, other) = (backend.open().await, backend.open().await);
    let mut watch = store.watch(Kind::IpPool).await.unwrap();
    until_in_sync(&mut watch).await;
    let mut typed = create_typed(&*other, &pool("a", "10.0.0.0/16"))
        .await
        .unwrap();
    let Event::Upsert(object) = next(&mut watch).await else {
        panic!("created")
    };
    assert_eq!(object.resource_version, typed.resource_version());
    typed.resource.spec.disabled = Some(true);
    let typed = update_typed(&*other, &typed).await.unwrap();
    let Event::Upsert(object) = next(&mut watch).await else {
        panic!("updated")
    };
    assert_eq!(
        (
            object.resource_version.as_str(),
            &object.value["spec"]["disabled"]
        ),
        (typed.resource_version(), &json!(true))
    );
    other.delete(&key("a"), None).await.unwrap();
    assert_eq!(next(&mut watch).await, Event::Delete(key("a")));
}

pub(crate) async fn a_watch_is_of_one_kind(backend: &impl Backend) {
    let store = backend.open().await;
    let mut watch = store.watch(Kind::IpPool).await.unwrap();
    until_in_sync(&mut watch).await;
    let spec = BgpPeerSpec {
        peer_ip: Some("192.0.2.1".into()),
        ..Default::default()
    };
    create_typed(&*store, &BgpPeer::new("p", spec))
        .await
        .unwrap();
    create_typed(&*store, &pool("a", "10.0.0.0/16"))
        .await
        .unwrap();
    assert_eq!(short(&next(&mut watch).await), "+a");
}

pub(crate) async fn a_slow_watch_gets_the_newest_state(backend: &impl Backend) {
    let store = backend.open().await;
    let mut watch = store.watch(Kind::IpPool).await.unwrap();
    let mut quick = store.watch(Kind::IpPool).await.unwrap();
    until_in_sync(&mut watch).await;
    until_in_sync(&mut quick).await;
    create_typed(&*store, &pool("gone", "10.9.0.0/16"))
        .await
        .unwrap();
    let mut typed = create_typed(&*store, &pool("a", "10.0.0.0/16"))
        .await
        .unwrap();
    for nodes in ["rack == 'a'", "rack == 'b'", "rack == 'c'"] {
        typed.resource.spec.node_selector = Some(nodes.to_owned());
        typed = update_typed(&*store, &typed).await.unwrap();
    }
    store.delete(&key("gone"), None).await.unwrap();
    // A store knows at once what it has written, and what it has deleted when it is told.
    let is_gone = async {
        while (store.list(Kind::IpPool).await.unwrap().iter()).any(|one| one.key == key("gone")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, is_gone).await.unwrap();
    create_typed(&*store, &pool("mark", "10.2.0.0/16"))
        .await
        .unwrap();
    // What one watch of a store has been told, the others could have been.
    while short(&next(&mut quick).await) != "+mark" {}
    let Event::Upsert(object) = next(&mut watch).await else {
        panic!("the newest state")
    };
    assert_eq!(object.value["spec"]["nodeSelector"], "rack == 'c'");
    assert_eq!(short(&next(&mut watch).await), "+mark");
    // Nothing is left over: the next thing told is the next thing done.
    create_typed(&*store, &pool("last", "10.1.0.0/16"))
        .await
        .unwrap();
    assert_eq!(short(&next(&mut watch).await), "+last");
}

pub(crate) async fn a_dropped_wait_loses_nothing(backend: &impl Backend) {
    let store = backend.open().await;
    let mut watch = store.watch(Kind::IpPool).await.unwrap();
    until_in_sync(&mut watch).await;
    for i in 0..20 {
        assert!(
            tokio::time::timeout(Duration::ZERO, watch.next())
                .await
                .is_err()
        );
        let name = format!("p{i}");
        create_typed(&*store, &pool(&name, &format!("10.{i}.0.0/16")))
            .await
            .unwrap();
        assert_eq!(short(&next(&mut watch).await), format!("+{name}"));
    }
}
