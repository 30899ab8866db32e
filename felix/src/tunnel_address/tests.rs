use datastore::memory::{Fault, MemoryStore, Operation};
use datastore::{Object, Typed, update_typed};
use felix_calc::TunnelsWanted;
use serde_json::{Value, json};

use super::*;

/// A keeper over a store in memory, and what it tells the calculation.
struct Bench {
    keeper: Keeper,
    store: MemoryStore,
    told: mpsc::Receiver<Update>,
}

async fn put(store: &MemoryStore, kind: Kind, name: &str, mut value: Value) {
    value["metadata"]["name"] = name.into();
    let object = Object {
        key: Key::cluster(kind, name),
        resource_version: String::new(),
        value,
    };
    store.create(object).await.unwrap();
}

fn keeper(store: &MemoryStore) -> (Keeper, mpsc::Receiver<Update>) {
    let (updates, told) = mpsc::channel(16);
    let board = Arc::new(Board::default());
    let store: Arc<dyn Datastore> = Arc::new(store.clone());
    let ipam = Ipam::new(store.clone());
    (
        Keeper::new(store, ipam, "a".to_owned(), updates, board),
        told,
    )
}

async fn bench(pools: &[(&str, Value)]) -> Bench {
    let store = MemoryStore::new();
    let node = json!({ "metadata": { "labels": { "rack": "one" } } });
    put(&store, Kind::Node, "a", node).await;
    for (name, spec) in pools {
        put(&store, Kind::IpPool, name, json!({ "spec": spec })).await;
    }
    let (keeper, told) = keeper(&store);
    Bench {
        keeper,
        store,
        told,
    }
}

impl Bench {
    /// One look at the world; what is wrong.
    async fn settle(&mut self, facts: &TunnelFacts) -> Vec<String> {
        let mut problems = Vec::new();
        self.keeper.settle(facts, &mut problems).await.unwrap();
        problems.iter().map(ToString::to_string).collect()
    }

    /// What was told last.
    fn told(&mut self) -> Option<TunnelAddresses> {
        let mut last = None;
        while let Ok(Update::Tunnels(addresses)) = self.told.try_recv() {
            last = Some(addresses);
        }
        last
    }

    async fn annotation(&self, device: Device) -> Option<String> {
        let node = get_typed::<Node>(&self.store, "a").await.unwrap();
        let annotations = node.resource.metadata.annotations?;
        annotations.get(device.annotation()).cloned()
    }

    async fn held(&self, handle: &str) -> Vec<IpAddr> {
        self.keeper.ipam.addresses_of_handle(handle).await.unwrap()
    }

    async fn change_pool(&self, name: &str, change: impl FnOnce(&mut IpPool)) {
        let mut pool: Typed<IpPool> = get_typed(&self.store, name).await.unwrap();
        change(&mut pool.resource);
        update_typed(&self.store, &pool).await.unwrap();
    }
}

fn ipip_wanted() -> TunnelFacts {
    TunnelFacts {
        wanted: TunnelsWanted {
            ipip: true,
            ..TunnelsWanted::default()
        },
        ..TunnelFacts::default()
    }
}

#[tokio::test]
async fn an_address_stays_while_a_pool_cannot_be_read() {
    let ipip = json!({ "cidr": "10.2.0.0/16", "ipipMode": "Always" });
    let other = json!({ "cidr": "10.3.0.0/16" });
    let mut bench = bench(&[("ipip", ipip), ("other", other)]).await;
    bench.settle(&ipip_wanted()).await;
    let address = bench.told().unwrap().ipip.unwrap();
    let key = Key::cluster(Kind::IpPool, "ipip");
    bench.store.delete(&key, None).await.unwrap();
    let mut facts = ipip_with(address.into());
    facts.keep = true;
    assert_eq!(bench.settle(&facts).await, [""; 0]);
    assert_eq!(bench.told(), None, "the same as before");
    assert_eq!(bench.held(HANDLE).await, [IpAddr::from(address)]);
    facts.keep = false;
    bench.settle(&facts).await;
    let next = bench.told().unwrap().ipip.unwrap();
    assert!(next.to_string().starts_with("10.3."), "{next}");
}

/// The device has this address.
fn ipip_with(address: IpAddr) -> TunnelFacts {
    let mut facts = ipip_wanted();
    Device::Ipip.set(&mut facts.in_place, Some(address));
    facts.on_devices.insert(address);
    facts
}

const HANDLE: &str = "ipip-tunnel-addr-a";

#[tokio::test]
async fn an_address_is_allocated_as_calico_does_and_announced_once_the_device_has_it() {
    let plain = json!({ "cidr": "10.1.0.0/16" });
    let ipip = json!({ "cidr": "10.2.0.0/16", "ipipMode": "CrossSubnet" });
    let mut bench = bench(&[("a-plain", plain), ("b-ipip", ipip)]).await;
    assert!(bench.settle(&ipip_wanted()).await.is_empty());
    let address = bench.told().unwrap().ipip.unwrap();
    assert!(address.to_string().starts_with("10.2."), "{address}");
    let held = bench.keeper.ipam.allocations_of_node("a").await.unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].handle.as_deref(), Some(HANDLE));
    assert_eq!(held[0].attributes["type"], "ipipTunnelAddress");
    assert_eq!(held[0].attributes["node"], "a");
    assert_eq!(
        bench.annotation(Device::Ipip).await,
        None,
        "not in place yet"
    );
    bench.settle(&ipip_with(address.into())).await;
    let annotation = bench.annotation(Device::Ipip).await;
    assert_eq!(annotation, Some(address.to_string()));
    assert_eq!(bench.told(), None, "nothing is said twice");
    assert_eq!(bench.held(HANDLE).await, [IpAddr::from(address)]);
}

#[tokio::test]
async fn a_pool_that_is_not_suitable_any_more_is_left_without_a_gap() {
    let old = json!({ "cidr": "10.1.0.0/16", "ipipMode": "Always" });
    let mut bench = bench(&[("old", old)]).await;
    bench.settle(&ipip_wanted()).await;
    let old: IpAddr = bench.told().unwrap().ipip.unwrap().into();
    bench.settle(&ipip_with(old)).await;
    let new = json!({ "spec": { "cidr": "10.2.0.0/16", "ipipMode": "Always" } });
    put(&bench.store, Kind::IpPool, "new", new).await;
    bench.settle(&ipip_with(old)).await;
    assert_eq!(bench.told(), None, "both pools are suitable");

    bench
        .change_pool("old", |pool| pool.spec.disabled = Some(true))
        .await;
    bench.settle(&ipip_with(old)).await;
    let new: IpAddr = bench.told().unwrap().ipip.unwrap().into();
    assert!(new.to_string().starts_with("10.2."), "{new}");
    let annotation = bench.annotation(Device::Ipip).await;
    assert_eq!(annotation, Some(old.to_string()), "the device has it still");
    assert_eq!(bench.held(HANDLE).await, [old, new]);

    bench.settle(&ipip_with(new)).await;
    assert_eq!(bench.annotation(Device::Ipip).await, Some(new.to_string()));
    assert_eq!(bench.held(HANDLE).await, [new]);
}

#[tokio::test]
async fn what_nobody_asks_for_is_unsaid_at_once_and_given_back_when_the_device_is_gone() {
    let pool = json!({ "cidr": "10.1.0.0/16", "ipipMode": "Always" });
    let mut bench = bench(&[("pool", pool)]).await;
    bench.settle(&ipip_wanted()).await;
    let address: IpAddr = bench.told().unwrap().ipip.unwrap().into();
    bench.settle(&ipip_with(address)).await;
    let lingering = TunnelFacts {
        wanted: TunnelsWanted::default(),
        ..ipip_with(address)
    };
    bench.settle(&lingering).await;
    assert_eq!(bench.told(), Some(TunnelAddresses::default()));
    assert_eq!(bench.annotation(Device::Ipip).await, None);
    assert_eq!(bench.held(HANDLE).await, [address], "a pod must not get it");
    bench.settle(&TunnelFacts::default()).await;
    assert!(bench.held(HANDLE).await.is_empty());
}

#[tokio::test]
async fn after_a_restart_the_annotated_address_is_kept() {
    let pool = json!({ "cidr": "10.1.0.0/16", "vxlanMode": "Always" });
    let six = json!({ "cidr": "fd00:10::/112", "vxlanMode": "Always" });
    let mut bench = bench(&[("pool", pool), ("six", six)]).await;
    let mut facts = TunnelFacts::default();
    (facts.wanted.vxlan, facts.wanted.vxlan_v6) = (true, true);
    assert!(bench.settle(&facts).await.is_empty());
    let first = bench.told().unwrap();
    let held = bench.held("vxlan-v6-tunnel-addr-a").await;
    assert_eq!(held, [IpAddr::from(first.vxlan_v6.unwrap())]);

    // An earlier run was cut off between two addresses; the second is the one others know.
    let request = AutoAssign {
        node: "a".to_owned(),
        handle: "vxlan-tunnel-addr-a".to_owned(),
        v4: 2,
        intended_use: IntendedUse::Tunnel,
        ..AutoAssign::default()
    };
    let both = bench.keeper.ipam.auto_assign(&request).await.unwrap().v4;
    let second = both[1];
    assert_ne!(first.vxlan.map(IpAddr::from), Some(second));
    let annotation = [(
        annotation::NODE_VXLAN_TUNNEL_ADDRESS.to_owned(),
        Some(second.to_string()),
    )];
    let key = Key::cluster(Kind::Node, "a");
    let patched = bench.store.patch_annotations(&key, annotation.into()).await;
    patched.unwrap();

    (bench.keeper, bench.told) = keeper(&bench.store);
    assert!(bench.keeper.recall().await.unwrap());
    let recalled = bench.told().unwrap();
    assert_eq!(recalled.vxlan.map(IpAddr::from), Some(second));
    assert_eq!(recalled.vxlan_v6, first.vxlan_v6);
    bench.settle(&facts).await;
    assert_eq!(bench.held("vxlan-tunnel-addr-a").await, [second]);
}

#[tokio::test]
async fn pools_that_do_not_allow_tunnels_or_this_node_are_passed_over() {
    let workloads =
        json!({ "cidr": "10.1.0.0/16", "ipipMode": "Always", "allowedUses": ["Workload"] });
    let elsewhere =
        json!({ "cidr": "10.2.0.0/16", "ipipMode": "Always", "nodeSelector": "rack == 'two'" });
    let mut bench = bench(&[("workloads", workloads), ("elsewhere", elsewhere)]).await;
    let problems = bench.settle(&ipip_wanted()).await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains("allows the use Tunnel"),
        "{problems:?}"
    );
    assert_eq!(bench.told(), Some(TunnelAddresses::default()));
    let plain = json!({ "spec": { "cidr": "10.3.0.0/16", "allowedUses": ["Tunnel"] } });
    put(&bench.store, Kind::IpPool, "plain", plain).await;
    assert!(bench.settle(&ipip_wanted()).await.is_empty());
    let address = bench.told().unwrap().ipip.unwrap();
    assert!(address.to_string().starts_with("10.3."), "{address}");
}

#[tokio::test]
async fn nothing_is_recalled_from_a_datastore_that_is_away() {
    let mut bench = bench(&[]).await;
    for operation in [Operation::Get, Operation::Get] {
        bench.store.fail_next(operation, Fault::Unavailable);
    }
    assert!(!bench.keeper.recall().await.unwrap(), "no Node");
    assert!(!bench.keeper.recall().await.unwrap(), "no Node, again");
    let handles = bench.store.clone();
    handles.on_call(|call| (call.kind == Kind::IpamHandle).then_some(Fault::Unavailable));
    assert!(!bench.keeper.recall().await.unwrap(), "no handles");
    assert_eq!(bench.told(), None);
    bench.store.restart();
    assert!(bench.keeper.recall().await.unwrap());
    assert_eq!(bench.told(), Some(TunnelAddresses::default()));
}
