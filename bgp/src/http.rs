//! A speaker's answers over HTTP; `bgp-api` lists the pages.
//!
//! Nothing here changes settings; `clear` has a session start anew. Nobody is asked who they are:
//! serve it on loopback or on a Unix socket that only the right people can open.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use bgp_api::{Failure, Page};
use futures_util::stream;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::handle::{Clear, Handle, LONGEST_PAGE, Unanswered};

/// Elements of a page when nobody says how many.
const LIMIT: usize = 1000;

/// The speaker to ask, once there is one.
type Source = Arc<dyn Fn() -> Option<Handle> + Send + Sync>;

/// The pages of a speaker.
pub fn router(handle: Handle) -> Router {
    router_of(move || Some(handle.clone()))
}

/// `/metrics` alone, for those who may look but not touch.
pub fn metrics_router(handle: Handle) -> Router {
    let source: Source = Arc::new(move || Some(handle.clone()));
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(source)
}

/// The pages of a speaker that may start later than the server: until `speaker` returns it,
/// every question gets status 503.
pub fn router_of(speaker: impl Fn() -> Option<Handle> + Send + Sync + 'static) -> Router {
    let source: Source = Arc::new(speaker);
    Router::new()
        .route("/summary", get(summary))
        .route("/peers", get(peers))
        .route("/peers/{peer}", get(peer))
        .route("/peers/{peer}/clear", post(clear))
        .route("/peers/{peer}/received", get(received))
        .route("/peers/{peer}/advertised", get(advertised))
        .route("/metrics", get(metrics))
        .route("/routes", get(routes))
        .route("/routes/{*prefix}", get(route))
        .route("/why/{*prefix}", get(why))
        .with_state(source)
}

/// An answer that is an error.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(Failure { error: self.1 })).into_response()
    }
}

impl From<Unanswered> for Refused {
    fn from(unanswered: Unanswered) -> Self {
        let status = match unanswered {
            Unanswered::Ended => StatusCode::SERVICE_UNAVAILABLE,
            Unanswered::NoPeer(_) => StatusCode::NOT_FOUND,
            Unanswered::NoPrefix(..) => StatusCode::BAD_REQUEST,
        };
        Refused(status, unanswered.to_string())
    }
}

fn speaker(source: &Source) -> Result<Handle, Refused> {
    let not_yet = || {
        let text = "the speaker has not started yet; ask again in a moment";
        Refused(StatusCode::SERVICE_UNAVAILABLE, text.to_owned())
    };
    source().ok_or_else(not_yet)
}

async fn summary(State(source): State<Source>) -> Result<Response, Refused> {
    let answer = speaker(&source)?.summary().await.ok_or(Unanswered::Ended)?;
    Ok(Json(answer).into_response())
}

async fn metrics(State(source): State<Source>) -> Result<Response, Refused> {
    let numbers = speaker(&source)?.numbers().await.ok_or(Unanswered::Ended)?;
    match crate::metrics::text(&numbers) {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)];
            Ok((kind, text).into_response())
        }
        Err(error) => Err(Refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        )),
    }
}

async fn peers(State(source): State<Source>) -> Result<Response, Refused> {
    let answer = speaker(&source)?.lines().await.ok_or(Unanswered::Ended)?;
    Ok(Json(answer).into_response())
}

async fn peer(State(source): State<Source>, Path(name): Path<String>) -> Result<Response, Refused> {
    let answer = speaker(&source)?.peer(&name).await?;
    Ok(Json(answer).into_response())
}

#[derive(Deserialize)]
struct How {
    soft: Option<String>,
    hard: Option<String>,
}

async fn clear(
    State(source): State<Source>,
    Path(name): Path<String>,
    Query(how): Query<How>,
) -> Result<Response, Refused> {
    let how = match (how.soft, how.hard) {
        (Some(_), None) => Clear::Soft,
        (None, Some(_)) => Clear::Hard,
        _ => {
            let text = "say how: ?soft keeps the session, ?hard makes another one";
            return Err(Refused(StatusCode::BAD_REQUEST, text.to_owned()));
        }
    };
    let answer = speaker(&source)?.clear(&name, how).await?;
    Ok(Json(answer).into_response())
}

async fn route(
    State(source): State<Source>,
    Path(prefix): Path<String>,
) -> Result<Response, Refused> {
    let answer = speaker(&source)?.route(&prefix).await?;
    Ok(Json(answer).into_response())
}

#[derive(Deserialize)]
struct OfPeer {
    peer: Option<String>,
}

async fn why(
    State(source): State<Source>,
    Path(prefix): Path<String>,
    Query(of): Query<OfPeer>,
) -> Result<Response, Refused> {
    let answer = speaker(&source)?.why(&prefix, of.peer.as_deref()).await?;
    Ok(Json(answer).into_response())
}

/// Which part of a long answer.
#[derive(Clone, Deserialize)]
struct Range {
    limit: Option<usize>,
    offset: Option<u64>,
    family: Option<Family>,
}

#[derive(Clone, Copy, Deserialize)]
enum Family {
    #[serde(rename = "ipv4-unicast")]
    Ipv4,
    #[serde(rename = "ipv6-unicast")]
    Ipv6,
}

async fn routes(
    State(source): State<Source>,
    Query(range): Query<Range>,
) -> Result<Response, Refused> {
    let handle = speaker(&source)?;
    let ask = move |offset, max| {
        let handle = handle.clone();
        async move {
            let page = handle.routes_page(offset, max).await;
            page.ok_or(Unanswered::Ended)
        }
    };
    long(range, |route| route.prefix, ask).await
}

async fn received(
    State(source): State<Source>,
    Path(name): Path<String>,
    Query(range): Query<Range>,
) -> Result<Response, Refused> {
    let handle = speaker(&source)?;
    let ask = move |offset, max| {
        let (handle, name) = (handle.clone(), name.clone());
        async move { handle.received_page(&name, offset, max).await }
    };
    long(range, |path| path.prefix, ask).await
}

async fn advertised(
    State(source): State<Source>,
    Path(name): Path<String>,
    Query(range): Query<Range>,
) -> Result<Response, Refused> {
    let handle = speaker(&source)?;
    let ask = move |offset, max| {
        let (handle, name) = (handle.clone(), name.clone());
        async move { handle.advertised_page(&name, offset, max).await }
    };
    long(range, |told| told.prefix, ask).await
}

/// A long answer in the making: a [`Page`] as text, one part of it after the other.
struct Long<A, P> {
    ask: A,
    prefix: P,
    range: Range,
    /// Elements that may still follow.
    left: usize,
    begun: bool,
    /// Where the next part begins; `None` when all was said.
    offset: Option<u64>,
}

/// Answers part by part. The first part is made before the status is sent, so that an error can
/// still be told.
async fn long<T, A, F, P>(range: Range, prefix: P, ask: A) -> Result<Response, Refused>
where
    T: Serialize + Send,
    A: Fn(u64, usize) -> F + Send + 'static,
    F: Future<Output = Result<Page<T>, Unanswered>> + Send,
    P: Fn(&T) -> IpNet + Send + 'static,
{
    let first = match range.family {
        Some(Family::Ipv6) => bgp_rib::V6,
        Some(Family::Ipv4) | None => 0,
    };
    let mut answer = Long {
        left: range.limit.unwrap_or(LIMIT),
        begun: false,
        offset: Some(range.offset.unwrap_or(0).max(first)),
        ask,
        prefix,
        range,
    };
    let mut text = String::from("{\"items\":[");
    answer.part(&mut text).await?;
    let rest = stream::unfold((Some(text), answer), |(text, mut answer)| async move {
        if let Some(text) = text {
            return Some((Ok::<_, Infallible>(Bytes::from(text)), (None, answer)));
        }
        let mut text = String::new();
        // A speaker that ends now ends the answer too, and its reader finds it cut off.
        answer.part(&mut text).await.ok()?;
        (!text.is_empty()).then(|| (Ok(Bytes::from(text)), (None, answer)))
    });
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((kind, Body::from_stream(rest)).into_response())
}

impl<T, A, F, P> Long<A, P>
where
    T: Serialize,
    A: Fn(u64, usize) -> F,
    F: Future<Output = Result<Page<T>, Unanswered>>,
    P: Fn(&T) -> IpNet,
{
    /// Appends the next part, and the end after the last one; nothing when that was before.
    async fn part(&mut self, text: &mut String) -> Result<(), Unanswered> {
        let Some(offset) = self.offset else {
            return Ok(());
        };
        let page = (self.ask)(offset, self.left.clamp(1, LONGEST_PAGE)).await?;
        let mut next = page.next;
        if matches!(self.range.family, Some(Family::Ipv4)) {
            next = next.filter(|next| *next < bgp_rib::V6);
        }
        for item in &page.items {
            let wanted = match self.range.family {
                Some(Family::Ipv4) => (self.prefix)(item).addr().is_ipv4(),
                Some(Family::Ipv6) | None => true,
            };
            if wanted && let Ok(item) = serde_json::to_string(item) {
                if std::mem::replace(&mut self.begun, true) {
                    text.push(',');
                }
                text.push_str(&item);
                self.left = self.left.saturating_sub(1);
            }
        }
        self.offset = next.filter(|_| self.left > 0);
        if self.offset.is_none() {
            let next = next.map_or_else(|| "null".to_owned(), |next| next.to_string());
            text.push_str(&format!("],\"next\":{next}}}"));
        }
        Ok(())
    }
}
