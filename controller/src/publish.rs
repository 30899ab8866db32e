//! Writes what `figures` counts into the status of pools and peerings, where it differs.

use crds::{BgpPeer, IpPool, IpamBlock, Kind, NodeStatus};
use datastore::{Datastore, Error, Key, Typed, list_typed};
use serde_json::json;

use crate::figures;

/// Kinds that are followed, so that a look costs the API server nothing.
const FOLLOWED: [Kind; 4] = [
    Kind::IpPool,
    Kind::IpamBlock,
    Kind::BgpPeer,
    Kind::NodeStatus,
];

/// Brings every status up to date.
///
/// # Errors
/// The first read or write that fails; call again.
pub(crate) async fn publish(store: &dyn Datastore) -> Result<(), Error> {
    for kind in FOLLOWED {
        store.watch(kind).await?;
    }
    let blocks = resources(list_typed::<IpamBlock>(store).await?);
    let pools = resources(list_typed::<IpPool>(store).await?);
    let named = |pool: &IpPool| pool.metadata.name.clone().unwrap_or_default();
    let names: Vec<String> = pools.iter().map(named).collect();
    let by_name = names.iter().map(String::as_str).zip(&pools);
    let figures = figures::of_pools(by_name, &blocks);
    for (pool, name) in pools.iter().zip(&names) {
        let Some(status) = figures.get(name) else {
            continue;
        };
        let old = pool.status.clone().unwrap_or_default();
        if (old.used, old.free) != (status.used, status.free) {
            let key = Key::cluster(Kind::IpPool, name);
            write(store, &key, json!(status)).await?;
        }
    }
    let peers = resources(list_typed::<BgpPeer>(store).await?);
    let nodes = resources(list_typed::<NodeStatus>(store).await?);
    let peers = peers
        .iter()
        .filter_map(|peer| Some((peer.metadata.name.as_deref()?, peer)));
    let figures = figures::of_peers(peers.clone().map(|(name, _)| name), &nodes);
    for (name, peer) in peers {
        let status = figures.get(name);
        if status.is_some() && status != peer.status.as_ref() {
            let key = Key::cluster(Kind::BgpPeer, name);
            write(store, &key, json!(status)).await?;
        }
    }
    Ok(())
}

/// An object that is gone meanwhile needs no status.
async fn write(store: &dyn Datastore, key: &Key, status: serde_json::Value) -> Result<(), Error> {
    match store.patch_status(key, status).await {
        Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn resources<T>(typed: Vec<Typed<T>>) -> Vec<T> {
    typed.into_iter().map(|typed| typed.resource).collect()
}
