//! The two ways to run: once, and for ever.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use datastore::Datastore;
use datastore::kubernetes::KubernetesStore;
use ipam::Ipam;
use ipam::gc::Collector;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::board::{Board, Look, View};
use crate::config::{Config, Output};
use crate::election::{Election, Timing};
use crate::metrics::Metrics;
use crate::place::{self, Place};
use crate::reflectors::Keeper;
use crate::triggers::Triggers;
use crate::{admin, collect, definitions, publish, report, topology};

/// Nodes that go together are collected together.
const TOGETHER: Duration = Duration::from_secs(1);
/// Name of the Lease, and under which fields are owned.
const LEASE: &str = "tortie-controller";
/// How often figures are written; every agent hears of it.
const PUBLISH: Duration = Duration::from_secs(30);
/// How soon the datastore is asked again.
const RETRY: Duration = Duration::from_secs(10);

/// Looks once, prints, ends. It acts only when no other controller leads.
///
/// # Errors
/// When the datastore cannot be read, another controller leads, or not all was done.
pub(crate) async fn once(config: &Config) -> Result<ExitCode> {
    let (store, mut election, _) = open(config).await?;
    let look = look_once(config, store, &mut election).await;
    election.release().await;
    let look = look?;
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

async fn look_once(
    config: &Config,
    store: Arc<dyn Datastore>,
    election: &mut Election,
) -> Result<Look> {
    if !config.dry_run && !election.try_lead().await? {
        bail!("another controller leads and does this; stop it, or add --dry-run to look only");
    }
    let ipam = Ipam::new(store.clone());
    let mut collector = Collector::new(config.collection.clone());
    tokio::select! {
        biased;
        () = election.lost() => bail!("the lead is lost, so not all may be done; start again"),
        look = collect::look(&*store, &ipam, &mut collector, config.dry_run) => Ok(look?),
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
    let (store, mut election, definitions) = open(config).await?;
    let board = Arc::new(Board::default());
    board.view().dry_run = config.dry_run;
    let metrics = Arc::new(Metrics::new()?);
    let work = Work {
        config,
        reflectors: keeper(config, &store).await?,
        topology: config.topology.as_ref().map(|settings| topology::Keeper {
            store: store.clone(),
            settings: settings.clone(),
            metrics: metrics.clone(),
            dry_run: config.dry_run,
        }),
        store,
        definitions,
        board: board.clone(),
        metrics: metrics.clone(),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "controller starts");
    let mut terminate = signal(SignalKind::terminate()).context("receive SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("receive SIGINT")?;
    // What is cut off here is as if the process had been killed: the next one settles it.
    let ended = tokio::select! {
        ended = admin::run(listener, board.clone(), metrics.clone()) => ended,
        ended = admin::run_metrics(config.metrics, board, metrics) => ended,
        ended = work.lead(&mut election) => ended,
        _ = terminate.recv() => { tracing::info!(signal = "SIGTERM", "controller ends"); Ok(()) }
        _ = interrupt.recv() => { tracing::info!(signal = "SIGINT", "controller ends"); Ok(()) }
    };
    election.release().await;
    ended
}

/// The store, and the same once more where its CRDs are to be upgraded.
type Opened = (Arc<dyn Datastore>, Election, Option<Arc<KubernetesStore>>);

async fn open(config: &Config) -> Result<Opened> {
    match &config.place {
        Place::Directory(directory) => {
            let store = config.place.open(LEASE).await?;
            Ok((store, Election::in_directory(directory), None))
        }
        Place::Cluster { kubeconfig } => {
            let settings = place::settings(kubeconfig.clone(), LEASE);
            let store = Arc::new(KubernetesStore::connect(settings).await?);
            let lease = store.lease(&config.namespace, LEASE);
            let election = Election::by_lease(lease, Timing::default());
            let upgraded = config.upgrade_crds && !config.dry_run;
            let definitions = upgraded.then(|| store.clone());
            Ok((store, election, definitions))
        }
    }
}

/// Who keeps the BGPPeers of reflectors, where there are any.
async fn keeper(config: &Config, store: &Arc<dyn Datastore>) -> Result<Option<Keeper>> {
    let (Some(settings), Place::Cluster { kubeconfig }) = (&config.reflectors, &config.place)
    else {
        return Ok(None);
    };
    let (store, kubeconfig) = (store.clone(), kubeconfig.clone());
    let keeper = Keeper::connect(store, kubeconfig, LEASE, settings, config.dry_run);
    keeper.await.map(Some)
}

struct Work<'a> {
    config: &'a Config,
    store: Arc<dyn Datastore>,
    /// Where CRDs are to be upgraded.
    definitions: Option<Arc<KubernetesStore>>,
    reflectors: Option<Keeper>,
    topology: Option<topology::Keeper>,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
}

impl Work<'_> {
    /// Works whenever this process leads.
    async fn lead(&self, election: &mut Election) -> Result<()> {
        loop {
            election.gained().await?;
            self.board.view().leading = true;
            tokio::select! {
                biased;
                () = election.lost() => {}
                () = self.run() => {}
            }
            tracing::warn!("lead lost, standing by");
            self.metrics.stands_by();
            let dry_run = self.config.dry_run;
            *self.board.view() = View {
                dry_run,
                ..View::default()
            };
        }
    }

    async fn keep_reflectors(&self) {
        if let Some(keeper) = &self.reflectors {
            keeper.run().await;
        }
    }

    async fn keep_topology(&self) {
        if let Some(keeper) = &self.topology {
            // Most run without it.
            Box::pin(keeper.run()).await;
        }
    }

    async fn run(&self) {
        tokio::join!(
            self.upgrade_definitions(),
            self.publish(),
            self.keep_reflectors(),
            self.keep_topology(),
            self.collect()
        );
    }

    async fn upgrade_definitions(&self) {
        let Some(store) = &self.definitions else {
            return;
        };
        while let Err(error) = definitions::apply(store).await {
            tracing::warn!(%error, "the CRDs are not those of this version, trying again");
            tokio::time::sleep(RETRY).await;
        }
        tracing::info!("the CRDs are those of this version");
    }

    /// Shows figures where people look for them. Not in a directory: its files are people's own.
    async fn publish(&self) {
        if self.config.dry_run || !self.config.place.is_cluster() {
            return;
        }
        loop {
            if let Err(error) = publish::publish(&*self.store).await {
                tracing::warn!(%error, "pools and peerings show old figures, trying again");
            }
            tokio::time::sleep(PUBLISH).await;
        }
    }

    async fn collect(&self) {
        let ipam = Ipam::new(self.store.clone());
        let mut collector = Collector::new(self.config.collection.clone());
        let mut triggers = Triggers::new(self.config.collection.guard_pools);
        loop {
            let wait = self.look(&ipam, &mut collector).await;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = triggers.next(&*self.store) => tokio::time::sleep(TOGETHER).await,
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
