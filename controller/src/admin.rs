//! HTTP on loopback: `/metrics`, `/livez`, `/readyz`, and `/sweep`, the last look.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::get;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::board::Board;
use crate::metrics::Metrics;
use crate::report;

#[derive(Clone)]
struct Sources {
    board: Arc<Board>,
    metrics: Arc<Metrics>,
}

/// Serves for ever.
///
/// # Errors
/// When the listener breaks.
pub(crate) async fn run(
    listener: TcpListener,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
) -> Result<()> {
    let router = Router::new()
        .route("/metrics", get(page_of_metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/sweep", get(sweep))
        .with_state(Sources { board, metrics });
    axum::serve(listener, router).await.context("serve HTTP")
}

/// Serves metrics alone, for ever; without an address nothing.
///
/// # Errors
/// When the address cannot be listened on, or the listener breaks.
pub(crate) async fn run_metrics(
    address: Option<SocketAddr>,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
) -> Result<()> {
    let Some(address) = address else {
        return std::future::pending().await;
    };
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("--metrics: listen on {address}"))?;
    let router = Router::new()
        .route("/metrics", get(page_of_metrics))
        .with_state(Sources { board, metrics });
    axum::serve(listener, router).await.context("serve metrics")
}

async fn page_of_metrics(State(sources): State<Sources>) -> (StatusCode, String) {
    let leading = sources.board.view().leading;
    match sources.metrics.text(leading) {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")),
    }
}

async fn livez(State(sources): State<Sources>) -> (StatusCode, String) {
    answer(sources.board.view().stuck(), "alive")
}

async fn readyz(State(sources): State<Sources>) -> (StatusCode, String) {
    answer(sources.board.view().not_ready(), "ready")
}

fn answer(problem: Option<String>, good: &str) -> (StatusCode, String) {
    match problem {
        None => (StatusCode::OK, format!("{good}\n")),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
    }
}

async fn sweep(State(sources): State<Sources>) -> Result<Json<Value>, (StatusCode, String)> {
    let view = sources.board.view();
    match &view.last {
        Some(look) => Ok(Json(report::json(look, view.dry_run))),
        None if view.leading => Err((StatusCode::NOT_FOUND, "it has not looked yet\n".to_owned())),
        None => Err((
            StatusCode::NOT_FOUND,
            "another controller leads; ask that one\n".to_owned(),
        )),
    }
}
