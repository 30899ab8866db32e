//! Notes that the datastore is away: the agent goes on with what it knows, and says since when.

use std::sync::Arc;

use anyhow::Result;
use crds::core::time_text;
use datastore::Outage;
use tokio::sync::watch;

use crate::board::Board;

/// Copies what the store says to the board and the log, for ever.
///
/// # Errors
/// None.
pub async fn run(mut outage: watch::Receiver<Option<Outage>>, board: Arc<Board>) -> Result<()> {
    loop {
        let now = outage.borrow_and_update().clone();
        let before = board.outage.send_replace(now.clone());
        match (before, now) {
            (None, Some(outage)) => tracing::warn!(
                since = time_text(outage.since),
                problem = outage.problem,
                "headless: the datastore is away, going on with what is known"
            ),
            (Some(outage), None) => {
                tracing::info!(since = time_text(outage.since), "the datastore is back")
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        if outage.changed().await.is_err() {
            // A store that is always there; the task must not end.
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[tokio::test]
    async fn an_outage_is_on_the_board_until_it_is_over() {
        let board = Arc::<Board>::default();
        let (store, outage) = watch::channel(None);
        let task = tokio::spawn(run(outage, board.clone()));
        let mut shown = board.outage.subscribe();
        let away = Outage {
            since: SystemTime::UNIX_EPOCH,
            problem: "connection refused".to_owned(),
        };
        store.send_replace(Some(away.clone()));
        shown
            .wait_for(|shown| *shown == Some(away.clone()))
            .await
            .unwrap();
        store.send_replace(None);
        shown.wait_for(Option::is_none).await.unwrap();
        drop(store);
        tokio::task::yield_now().await;
        assert!(!task.is_finished(), "the end of a task ends the agent");
        task.abort();
    }
}
