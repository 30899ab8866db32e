//! Writes what `figures` counts into the status of pools and peerings, where it differs.

use crds::{BgpPeer, IpPool, IpamBlock, Kind, NodeStatus, Resource};
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
    for pool in resources(list_typed::<IpPool>(store).await?) {
        let status = figures::of_pool(&pool.spec, &blocks);
        let old = pool.status.clone().unwrap_or_default();
        if (old.used, old.free) != (status.used, status.free) {
            let key = Key::cluster(Kind::IpPool, pool.name());
            write(store, &key, json!(status)).await?;
        }
    }
    let peers = resources(list_typed::<BgpPeer>(store).await?);
    let nodes = resources(list_typed::<NodeStatus>(store).await?);
    let figures = figures::of_peers(peers.iter().map(BgpPeer::name), &nodes);
    for peer in &peers {
        let status = figures.get(peer.name());
        if status.is_some() && status != peer.status.as_ref() {
            let key = Key::cluster(Kind::BgpPeer, peer.name());
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
