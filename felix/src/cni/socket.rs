//! The Unix socket: one request and one reply per connection, 64 at a time.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use felix_api::cni::{self as api, MAX_LINE, Reply, Request, code};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Server, failure};

/// Requests served at a time; more are asked to come back.
const LIMIT: usize = 64;
/// Connections that are told to come back at a time; more are closed without an answer.
const REFUSALS: usize = 64;
/// How long a plugin may take for its request.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How long running requests may take when the agent ends.
const GRACE: Duration = Duration::from_secs(2);

/// Opens the socket; one that an earlier agent left is replaced.
///
/// # Errors
/// When the path cannot be used.
pub fn open(path: &Path) -> Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("create {}", directory.display()))?;
    }
    super::record::remove(path)?;
    let listener =
        UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
    // The plugin runs as root; nobody else may take addresses.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("restrict {}", path.display()))?;
    Ok(listener)
}

/// Serves until told to end; requests that run then get a little time.
///
/// # Errors
/// When connections cannot be accepted any more.
pub async fn run(
    server: Arc<Server>,
    listener: UnixListener,
    mut shutdown: oneshot::Receiver<()>,
) -> Result<()> {
    let served = Arc::new(Semaphore::new(LIMIT));
    let refused = Arc::new(Semaphore::new(REFUSALS));
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut shutdown => break,
            Some(_) = requests.join_next() => {}
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("accept a CNI connection")?;
                if let Ok(permit) = served.clone().try_acquire_owned() {
                    let server = server.clone();
                    requests.spawn(async move {
                        Box::pin(answer(Some(&server), stream)).await;
                        drop(permit);
                    });
                } else if let Ok(permit) = refused.clone().try_acquire_owned() {
                    requests.spawn(async move {
                        Box::pin(answer(None, stream)).await;
                        drop(permit);
                    });
                }
            }
        }
    }
    drop(listener);
    let finished = timeout(GRACE, async {
        while requests.join_next().await.is_some() {}
    })
    .await;
    if finished.is_err() {
        tracing::warn!(requests = requests.len(), "requests cut off");
    }
    Ok(())
}

/// Reads one request and answers it, with a refusal when there is no server for it.
async fn answer(server: Option<&Server>, mut stream: UnixStream) {
    let reply = match timeout(REQUEST_TIME, read(&mut stream)).await {
        Ok(Ok(request)) => reply(server, request).await,
        Ok(Err(error)) => Reply::Error(error),
        // Whoever is so slow does not wait for an answer either.
        Err(_) => return,
    };
    if let Reply::Error(error) = &reply {
        tracing::info!(
            code = error.code,
            error.message,
            error.details,
            "CNI request refused"
        );
    }
    let Ok(line) = api::to_line(&reply) else {
        return;
    };
    if let Err(error) = stream.write_all(&line).await {
        // What was done is not undone: the runtime asks again or deletes.
        tracing::debug!(%error, "the plugin has gone away");
    }
}

async fn reply(server: Option<&Server>, request: Request) -> Reply {
    if request.version != felix_api::VERSION {
        let what = format!(
            "plugin speaks version {}, agent version {}",
            request.version,
            felix_api::VERSION
        );
        let remedy = "install the plugin that came with the agent";
        return Reply::Error(failure(code::PROTOCOL, what, remedy));
    }
    match server {
        Some(server) => server.serve(request.op).await,
        None => Reply::Error(failure(
            code::TRY_AGAIN,
            format!("the agent serves {LIMIT} requests already"),
            "",
        )),
    }
}

async fn read(stream: &mut UnixStream) -> Result<Request, api::Error> {
    let broken =
        |error: io::Error| failure(code::PROTOCOL, "the request was cut off", error.to_string());
    let mut line = Vec::new();
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    BufReader::new(stream)
        .take(limit)
        .read_until(b'\n', &mut line)
        .await
        .map_err(broken)?;
    if line.last() != Some(&b'\n') {
        let what = "the request does not end with a newline";
        return Err(failure(
            code::PROTOCOL,
            what,
            format!("within {MAX_LINE} bytes"),
        ));
    }
    serde_json::from_slice(&line).map_err(|error| {
        failure(
            code::PROTOCOL,
            "the request is not understood",
            error.to_string(),
        )
    })
}
