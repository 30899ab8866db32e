//! What ends the agent.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGTERM or SIGINT and names it.
///
/// # Errors
/// When signals cannot be received.
pub async fn requested() -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate()).context("receive SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("receive SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}
