use datastore::memory::MemoryStore;
use serde_json::{Value, json};

use super::detect::Unasked;
use super::*;

const LIMIT: Duration = Duration::from_secs(20);

struct Lab {
    store: Arc<MemoryStore>,
    board: Arc<Board>,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn put(store: &MemoryStore, name: &str, value: Value) {
    let mut value = value;
    value["metadata"]["name"] = json!(name);
    let object = Object {
        key: Key::cluster(Kind::Node, name),
        resource_version: String::new(),
        value,
    };
    store.create(object).await.unwrap();
}

fn interface(name: &str, nets: &[&str]) -> Interface {
    Interface {
        name: name.into(),
        up: true,
        addresses: nets.iter().map(|net| net.parse().unwrap()).collect(),
        mtu: 1400,
    }
}

impl Lab {
    async fn start(nodes: &[(&str, Value)], method: &str) -> Lab {
        let store = Arc::new(MemoryStore::new());
        for (name, value) in nodes {
            put(&store, name, value.clone()).await;
        }
        let board = Arc::<Board>::default();
        let wish = Wish::parse(None, Some(method), false, Unasked::default()).unwrap();
        let settings = Settings {
            node: "one".to_owned(),
            ipv4: wish,
            ipv6: Wish::Unasked(Unasked::default()),
        };
        let keeper = Keeper::new(store.clone(), settings, board.clone());
        let (looked, _) = watch::channel(false);
        let task = tokio::spawn(keeper.run(looked));
        Lab { store, board, task }
    }

    fn host_has(&self, interfaces: Vec<Interface>) {
        self.board.host.send_modify(|host| {
            host.listed = true;
            host.interfaces = Arc::new(interfaces);
        });
    }

    /// Waits until the annotation says this.
    async fn says(&self, expected: Option<&str>) {
        let key = Key::cluster(Kind::Node, "one");
        let wait = async {
            loop {
                let node = self.store.get(&key).await.unwrap();
                let said = &node.value["metadata"]["annotations"][annotation::NODE_IPV4_ADDRESS];
                if said.as_str() == expected {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LIMIT, wait).await.expect("the annotation in time");
    }

    async fn view(&self, matches: impl FnMut(&NodeView) -> bool) -> NodeView {
        let mut views = self.board.node.subscribe();
        let view = timeout(LIMIT, views.wait_for(matches)).await;
        view.expect("in time").unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn the_annotation_follows_the_interfaces_of_the_host() {
    let lab = Lab::start(&[("one", json!({}))], "first-found").await;
    lab.host_has(vec![interface("eth0", &["192.0.2.11/24"])]);
    lab.says(Some("192.0.2.11/24")).await;
    let view = lab.view(|view| view.known).await;
    assert_eq!((view.mtu, view.reason), (1400, "Known"));
    // The length of the subnet is mended.
    lab.host_has(vec![interface("eth0", &["192.0.2.11/25"])]);
    lab.says(Some("192.0.2.11/25")).await;
    // Another address, when the old one has been gone for a while.
    lab.host_has(vec![interface("eth0", &["192.0.2.12/25"])]);
    let view = lab.view(|view| !view.known).await;
    assert_eq!(view.reason, "NotOnHost");
    lab.says(Some("192.0.2.12/25")).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_by_hand_is_put_right_where_a_method_is_asked_for() {
    let lab = Lab::start(&[("one", json!({}))], "first-found").await;
    lab.host_has(vec![interface("eth0", &["192.0.2.11/24"])]);
    lab.says(Some("192.0.2.11/24")).await;
    let change = |text: Option<&str>| {
        let name = annotation::NODE_IPV4_ADDRESS.to_owned();
        BTreeMap::from([(name, text.map(str::to_owned))])
    };
    let key = Key::cluster(Kind::Node, "one");
    for text in [Some("203.0.113.9/24"), None, Some("nonsense")] {
        lab.store
            .patch_annotations(&key, change(text))
            .await
            .unwrap();
        lab.says(Some("192.0.2.11/24")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_address_of_another_node_is_taken_once_that_node_is_gone() {
    let annotations = json!({ (annotation::NODE_IPV4_ADDRESS): "192.0.2.11/24" });
    let two = json!({ "metadata": { "annotations": annotations } });
    let lab = Lab::start(&[("one", json!({})), ("two", two)], "first-found").await;
    lab.host_has(vec![interface("eth0", &["192.0.2.11/24"])]);
    let view = lab.view(|view| view.reason == "Conflict").await;
    let problem = view.problem.unwrap().to_string();
    assert!(!view.known && problem.contains("Node/two"), "{problem}");
    lab.says(None).await;
    let two = Key::cluster(Kind::Node, "two");
    lab.store.delete(&two, None).await.unwrap();
    lab.says(Some("192.0.2.11/24")).await;
    lab.view(|view| view.known).await;
}

#[tokio::test]
async fn the_kernel_says_what_it_would_send_from() {
    let wish = |destination: &str| {
        let method = format!("can-reach={destination}");
        Wish::parse(None, Some(&method), false, Unasked::default()).unwrap()
    };
    let loopback = Some(IpAddr::from(Ipv4Addr::LOCALHOST));
    assert_eq!(reached(&wish("127.0.0.9"), false).await, loopback);
    assert_eq!(reached(&wish("127.0.0.9"), true).await, None);
    assert_eq!(reached(&wish("nowhere.invalid"), false).await, None);
}
