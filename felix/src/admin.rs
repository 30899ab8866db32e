//! HTTP on loopback and on a Unix socket: `/metrics`, `/livez`, `/readyz`, `/state`,
//! `/state/routes`, and the speaker's own pages below `/bgp`.
//!
//! On loopback whoever is on the node may look; what changes something (POST) is for those who may
//! open the socket, which is root's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use bgp::api::{Outcome, Path};
use bgp::{Handle, PeerInfo, PeerKey};
use crds::Kind;
use crds::core::time_text;
use crds::names::annotation;
use datastore::{Datastore, Key};
use felix_calc::RouteNumbers;
use felix_dataplane::{TunnelCounters, TunnelDrop};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::board::Board;
use crate::dataplane::Inbox;
use crate::drain::Stage;
use crate::metrics::Metrics;

/// How long a page waits for the speaker before it shows what was last known.
const SPEAKER: Duration = Duration::from_secs(1);
/// How long a loop that is alive may take to answer.
const ALIVE: Duration = Duration::from_secs(5);
/// How many prefixes the speaker is asked for at a time.
const ROUTES: usize = 256;

/// What questions are answered from.
#[derive(Clone)]
pub struct Sources {
    /// Name of this node.
    pub node: String,
    /// Where its Node object is.
    pub store: Arc<dyn Datastore>,
    /// What is known.
    pub board: Arc<Board>,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// Probes the calc task.
    pub calc: mpsc::Sender<oneshot::Sender<()>>,
    /// Probes the dataplane thread.
    pub dataplane: Arc<Inbox>,
    /// The speaker, once it runs.
    pub speaker: watch::Receiver<Option<Handle>>,
    /// The agent is about to end.
    pub stopping: watch::Receiver<bool>,
}

/// Serves for ever.
///
/// # Errors
/// When a listener breaks.
pub async fn run(listener: TcpListener, socket: UnixListener, sources: Sources) -> Result<()> {
    let speaker = sources.speaker.clone();
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/state", get(state))
        .route("/drain/begin", post(begin_drain))
        .route("/drain/end", post(end_drain))
        .route("/state/routes", get(routes))
        .with_state(sources)
        .nest(
            "/bgp",
            bgp::http::router_of(move || speaker.borrow().clone()),
        );
    let over_socket = async { axum::serve(socket, router.clone()).await };
    let looking = router.clone().layer(middleware::from_fn(look_only));
    let over_loopback = async { axum::serve(listener, looking).await };
    tokio::select! {
        ended = over_loopback => ended.context("serve HTTP"),
        ended = over_socket => ended.context("serve HTTP over the Unix socket"),
    }
}

/// Anybody on the node can reach loopback, a pod on its network too.
async fn look_only(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let error = "what changes something is asked for at the agent's Unix socket, by root: \
                 /run/tortie/agent.sock unless configured otherwise";
    (StatusCode::FORBIDDEN, Json(json!({ "error": error }))).into_response()
}

/// Serves `/metrics` alone for ever: whoever may scrape must not be able to end a session.
///
/// # Errors
/// When the listener breaks.
pub async fn run_metrics(listener: TcpListener, sources: Sources) -> Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(sources);
    axum::serve(listener, router)
        .await
        .context("serve metrics over HTTP")
}

impl Sources {
    /// What the speaker counts; nothing before it runs, or when it is too busy to say.
    async fn numbers(&self) -> Option<bgp::metrics::Numbers> {
        let handle = self.speaker.borrow().clone()?;
        timeout(SPEAKER, handle.numbers()).await.ok().flatten()
    }

    /// All peers as of now.
    async fn peers(&self) -> BTreeMap<PeerKey, PeerInfo> {
        let handle = self.speaker.borrow().clone();
        if let Some(handle) = handle
            && let Ok(peers) = timeout(SPEAKER, handle.peers()).await
        {
            return peers
                .into_iter()
                .map(|info| (info.key.clone(), info))
                .collect();
        }
        self.board.speaker.borrow().peers.clone()
    }
}

async fn metrics(State(sources): State<Sources>) -> (StatusCode, String) {
    let numbers = sources.numbers().await;
    match sources.metrics.text(&sources.board, numbers.as_ref()) {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")),
    }
}

/// Asks every event loop for a sign of life; what they work on does not matter here.
async fn livez(State(sources): State<Sources>) -> (StatusCode, String) {
    let (calc, calc_answer) = oneshot::channel();
    let (dataplane, dataplane_answer) = oneshot::channel();
    sources.dataplane.probe(dataplane);
    let calc_alive = timeout(ALIVE, async {
        sources.calc.send(calc).await.is_ok() && calc_answer.await.is_ok()
    });
    let (calc, dataplane) = tokio::join!(calc_alive, timeout(ALIVE, dataplane_answer));
    let stuck: Vec<&str> = [
        (matches!(calc, Ok(true)), "calc"),
        (matches!(dataplane, Ok(Ok(()))), "dataplane"),
    ]
    .into_iter()
    .filter_map(|(alive, name)| (!alive).then_some(name))
    .collect();
    if stuck.is_empty() {
        return (StatusCode::OK, "alive\n".to_owned());
    }
    let text = format!("no sign of life from: {}\n", stuck.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn readyz(State(sources): State<Sources>) -> (StatusCode, String) {
    let mut reasons = sources.board.not_ready();
    if *sources.stopping.borrow() {
        reasons.push("the agent is about to end".to_owned());
    }
    if reasons.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let text = reasons.into_iter().map(|reason| reason + "\n").collect();
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn begin_drain(State(sources): State<Sources>) -> Result<Json<Value>, Refused> {
    sources.annotate_drain(Some("true".to_owned())).await
}

async fn end_drain(State(sources): State<Sources>) -> Result<Json<Value>, Refused> {
    sources.annotate_drain(None).await
}

/// Why something is not done.
type Refused = (StatusCode, String);

impl Sources {
    /// The annotation is the only place that says so, whoever writes it.
    async fn annotate_drain(&self, value: Option<String>) -> Result<Json<Value>, Refused> {
        let key = Key::cluster(Kind::Node, &self.node);
        let change = BTreeMap::from([(annotation::NODE_DRAIN.to_owned(), value)]);
        match self.store.patch_annotations(&key, change).await {
            Ok(_) => Ok(Json(json!({ "node": self.node }))),
            Err(error) => {
                let text = format!("{key} cannot be annotated: {error}\n");
                Err((StatusCode::SERVICE_UNAVAILABLE, text))
            }
        }
    }
}

fn drain(board: &Board) -> Value {
    let (stage, cause) = match &*board.drain.borrow() {
        Stage::Stays => return Value::Null,
        Stage::Leaving(cause) => ("Leaving", cause.clone()),
        Stage::Left(cause) => ("Left", cause.clone()),
    };
    json!({ "stage": stage, "cause": cause })
}

async fn state(State(sources): State<Sources>) -> Json<Value> {
    let peers = sources.peers().await;
    let board = &sources.board;
    let calc = board.calc.borrow().clone();
    let dataplane = board.dataplane.borrow().clone();
    let endpoints: Vec<Value> = calc
        .endpoints
        .interfaces
        .iter()
        .map(|(name, endpoint)| {
            json!({
                "interface": **name,
                "workload": endpoint.id.workload,
                "containerID": endpoint.container_id,
                "addresses": endpoint.addresses,
                "ready": dataplane.ready.contains(name),
            })
        })
        .collect();
    let blocks: Vec<Value> = calc
        .blocks
        .iter()
        .map(|block| {
            json!({ "cidr": block.cidr, "state": block.state, "used": block.used, "free": block.free })
        })
        .collect();
    let failures: Vec<String> = dataplane.failures.iter().map(ToString::to_string).collect();
    let problems: Vec<String> = board.problems().iter().map(ToString::to_string).collect();
    Json(json!({
        "node": sources.node,
        "version": env!("CARGO_PKG_VERSION"),
        "notReady": board.not_ready(),
        "problems": problems,
        "headless": board.outage.borrow().as_ref().map(|outage| {
            json!({ "since": time_text(outage.since), "problem": outage.problem })
        }),
        "drain": drain(board),
        "endpoints": endpoints,
        "blocks": blocks,
        "tunnels": tunnels(board),
        "podMtu": calc.overlay.as_ref().and_then(|overlay| overlay.pod_mtu),
        "routes": {
            "desired": numbers(&calc.routes),
            "inPlace": numbers(&dataplane.counters.in_place),
            "waitingForInterface": dataplane.counters.waiting,
            "refused": dataplane.counters.refused,
        },
        "dataplane": {
            "generation": { "desired": calc.generation, "applied": dataplane.generation },
            "failures": failures,
            "routesWritten": dataplane.counters.routes_written,
            "sysctlsWritten": dataplane.counters.sysctls_written,
            "packetRulesWritten": dataplane.counters.rules_written,
            "driftRepairs": dataplane.counters.drift_repairs,
            "listings": dataplane.counters.listings,
            "errors": dataplane.errors,
        },
        "bgp": bgp(board, &peers),
    }))
}

fn tunnels(board: &Board) -> Vec<Value> {
    let tunnels = crate::tunnels::all(board).into_iter();
    let tunnels = tunnels.map(|tunnel| {
        json!({
            "device": tunnel.device,
            "encapsulation": if tunnel.is_ipip { "IPIP" } else { "VXLAN" },
            "carrier": tunnel.carrier.map(crate::tunnels::carrier_name),
            "address": tunnel.address,
            "mtu": tunnel.mtu,
            "remotes": tunnel.remotes,
            "counters": tunnel.counters.map(|counters| counts(&counters)),
            "problems": tunnel.problems,
        })
    });
    tunnels.collect()
}

/// What a tunnel in user space carried and dropped.
fn counts(counters: &TunnelCounters) -> Value {
    let drops = TunnelDrop::ALL.into_iter();
    let drops = drops.map(|reason| (reason.name().to_owned(), counters.dropped(reason).into()));
    json!({
        "sentPackets": counters.sent_packets,
        "sentOctets": counters.sent_bytes,
        "receivedPackets": counters.received_packets,
        "receivedOctets": counters.received_bytes,
        "dropped": Value::Object(drops.collect()),
    })
}

fn numbers(routes: &RouteNumbers) -> Value {
    json!({
        "workloads": routes.workloads,
        "blocks": routes.blocks,
        "learned": routes.learned,
    })
}

fn bgp(board: &Board, infos: &BTreeMap<PeerKey, PeerInfo>) -> Value {
    let section = board.calc.borrow().bgp.clone();
    let speaker = board.speaker.borrow();
    let Some(section) = section else {
        return Value::Null;
    };
    let peers: Vec<Value> = section
        .peers
        .iter()
        .map(|(name, spec)| {
            let info = infos.get(&crate::speaker::key(spec));
            json!({
                "name": name,
                "type": spec.kind.name(),
                "address": spec.address,
                "port": spec.port,
                "asNumber": spec.remote_as,
                "state": info.map(|info| info.state.to_string()),
                "since": info.map(|info| time_text(info.since)),
                "flaps": info.map(|info| info.flaps),
                "routes": info.map(routes_of),
                "malformed": info.and_then(|info| info.malformed.clone()),
                "lastError": info.and_then(|info| info.last_error.clone()),
                "malformed": info.and_then(|info| info.malformed.clone()),
            })
        })
        .collect();
    let refused: Vec<Value> = section
        .refused
        .iter()
        .map(|(name, refused)| {
            json!({
                "name": name,
                "type": refused.kind.name(),
                "address": refused.address,
                "port": refused.port,
                "asNumber": refused.remote_as,
                "reason": refused.reason,
            })
        })
        .collect();
    let originate: Vec<String> = section.originate.keys().map(ToString::to_string).collect();
    json!({
        "asNumber": section.local.asn,
        "routerID": section.local.router_id,
        "restarting": speaker.restarting,
        "converged": speaker.converged,
        "peers": peers,
        "refused": refused,
        "originate": originate,
    })
}

/// Numbers of routes, by family.
fn routes_of(info: &PeerInfo) -> Value {
    let by_family = info.counts.iter().map(|(family, counts)| {
        let counts = json!({
            "received": counts.received,
            "accepted": counts.accepted,
            "best": counts.best,
            "advertised": counts.advertised,
        });
        (family.to_string(), counts)
    });
    Value::Object(by_family.collect())
}

async fn routes(State(sources): State<Sources>) -> Result<Response, StatusCode> {
    let handle = sources.speaker.borrow().clone();
    let text = match handle {
        Some(handle) => all_routes(&handle).await,
        None => Some("[]".to_owned()),
    };
    let text = text.ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

/// All paths as JSON; nothing when the speaker has ended. They are asked for part by part, so that
/// it does other things between.
async fn all_routes(handle: &Handle) -> Option<String> {
    let mut text = String::from("[");
    let mut offset = Some(0);
    while let Some(from) = offset {
        let page = handle.routes_page(from, ROUTES).await?;
        for path in page.items.iter().flat_map(|route| &route.paths) {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&shown(path).to_string());
        }
        offset = page.next;
    }
    text.push(']');
    Some(text)
}

fn shown(path: &Path) -> Value {
    json!({
        "prefix": path.prefix,
        "nextHop": path.next_hop,
        "peer": path.peer,
        "asPath": path.attributes.as_path,
        "best": matches!(path.outcome, Outcome::Best | Outcome::Shares),
        "stale": path.stale,
        "reason": path.reason,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use bgp::{Desired, Local, Options, Originate, Prefix, Speaker};

    use super::*;

    #[tokio::test]
    async fn all_routes_are_shown_whatever_number_of_pages_they_need() {
        let prefixes: BTreeSet<String> = (0..600)
            .map(|i| format!("10.{}.{}.0/26", i / 256, i % 256))
            .chain(["2001:db8::/64".to_owned()])
            .collect();
        let originate = |text: &String| (text.parse::<Prefix>().unwrap(), Originate::default());
        let desired = Desired {
            local: Local::new(64500, Ipv4Addr::new(192, 0, 2, 1)),
            peers: BTreeMap::new(),
            dynamic: BTreeMap::new(),
            originate: prefixes.iter().map(originate).collect(),
        };
        let (handle, _events) = Speaker::start(desired, Options::default());
        let text = all_routes(&handle).await.unwrap();
        let shown: Vec<Value> = serde_json::from_str(&text).unwrap();
        let told = shown.iter().map(|path| path["prefix"].as_str().unwrap());
        assert_eq!(prefixes, told.map(str::to_owned).collect());
        assert_eq!(prefixes.len(), shown.len());
        assert!(
            shown
                .iter()
                .all(|path| path["best"] == true && path["peer"].is_null())
        );
    }
}
