//! What a Kubernetes API server may do to those who follow it: go away, forget, stumble, lie.
//!
//! The real one is asked in `kubernetes.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "api_server/fake.rs"]
mod fake;
#[path = "api_server/own_blocks.rs"]
mod own_blocks;

use std::time::{Duration, SystemTime};

use crds::Kind;
use datastore::kubernetes::{LeaseSpec, PodSelection};
use datastore::{Datastore, Event, Key, Notice, Watch};
use fake::{Answer, Fake, LIMIT, event, pool};
use serde_json::json;

async fn next(watch: &mut Watch) -> String {
    let event = tokio::time::timeout(LIMIT, watch.next()).await;
    match event.expect("an event in time").expect("an open watch") {
        Event::Upsert(object) => format!("+{} {}", object.key.name, object.resource_version),
        Event::Delete(key) => format!("-{}", key.name),
        Event::InSync => "in sync".into(),
        Event::Broken(broken) => format!("broken {}: {}", broken.place, broken.problem),
        Event::Mended { place } => format!("mended {place}"),
    }
}

/// Nothing is told for a while.
async fn silent(watch: &mut Watch) {
    let event = tokio::time::timeout(Duration::from_millis(300), watch.next()).await;
    assert!(event.is_err(), "{event:?}");
}

#[tokio::test]
async fn a_watch_goes_on_where_it_stood() {
    let mut server = Fake::start().await;
    server.answer(Answer::pools("10", &[("a", "3")]));
    let lines = server.answer_lines();
    let store = server.store(|_| {}).await;
    let mut watch = store.watch(Kind::IpPool).await.unwrap();
    assert_eq!(next(&mut watch).await, "+a 3");
    assert_eq!(next(&mut watch).await, "in sync");
    let list = "GET /apis/crd.projectcalico.org/v1/ippools?&limit=500 HTTP/1.1";
    assert_eq!(server.asked().await, list);
    let asked = server.asked().await;
    assert!(
        asked.contains("watch=true") && asked.contains("resourceVersion=10"),
        "{asked}"
    );
    assert!(asked.contains("allowWatchBookmarks=true"), "{asked}");
    lines.send(event("ADDED", pool("b", "11"))).unwrap();
    assert_eq!(next(&mut watch).await, "+b 11");
    let bookmark =
        json!({ "apiVersion": "v1", "kind": "IPPool", "metadata": { "resourceVersion": "20" } });
    lines.send(event("BOOKMARK", bookmark)).unwrap();
    drop(lines);
    let lines = server.answer_lines();
    let asked = server.asked().await;
    assert!(asked.contains("resourceVersion=20"), "{asked}");
    lines.send(event("DELETED", pool("a", "21"))).unwrap();
    assert_eq!(next(&mut watch).await, "-a");
}

#[tokio::test]
async fn after_a_reconnection_watches_go_on_and_what_hangs_fails() {
    let mut server = Fake::start().await;
    server.answer(Answer::pools("10", &[("a", "3")]));
    let _dead = server.answer_lines();
    let store = server.store(|_| {}).await;
    let mut watch = store.watch(Kind::IpPool).await.unwrap();
    assert_eq!(next(&mut watch).await, "+a 3");
    assert_eq!(next(&mut watch).await, "in sync");
    for _ in 0..2 {
        server.asked().await;
    }
    // The answer never ends, as on a connection whose other end is gone.
    let _hanging = server.answer_lines();
    let key = Key::cluster(Kind::Node, "n");
    let (hangs, ()) = tokio::join!(store.get(&key), async {
        let asked = server.asked().await;
        assert!(asked.starts_with("GET /api/v1/nodes/n"), "{asked}");
        store.reconnect();
    });
    let error = hangs.unwrap_err().to_string();
    assert!(error.contains("given up"), "{error}");
    let lines = server.answer_lines();
    let asked = server.asked().await;
    assert!(
        asked.contains("watch=true") && asked.contains("resourceVersion=10"),
        "{asked}"
    );
    lines.send(event("ADDED", pool("b", "11"))).unwrap();
    assert_eq!(next(&mut watch).await, "+b 11");
}

#[tokio::test]
async fn an_outage_is_no_deletion_and_says_since_when() {
    let mut server = Fake::start().await;
    server.answer(Answer::pools("10", &[("a", "3"), ("b", "4")]));
    let _lines = server.answer_lines();
    let store = server.store(|_| {}).await;
    let mut outage = store.outage();
    let mut watch = store.watch(Kind::IpPool).await.unwrap();
    for expected in ["+a 3", "+b 4", "in sync"] {
        assert_eq!(next(&mut watch).await, expected);
    }
    server.asked().await;
    server.asked().await;
    assert!(outage.borrow().is_none());

    let before = SystemTime::now();
    server.set_up(false);
    let told = outage
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert!(told.since >= before && told.since <= SystemTime::now());
    assert!(
        told.problem
            .contains("cannot watch objects of kind IPPool at http://127.0.0.1:"),
        "{told:?}"
    );
    silent(&mut watch).await;
    let mut late = store.watch(Kind::IpPool).await.unwrap();
    for expected in ["+a 3", "+b 4", "in sync"] {
        assert_eq!(next(&mut late).await, expected, "what is known is served");
    }

    server.set_up(true);
    let lines = server.answer_lines();
    let asked = server.asked().await;
    assert!(
        asked.contains("resourceVersion=10"),
        "no new list is needed: {asked}"
    );
    outage.wait_for(Option::is_none).await.unwrap();
    lines.send(event("DELETED", pool("b", "12"))).unwrap();
    assert_eq!(next(&mut watch).await, "-b");
}

#[tokio::test]
async fn what_a_list_lacks_after_the_server_forgot_is_gone() {
    for forgotten in [
        Answer::status(410, "Expired"),
        // A version of the time before a restore (resource version too large).
        Answer::status(504, "Timeout"),
        Answer::Whole(
            200,
            event(
                "ERROR",
                json!({ "kind": "Status", "code": 410, "reason": "Expired" }),
            ) + "\n",
        ),
        Answer::Whole(
            200,
            "{\"type\": \"ADDED\", \"object\": no JSON}\n".to_owned(),
        ),
    ] {
        let server = Fake::start().await;
        server.answer(Answer::pools("10", &[("a", "3"), ("b", "4")]));
        server.answer(forgotten);
        server.answer(Answer::pools("30", &[("b", "4"), ("c", "25")]));
        let lines = server.answer_lines();
        let store = server.store(|_| {}).await;
        let mut watch = store.watch(Kind::IpPool).await.unwrap();
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last != "+c 25") {
            seen.push(next(&mut watch).await);
        }
        // The first list may have been seen or not.
        assert!(!seen.contains(&"-b".to_owned()), "{seen:?}");
        let present = |name: &str| {
            let about = seen.iter().rfind(|told| told[1..].starts_with(name));
            about.is_some_and(|told| told.starts_with('+'))
        };
        assert!(!present("a") && present("b") && present("c"), "{seen:?}");
        lines.send(event("MODIFIED", pool("c", "31"))).unwrap();
        assert_eq!(next(&mut watch).await, "+c 31");
    }
}

#[tokio::test]
async fn a_list_that_lacks_most_is_believed_when_it_stays_so() {
    let names: Vec<String> = (0..20).map(|number| format!("p{number:02}")).collect();
    let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let server = Fake::start().await;
    server.answer(Answer::pools("10", &all));
    let lines = server.answer_lines();
    let store = server
        .store(|settings| settings.believe_losses_after = Duration::from_secs(1))
        .await;
    let mut outage = store.outage();
    let mut watch = store.watch(Kind::IpPool).await.unwrap();
    while next(&mut watch).await != "in sync" {}

    // A server of an empty cluster, for a moment.
    server.answer(Answer::status(410, "Expired"));
    server.answer(Answer::pools("2", &[]));
    drop(lines);
    let told = outage
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert!(
        told.problem
            .contains("20 of 20 objects of kind IPPool are missing"),
        "{told:?}"
    );
    silent(&mut watch).await;
    server.answer(Answer::pools("30", &all[1..]));
    let lines = server.answer_lines();
    assert_eq!(next(&mut watch).await, "-p00");
    outage.wait_for(Option::is_none).await.unwrap();

    // And for good.
    server.answer(Answer::status(410, "Expired"));
    drop(lines);
    for _ in 0..8 {
        server.answer(Answer::pools("40", &all[19..]));
    }
    for name in &names[1..19] {
        assert_eq!(next(&mut watch).await, format!("-{name}"));
    }
}

#[tokio::test]
async fn a_restored_server_is_believed_though_its_versions_are_lower() {
    let server = Fake::start().await;
    server.answer(Answer::pools("100", &[("a", "90"), ("b", "91")]));
    let lines = server.answer_lines();
    let store = server.store(|_| {}).await;
    let mut watch = store.watch(Kind::IpPool).await.unwrap();
    for expected in ["+a 90", "+b 91", "in sync"] {
        assert_eq!(next(&mut watch).await, expected);
    }
    server.answer(Answer::status(504, "Timeout"));
    server.answer(Answer::pools("50", &[("a", "40")]));
    let after = server.answer_lines();
    drop(lines);
    assert_eq!(next(&mut watch).await, "-b");
    assert_eq!(next(&mut watch).await, "+a 40");
    after.send(event("MODIFIED", pool("a", "51"))).unwrap();
    assert_eq!(next(&mut watch).await, "+a 51");
}

#[tokio::test]
async fn a_list_of_what_is_followed_asks_nobody_and_holds_own_writes() {
    let server = Fake::start().await;
    server.answer(Answer::pools("10", &[("a", "3")]));
    let lines = server.answer_lines();
    let store = server.store(|_| {}).await;
    let mut watch = store.watch(Kind::IpPool).await.unwrap();
    assert_eq!(next(&mut watch).await, "+a 3");
    assert_eq!(next(&mut watch).await, "in sync");
    server.answer(Answer::json(200, &pool("a", "15")));
    let mut object = store.list(Kind::IpPool).await.unwrap().remove(0);
    object.value["spec"]["disabled"] = json!(true);
    store.update(object).await.unwrap();
    assert_eq!(next(&mut watch).await, "+a 15");
    let listed = store.list(Kind::IpPool).await.unwrap();
    assert_eq!(listed[0].resource_version, "15");
    // What is on the way is older.
    lines.send(event("MODIFIED", pool("a", "12"))).unwrap();
    lines.send(event("MODIFIED", pool("a", "15"))).unwrap();
    lines.send(event("ADDED", pool("b", "16"))).unwrap();
    assert_eq!(next(&mut watch).await, "+b 16");
}

#[tokio::test]
async fn a_broken_object_is_reported_and_the_last_good_state_stays() {
    let server = Fake::start().await;
    server.answer(Answer::pools("10", &[("a", "3")]));
    let lines = server.answer_lines();
    let store = server.store(|_| {}).await;
    let mut watch = store.watch(Kind::IpPool).await.unwrap();
    assert_eq!(next(&mut watch).await, "+a 3");
    assert_eq!(next(&mut watch).await, "in sync");
    let mut broken = pool("a", "11");
    broken["spec"]["cidr"] = json!(7);
    lines.send(event("MODIFIED", broken)).unwrap();
    let told = next(&mut watch).await;
    let place = "/apis/crd.projectcalico.org/v1/ippools/a";
    assert!(
        told.starts_with(&format!("broken {place}: spec.cidr: ")),
        "{told}"
    );
    lines.send(event("ADDED", pool("b", "12"))).unwrap();
    assert_eq!(next(&mut watch).await, "+b 12");
    assert_eq!(store.problems().await.unwrap().len(), 1);
    lines.send(event("MODIFIED", pool("a", "13"))).unwrap();
    assert_eq!(next(&mut watch).await, format!("mended {place}"));
    assert_eq!(next(&mut watch).await, "+a 13");
}

#[tokio::test]
async fn a_server_that_is_too_busy_is_asked_again() {
    let mut server = Fake::start().await;
    server.answer(Answer::Whole(
        429,
        "Too many requests, please try again later.\n".to_owned(),
    ));
    server.answer(Answer::json(200, &pool("a", "3")));
    let store = server.store(|_| {}).await;
    let object = store.get(&Key::cluster(Kind::IpPool, "a")).await.unwrap();
    assert_eq!(object.resource_version, "3");
    assert_eq!(server.asked().await, server.asked().await);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_that_says_where() {
    let server = Fake::start().await;
    server.set_up(false);
    let store = server.store(|_| {}).await;
    let error = store.get(&Key::cluster(Kind::Node, "n")).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("cannot read Node n at http://127.0.0.1:"),
        "{text}"
    );
}

#[tokio::test]
async fn only_changes_of_metadata_are_told_where_nothing_else_is_wanted() {
    let mut server = Fake::start().await;
    let node = |version: &str, zone: &str| {
        let labels = json!({ "zone": zone });
        json!({ "metadata": { "name": "n", "resourceVersion": version, "labels": labels } })
    };
    let list = json!({ "metadata": { "resourceVersion": "10" }, "items": [node("3", "x")] });
    server.answer(Answer::json(200, &list));
    let lines = server.answer_lines();
    let store = server
        .store(|settings| settings.metadata_only = [Kind::Node].into())
        .await;
    let mut watch = store.watch(Kind::Node).await.unwrap();
    assert_eq!(next(&mut watch).await, "+n 3");
    assert_eq!(next(&mut watch).await, "in sync");
    assert!(server.asked().await.starts_with("GET /api/v1/nodes?"));
    lines.send(event("MODIFIED", node("11", "x"))).unwrap();
    lines.send(event("MODIFIED", node("12", "y"))).unwrap();
    assert_eq!(next(&mut watch).await, "+n 12");
}

#[tokio::test]
async fn an_own_write_is_told_where_only_metadata_is_followed() {
    let server = Fake::start().await;
    let metadata = json!({ "name": "n", "resourceVersion": "3" });
    let items = [json!({ "metadata": metadata })];
    let list = json!({ "metadata": { "resourceVersion": "10" }, "items": items });
    server.answer(Answer::json(200, &list));
    let _lines = server.answer_lines();
    let store = server
        .store(|settings| settings.metadata_only = [Kind::Node].into())
        .await;
    let mut watch = store.watch(Kind::Node).await.unwrap();
    assert_eq!(next(&mut watch).await, "+n 3");
    assert_eq!(next(&mut watch).await, "in sync");
    let metadata = json!({ "name": "n", "resourceVersion": "11", "annotations": { "a": "b" } });
    let whole = json!({ "metadata": metadata, "status": { "nodeInfo": {} } });
    server.answer(Answer::json(200, &whole));
    let key = Key::cluster(Kind::Node, "n");
    let change = [("a".to_owned(), Some("b".to_owned()))];
    store.patch_annotations(&key, change.into()).await.unwrap();
    let told = tokio::time::timeout(LIMIT, watch.next()).await;
    let Some(Event::Upsert(object)) = told.expect("in time") else {
        panic!("no object");
    };
    assert_eq!(object.resource_version, "11");
    assert!(object.value.get("status").is_none(), "{}", object.value);
}

#[tokio::test]
async fn every_change_of_one_object_is_told_though_only_metadata_is_followed() {
    let server = Fake::start().await;
    let node = |name: &str, version: &str| json!({ "metadata": { "name": name, "resourceVersion": version } });
    let items = [node("m", "3"), node("n", "4")];
    let list = json!({ "metadata": { "resourceVersion": "10" }, "items": items });
    server.answer(Answer::json(200, &list));
    let lines = server.answer_lines();
    let store = server
        .store(|settings| {
            settings.metadata_only = [Kind::Node].into();
            settings.every_change_of = Some(Key::cluster(Kind::Node, "n"));
        })
        .await;
    let mut watch = store.watch(Kind::Node).await.unwrap();
    for expected in ["+m 3", "+n 4", "in sync"] {
        assert_eq!(next(&mut watch).await, expected);
    }
    lines.send(event("MODIFIED", node("m", "11"))).unwrap();
    lines.send(event("MODIFIED", node("n", "12"))).unwrap();
    assert_eq!(next(&mut watch).await, "+n 12");
}

#[tokio::test]
async fn an_event_that_somebody_else_has_written_is_as_good() {
    let mut server = Fake::start().await;
    let store = server.store(|_| {}).await;
    let notice = Notice {
        name: "n1.0123".into(),
        kind: Kind::Node,
        object: "n1".into(),
        reason: "BGPSessionDown".into(),
        text: "text".into(),
        node: "n1".into(),
        time: "2026-01-01T00:00:00Z".into(),
    };
    for (answer, works) in [
        (Answer::json(201, &json!({ "kind": "Event" })), true),
        (Answer::status(409, "AlreadyExists"), true),
        (Answer::status(403, "Forbidden"), false),
    ] {
        server.answer(answer);
        assert_eq!(store.record(&notice).await.is_ok(), works);
        let asked = server.asked().await;
        let path = "POST /api/v1/namespaces/default/events?";
        assert!(asked.starts_with(path), "{asked}");
    }
}

#[tokio::test]
async fn secrets_of_one_namespace_are_followed_and_change() {
    let mut server = Fake::start().await;
    let secret = |version: &str, password: &str| {
        json!({
            "metadata": { "name": "bgp", "namespace": "routing", "resourceVersion": version },
            "data": { "mesh": password },
        })
    };
    // "one" and "two" as an API server has them.
    let (one, two) = ("b25l", "dHdv");
    let list = json!({ "metadata": { "resourceVersion": "10" }, "items": [secret("3", one)] });
    server.answer(Answer::json(200, &list));
    let lines = server.answer_lines();
    let store = server
        .store(|settings| settings.secrets_of_namespace = Some("routing".into()))
        .await;
    let mut watch = store.watch(Kind::Secret).await.unwrap();
    let mut passwords = Vec::new();
    lines.send(event("MODIFIED", secret("11", two))).unwrap();
    while passwords.last() != Some(&b"two".to_vec()) {
        let event = tokio::time::timeout(LIMIT, watch.next()).await;
        if let Some(Event::Upsert(object)) = event.expect("in time") {
            assert_eq!(object.key, Key::namespaced(Kind::Secret, "routing", "bgp"));
            let secret: crds::Secret = crds::decode(&object.value).unwrap();
            passwords.push(secret.value("mesh").unwrap().to_vec());
        }
    }
    for asked in [server.asked().await, server.asked().await] {
        let path = "GET /api/v1/namespaces/routing/secrets?";
        assert!(asked.starts_with(path), "{asked}");
    }
}

#[tokio::test]
async fn a_part_of_the_objects_is_asked_for_by_the_server() {
    let mut server = Fake::start().await;
    let empty = json!({ "metadata": { "resourceVersion": "10" }, "items": [] });
    server.answer(Answer::json(200, &empty));
    server.answer(Answer::json(200, &empty));
    let store = server
        .store(|settings| {
            settings.pods_of_node = Some("n1".into());
            settings.secrets_of_namespace = Some("kube-system".into());
        })
        .await;
    store.list(Kind::Pod).await.unwrap();
    let asked = server.asked().await;
    assert!(
        asked.starts_with("GET /api/v1/pods?")
            && asked.contains("fieldSelector=spec.nodeName%3Dn1"),
        "{asked}"
    );
    store.list(Kind::Secret).await.unwrap();
    let asked = server.asked().await;
    assert!(
        asked.starts_with("GET /api/v1/namespaces/kube-system/secrets?"),
        "{asked}"
    );
}

#[tokio::test]
async fn an_object_whose_deletion_is_finished_by_a_write_does_not_come_back() {
    let server = Fake::start().await;
    let mut deleting = pool("a", "3");
    deleting["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let list = json!({ "metadata": { "resourceVersion": "10" }, "items": [deleting.clone()] });
    server.answer(Answer::json(200, &list));
    let lines = server.answer_lines();
    let store = server.store(|_| {}).await;
    let mut watch = store.watch(Kind::IpPool).await.unwrap();
    assert_eq!(next(&mut watch).await, "+a 3");
    assert_eq!(next(&mut watch).await, "in sync");
    let object = store.list(Kind::IpPool).await.unwrap().remove(0);
    lines.send(event("DELETED", deleting.clone())).unwrap();
    assert_eq!(next(&mut watch).await, "-a");
    // The answer to the write that ended it comes after the watch has told.
    deleting["metadata"]["resourceVersion"] = json!("11");
    server.answer(Answer::json(200, &deleting));
    store.update(object).await.unwrap();
    assert_eq!(store.list(Kind::IpPool).await.unwrap(), []);
}

#[tokio::test]
async fn a_lease_is_written_on_what_was_read() {
    let mut server = Fake::start().await;
    let store = server.store(|_| {}).await;
    let lease = store.lease("kube-system", "x");
    let object = |version: &str, holder: &str| json!({ "metadata": { "resourceVersion": version }, "spec": { "holderIdentity": holder } });
    server.answer(Answer::status(404, "NotFound"));
    assert_eq!(lease.read(LIMIT).await.unwrap(), None);
    server.answer(Answer::status(409, "AlreadyExists"));
    assert_eq!(
        lease.create(&LeaseSpec::default(), LIMIT).await.unwrap(),
        None
    );
    server.answer(Answer::json(200, &object("3", "one")));
    let stored = lease.read(LIMIT).await.unwrap().unwrap();
    assert_eq!(stored.spec.holder_identity.as_deref(), Some("one"));
    server.answer(Answer::json(200, &object("4", "one")));
    let written = lease.replace(&stored, &stored.spec, LIMIT).await.unwrap();
    assert_eq!(written.unwrap().object, object("4", "one"));
    server.answer(Answer::status(409, "Conflict"));
    let written = lease.replace(&stored, &stored.spec, LIMIT).await.unwrap();
    assert_eq!(written, None);
    server.answer(Answer::status(403, "Forbidden"));
    let error = lease.read(LIMIT).await.unwrap_err().to_string();
    assert!(
        error.starts_with("cannot read Lease kube-system/x at http://127.0.0.1:"),
        "{error}"
    );
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    for expected in [
        format!("GET {path}/x HTTP/1.1"),
        format!("POST {path}?&fieldManager=test HTTP/1.1"),
        format!("GET {path}/x HTTP/1.1"),
        format!("PUT {path}/x?&fieldManager=test HTTP/1.1"),
        format!("PUT {path}/x?&fieldManager=test HTTP/1.1"),
        format!("GET {path}/x HTTP/1.1"),
    ] {
        assert_eq!(server.asked().await, expected);
    }
}

#[tokio::test]
async fn who_asks_for_a_lease_does_not_wait_longer_than_said() {
    let server = Fake::start().await;
    let store = server.store(|_| {}).await;
    let lease = store.lease("kube-system", "x");
    let error = lease.read(Duration::from_millis(50)).await.unwrap_err();
    assert!(
        error.to_string().ends_with("no answer within 50ms"),
        "{error}"
    );
}

#[tokio::test]
async fn pods_are_selected_by_the_server() {
    let mut server = Fake::start().await;
    let empty = json!({ "metadata": { "resourceVersion": "10" }, "items": [] });
    server.answer(Answer::json(200, &empty));
    let store = server
        .store(|settings| {
            settings.pods_selected = Some(PodSelection {
                namespace: "kube-system".into(),
                labels: "app=x,part in (y)".into(),
            });
        })
        .await;
    store.list(Kind::Pod).await.unwrap();
    let asked = server.asked().await;
    assert!(
        asked.starts_with("GET /api/v1/namespaces/kube-system/pods?")
            && asked.contains("labelSelector=app%3Dx%2Cpart+in+%28y%29"),
        "{asked}"
    );
}
