//! The process: signals, reload, answers.

use std::fs;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use axum::Router;
use bgp::{Event, Handle, Options, Shutdown, Speaker, http};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::file::{self, Config};
use super::watch::Watch;

/// Where it answers.
pub(crate) struct Places<'a> {
    /// Everything, over a Unix socket.
    pub(crate) socket: &'a Path,
    /// Everything, if given.
    pub(crate) http: Option<SocketAddr>,
    /// Metrics alone, if given.
    pub(crate) metrics: Option<SocketAddr>,
    /// Whether SIGTERM leaves the peers in the belief that we come back.
    pub(crate) silent_end: bool,
}

/// Runs a speaker until a signal ends it.
///
/// # Errors
/// A configuration that does not make sense, a socket path or an address that cannot be used, or a
/// speaker that ended by itself.
pub(crate) fn run(config: &Path, places: &Places<'_>, options: Options) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    let mut watch = Watch::new(config);
    let first = file::load(config)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let answers = Answers {
            socket: listen(places.socket)?,
            http: bind("--http", places.http).await?,
            metrics: bind("--metrics", places.metrics).await?,
        };
        let (handle, events) = Speaker::start(first.desired.clone(), options);
        handle.set_next_hops(first.next_hops.clone());
        let server = tokio::spawn(answers.serve(handle.clone()));
        let mut current = Current { config, now: first };
        let asked = match places.silent_end {
            true => Shutdown::Restart,
            false => Shutdown::Cease {
                text: "shutting down".to_owned(),
            },
        };
        let result = serve(&mut current, &mut watch, &handle, events, asked).await;
        server.abort();
        // Nobody will answer there any more; somebody may have removed it already.
        let _gone = fs::remove_file(places.socket);
        result
    })
}

/// The file and what was last read in it.
struct Current<'a> {
    config: &'a Path,
    now: Config,
}

impl Current<'_> {
    /// Reads the file again; what cannot be read changes nothing.
    fn reload(&mut self, handle: &Handle) {
        match file::load(self.config) {
            Ok(new) if new == self.now => tracing::info!("configuration read again, no change"),
            Ok(new) => {
                tracing::info!("configuration read again");
                handle.set(new.desired.clone());
                handle.set_next_hops(new.next_hops.clone());
                self.now = new;
            }
            Err(error) => tracing::error!("configuration not changed: {error:#}"),
        }
    }
}

/// Runs until a signal; `asked` is how to end when somebody asks.
async fn serve(
    current: &mut Current<'_>,
    watch: &mut Watch,
    handle: &Handle,
    mut events: mpsc::Receiver<Event>,
    asked: Shutdown,
) -> Result<()> {
    let mut reload = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut restart = signal(SignalKind::user_defined1())?;
    let how = loop {
        tokio::select! {
            _ = reload.recv() => current.reload(handle),
            () = watch.changed() => current.reload(handle),
            _ = terminate.recv() => break asked,
            _ = interrupt.recv() => break asked,
            _ = restart.recv() => break Shutdown::Restart,
            event = events.recv() => match event {
                Some(event) => log(&event),
                None => bail!("the speaker has ended"),
            },
        }
    };
    handle.shutdown(how).await;
    Ok(())
}

fn log(event: &Event) {
    match event {
        // Not asked for.
        Event::Best(_) | Event::NextHops(_) => {}
        Event::Peer(info) => tracing::debug!(peer = %info.key, state = %info.state, "peer"),
        Event::PeerGone(key) => tracing::debug!(peer = %key, "peer gone"),
        Event::Converged => tracing::info!("converged"),
    }
}

/// Listens for questions where no other speaker does.
fn listen(path: &Path) -> Result<UnixListener> {
    let place = || format!("socket {}", path.display());
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!(
            "{}: another speaker answers there; give another --socket",
            place()
        );
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(place);
        }
        Ok(()) | Err(_) => {}
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(place)?;
    }
    UnixListener::bind(path).with_context(place)
}

async fn bind(flag: &str, address: Option<SocketAddr>) -> Result<Option<TcpListener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address).await;
    listener
        .map(Some)
        .with_context(|| format!("{flag} {address}"))
}

/// Where questions come in.
struct Answers {
    socket: UnixListener,
    http: Option<TcpListener>,
    metrics: Option<TcpListener>,
}

impl Answers {
    /// Answers questions for ever. The pages are at the same place as in the agent, below `/bgp`,
    /// and `/metrics` is also where scrapers look for it.
    async fn serve(self, handle: Handle) {
        let router = http::router(handle.clone());
        let router = Router::new().nest("/bgp", router.clone()).merge(router);
        let ended = tokio::select! {
            ended = async { axum::serve(self.socket, router.clone()).await } => ended,
            ended = over_tcp(self.http, router.clone()) => ended,
            ended = over_tcp(self.metrics, http::metrics_router(handle)) => ended,
        };
        if let Err(error) = ended {
            tracing::error!(%error, "questions are not answered any more");
        }
    }
}

/// Serves at the listener, if there is one, for ever.
async fn over_tcp(listener: Option<TcpListener>, router: Router) -> io::Result<()> {
    match listener {
        Some(listener) => axum::serve(listener, router).await,
        None => std::future::pending().await,
    }
}
