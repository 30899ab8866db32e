//! A store that follows the blocks of one node.

use crds::Kind;
use datastore::{Datastore, Key, Object};
use serde_json::{Value, json};

use crate::fake::{Answer, Fake, event};
use crate::{next, silent};

fn block(name: &str, version: &str, affinity: &str) -> Value {
    json!({
        "metadata": { "name": name, "resourceVersion": version },
        "spec": {
            "cidr": format!("10.0.{}.0/32", name.len()), "affinity": affinity, "strictAffinity": false,
            "allocations": [null], "unallocated": [0], "attributes": [],
        },
    })
}

fn blocks(version: &str, blocks: &[Value]) -> Answer {
    let list = json!({ "metadata": { "resourceVersion": version }, "items": blocks });
    Answer::json(200, &list)
}

async fn visited(store: &impl Datastore) -> Vec<String> {
    let mut seen = Vec::new();
    let mut see = |object: Object| seen.push(object.key.name);
    store
        .visit_followed(Kind::IpamBlock, &mut see)
        .await
        .unwrap();
    seen
}

const OWN_BLOCKS: &str = "fieldSelector=spec.affinity%3Dhost%3An1";

#[tokio::test]
async fn blocks_of_one_node_are_followed_and_all_are_listed() {
    let mut server = Fake::start().await;
    let store = server
        .store(|settings| settings.blocks_of_node = Some("n1".into()))
        .await;
    // Before anything is followed.
    server.answer(blocks("9", &[block("a", "3", "host:n1")]));
    assert_eq!(visited(&store).await, ["a"]);
    assert!(server.asked().await.contains(OWN_BLOCKS));

    server.answer(blocks("10", &[block("a", "3", "host:n1")]));
    let lines = server.answer_lines();
    let mut watch = store.watch(Kind::IpamBlock).await.unwrap();
    assert_eq!(next(&mut watch).await, "+a 3");
    assert_eq!(next(&mut watch).await, "in sync");
    for _ in 0..2 {
        let asked = server.asked().await;
        assert!(asked.contains(OWN_BLOCKS), "{asked}");
    }
    lines
        .send(event("ADDED", block("bb", "11", "host:n1")))
        .unwrap();
    assert_eq!(next(&mut watch).await, "+bb 11");
    assert_eq!(visited(&store).await, ["a", "bb"], "nobody is asked");

    // What this store writes is there at once if it is a block of the node, and else it is not.
    let create = |name: &str| Object {
        key: Key::cluster(Kind::IpamBlock, name),
        resource_version: String::new(),
        value: block(name, "", "host:n1"),
    };
    server.answer(Answer::json(201, &block("ccc", "12", "host:n1")));
    store.create(create("ccc")).await.unwrap();
    assert_eq!(next(&mut watch).await, "+ccc 12");
    server.answer(Answer::json(201, &block("dddd", "13", "host:n2")));
    store.create(create("dddd")).await.unwrap();
    assert_eq!(visited(&store).await, ["a", "bb", "ccc"]);
    silent(&mut watch).await;
    for _ in 0..2 {
        server.asked().await;
    }

    // A list is about all.
    let all = ["a", "bb", "ccc", "dddd"].map(|name| block(name, "14", "host:n2"));
    server.answer(blocks("14", &all));
    assert_eq!(store.list(Kind::IpamBlock).await.unwrap().len(), 4);
    let asked = server.asked().await;
    assert!(!asked.contains("fieldSelector"), "{asked}");
    assert_eq!(visited(&store).await, ["a", "bb", "ccc"]);
    lines
        .send(event("DELETED", block("a", "15", "host:n1")))
        .unwrap();
    assert_eq!(next(&mut watch).await, "-a");
}

#[tokio::test]
async fn where_blocks_cannot_be_selected_all_are_followed() {
    let mut server = Fake::start().await;
    let store = server
        .store(|settings| settings.blocks_of_node = Some("n1".into()))
        .await;
    let refused = || Answer::status(400, "field label not supported: spec.affinity");
    let all = [block("a", "3", "host:n1"), block("bb", "4", "host:n2")];
    server.answer(refused());
    server.answer(blocks("9", &all));
    assert_eq!(visited(&store).await, ["a", "bb"]);
    server.answer(refused());
    server.answer(blocks("10", &all));
    let lines = server.answer_lines();
    let mut watch = store.watch(Kind::IpamBlock).await.unwrap();
    for expected in ["+a 3", "+bb 4", "in sync"] {
        assert_eq!(next(&mut watch).await, expected);
    }
    for is_selected in [true, false, true, false, false] {
        let asked = server.asked().await;
        assert_eq!(asked.contains(OWN_BLOCKS), is_selected, "{asked}");
    }
    // It is a watch of everything, so a list asks nobody.
    assert_eq!(store.list(Kind::IpamBlock).await.unwrap().len(), 2);
    assert_eq!(visited(&store).await, ["a", "bb"]);

    // The definition was mended, for which a watch is ended; then the next list selects again. That
    // others are not in it is no loss.
    let many: Vec<Value> = (1..=40)
        .map(|n| block(&"x".repeat(n), &(10 + n).to_string(), "host:n2"))
        .collect();
    for block in &many {
        lines.send(event("ADDED", block.clone())).unwrap();
        next(&mut watch).await;
    }
    server.answer(Answer::status(410, "Expired"));
    server.answer(blocks("60", &[block("a", "3", "host:n1")]));
    let _lines = server.answer_lines();
    drop(lines);
    let mut gone = 0;
    while gone < 41 {
        let told = next(&mut watch).await;
        assert!(told.starts_with('-') && told != "-a", "{told}");
        gone += 1;
    }
    assert_eq!(visited(&store).await, ["a"]);
}
