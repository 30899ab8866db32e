//! Says on the Node which addresses this node has of blocks of others.
//!
//! Where BGP does not tell it, the other nodes find these addresses by this annotation alone: of
//! blocks they follow their own only. It says what holds, so it is repaired when somebody else
//! changes it, and is gone when nothing is borrowed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use crds::Kind;
use crds::names::annotation::NODE_BORROWED;
use datastore::{Datastore, Key};
use tokio::time::{Instant, sleep, sleep_until};

use crate::board::Board;

/// Changes that come within this time are written together: pods start and end in bursts.
const TOGETHER: Duration = Duration::from_millis(100);
/// Between two writes.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two writes of the same: somebody else may write the annotation and think otherwise.
const AGAIN: Duration = Duration::from_secs(30);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(5);
/// More are not written, because nobody reads them.
const MOST: usize = 1000;

/// What the annotation shall be; nothing when it shall not be there.
fn text(borrowed: &BTreeSet<IpAddr>) -> Option<String> {
    let texts = borrowed.iter().take(MOST).map(ToString::to_string);
    let texts: Vec<String> = texts.collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

/// Keeps the annotation, for ever.
///
/// # Errors
/// None: what cannot be written is tried again.
pub async fn run(store: Arc<dyn Datastore>, node: String, board: Arc<Board>) -> Result<()> {
    let key = Key::cluster(Kind::Node, node);
    let mut calc = board.calc.subscribe();
    let mut own = board.node.subscribe();
    // What was written last, and when.
    let mut written: Option<(Option<String>, Instant)> = None;
    loop {
        let borrowed = calc.borrow_and_update().borrowed.clone();
        let view = own.borrow_and_update().clone();
        let wanted = borrowed.as_ref().map(text);
        let due = wanted.filter(|wanted| view.is_read && *wanted != view.borrowed);
        if let Some(wanted) = due {
            let not_before = written.as_ref().map(|(last, at)| match *last == wanted {
                true => *at + AGAIN,
                false => *at + PAUSE,
            });
            let now = Instant::now();
            if let Some(at) = not_before.filter(|at| *at > now) {
                tokio::select! {
                    Ok(()) = own.changed() => {}
                    Ok(_) = calc.wait_for(|view| view.borrowed != borrowed) => {}
                    () = sleep_until(at) => {}
                }
                continue;
            }
            let change = BTreeMap::from([(NODE_BORROWED.to_owned(), wanted.clone())]);
            match store.patch_annotations(&key, change).await {
                Ok(_) => {
                    tracing::info!(addresses = wanted, "borrowed addresses told");
                    written = Some((wanted, Instant::now()));
                }
                Err(error) => {
                    tracing::warn!(%error, "borrowed addresses are not told to other nodes, tried again");
                    sleep(RETRY).await;
                    continue;
                }
            }
        }
        tokio::select! {
            Ok(()) = own.changed() => {}
            // All else that the calculation says does not matter.
            Ok(_) = calc.wait_for(|view| view.borrowed != borrowed) => {}
        }
        sleep(TOGETHER).await;
    }
}

#[cfg(test)]
mod tests;
