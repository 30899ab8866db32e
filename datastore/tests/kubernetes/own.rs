//! What is different with an API server, and what only it can do.

use std::collections::BTreeMap;
use std::time::Duration;

use crds::{IpPool, Kind, NodeStatus, NodeStatusSpec};
use datastore::{
    Datastore, Error, Event, Key, Object, Watch, create_typed, get_typed, update_typed,
};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::suite::{Backend, key, pool};

async fn next(watch: &mut Watch) -> Event {
    let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    event.expect("an event in time").expect("an open watch")
}

fn object(key: Key, value: Value) -> Object {
    Object {
        key,
        resource_version: String::new(),
        value,
    }
}

#[tokio::test]
async fn fields_that_the_schema_does_not_know_are_dropped() {
    let cluster = Cluster::new().await;
    let store = cluster.open().await;
    let mut object = Object::new(&pool("a", "10.0.0.0/16")).unwrap();
    object.value["spec"]["future"] = json!({ "x": [1] });
    store.create(object).await.unwrap();
    let mut typed = get_typed::<IpPool>(&*store, "a").await.unwrap();
    typed.resource.spec.disabled = Some(true);
    update_typed(&*store, &typed).await.unwrap();
    let spec = store.get(&key("a")).await.unwrap().value["spec"].clone();
    assert_eq!(spec, json!({ "cidr": "10.0.0.0/16", "disabled": true }));
}

#[tokio::test]
async fn what_the_api_server_refuses_is_in_its_words() {
    let cluster = Cluster::new().await;
    let store = cluster.open().await;
    let mut object = Object::new(&pool("a", "10.0.0.0/16")).unwrap();
    object.value["metadata"]["labels"] = json!({ "no label": "x" });
    let error = store.create(object).await.unwrap_err();
    let Error::Invalid {
        object,
        field,
        problem,
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        (object.as_str(), field.as_str()),
        ("IPPool a", "metadata.labels")
    );
    assert!(
        problem.contains("name part must consist of alphanumeric characters"),
        "{problem}"
    );
}

#[tokio::test]
async fn a_bad_object_that_got_in_stops_nothing() {
    let cluster = Cluster::new().await;
    let store = cluster.open().await;
    let mut watch = store.watch(Kind::IpPool).await.unwrap();
    assert_eq!(next(&mut watch).await, Event::InSync);
    let manifest = |selector: &str| {
        format!(
            "{{apiVersion: crd.projectcalico.org/v1, kind: IPPool, metadata: {{name: bad}}, \
             spec: {{cidr: 10.1.0.0/16, nodeSelector: \"{selector}\"}}}}"
        )
    };
    cluster.kubectl("apply -f -", &manifest("((("));
    let Event::Broken(broken) = next(&mut watch).await else {
        panic!("reported")
    };
    assert_eq!(broken.key, Some(key("bad")));
    assert!(
        broken.problem.starts_with("spec.nodeSelector: "),
        "{broken:?}"
    );
    create_typed(&*store, &pool("good", "10.0.0.0/16"))
        .await
        .unwrap();
    let Event::Upsert(good) = next(&mut watch).await else {
        panic!("the good one")
    };
    assert_eq!(good.key, key("good"));
    assert_eq!(store.list(Kind::IpPool).await.unwrap().len(), 1);
    assert!(matches!(
        store.get(&key("bad")).await,
        Err(Error::Invalid { .. })
    ));
    cluster.kubectl("apply -f -", &manifest("all()"));
    assert!(matches!(next(&mut watch).await, Event::Mended { .. }));
    let Event::Upsert(mended) = next(&mut watch).await else {
        panic!("the mended one")
    };
    assert_eq!(mended.key, key("bad"));
}

#[tokio::test]
async fn the_api_server_knows_whose_fields_are_whose() {
    let cluster = Cluster::new().await;
    let store = cluster.open().await;
    let status = create_typed(&*store, &NodeStatus::new("n", NodeStatusSpec::default()))
        .await
        .unwrap();
    let condition =
        |type_: &str| json!({ "type": type_, "status": "True", "reason": "Test", "message": "" });
    let conditions = |types: &[&str]| {
        let all: Vec<Value> = types.iter().map(|type_| condition(type_)).collect();
        json!({ "conditions": all })
    };
    store
        .patch_status(status.key(), conditions(&["Mine", "MineToo"]))
        .await
        .unwrap();
    let theirs = json!({
        "apiVersion": "tortie.dev/v1alpha1", "kind": "NodeStatus", "metadata": { "name": "n" },
        "status": conditions(&["Theirs"]),
    });
    cluster.kubectl(
        "apply --server-side --subresource=status --field-manager=other -f -",
        &theirs.to_string(),
    );
    let object = store
        .patch_status(status.key(), conditions(&["Mine"]))
        .await
        .unwrap();
    let types: Vec<&str> = object.value["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| condition["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["Mine", "Theirs"]);

    // An update, which does not carry who manages what, does not lose it.
    let annotations = BTreeMap::from([("x".to_owned(), Some("1".to_owned()))]);
    store
        .patch_annotations(status.key(), annotations)
        .await
        .unwrap();
    let mut typed = get_typed::<NodeStatus>(&*store, "n").await.unwrap();
    typed.resource.spec.node = Some("n".to_owned());
    let updated = update_typed(&*store, &typed).await.unwrap();
    assert!(updated.resource.metadata.managed_fields.is_none());
    let shown = cluster.kubectl("get nodestatus n -o json --show-managed-fields", "");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let managers: Vec<(&str, &str)> = shown["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (
                entry["manager"].as_str().unwrap(),
                entry["operation"].as_str().unwrap(),
            )
        })
        .collect();
    assert!(managers.contains(&("other", "Apply")), "{managers:?}");
    assert!(managers.contains(&("tortie-test", "Apply")), "{managers:?}");
    assert!(
        managers.contains(&("tortie-test", "Update")),
        "{managers:?}"
    );
}

#[tokio::test]
async fn conditions_of_others_on_a_node_stay() {
    let cluster = Cluster::new().await;
    let store = cluster.open().await;
    let node = Key::cluster(Kind::Node, "n1");
    store.create(object(node.clone(), json!({}))).await.unwrap();
    let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }] } });
    let patch = format!("patch node n1 --subresource=status --type=merge --patch={ready}");
    cluster.kubectl(&patch, "");
    let mine = json!({ "conditions": [{ "type": "NetworkUnavailable", "status": "False", "reason": "Test" }] });
    let patched = store.patch_status(&node, mine).await.unwrap();
    let conditions = patched.value["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 2, "{conditions:?}");
}

#[tokio::test]
async fn only_what_was_asked_for_is_followed() {
    let cluster = Cluster::new().await;
    let all = cluster.open().await;
    for (name, node) in [("mine", "n1"), ("theirs", "n2")] {
        let spec = json!({ "nodeName": node, "containers": [{ "name": "c", "image": "i" }] });
        let pod = Key::namespaced(Kind::Pod, "default", name);
        all.create(object(pod, json!({ "spec": spec })))
            .await
            .unwrap();
    }
    for namespace in ["one", "two"] {
        cluster.namespace(namespace).await;
        let secret = Key::namespaced(Kind::Secret, namespace, "s");
        all.create(object(secret, json!({}))).await.unwrap();
    }
    let node =
        json!({ "metadata": { "labels": { "zone": "x" } }, "spec": { "podCIDR": "10.0.0.0/24" } });
    all.create(object(Key::cluster(Kind::Node, "n1"), node))
        .await
        .unwrap();
    let store = cluster
        .store(|settings| {
            settings.pods_of_node = Some("n1".into());
            settings.secrets_of_namespace = Some("one".into());
            settings.metadata_only = [Kind::Node].into();
        })
        .await;
    for (kind, expected) in [
        (Kind::Pod, Key::namespaced(Kind::Pod, "default", "mine")),
        (Kind::Secret, Key::namespaced(Kind::Secret, "one", "s")),
        (Kind::Node, Key::cluster(Kind::Node, "n1")),
    ] {
        let mut watch = store.watch(kind).await.unwrap();
        let Event::Upsert(object) = next(&mut watch).await else {
            panic!("{kind}")
        };
        assert_eq!(object.key, expected);
        assert_eq!(next(&mut watch).await, Event::InSync);
        if kind == Kind::Node {
            assert_eq!(object.value["metadata"]["labels"]["zone"], "x");
            assert_eq!(object.value.get("spec"), None);
            assert_eq!(
                store.get(&expected).await.unwrap().value["spec"]["podCIDR"],
                "10.0.0.0/24"
            );
        }
    }
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let cluster = Cluster::new().await;
    let manifests: String = (0..1100)
        .map(|number| {
            format!(
                "---\napiVersion: crd.projectcalico.org/v1\nkind: IPAMHandle\nmetadata: {{name: h{number:04}}}\n\
                 spec: {{handleID: h{number:04}, block: {{}}}}\n"
            )
        })
        .collect();
    cluster.kubectl("create -f -", &manifests);
    let store = cluster.open().await;
    let listed = store.list(Kind::IpamHandle).await.unwrap();
    assert_eq!(listed.len(), 1100);
    let mut visited = Vec::new();
    let mut see = |object| visited.push(object);
    store.visit(Kind::IpamHandle, &mut see).await.unwrap();
    assert_eq!(visited, listed);
    let mut watch = store.watch(Kind::IpamHandle).await.unwrap();
    let mut seen = 0;
    while let Event::Upsert(_) = next(&mut watch).await {
        seen += 1;
    }
    assert_eq!(seen, 1100);
}

fn block(cidr: &str, affinity: &str) -> Object {
    let name = cidr.replace(['.', '/'], "-");
    let spec = json!({
        "cidr": cidr, "affinity": affinity, "strictAffinity": false,
        "allocations": [null, null, null, null], "unallocated": [0, 1, 2, 3], "attributes": [],
    });
    object(Key::cluster(Kind::IpamBlock, name), json!({ "spec": spec }))
}

/// For n1 and n2.
async fn a_block_each(store: &dyn Datastore) {
    for (cidr, affinity) in [("10.0.0.0/30", "host:n1"), ("10.0.0.4/30", "host:n2")] {
        store.create(block(cidr, affinity)).await.unwrap();
    }
}

async fn told(watch: &mut Watch) -> String {
    match next(watch).await {
        Event::Upsert(object) => format!("+{}", object.key.name),
        Event::Delete(key) => format!("-{}", key.name),
        other => format!("{other:?}"),
    }
}

async fn followed(store: &impl Datastore) -> Vec<String> {
    let mut names = Vec::new();
    let mut see = |object: Object| names.push(object.key.name);
    store
        .visit_followed(Kind::IpamBlock, &mut see)
        .await
        .unwrap();
    names
}

#[tokio::test]
async fn blocks_of_one_node_are_followed_as_they_come_and_go() {
    let cluster = Cluster::new().await;
    let others = cluster.open().await;
    a_block_each(&*others).await;
    let store = cluster
        .store(|settings| settings.blocks_of_node = Some("n1".into()))
        .await;
    assert_eq!(followed(&store).await, ["10-0-0-0-30"], "by a list");
    let mut watch = store.watch(Kind::IpamBlock).await.unwrap();
    assert_eq!(told(&mut watch).await, "+10-0-0-0-30");
    assert_eq!(told(&mut watch).await, "InSync");

    // One comes to the node, another goes from it, and its node had it never.
    let give = async |cidr: &str, affinity: Value| {
        let name = cidr.replace(['.', '/'], "-");
        let mut object = others
            .get(&Key::cluster(Kind::IpamBlock, name))
            .await
            .unwrap();
        object.value["spec"]["affinity"] = affinity;
        others.update(object).await.unwrap();
    };
    give("10.0.0.4/30", json!("host:n1")).await;
    assert_eq!(told(&mut watch).await, "+10-0-0-4-30");
    give("10.0.0.0/30", json!("host:n10")).await;
    assert_eq!(told(&mut watch).await, "-10-0-0-0-30");
    give("10.0.0.4/30", Value::Null).await;
    assert_eq!(told(&mut watch).await, "-10-0-0-4-30");
    give("10.0.0.4/30", json!("host:n1")).await;
    assert_eq!(told(&mut watch).await, "+10-0-0-4-30");

    // What the store itself writes is there for the next look, if it is the node's.
    store.create(block("10.0.0.8/30", "host:n1")).await.unwrap();
    store
        .create(block("10.0.0.12/30", "host:n2"))
        .await
        .unwrap();
    assert_eq!(followed(&store).await, ["10-0-0-4-30", "10-0-0-8-30"]);
    assert_eq!(store.list(Kind::IpamBlock).await.unwrap().len(), 4);
    assert_eq!(told(&mut watch).await, "+10-0-0-8-30");
    let last = Key::cluster(Kind::IpamBlock, "10-0-0-8-30");
    others.delete(&last, None).await.unwrap();
    assert_eq!(told(&mut watch).await, "-10-0-0-8-30");
}

#[tokio::test]
async fn without_selectable_fields_all_blocks_are_followed() {
    let cluster = Cluster::new().await;
    let crd = "crd/ipamblocks.crd.projectcalico.org";
    let patch = |fields: &str| {
        let patch = r#"[{"op":"OP","path":"/spec/versions/0/selectableFields"VALUE}]"#;
        let patch = match fields {
            "" => patch.replace("OP\"", "remove\"").replace("VALUE", ""),
            some => patch
                .replace("OP\"", "add\"")
                .replace("VALUE", &format!(",\"value\":{some}")),
        };
        cluster.kubectl(&format!("patch {crd} --type=json -p={patch}"), "");
    };
    patch("");
    let others = cluster.open().await;
    a_block_each(&*others).await;
    // The API server takes a moment to serve the definition of before.
    let mut seen = Vec::new();
    for _ in 0..100 {
        let store = cluster
            .store(|settings| settings.blocks_of_node = Some("n1".into()))
            .await;
        let _watch = store.watch(Kind::IpamBlock).await.unwrap();
        seen = followed(&store).await;
        if seen.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    patch(r#"[{"jsonPath":".spec.affinity"}]"#);
    assert_eq!(seen, ["10-0-0-0-30", "10-0-0-4-30"]);
    for _ in 0..100 {
        let store = cluster
            .store(|settings| settings.blocks_of_node = Some("n1".into()))
            .await;
        seen = followed(&store).await;
        if seen.len() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(seen, ["10-0-0-0-30"], "the next test needs them again");
}
