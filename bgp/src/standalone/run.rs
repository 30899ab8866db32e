//! The process: signals, reload, answers.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;

use anyhow::{Context, Result, bail};
use bgp::{Event, Handle, Options, Shutdown, Speaker};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::file;
use super::view::{PeerView, RouteView};

/// Questions answered at once; more wait in the backlog.
const QUESTIONS: usize = 16;

/// Runs a speaker until a signal ends it.
///
/// # Errors
/// A configuration that does not make sense, a socket path that cannot be used, or a speaker that
/// ended by itself.
pub(crate) fn run(config: &Path, socket: &Path, restarting: bool) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    let desired = file::load(config)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let answers = listen(socket)?;
        let options = Options {
            restarting,
            ..Options::default()
        };
        let (handle, events) = Speaker::start(desired, options);
        let result = serve(config, &handle, events, answers).await;
        // Nobody will answer there any more; somebody may have removed it already.
        let _gone = fs::remove_file(socket);
        result
    })
}

async fn serve(
    config: &Path,
    handle: &Handle,
    mut events: mpsc::Receiver<Event>,
    answers: UnixListener,
) -> Result<()> {
    let mut reload = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut restart = signal(SignalKind::user_defined1())?;
    let mut questions = JoinSet::new();
    loop {
        tokio::select! {
            _ = reload.recv() => match file::load(config) {
                Ok(desired) => {
                    tracing::info!("configuration read again");
                    handle.set(desired);
                }
                Err(error) => tracing::error!("configuration not changed: {error:#}"),
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = restart.recv() => {
                handle.shutdown(Shutdown::Restart).await;
                return Ok(());
            }
            event = events.recv() => match event {
                Some(event) => log(&event),
                None => bail!("the speaker has ended"),
            },
            accepted = answers.accept(), if questions.len() < QUESTIONS => {
                let (stream, _) = accepted.context("cannot accept questions")?;
                let handle = handle.clone();
                questions.spawn(async move {
                    if let Err(error) = answer(stream, &handle).await {
                        tracing::debug!(%error, "question not answered");
                    }
                });
            }
            Some(ended) = questions.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "answering a question failed");
                }
            }
        }
    }
    let text = "shutting down".to_owned();
    handle.shutdown(Shutdown::Cease { text }).await;
    Ok(())
}

fn log(event: &Event) {
    match event {
        Event::Best(changes) => tracing::debug!(prefixes = changes.len(), "best paths changed"),
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

async fn answer(stream: UnixStream, handle: &Handle) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut question = String::new();
    stream.read_line(&mut question).await?;
    let answer = match question.trim() {
        "peers" => json::<PeerView, _>(handle.peers().await)?,
        "routes" => json::<RouteView, _>(handle.routes().await)?,
        other => bail!("unknown question {other:?}"),
    };
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    Ok(())
}

fn json<View: Serialize + From<Info>, Info>(infos: Vec<Info>) -> Result<Vec<u8>> {
    let views: Vec<View> = infos.into_iter().map(View::from).collect();
    Ok(serde_json::to_vec(&views)?)
}
