//! Starts and joins all tasks.
//!
//! ```text
//!  datastore ──▶ watch (one per kind) ─┐
//!  cni server ──────── endpoints ──────┤ mpsc 1024             watch<bgp section>
//!  dataplane ── host, programmed ──────┼──────────▶ calc ──┬──────────────────────▶ speaker
//!  speaker ─ learned, next hops, done ─┘ mpsc 16           │                           │
//!                                                          ▼ inbox: newest wins        ▼
//!                                          dataplane (thread) ⇄ kernel         bgp (its own tasks)
//!
//!  board: what each of them last knew ──▶ status writer, admin, cni server (waits for routes)
//!  node and tunnel addresses ⇄ datastore (Node annotations, address management)      cni server ──mpsc 256──▶ pod notes
//! ```
//!
//! Nothing is dropped on the way to calc: who produces faster than it takes waits.
//! The dataplane never waits for calc to take something while calc waits for the dataplane,
//! because calc only leaves things in its inbox.
//!
//! A task that ends without being asked ends the process and is named.
//! On the way out: not ready, CNI server, watches, speaker, status, the rest; what is in the
//! kernel stays.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bgp::{Handle, Shutdown};
use crds::Kind;
use datastore::file::FileStore;
use datastore::kubernetes::{KubernetesStore, Settings};
use datastore::{Datastore, Key};
use felix_calc::calc::NEEDED;
use felix_calc::{Bgp, Calc, NextHops, Update};
use futures_util::future::select_all;
use ipam::Ipam;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::board::Board;
use crate::config::{Config, DatastoreKind};
use crate::dataplane::Inbox;
use crate::drain::Stage;
use crate::metrics::Metrics;
use crate::tunnel_address::Keeper;
use crate::{
    admin, borrowed, calc, cni, dataplane, drain, events, headless, network_unavailable,
    node_address, shutdown, speaker, status,
};

/// Updates that wait for the calculation.
const UPDATES: usize = 1024;
/// Updates of the speaker that wait for it, each of up to 1024 routes.
const LEARNED: usize = 16;
/// Notes on pods that wait for the datastore; more are dropped.
const NOTES: usize = 256;
/// Sessions are closed within this time.
const SPEAKER_TIME: Duration = Duration::from_secs(2);
/// Everything is over within this time.
const SHUTDOWN_TIME: Duration = Duration::from_secs(5);

/// The newest BGP section, nothing before the first.
type BgpSection = watch::Receiver<Option<Arc<Bgp>>>;

/// What the calculation says to the speaker.
struct ForSpeaker {
    bgp: BgpSection,
    next_hops: watch::Receiver<Arc<NextHops>>,
}

/// Runs the agent until it is asked to end.
///
/// # Errors
/// When it cannot start, or when a task ended without being asked.
pub async fn run(config: Config) -> Result<()> {
    tracing::info!(
        node = config.node_name,
        version = env!("CARGO_PKG_VERSION"),
        "agent starts"
    );
    let store = open(&config).await?;
    let (mut tasks, stops) = start(&config, store).await?;
    let result = tokio::select! {
        signal = shutdown::requested() => signal.map(|signal| tracing::info!(signal, "agent ends")),
        ended = tasks.first_ended() => Err(ended),
    };
    stop(&mut tasks, stops).await;
    result
}

async fn open(config: &Config) -> Result<Arc<dyn Datastore>> {
    match &config.datastore {
        DatastoreKind::File(directory) => {
            let store = FileStore::open(directory);
            let what = || format!("open the datastore {}", directory.display());
            Ok(Arc::new(store.with_context(what)?))
        }
        DatastoreKind::Kubernetes { kubeconfig } => {
            let settings = Settings {
                kubeconfig: kubeconfig.clone(),
                pods_of_node: Some(config.node_name.clone()),
                blocks_of_node: Some(config.node_name.clone()),
                secrets_of_namespace: Some(config.namespace.clone()),
                metadata_only: [Kind::Node, Kind::Namespace].into(),
                every_change_of: Some(Key::cluster(Kind::Node, &config.node_name)),
                ..Settings::new("tortie-felix")
            };
            Ok(Arc::new(KubernetesStore::connect(settings).await?))
        }
    }
}

/// How each task is asked to end.
struct Stops {
    stopping: watch::Sender<bool>,
    cni: oneshot::Sender<()>,
    speaker: oneshot::Sender<Shutdown>,
    status: watch::Sender<bool>,
    dataplane: Arc<Inbox>,
    board: Arc<Board>,
}

/// What every part of the start needs.
struct Common<'a> {
    config: &'a Config,
    store: Arc<dyn Datastore>,
    /// One for pods and tunnels: clones share what they know of blocks.
    ipam: Ipam,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
    inbox: Arc<Inbox>,
    updates: mpsc::Sender<Update>,
    learned: mpsc::Sender<Update>,
}

async fn start(config: &Config, store: Arc<dyn Datastore>) -> Result<(Tasks, Stops)> {
    // Whatever can fail for a wrong setting, or because an agent runs already, comes first.
    let admin_listener = TcpListener::bind(config.admin)
        .await
        .with_context(|| format!("listen on {} (setting admin)", config.admin))?;
    let metrics_listener = match config.metrics {
        Some(address) => {
            let place = || format!("listen on {address} (setting metrics)");
            Some(TcpListener::bind(address).await.with_context(place)?)
        }
        None => None,
    };
    let admin_socket = cni::socket::open(&config.cni_socket.with_file_name("agent.sock"))?;
    let (updates, update_receiver) = mpsc::channel(UPDATES);
    let (learned, learned_receiver) = mpsc::channel(LEARNED);
    let is_kubernetes = matches!(config.datastore, DatastoreKind::Kubernetes { .. });
    let ipam = Ipam::new(store.clone());
    let common = Common {
        config,
        // An API server is not asked for all blocks of the cluster by every request that comes too early.
        ipam: match is_kubernetes {
            true => ipam.with_patience(),
            false => ipam,
        },
        store,
        board: Arc::default(),
        metrics: Arc::new(Metrics::new()?),
        inbox: Arc::new(Inbox::new()?),
        updates,
        learned,
    };
    let (server, notes) = common.cni_server()?;
    let (addressed, node_known) = watch::channel(false);
    let (recalled, tunnels_known) = watch::channel(false);

    let mut tasks = Tasks::default();
    tasks.spawn("node address", common.node_address().run(addressed));
    let tunnels = common.tunnel_addresses();
    tasks.spawn("tunnel addresses", tunnels.run(recalled));
    let (store, board) = (common.store.clone(), common.board.clone());
    let count = match is_kubernetes {
        true => events::Count::InStatus,
        false => events::Count::InBlocks,
    };
    let run = events::run(store, config.node_name.clone(), count, board);
    tasks.spawn("events", run);
    let earlier = speaker::Earlier::open(&config.state_dir);
    let drain = drain::run(common.board.clone(), earlier.were_none());
    tasks.spawn("drain", drain);
    let (store, board) = (common.store.clone(), common.board.clone());
    let run = borrowed::run(store, config.node_name.clone(), board);
    tasks.spawn("borrowed addresses", run);
    if is_kubernetes {
        let (store, board) = (common.store.clone(), common.board.clone());
        let run = network_unavailable::run(store, config.node_name.clone(), board);
        tasks.spawn("network unavailable", run);
    }
    let run = headless::run(common.store.outage(), common.board.clone());
    tasks.spawn("headless", run);
    let first = [node_known, tunnels_known];
    let (probes, said) =
        common.start_calculation(&mut tasks, update_receiver, learned_receiver, first);
    let restarting = common.start_dataplane(&mut tasks)?;
    let (speaker, handle) = common.start_speaker(&mut tasks, said, restarting, earlier);
    let cni = common.start_cni(&mut tasks, server, notes).await?;
    let (status, status_stopped) = watch::channel(false);
    let run = status::run(
        common.store.clone(),
        config.node_name.clone(),
        common.board.clone(),
        status_stopped,
    );
    tasks.spawn("status", run);
    let (stopping, stopping_receiver) = watch::channel(false);
    let sources = admin::Sources {
        node: config.node_name.clone(),
        store: common.store,
        board: common.board.clone(),
        metrics: common.metrics,
        calc: probes,
        dataplane: common.inbox.clone(),
        speaker: handle,
        stopping: stopping_receiver,
    };
    if let Some(listener) = metrics_listener {
        tasks.spawn("metrics", admin::run_metrics(listener, sources.clone()));
    }
    tasks.spawn("admin", admin::run(admin_listener, admin_socket, sources));
    let stops = Stops {
        stopping,
        cni,
        speaker,
        status,
        dataplane: common.inbox,
        board: common.board,
    };
    Ok((tasks, stops))
}

impl Common<'_> {
    fn node_address(&self) -> node_address::Keeper {
        let settings = node_address::Settings {
            node: self.config.node_name.clone(),
            ipv4: self.config.ipv4.clone(),
            ipv6: self.config.ipv6.clone(),
        };
        node_address::Keeper::new(self.store.clone(), settings, self.board.clone())
    }

    fn tunnel_addresses(&self) -> Keeper {
        let node = self.config.node_name.clone();
        let (store, board) = (self.store.clone(), self.board.clone());
        Keeper::new(store, self.ipam.clone(), node, self.updates.clone(), board)
    }

    fn cni_server(&self) -> Result<(Arc<cni::Server>, mpsc::Receiver<cni::pod::Note>)> {
        let (pods, notes) = mpsc::channel(NOTES);
        let ends = cni::Ends {
            store: self.store.clone(),
            ipam: self.ipam.clone(),
            updates: self.updates.clone(),
            pods,
            board: self.board.clone(),
            metrics: self.metrics.clone(),
        };
        Ok((
            Arc::new(cni::Server::new(cni_settings(self.config)?, ends)?),
            notes,
        ))
    }

    /// The calculation and its sources in the datastore.
    fn start_calculation(
        &self,
        tasks: &mut Tasks,
        updates: mpsc::Receiver<Update>,
        learned: mpsc::Receiver<Update>,
        first: [watch::Receiver<bool>; 2],
    ) -> (mpsc::Sender<oneshot::Sender<()>>, ForSpeaker) {
        let (probes, probe_receiver) = mpsc::channel(1);
        let (bgp, bgp_receiver) = watch::channel(None);
        let (next_hops, next_hops_receiver) = watch::channel(Arc::default());
        let ends = calc::Ends {
            updates,
            learned,
            probes: probe_receiver,
            bgp,
            next_hops,
            dataplane: self.inbox.clone(),
            board: self.board.clone(),
        };
        let calc = Calc::new(calc_settings(self.config));
        tasks.spawn("calc", calc::run(calc, ends));
        for kind in NEEDED {
            let (updates, board) = (self.updates.clone(), self.board.clone());
            let run = crate::watch::run(self.store.clone(), kind, updates, board);
            let first = first.clone();
            tasks.spawn("watch", async move {
                // The first output must know the addresses of this node and, from an earlier run,
                // those of its tunnels.
                for mut keeper in first {
                    let known = keeper.wait_for(|known| *known).await.is_ok();
                    anyhow::ensure!(known, "a keeper of addresses has ended");
                }
                run.await
            });
        }
        let said = ForSpeaker {
            bgp: bgp_receiver,
            next_hops: next_hops_receiver,
        };
        (probes, said)
    }

    /// Returns where it is told whether routes of an earlier run were found.
    fn start_dataplane(&self, tasks: &mut Tasks) -> Result<oneshot::Receiver<bool>> {
        let (restarting, receiver) = oneshot::channel();
        let ends = dataplane::Ends {
            inbox: self.inbox.clone(),
            updates: self.updates.clone(),
            board: self.board.clone(),
            restarting,
        };
        let config = dataplane_config(self.config);
        tasks.thread("dataplane", move || dataplane::run(config, ends))?;
        Ok(receiver)
    }

    fn start_speaker(
        &self,
        tasks: &mut Tasks,
        said: ForSpeaker,
        restarting: oneshot::Receiver<bool>,
        earlier: speaker::Earlier,
    ) -> (oneshot::Sender<Shutdown>, watch::Receiver<Option<Handle>>) {
        let (stop, shutdown) = oneshot::channel();
        let (handle, handle_receiver) = watch::channel(None);
        if !self.config.bgp {
            self.board.speaker.send_modify(|view| view.off = true);
            return (stop, handle_receiver);
        }
        let settings = speaker::Settings {
            listen: self.config.bgp_listen,
            restart_time_secs: self.config.restart_time_secs,
        };
        let ends = speaker::Ends {
            bgp: said.bgp,
            next_hops: said.next_hops,
            earlier,
            updates: self.learned.clone(),
            board: self.board.clone(),
            restarting,
            shutdown,
            handle,
        };
        tasks.spawn("speaker", speaker::run(settings, ends));
        (stop, handle_receiver)
    }

    /// The endpoints of an earlier run are told before the first request is served.
    async fn start_cni(
        &self,
        tasks: &mut Tasks,
        server: Arc<cni::Server>,
        notes: mpsc::Receiver<cni::pod::Note>,
    ) -> Result<oneshot::Sender<()>> {
        let earlier = server.start().await;
        earlier.context("endpoints of an earlier run")?;
        let listener = cni::socket::open(&self.config.cni_socket)?;
        let (stop, stopped) = oneshot::channel();
        let run = cni::socket::run(server.clone(), listener, stopped);
        tasks.spawn("cni server", run);
        self.board.cni.send_modify(|view| view.serving = true);
        tasks.spawn("cni housekeeping", async move { server.housekeep().await });
        tasks.spawn("pod notes", cni::pod::run(self.store.clone(), notes));
        Ok(stop)
    }
}

/// Each step has a bounded time; a task that has ended already is fine.
async fn stop(tasks: &mut Tasks, stops: Stops) {
    let deadline = Instant::now() + SHUTDOWN_TIME;
    stops.stopping.send_replace(true);
    let _ended = stops.cni.send(());
    tasks.join("cni server", deadline).await;
    tasks.abort("watch");
    tasks.abort("cni housekeeping");
    let how = match &*stops.board.drain.borrow() {
        // Peers keep our routes: the kernel goes on forwarding without us.
        Stage::Stays => Shutdown::Restart,
        Stage::Leaving(cause) | Stage::Left(cause) => Shutdown::Cease {
            text: speaker::farewell(cause),
        },
    };
    let _ended = stops.speaker.send(how);
    tasks
        .join("speaker", deadline.min(Instant::now() + SPEAKER_TIME))
        .await;
    stops.status.send_replace(true);
    tasks.join("status", deadline).await;
    stops.dataplane.stop();
    tasks.join("dataplane", deadline).await;
    tasks.abort_all();
    tasks.join_all(deadline).await;
}

fn cni_settings(config: &Config) -> Result<cni::Settings> {
    let path = "/proc/sys/kernel/random/boot_id";
    let boot = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    Ok(cni::Settings {
        node: config.node_name.clone(),
        interface_prefix: config.interface_prefix.clone(),
        mtu: config.mtu,
        state_dir: config.state_dir.clone(),
        boot: boot.trim().to_owned(),
    })
}

fn calc_settings(config: &Config) -> felix_calc::Settings {
    felix_calc::Settings {
        allow_default_route: config.allow_default_route,
        router_id: config.router_id,
        namespace: config.namespace.clone(),
        bgp: config.bgp,
        ..felix_calc::Settings::new(config.node_name.clone())
    }
}

fn dataplane_config(config: &Config) -> felix_dataplane::Config {
    felix_dataplane::Config {
        workload_prefixes: vec![config.interface_prefix.clone()],
        user_tunnels: config.user_tunnels,
        sysctl_root: config.sysctl_root.clone(),
        ..felix_dataplane::Config::default()
    }
}

/// Everything that runs, by name.
#[derive(Default)]
struct Tasks {
    running: Vec<(&'static str, JoinHandle<Result<()>>)>,
}

impl Tasks {
    fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        self.running.push((name, tokio::spawn(task)));
    }

    /// A thread of its own, for work that waits in the kernel.
    fn thread(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (sender, result) = oneshot::channel();
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread
            .spawn(move || drop(sender.send(work())))
            .with_context(|| format!("start the thread {name}"))?;
        self.spawn(
            name,
            async move { result.await.context("the thread panicked")? },
        );
        Ok(())
    }

    /// Waits until a task ends and says why that is an error.
    async fn first_ended(&mut self) -> anyhow::Error {
        let handles = self.running.iter_mut().map(|(_, handle)| handle);
        let (result, index, _) = select_all(handles).await;
        let (name, _) = self.running.remove(index);
        match result {
            Ok(Ok(())) => anyhow!("task {name} has ended"),
            Ok(Err(error)) => error.context(format!("task {name}")),
            Err(error) => anyhow!(error).context(format!("task {name}")),
        }
    }

    async fn join(&mut self, name: &str, deadline: Instant) {
        let found = self
            .running
            .iter()
            .position(|(running, _)| *running == name);
        let Some(index) = found else { return };
        let (name, mut handle) = self.running.remove(index);
        match timeout_at(deadline, &mut handle).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!("task {name}: {error:#}"),
            Ok(Err(error)) => tracing::warn!("task {name}: {error:#}"),
            Err(_) => {
                tracing::warn!(name, "does not end, cut off");
                handle.abort();
            }
        }
    }

    fn abort(&self, name: &str) {
        for (_, handle) in self.running.iter().filter(|(running, _)| *running == name) {
            handle.abort();
        }
    }

    fn abort_all(&self) {
        for (_, handle) in &self.running {
            handle.abort();
        }
    }

    async fn join_all(&mut self, deadline: Instant) {
        for (name, handle) in self.running.drain(..) {
            // Aborted on purpose, so only one that does not end is worth a word.
            if timeout_at(deadline, handle).await.is_err() {
                tracing::warn!(name, "does not end");
            }
        }
    }
}
