use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use datastore::memory::{Fault, MemoryStore};
use datastore::{Key, Object};
use felix_api::cni::{Activate, Add, Added, Attachment, Del, Gc};
use serde_json::{Value, json};

use super::start::Search;
use super::*;

/// A server over a store in memory, and somebody who plays calculation and dataplane.
struct Bench {
    server: Arc<Server>,
    store: MemoryStore,
    away: Arc<AtomicBool>,
    state: tempfile::TempDir,
}

async fn put(store: &MemoryStore, kind: crds::Kind, name: &str, namespace: &str, rest: Value) {
    let key = if kind.namespaced() {
        Key::namespaced(kind, namespace, name)
    } else {
        Key::cluster(kind, name)
    };
    let mut value = rest;
    value["metadata"]["name"] = name.into();
    store
        .create(Object {
            key,
            resource_version: String::new(),
            value,
        })
        .await
        .unwrap();
}

async fn bench() -> Bench {
    let store = MemoryStore::new();
    put(&store, crds::Kind::Node, "node", "", json!({})).await;
    let pool = |cidr: &str| json!({ "spec": { "cidr": cidr } });
    put(&store, crds::Kind::IpPool, "blue", "", pool("10.1.0.0/16")).await;
    put(&store, crds::Kind::IpPool, "six", "", pool("fd00::/112")).await;
    let state = tempfile::tempdir().unwrap();
    let server = server(&store, state.path());
    let away = Arc::new(AtomicBool::new(false));
    let cut = away.clone();
    store.on_call(move |_| cut.load(Ordering::Relaxed).then_some(Fault::Unavailable));
    Bench {
        server,
        store,
        away,
        state,
    }
}

fn server(store: &MemoryStore, state: &std::path::Path) -> Arc<Server> {
    let board = Arc::new(Board::default());
    board
        .calc
        .send_modify(|view| view.overlay = Some(Arc::default()));
    let (updates, receiver) = mpsc::channel(64);
    tokio::spawn(kernel(receiver, board.clone()));
    let settings = Settings {
        node: "node".to_owned(),
        interface_prefix: "cali".to_owned(),
        mtu: 0,
        state_dir: state.to_owned(),
        boot: "boot".to_owned(),
    };
    let ends = Ends {
        store: Arc::new(store.clone()),
        ipam: ipam::Ipam::new(Arc::new(store.clone())),
        updates,
        pods: mpsc::channel(1).0,
        board,
        metrics: Arc::new(Metrics::new().unwrap()),
    };
    Arc::new(Server::new(settings, ends).unwrap())
}

/// Takes over each endpoint at once; everything is in the kernel as soon as it is wanted.
async fn kernel(mut updates: mpsc::Receiver<Update>, board: Arc<Board>) {
    let mut endpoints = std::collections::BTreeMap::new();
    while let Some(update) = updates.recv().await {
        if let Update::Endpoint(id, endpoint) = update {
            match endpoint {
                Some(endpoint) => endpoints.insert(id, endpoint),
                None => endpoints.remove(&id),
            };
        }
        let interfaces = endpoints.iter().map(|(id, endpoint)| {
            let interface = felix_calc::EndpointInterface {
                id: id.clone(),
                container_id: endpoint.container_id.clone(),
                addresses: endpoint.addresses.clone(),
                pod_mac: endpoint.pod_mac,
            };
            (endpoint.interface.clone(), interface)
        });
        let interfaces = interfaces.collect();
        let ready = endpoints.values().map(|e| e.interface.clone()).collect();
        board.calc.send_modify(|view| {
            view.generation += 1;
            view.endpoints = Arc::new(felix_calc::Endpoints { interfaces });
        });
        board.dataplane.send_modify(|view| {
            view.generation += 1;
            view.ready = Arc::new(ready);
        });
    }
}

fn add(pod: &str, container: &str) -> Add {
    Add {
        network: "net".to_owned(),
        container_id: container.to_owned(),
        ifname: "eth0".to_owned(),
        netns: "/".to_owned(),
        namespace: Some("default".to_owned()),
        pod: Some(pod.to_owned()),
        uid: None,
        ipv4: true,
        ipv6: true,
        ipv4_pools: Vec::new(),
        ipv6_pools: Vec::new(),
        addresses: Vec::new(),
        mtu: 0,
    }
}

fn del(container: &str) -> Del {
    Del {
        network: "net".to_owned(),
        container_id: container.to_owned(),
        ifname: "eth0".to_owned(),
        namespace: None,
        pod: None,
    }
}

impl Bench {
    async fn add(&self, add: Add) -> Added {
        match self.server.serve(Op::Add(add)).await {
            Reply::Added(added) => added,
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&self, op: Op) -> api::Error {
        match self.server.serve(op).await {
            Reply::Error(error) => error,
            other => panic!("{other:?}"),
        }
    }

    async fn done(&self, op: Op) {
        let reply = self.server.serve(op).await;
        assert_eq!(reply, Reply::Done);
    }

    async fn activate(&self, container: &str, added: &Added) -> Reply {
        let activate = Activate {
            network: "net".to_owned(),
            container_id: container.to_owned(),
            ifname: "eth0".to_owned(),
            host_interface: added.host_interface.clone(),
            pod_mac: "02:00:00:00:00:01".to_owned(),
        };
        self.server.serve(Op::Activate(activate)).await
    }

    async fn held(&self) -> Vec<IpAddr> {
        let held = self.server.ipam.allocations_of_node("node").await.unwrap();
        held.into_iter().map(|held| held.addr).collect()
    }

    fn owner(&self, interface: &str) -> Option<String> {
        let endpoints = self.server.board.calc.borrow().endpoints.clone();
        Some(endpoints.interfaces.get(interface)?.container_id.clone())
    }

    fn tombstones(&self) -> usize {
        let directory = api::tombstone::directory(self.state.path());
        std::fs::read_dir(directory).unwrap().count()
    }
}

#[tokio::test]
async fn adding_twice_gives_the_same_addresses_also_after_a_restart() {
    let bench = bench().await;
    let first = bench.add(add("web", "c1")).await;
    assert_eq!(first.addresses.len(), 2);
    assert_eq!(first.mtu, 1500);
    assert_eq!(bench.add(add("web", "c1")).await, first);
    let again = server(&bench.store, bench.state.path());
    assert_eq!(
        again.serve(Op::Add(add("web", "c1"))).await,
        Reply::Added(first)
    );
    assert_eq!(bench.held().await.len(), 2);
}

/// With an API server that answers slowly, what an ADD takes is how often it waits for an answer.
#[tokio::test(start_paused = true)]
async fn an_add_waits_for_one_read_and_two_writes() {
    let bench = bench().await;
    let of_one_family = |container: &str| Add {
        ipv6: false,
        ..add(container, container)
    };
    bench.add(of_one_family("c1")).await;
    let second = std::time::Duration::from_secs(1);
    bench.store.on_call(move |_| Some(Fault::Delay(second)));
    let start = tokio::time::Instant::now();
    bench.add(of_one_family("c2")).await;
    assert_eq!(start.elapsed(), 3 * second);
}

#[tokio::test]
async fn addresses_of_an_add_that_was_cut_off_are_taken_up_again() {
    let bench = bench().await;
    let first = bench.add(add("web", "c1")).await;
    std::fs::remove_file(bench.state.path().join("endpoints/c1.eth0.json")).unwrap();
    let again = server(&bench.store, bench.state.path());
    assert_eq!(
        again.serve(Op::Add(add("web", "c1"))).await,
        Reply::Added(first)
    );
    assert_eq!(bench.held().await.len(), 2);
}

#[tokio::test]
async fn both_families_or_nothing() {
    let bench = bench().await;
    bench
        .store
        .delete(&Key::cluster(crds::Kind::IpPool, "six"), None)
        .await
        .unwrap();
    let error = bench.refused(Op::Add(add("web", "c1"))).await;
    assert_eq!(error.code, code::NO_ADDRESS);
    assert!(error.details.contains("IPv6"), "{error:?}");
    assert_eq!(bench.held().await, [] as [IpAddr; 0]);
}

#[tokio::test]
async fn annotations_of_the_pod_win_over_those_of_its_namespace() {
    let bench = bench().await;
    let pool = json!({ "spec": { "cidr": "10.2.0.0/16", "assignmentMode": "Manual" } });
    put(&bench.store, crds::Kind::IpPool, "green", "", pool).await;
    let annotated = |pool: &str| json!({ "metadata": { "annotations": { "cni.projectcalico.org/ipv4pools": format!("[\"{pool}\"]") } } });
    put(
        &bench.store,
        crds::Kind::Namespace,
        "default",
        "",
        annotated("green"),
    )
    .await;
    put(
        &bench.store,
        crds::Kind::Pod,
        "special",
        "default",
        annotated("blue"),
    )
    .await;
    let first = |added: &Added| added.addresses[0].to_string();
    assert!(first(&bench.add(add("plain", "c1")).await).starts_with("10.2."));
    assert!(first(&bench.add(add("special", "c2")).await).starts_with("10.1."));
    let broken =
        json!({ "metadata": { "annotations": { "cni.projectcalico.org/ipv4pools": "green" } } });
    put(&bench.store, crds::Kind::Pod, "broken", "default", broken).await;
    let error = bench.refused(Op::Add(add("broken", "c3"))).await;
    assert_eq!(error.code, code::INVALID_CONFIG);
    assert!(error.message.contains("ipv4pools"), "{error:?}");
}

#[tokio::test]
async fn a_fixed_address_moves_to_the_new_container_of_its_pod_and_to_no_other() {
    let bench = bench().await;
    let fixed = json!({ "metadata": { "annotations": { "cni.projectcalico.org/ipAddrs": "[\"10.1.0.9\"]" } } });
    put(
        &bench.store,
        crds::Kind::Pod,
        "web",
        "default",
        fixed.clone(),
    )
    .await;
    put(&bench.store, crds::Kind::Pod, "thief", "default", fixed).await;
    let first = bench.add(add("web", "c1")).await;
    assert_eq!(first.addresses, ["10.1.0.9/32".parse().unwrap()]);
    assert_eq!(bench.add(add("web", "c2")).await.addresses, first.addresses);
    let error = bench.refused(Op::Add(add("thief", "c3"))).await;
    assert_eq!(error.code, code::NO_ADDRESS);
    bench.done(Op::Del(del("c1"))).await;
    let wanted: IpAddr = "10.1.0.9".parse().unwrap();
    assert_eq!(bench.held().await, [wanted]);
}

#[tokio::test]
async fn deleting_an_old_container_leaves_the_new_one_of_the_pod() {
    let bench = bench().await;
    let old = bench.add(add("web", "c1")).await;
    assert_eq!(bench.activate("c1", &old).await, Reply::Done);
    let new = bench.add(add("web", "c2")).await;
    assert_eq!(new.host_interface, old.host_interface);
    assert_ne!(new.addresses, old.addresses);
    assert_eq!(
        bench.owner(&old.host_interface).as_deref(),
        Some("c1"),
        "no veth yet"
    );
    assert_eq!(bench.activate("c2", &new).await, Reply::Done);
    assert_eq!(bench.owner(&old.host_interface).as_deref(), Some("c2"));
    bench.done(Op::Del(del("c1"))).await;
    assert_eq!(bench.owner(&old.host_interface).as_deref(), Some("c2"));
    assert_eq!(bench.held().await.len(), 2);
    bench.done(Op::Del(del("c2"))).await;
    bench.done(Op::Del(del("c2"))).await;
    assert_eq!(bench.held().await.len(), 0);
    assert_eq!(bench.tombstones(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_without_datastore_is_done_now_and_settled_later() {
    let bench = bench().await;
    bench.add(add("web", "c1")).await;
    bench.away.store(true, Ordering::Relaxed);
    bench.done(Op::Del(del("c1"))).await;
    assert!(!bench.server.settle().await);
    assert_eq!(bench.tombstones(), 1);
    assert_eq!(
        bench.refused(Op::Add(add("web", "c1"))).await.code,
        code::TRY_AGAIN
    );
    bench.away.store(false, Ordering::Relaxed);
    assert_eq!(bench.held().await.len(), 2);
    assert!(bench.server.settle().await);
    assert_eq!(bench.tombstones(), 0);
    assert_eq!(bench.held().await.len(), 0);
}

#[tokio::test]
async fn an_add_finishes_the_deletion_before_it() {
    let bench = bench().await;
    let first = bench.add(add("web", "c1")).await;
    let path = api::tombstone::path(bench.state.path(), "c1", "eth0");
    std::fs::write(path, serde_json::to_vec(&del("c1")).unwrap()).unwrap();
    let second = bench.add(add("web", "c1")).await;
    assert_ne!(second.addresses, first.addresses);
    assert_eq!(bench.held().await.len(), 2);
    assert_eq!(bench.tombstones(), 0);
}

#[tokio::test]
async fn activating_needs_an_add_and_the_right_interface() {
    let bench = bench().await;
    let mut added = bench.add(add("web", "c1")).await;
    let Reply::Error(error) = bench.activate("other", &added).await else {
        panic!()
    };
    assert_eq!(error.code, code::UNKNOWN_CONTAINER);
    added.host_interface = "cali0".to_owned();
    let Reply::Error(error) = bench.activate("c1", &added).await else {
        panic!()
    };
    assert_eq!(error.code, code::INVALID_CONFIG);
    let second = Add {
        ifname: "net1".to_owned(),
        ..add("web", "c1")
    };
    assert_eq!(
        bench.refused(Op::Add(second)).await.code,
        code::INVALID_CONFIG
    );
    let outside = Add {
        container_id: "../c".to_owned(),
        ..add("web", "c1")
    };
    assert_eq!(
        bench.refused(Op::Add(outside)).await.code,
        code::INVALID_ENVIRONMENT
    );
}

#[tokio::test]
async fn collection_spares_what_is_listed_and_other_networks() {
    let bench = bench().await;
    bench.add(add("a", "alive")).await;
    bench.add(add("b", "dead")).await;
    bench
        .add(Add {
            network: "other".to_owned(),
            ..add("c", "foreign")
        })
        .await;
    let attachment = |id: &str| Attachment {
        container_id: id.to_owned(),
        ifname: "eth0".to_owned(),
    };
    let gc = Gc {
        network: "net".to_owned(),
        valid: vec![attachment("alive")],
    };
    let Reply::Collected(left) = bench.server.serve(Op::Gc(gc)).await else {
        panic!()
    };
    assert_eq!(left.remaining, [attachment("alive"), attachment("foreign")]);
    assert_eq!(bench.held().await.len(), 4);
}

#[tokio::test]
async fn addresses_that_nobody_remembers_are_released() {
    let bench = bench().await;
    bench.add(add("a", "kept")).await;
    bench.add(add("b", "leaked")).await;
    std::fs::remove_file(bench.state.path().join("endpoints/leaked.eth0.json")).unwrap();
    let again = server(&bench.store, bench.state.path());
    let held = again.search(Search::Own).await.unwrap();
    let none = ipam::LiveHandles::new();
    again.reclaim(held, None, none).await.unwrap();
    assert_eq!(bench.held().await.len(), 2);
}

#[tokio::test]
async fn a_sandbox_that_ended_without_a_deletion_is_found() {
    let bench = bench().await;
    for (pod, container, netns) in [("a", "runs", "/"), ("b", "ended", "/nowhere")] {
        let netns = netns.to_owned();
        let added = bench
            .add(Add {
                netns,
                ..add(pod, container)
            })
            .await;
        assert!(matches!(
            bench.activate(container, &added).await,
            Reply::Done
        ));
    }
    bench.server.collect_own(Search::Own).await.unwrap();
    // Written down first, then settled; its addresses are held until then.
    assert_eq!((bench.tombstones(), bench.held().await.len()), (1, 4));
    assert!(bench.server.settle().await);
    assert_eq!((bench.tombstones(), bench.held().await.len()), (0, 2));
    assert_eq!(bench.server.records().len(), 1);
}

#[tokio::test]
async fn an_unknown_sandbox_whose_pod_has_the_address_is_spared() {
    let bench = bench().await;
    for (pod, container) in [("alive", "one"), ("gone", "two")] {
        let added = bench.add(add(pod, container)).await;
        std::fs::remove_file(
            bench
                .state
                .path()
                .join(format!("endpoints/{container}.eth0.json")),
        )
        .unwrap();
        if pod == "alive" {
            let ips: Vec<Value> = added
                .addresses
                .iter()
                .map(|ip| json!({ "ip": ip.addr() }))
                .collect();
            let rest = json!({
                "spec": { "nodeName": "node", "containers": [] },
                "status": { "podIP": ips[0]["ip"], "podIPs": ips },
            });
            put(&bench.store, crds::Kind::Pod, pod, "default", rest).await;
        }
    }
    let again = server(&bench.store, bench.state.path());
    again.collect_own(Search::Borrowed).await.unwrap();
    assert_eq!(bench.held().await.len(), 2);
}
