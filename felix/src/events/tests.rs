use datastore::memory::MemoryStore;
use datastore::{Key, Object};
use serde_json::json;

use super::*;

fn incident(reason: &'static str, key: &str) -> Incident {
    Incident {
        reason,
        key: key.to_owned(),
        about: None,
        text: "text".to_owned(),
    }
}

struct Lab {
    judge: Judge,
    now: Instant,
}

impl Lab {
    fn new() -> Lab {
        let now = Instant::now();
        Lab {
            judge: Judge::new(now),
            now,
        }
    }

    fn news(&mut self, keys: &[&str]) -> Vec<String> {
        let incidents = keys.iter().map(|key| incident("Down", key)).collect();
        let news = self.judge.news(incidents, self.now);
        news.into_iter().map(|one| one.key).collect()
    }

    fn pass(&mut self, secs: u64) {
        self.now += Duration::from_secs(secs);
    }
}

#[test]
fn an_incident_is_told_when_it_begins_and_not_while_it_lasts() {
    let mut lab = Lab::new();
    assert_eq!(lab.news(&["a"]), ["a"]);
    assert_eq!(lab.news(&["a", "b"]), ["b"]);
    lab.pass(3600);
    assert!(lab.news(&["a", "b"]).is_empty(), "still the same");
    assert!(lab.news(&["b"]).is_empty());
    assert_eq!(lab.news(&["a", "b"]), ["a"], "again, after long");
}

#[test]
fn what_comes_and_goes_is_told_once_in_a_while() {
    let mut lab = Lab::new();
    let mut told = 0;
    for _ in 0..120 {
        told += lab.news(&["a"]).len();
        lab.pass(5);
        told += lab.news(&[]).len();
        lab.pass(5);
    }
    assert_eq!(told, 2, "in twenty minutes");
}

#[test]
fn an_agent_tells_little_whatever_happens_and_the_rest_later() {
    let mut lab = Lab::new();
    let keys: Vec<String> = (0..50).map(|number| format!("k{number:02}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert_eq!(lab.news(&keys).len(), 10);
    assert!(lab.news(&keys).is_empty());
    lab.pass(29);
    assert!(lab.news(&keys).is_empty());
    lab.pass(1);
    assert_eq!(lab.news(&keys), ["k10"]);
    lab.pass(90);
    assert_eq!(lab.news(&keys), ["k11", "k12", "k13"]);
    lab.pass(86_400);
    assert_eq!(lab.news(&keys).len(), 10, "no more than at first");
}

#[test]
fn agents_that_see_the_same_about_an_object_make_one_event_of_it() {
    let refused = Incident {
        about: Some("BGPPeer/tor".to_owned()),
        ..incident("ConfigurationRefused", "BGPPeer/tor spec.asNumber wrong")
    };
    let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
    let (one, two) = (notice("n1", &refused, at(1)), notice("n2", &refused, at(2)));
    assert_eq!(one.name, two.name);
    assert_eq!((one.kind, one.object.as_str()), (Kind::BgpPeer, "tor"));
    let down = incident("BGPSessionDown", "192.0.2.1");
    let (one, two) = (notice("n1", &down, at(1)), notice("n1", &down, at(601)));
    assert_ne!(one.name, two.name, "it happened twice");
    assert_eq!((one.kind, one.object.as_str()), (Kind::Node, "n1"));
    assert_eq!(known_object("IPPool a"), Some((Kind::IpPool, "a")));
    for text in ["a.yaml", "Node/a, Node/b", "Node/a", "Cat/x"] {
        assert_eq!(known_object(text), None, "{text}");
    }
}

async fn create(store: &MemoryStore, kind: Kind, name: &str, value: serde_json::Value) {
    let object = Object {
        key: Key::cluster(kind, name),
        resource_version: String::new(),
        value,
    };
    store.create(object).await.unwrap();
}

#[tokio::test]
async fn a_pool_is_nearly_full_until_there_is_room_again() {
    let store = MemoryStore::new();
    let spec = json!({ "cidr": "10.0.0.0/26", "blockSize": 26 });
    create(&store, Kind::IpPool, "p", json!({ "spec": spec })).await;
    let with_used = |used: usize| {
        let allocations: Vec<_> = (0..64)
            .map(|n| if n < used { json!(0) } else { json!(null) })
            .collect();
        let unallocated: Vec<usize> = (used..64).collect();
        json!({ "spec": {
            "cidr": "10.0.0.0/26", "affinity": "host:n1", "strictAffinity": false,
            "allocations": allocations, "unallocated": unallocated,
            "attributes": [{ "handle_id": "h", "secondary": { "node": "n1" } }],
        } })
    };
    let name = "10-0-0-0-26";
    let mut full = BTreeMap::new();
    for (used, expected) in [(57, 0), (58, 1), (56, 1), (54, 0), (56, 0), (64, 1)] {
        let _absent = store
            .delete(&Key::cluster(Kind::IpamBlock, name), None)
            .await;
        create(&store, Kind::IpamBlock, name, with_used(used)).await;
        full = nearly_full(&store, Count::InBlocks, full).await;
        assert_eq!(full.len(), expected, "{used} used");
    }
    assert_eq!(
        full["p"].text,
        "64 of the 64 addresses of IPPool/p are in use"
    );
}

#[tokio::test]
async fn where_a_controller_counts_no_block_is_read() {
    let store = MemoryStore::new();
    let spec = json!({ "cidr": "10.0.0.0/26", "blockSize": 26 });
    create(&store, Kind::IpPool, "p", json!({ "spec": spec })).await;
    store.on_call(|call| {
        assert_ne!(call.kind, Kind::IpamBlock, "{:?}", call.operation);
        None
    });
    let key = Key::cluster(Kind::IpPool, "p");
    let mut full = nearly_full(&store, Count::InStatus, BTreeMap::new()).await;
    assert!(full.is_empty(), "nobody has counted yet");
    for (used, expected) in [(57, 0), (58, 1), (56, 1), (54, 0)] {
        let status = json!({ "used": used, "free": 64 - used });
        store.patch_status(&key, status).await.unwrap();
        full = nearly_full(&store, Count::InStatus, full).await;
        assert_eq!(full.len(), expected, "{used} used");
    }
}
