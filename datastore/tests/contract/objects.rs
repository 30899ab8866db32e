//! Reading and writing objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::{IpPool, Kind, NodeStatus, NodeStatusSpec};
use datastore::{
    Datastore, Error, Key, Object, Typed, create_typed, delete_typed, get_typed, list_typed,
    update_typed,
};
use serde_json::{Value, json};

use crate::suite::{Backend, key, pool};

pub(crate) async fn created_objects_are_read_back(backend: &impl Backend) {
    let store = backend.open().await;
    let created = create_typed(&*store, &pool("a", "10.0.0.0/16"))
        .await
        .unwrap();
    assert!(!created.resource_version().is_empty());
    let object = store.get(&key("a")).await.unwrap();
    assert_eq!(object.resource_version, created.resource_version());
    assert_eq!(
        object.value["metadata"]["resourceVersion"],
        object.resource_version.as_str()
    );
    assert_eq!(
        (&object.value["kind"], &object.value["spec"]["cidr"]),
        (&json!("IPPool"), &json!("10.0.0.0/16"))
    );
    assert!(created.resource.metadata.creation_timestamp.is_some());
    // Another program sees the same.
    assert_eq!(backend.open().await.get(&key("a")).await.unwrap(), object);
}

pub(crate) async fn objects_are_listed_in_order(backend: &impl Backend) {
    let store = backend.open().await;
    for (i, name) in ["b", "c", "a"].into_iter().enumerate() {
        create_typed(&*store, &pool(name, &format!("10.{i}.0.0/16")))
            .await
            .unwrap();
    }
    create_typed(&*store, &NodeStatus::new("node", NodeStatusSpec::default()))
        .await
        .unwrap();
    let names = list_typed::<IpPool>(&*store)
        .await
        .unwrap()
        .into_iter()
        .map(|t| t.resource.metadata.name.unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["a", "b", "c"]);
    // One by one they are the same, whether the kind is followed or not.
    for follow in [false, true] {
        let _watch = match follow {
            true => Some(store.watch(Kind::IpPool).await.unwrap()),
            false => None,
        };
        let mut seen = Vec::new();
        let mut see = |object| seen.push(object);
        store.visit(Kind::IpPool, &mut see).await.unwrap();
        assert_eq!(seen, store.list(Kind::IpPool).await.unwrap());
        assert_eq!(seen.len(), 3);
    }
    assert!(store.list(Kind::BgpPeer).await.unwrap().is_empty());
}

pub(crate) async fn names_are_unique(backend: &impl Backend) {
    let (store, other) = (backend.open().await, backend.open().await);
    create_typed(&*store, &pool("a", "10.0.0.0/16"))
        .await
        .unwrap();
    for store in [&store, &other] {
        let error = create_typed(&**store, &pool("a", "10.1.0.0/16"))
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::AlreadyExists { key } if key.name == "a"),
            "{error:?}"
        );
    }
}

pub(crate) async fn invalid_objects_are_refused(backend: &impl Backend) {
    let store = backend.open().await;
    let error = create_typed(&*store, &pool("a", "169.254.0.0/16"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Invalid { object, field, .. } if object == "IPPool a" && field == "spec.cidr")
    );
    let mut typed = create_typed(&*store, &pool("a", "10.0.0.0/16"))
        .await
        .unwrap();
    typed.resource.spec.block_size = Some(99);
    let error = update_typed(&*store, &typed).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { field, .. } if field == "spec.blockSize"));
    assert_eq!(
        store.get(&key("a")).await.unwrap().resource_version,
        typed.resource_version()
    );
}

pub(crate) async fn names_stay_inside_the_store(backend: &impl Backend) {
    let store = backend.open().await;
    for name in ["", "../a", "a/b", ".a", "A", "a.", &"a".repeat(254)] {
        let error = create_typed(&*store, &pool(name, "10.0.0.0/16"))
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::Invalid { field, .. } if field == "metadata.name"),
            "{name}"
        );
    }
    create_typed(&*store, &pool(&"a".repeat(253), "10.0.0.0/16"))
        .await
        .unwrap();
    let disagreeing = Object {
        key: key("b"),
        ..Object::new(&pool("c", "10.1.0.0/16")).unwrap()
    };
    assert!(matches!(
        store.create(disagreeing).await.unwrap_err(),
        Error::Invalid { .. }
    ));
}

pub(crate) async fn update_is_compare_and_swap(backend: &impl Backend) {
    let (store, other) = (backend.open().await, backend.open().await);
    create_typed(&*store, &pool("a", "10.0.0.0/16"))
        .await
        .unwrap();
    let mut mine: Typed<IpPool> = get_typed(&*store, "a").await.unwrap();
    let mut theirs: Typed<IpPool> = get_typed(&*other, "a").await.unwrap();
    mine.resource.spec.nat_outgoing = Some(true);
    theirs.resource.spec.disabled = Some(true);
    let updated = update_typed(&*store, &mine).await.unwrap();
    assert_ne!(updated.resource_version(), mine.resource_version());
    assert!(
        update_typed(&*other, &theirs)
            .await
            .unwrap_err()
            .is_conflict()
    );
    assert!(
        update_typed(&*store, &mine)
            .await
            .unwrap_err()
            .is_conflict()
    );
    let now: Typed<IpPool> = get_typed(&*other, "a").await.unwrap();
    assert_eq!(
        (now.resource.spec.nat_outgoing, now.resource.spec.disabled),
        (Some(true), None)
    );
    store.delete(&key("a"), None).await.unwrap();
    assert!(
        update_typed(&*other, &now)
            .await
            .unwrap_err()
            .is_not_found()
    );
}

pub(crate) async fn an_update_without_change_keeps_the_version(backend: &impl Backend) {
    let store = backend.open().await;
    let typed = create_typed(&*store, &pool("a", "10.0.0.0/16"))
        .await
        .unwrap();
    assert_eq!(
        update_typed(&*store, &typed)
            .await
            .unwrap()
            .resource_version(),
        typed.resource_version()
    );
    let patched = store
        .patch_annotations(&key("a"), BTreeMap::from([("x".into(), None)]))
        .await
        .unwrap();
    assert_eq!(patched.resource_version, typed.resource_version());
}

pub(crate) async fn a_recreated_object_has_another_version(backend: &impl Backend) {
    let store = backend.open().await;
    let first = create_typed(&*store, &pool("a", "10.0.0.0/16"))
        .await
        .unwrap();
    delete_typed(&*store, &first).await.unwrap();
    let second = create_typed(&*store, &pool("a", "10.0.0.0/16"))
        .await
        .unwrap();
    assert_ne!(first.resource_version(), second.resource_version());
    assert!(
        delete_typed(&*store, &first)
            .await
            .unwrap_err()
            .is_conflict()
    );
}

pub(crate) async fn delete_can_demand_a_version(backend: &impl Backend) {
    let (store, other) = (backend.open().await, backend.open().await);
    let old = create_typed(&*store, &pool("a", "10.0.0.0/16"))
        .await
        .unwrap();
    let mut new = old.clone();
    new.resource.spec.disabled = Some(true);
    let new = update_typed(&*other, &new).await.unwrap();
    assert!(delete_typed(&*store, &old).await.unwrap_err().is_conflict());
    delete_typed(&*store, &new).await.unwrap();
    assert!(store.get(&key("a")).await.unwrap_err().is_not_found());
    assert!(other.get(&key("a")).await.unwrap_err().is_not_found());
    assert!(
        store
            .delete(&key("a"), None)
            .await
            .unwrap_err()
            .is_not_found()
    );
}

/// Adds one to a number in an annotation, as often as it takes.
async fn count(store: &dyn Datastore) {
    loop {
        let mut object = store.get(&key("a")).await.unwrap();
        let annotations = &mut object.value["metadata"]["annotations"];
        let number: u32 = annotations["count"].as_str().unwrap().parse().unwrap();
        annotations["count"] = (number + 1).to_string().into();
        match store.update(object).await {
            Ok(_) => return,
            Err(error) => assert!(error.is_conflict(), "{error:?}"),
        }
    }
}

pub(crate) async fn concurrent_writers_lose_no_update(backend: &impl Backend) {
    const WRITERS: u32 = 4;
    const EACH: u32 = 10;
    let store = backend.open().await;
    create_typed(&*store, &pool("a", "10.0.0.0/16"))
        .await
        .unwrap();
    let zero = BTreeMap::from([("count".to_owned(), Some("0".to_owned()))]);
    store.patch_annotations(&key("a"), zero).await.unwrap();
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let store = backend.open().await;
        writers.push(tokio::spawn(async move {
            for _ in 0..EACH {
                count(&*store).await;
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let object = store.get(&key("a")).await.unwrap();
    assert_eq!(
        object.value["metadata"]["annotations"]["count"],
        (WRITERS * EACH).to_string()
    );
}

pub(crate) async fn only_one_creator_wins(backend: &impl Backend) {
    let mut creators = Vec::new();
    for i in 0..4 {
        let store: Arc<dyn Datastore> = backend.open().await;
        let pool = pool("a", &format!("10.{i}.0.0/16"));
        creators.push(tokio::spawn(async move {
            create_typed(&*store, &pool).await.map(|_| ())
        }));
    }
    let mut won = 0;
    for creator in creators {
        match creator.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => assert!(matches!(error, Error::AlreadyExists { .. }), "{error:?}"),
        }
    }
    assert_eq!(won, 1);
}

pub(crate) async fn status_is_replaced_alone(backend: &impl Backend) {
    let store = backend.open().await;
    let created = create_typed(&*store, &NodeStatus::new("node", NodeStatusSpec::default()))
        .await
        .unwrap();
    let key = created.key().clone();
    store
        .patch_status(
            &key,
            json!({ "routes": { "programmed": 3 }, "agentVersion": "1" }),
        )
        .await
        .unwrap();
    let object = store
        .patch_status(&key, json!({ "routes": { "programmed": 4 } }))
        .await
        .unwrap();
    assert_eq!(
        object.value["status"],
        json!({ "routes": { "programmed": 4 } })
    );
    assert_eq!(object.value["spec"], json!({}));
    assert_ne!(object.resource_version, created.resource_version());
    let missing = store
        .patch_status(&Key::cluster(Kind::NodeStatus, "other"), json!({}))
        .await;
    assert!(missing.unwrap_err().is_not_found());
}

pub(crate) async fn annotations_are_merged(backend: &impl Backend) {
    let store = backend.open().await;
    create_typed(&*store, &pool("a", "10.0.0.0/16"))
        .await
        .unwrap();
    let patch = async |pairs: &[(&str, Option<&str>)]| {
        let pairs = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned)))
            .collect();
        store
            .patch_annotations(&key("a"), pairs)
            .await
            .unwrap()
            .value["metadata"]["annotations"]
            .clone()
    };
    assert_eq!(
        patch(&[("x", Some("1")), ("y/z", Some("2"))]).await,
        json!({ "x": "1", "y/z": "2" })
    );
    assert_eq!(
        patch(&[("x", None), ("w", Some("3"))]).await,
        json!({ "w": "3", "y/z": "2" })
    );
    assert_eq!(patch(&[("w", None), ("y/z", None)]).await, Value::Null);
}

pub(crate) async fn namespaced_objects_of_one_name_are_different(backend: &impl Backend) {
    let store = backend.open().await;
    for namespace in ["one", "two"] {
        backend.namespace(namespace).await;
        let value = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "namespace": namespace, "name": "web" } });
        let key = Key::namespaced(Kind::Secret, namespace, "web");
        store
            .create(Object {
                key,
                resource_version: String::new(),
                value,
            })
            .await
            .unwrap();
    }
    assert_eq!(store.list(Kind::Secret).await.unwrap().len(), 2);
    store
        .delete(&Key::namespaced(Kind::Secret, "one", "web"), None)
        .await
        .unwrap();
    assert!(
        store
            .get(&Key::namespaced(Kind::Secret, "two", "web"))
            .await
            .is_ok()
    );
}
