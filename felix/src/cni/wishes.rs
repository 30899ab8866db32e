//! What a pod asks for: annotations of the pod over those of its namespace, over the network
//! configuration (Calico behaviour).

use std::collections::BTreeMap;
use std::net::IpAddr;

use crds::core::{Namespace, Pod};
use crds::names::annotation;
use crds::{Kind, Resource};
use datastore::{Datastore, Key, Typed};
use felix_api::cni::{self as api, Add, code};

use super::record::parse_mac;

/// What to allocate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Names or CIDRs of the only pools to use, per family; empty means every pool.
    pub(super) pools_v4: Vec<String>,
    /// See `pools_v4`.
    pub(super) pools_v6: Vec<String>,
    /// Exactly these addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// MAC address of the pod side.
    pub(super) pod_mac: Option<String>,
    /// Labels of the namespace, by which pools choose.
    pub(super) namespace_labels: BTreeMap<String, String>,
}

/// Reads what the objects of a pod and the network configuration ask for.
///
/// # Errors
/// As the plugin shall report it: try again when the datastore is away.
pub(super) async fn read(store: &dyn Datastore, add: &Add) -> Result<Wishes, api::Error> {
    let mut wishes = Wishes {
        pools_v4: add.ipv4_pools.clone(),
        pools_v6: add.ipv6_pools.clone(),
        addresses: add.addresses.clone(),
        ..Wishes::default()
    };
    let (Some(namespace), Some(pod)) = (&add.namespace, &add.pod) else {
        return Ok(wishes);
    };
    let namespace_key = Key::cluster(Kind::Namespace, namespace);
    let pod_key = Key::namespaced(Kind::Pod, namespace, pod);
    let (namespace, pod) = tokio::try_join!(
        get::<Namespace>(store, &namespace_key),
        get::<Pod>(store, &pod_key)
    )?;
    if let Some(namespace) = namespace {
        let metadata = namespace.metadata();
        wishes.namespace_labels = metadata.labels.clone().unwrap_or_default();
        wishes.follow(&namespace_key, metadata.annotations.as_ref())?;
    }
    if let Some(pod) = pod {
        let annotations = pod.metadata().annotations.clone().unwrap_or_default();
        wishes.follow(&pod_key, Some(&annotations))?;
        wishes.follow_pod(&pod_key, &annotations)?;
    }
    Ok(wishes)
}

async fn get<T: Resource>(store: &dyn Datastore, key: &Key) -> Result<Option<T>, api::Error> {
    let failed = |error: datastore::Error| api::Error {
        code: code::TRY_AGAIN,
        message: format!("cannot read {key}: {error}"),
        details: "the pod's wishes for its address are not known".to_owned(),
    };
    match store.get(key).await {
        Ok(object) => Ok(Some(Typed::from_object(object).map_err(failed)?.resource)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

impl Wishes {
    fn follow(
        &mut self,
        key: &Key,
        annotations: Option<&BTreeMap<String, String>>,
    ) -> Result<(), api::Error> {
        let Some(annotations) = annotations else {
            return Ok(());
        };
        if let Some(pools) = list(key, annotations, annotation::IPV4_POOLS)? {
            self.pools_v4 = pools;
        }
        if let Some(pools) = list(key, annotations, annotation::IPV6_POOLS)? {
            self.pools_v6 = pools;
        }
        Ok(())
    }

    fn follow_pod(
        &mut self,
        key: &Key,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), api::Error> {
        if annotations.contains_key(annotation::POD_IP_ADDRS_NO_IPAM) {
            let name = annotation::POD_IP_ADDRS_NO_IPAM;
            return Err(refused(
                key,
                name,
                "is not supported by this version; use ipAddrs",
            ));
        }
        if let Some(addresses) = list(key, annotations, annotation::POD_IP_ADDRS)? {
            let parsed: Result<Vec<IpAddr>, _> = addresses.iter().map(|a| a.parse()).collect();
            self.addresses = parsed.map_err(|_| {
                refused(key, annotation::POD_IP_ADDRS, "is not a list of addresses")
            })?;
        }
        if let Some(mac) = annotations.get(annotation::POD_HARDWARE_ADDRESS) {
            if parse_mac(mac).is_none() {
                let name = annotation::POD_HARDWARE_ADDRESS;
                return Err(refused(
                    key,
                    name,
                    "is not a MAC address like 02:00:00:00:00:01",
                ));
            }
            self.pod_mac = Some(mac.clone());
        }
        Ok(())
    }
}

/// A JSON list of texts; absent and empty are different: an empty list is nothing to choose from.
fn list(
    key: &Key,
    annotations: &BTreeMap<String, String>,
    name: &str,
) -> Result<Option<Vec<String>>, api::Error> {
    let Some(text) = annotations.get(name) else {
        return Ok(None);
    };
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(list) if list.is_empty() => Err(refused(key, name, "is an empty list; remove it")),
        Ok(list) => Ok(Some(list)),
        Err(_) => Err(refused(
            key,
            name,
            "is not a JSON list of texts like [\"a\", \"b\"]",
        )),
    }
}

fn refused(key: &Key, annotation: &str, problem: &str) -> api::Error {
    api::Error {
        code: code::INVALID_CONFIG,
        message: format!("{key}: annotation {annotation} {problem}"),
        details: String::new(),
    }
}
