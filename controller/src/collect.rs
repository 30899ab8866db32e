//! One look: lists, decision, and what follows from it.

use std::time::{Instant, SystemTime};

use crds::Kind;
use datastore::Datastore;
use ipam::gc::{Collector, Lists, Snapshot};
use ipam::{Collected, Ipam};

use crate::board::Look;

/// A store may know what cannot be read of kinds that are followed only; and blocks are listed again and again while
/// addresses are freed, which costs nothing then.
const FOLLOWED: [Kind; 4] = [
    Kind::Node,
    Kind::IpPool,
    Kind::IpamBlock,
    Kind::BlockAffinity,
];

/// Looks, and acts unless it is only to be said.
///
/// # Errors
/// When the datastore cannot be read. What went wrong afterwards is in the answer.
pub(crate) async fn look(
    store: &dyn Datastore,
    ipam: &Ipam,
    collector: &mut Collector,
    dry_run: bool,
) -> Result<Look, datastore::Error> {
    let start = Instant::now();
    for kind in FOLLOWED {
        store.watch(kind).await?;
    }
    let lists = Lists::read(store).await?;
    let at = SystemTime::now();
    let sweep = collector.sweep(at, &Snapshot::new(lists, at));
    let mut done = Collected::default();
    let mut error = None;
    if !dry_run && !sweep.actions.is_empty() {
        let ended = Box::pin(ipam.collect(&sweep, &mut done)).await;
        error = ended.err().map(|error| error.to_string());
    }
    let took = start.elapsed();
    let look = Look {
        at,
        took,
        sweep,
        done,
        error,
    };
    tell(&look);
    Ok(look)
}

fn tell(look: &Look) {
    let done = &look.done;
    if let Some(suspicion) = &look.sweep.refused {
        tracing::warn!(%suspicion, "nothing of nodes that are gone is freed");
    }
    if !done.freed.is_empty() {
        tracing::info!(count = done.freed.len(), addresses = ?done.freed, "addresses of nodes that are gone freed");
    }
    if !done.spared.is_empty() {
        tracing::info!(addresses = ?done.spared, "in use again, not freed");
    }
    for node in &done.nodes {
        tracing::info!(node, "blocks of a node that is gone given back");
    }
    for block in &done.blocks {
        tracing::info!(%block, "empty block given back");
    }
    for pool in &done.pools {
        tracing::info!(pool, "deleted pool is not in use any more, it goes");
    }
    if done.repaired != Default::default() {
        tracing::info!(repaired = ?done.repaired, "leftovers settled");
    }
    if let Some(error) = &look.error {
        tracing::warn!(error, "the rest is done later");
    }
}
