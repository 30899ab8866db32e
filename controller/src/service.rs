//! The two ways to run: once, and for ever.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use crds::Kind;
use datastore::file::FileStore;
use datastore::{Datastore, Event, Watch};
use ipam::Ipam;
use ipam::gc::Collector;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::board::Board;
use crate::config::{Config, Output};
use crate::lease::Election;
use crate::metrics::Metrics;
use crate::{admin, collect, report};

/// Nodes that go together are collected together.
const TOGETHER: Duration = Duration::from_secs(1);
/// How soon the datastore is asked again.
const RETRY: Duration = Duration::from_secs(10);

/// Looks once, prints, ends. It acts only when no other controller leads.
///
/// # Errors
/// When the datastore cannot be read, another controller leads, or not all was done.
pub(crate) async fn once(config: &Config) -> Result<ExitCode> {
    let store = open(config)?;
    let mut lease = None;
    if !config.dry_run {
        lease = Some(Election::in_directory(&config.directory).try_lead()?.context(
            "another controller leads and does this; stop it, or add --dry-run to look only",
        )?);
    }
    let ipam = Ipam::new(store.clone());
    let mut collector = Collector::new(config.collection.clone());
    let look = collect::look(&*store, &ipam, &mut collector, config.dry_run).await?;
    drop(lease);
    let text = match config.output {
        Output::Table => report::table(&look, config.dry_run),
        Output::Json => format!("{:#}\n", report::json(&look, config.dry_run)),
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("print")?;
    match look.error {
        Some(error) => Err(anyhow!(error).context("not all was done")),
        // 2: there would be something to do, and the snapshot is not believed.
        None => Ok(ExitCode::from(if look.sweep.refused.is_some() {
            2
        } else {
            0
        })),
    }
}

/// Leads when nobody else does, and works until it is told to end.
///
/// # Errors
/// When it cannot start, or its pages or its lock break.
pub(crate) async fn run(config: &Config) -> Result<()> {
    let listener = TcpListener::bind(config.admin)
        .await
        .with_context(|| format!("--admin: listen on {}", config.admin))?;
    let store = open(config)?;
    let board = Arc::new(Board::default());
    board.view().dry_run = config.dry_run;
    let metrics = Arc::new(Metrics::new()?);
    let work = Work {
        config,
        store,
        board: board.clone(),
        metrics: metrics.clone(),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "controller starts");
    let mut terminate = signal(SignalKind::terminate()).context("receive SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("receive SIGINT")?;
    // What is cut off here is as if the process had been killed: the next one settles it.
    tokio::select! {
        ended = admin::run(listener, board, metrics) => ended,
        ended = work.run() => ended,
        _ = terminate.recv() => { tracing::info!(signal = "SIGTERM", "controller ends"); Ok(()) }
        _ = interrupt.recv() => { tracing::info!(signal = "SIGINT", "controller ends"); Ok(()) }
    }
}

fn open(config: &Config) -> Result<Arc<dyn Datastore>> {
    let directory = &config.directory;
    // A directory made here by mistake would look like a cluster that lost everything.
    if !directory.is_dir() {
        return Err(anyhow!(
            "--datastore: {} is not a directory",
            directory.display()
        ));
    }
    let store = FileStore::open(directory)
        .with_context(|| format!("open the datastore {}", directory.display()))?;
    Ok(Arc::new(store))
}

struct Work<'a> {
    config: &'a Config,
    store: Arc<dyn Datastore>,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
}

impl Work<'_> {
    async fn run(&self) -> Result<()> {
        let _lease = Election::in_directory(&self.config.directory)
            .lead()
            .await?;
        self.board.view().leading = true;
        let ipam = Ipam::new(self.store.clone());
        let mut collector = Collector::new(self.config.collection.clone());
        let mut nodes = None;
        loop {
            let wait = self.look(&ipam, &mut collector).await;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = node_gone(&*self.store, &mut nodes) => tokio::time::sleep(TOGETHER).await,
            }
        }
    }

    /// Looks, and says when to look again.
    async fn look(&self, ipam: &Ipam, collector: &mut Collector) -> Duration {
        self.board.view().busy_since = Some(Instant::now());
        let result = collect::look(&*self.store, ipam, collector, self.config.dry_run).await;
        let mut view = self.board.view();
        view.busy_since = None;
        match result {
            Ok(look) => {
                self.metrics.looked(&look);
                let is_incomplete = look.error.is_some();
                let due = look.sweep.due;
                view.failure = None;
                view.last = Some(look);
                drop(view);
                if is_incomplete {
                    return RETRY.min(self.config.interval);
                }
                // A second late rather than a moment early.
                let due = due.and_then(|due| due.duration_since(SystemTime::now()).ok());
                due.map_or(self.config.interval, |due| {
                    (due + TOGETHER).min(self.config.interval)
                })
            }
            Err(error) => {
                tracing::warn!(%error, "cannot look, trying again");
                self.metrics.failed();
                view.failure = Some(error.to_string());
                RETRY.min(self.config.interval)
            }
        }
    }
}

/// Waits until a Node object disappears. A datastore that cannot be watched is looked at by time alone.
async fn node_gone(store: &dyn Datastore, nodes: &mut Option<Watch>) {
    loop {
        let watch = match nodes {
            Some(watch) => watch,
            None => match store.watch(Kind::Node).await {
                Ok(watch) => nodes.insert(watch),
                Err(error) => {
                    tracing::warn!(%error, "cannot watch Nodes, trying again");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            },
        };
        match watch.next().await {
            Some(Event::Delete(key)) => {
                tracing::info!(node = key.name, "Node deleted");
                return;
            }
            Some(Event::Upsert(_) | Event::InSync | Event::Broken(_) | Event::Mended { .. }) => {}
            None => {
                *nodes = None;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
