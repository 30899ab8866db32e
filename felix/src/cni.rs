//! The CNI server: gives addresses, keeps endpoint records, waits for the kernel.
//!
//! An operation on a container excludes every other on the same container, runs to its end even
//! if the plugin has gone away, and may be repeated.
//! A deletion is written down before anything is undone, so that it is finished by somebody:
//! by this agent when the datastore is back, or by the next one.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use datastore::Datastore;
use felix_api::cni::{self as api, Op, Reply, code};
use felix_calc::{EndpointId, Update};
use ipam::Ipam;
use tokio::sync::{OwnedMutexGuard, mpsc};

use crate::board::Board;
use crate::metrics::Metrics;
use record::{Records, Workbench};

mod add;
mod check;
mod delete;
pub mod pod;
pub mod record;
pub mod socket;
mod start;
mod takeover;
mod wishes;

/// Settings of the server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this node.
    pub node: String,
    /// What the names of host interfaces start with.
    pub interface_prefix: String,
    /// MTU of workload interfaces; 0 takes it from the interface of the node address.
    pub mtu: u32,
    /// Where records and tombstones are.
    pub state_dir: PathBuf,
    /// What distinguishes this boot of the host from others.
    pub boot: String,
}

/// What the server talks to.
pub struct Ends {
    /// Where pods, pools and addresses are.
    pub store: Arc<dyn Datastore>,
    /// Gives addresses.
    pub ipam: Ipam,
    /// Endpoints go here.
    pub updates: mpsc::Sender<Update>,
    /// Notes on pods go here.
    pub pods: mpsc::Sender<pod::Note>,
    /// What is known, for everybody.
    pub board: Arc<Board>,
    /// What is measured.
    pub metrics: Arc<Metrics>,
}

/// The server; everything that operations share.
pub struct Server {
    settings: Settings,
    store: Arc<dyn Datastore>,
    ipam: Ipam,
    updates: mpsc::Sender<Update>,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
    pods: mpsc::Sender<pod::Note>,
    workbench: Workbench,
    records: Mutex<Records>,
    /// Handles that are being given addresses and have no record yet.
    in_flight: Mutex<BTreeSet<String>>,
    containers: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Held from choosing what an endpoint is until it is told, so that the newest is told last.
    telling: tokio::sync::Mutex<()>,
}

impl Server {
    /// A server that has read its records.
    ///
    /// # Errors
    /// When the state directory cannot be used.
    pub fn new(settings: Settings, ends: Ends) -> Result<Server> {
        let workbench = Workbench::open(&settings.state_dir)?;
        let records = Records::load(&settings.state_dir, workbench.clone())?;
        let tombstones = api::tombstone::directory(&settings.state_dir);
        std::fs::create_dir_all(&tombstones)
            .with_context(|| format!("create {}", tombstones.display()))?;
        let server = Server {
            ipam: ends.ipam,
            settings,
            store: ends.store,
            updates: ends.updates,
            board: ends.board,
            metrics: ends.metrics,
            pods: ends.pods,
            workbench,
            records: Mutex::new(records),
            in_flight: Mutex::default(),
            containers: Mutex::default(),
            telling: tokio::sync::Mutex::default(),
        };
        server.count();
        Ok(server)
    }

    /// Serves one request.
    pub async fn serve(&self, op: Op) -> Reply {
        let start = Instant::now();
        let name = name(&op);
        let result = match op {
            Op::Add(add) => self.add(add).await.map(Reply::Added),
            Op::Activate(activate) => self.activate(activate).await.map(|()| Reply::Done),
            Op::Del(del) => self.del(del).await.map(|()| Reply::Done),
            Op::Check(check) => self.check(check).await.map(Reply::Checked),
            Op::Gc(gc) => self.gc(gc).await.map(Reply::Collected),
            Op::Status => self.status().map(|()| Reply::Done),
        };
        self.metrics
            .cni_operation(name, result.is_ok(), start.elapsed());
        result.unwrap_or_else(Reply::Error)
    }

    /// Waits until nobody else works on the container.
    async fn exclusive(&self, container_id: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut containers = lock(&self.containers);
            containers.retain(|_, lock| Arc::strong_count(lock) > 1);
            containers
                .entry(container_id.to_owned())
                .or_default()
                .clone()
        };
        lock.lock_owned().await
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        lock(&self.records)
    }

    /// Tells the calculation what an endpoint is now.
    async fn tell(&self, id: EndpointId) {
        let _order = self.telling.lock().await;
        let endpoint = self.records().current(&id).map(record::Record::endpoint);
        // Without a calculation the agent is about to end.
        let _ended = self.updates.send(Update::Endpoint(id, endpoint)).await;
        self.count();
    }

    /// Puts the numbers on the board.
    fn count(&self) {
        let endpoints = self.records().len();
        let unsettled = self.tombstones().len();
        self.board.cni.send_if_modified(|view| {
            let before = view.clone();
            view.endpoints = endpoints;
            view.unsettled = unsettled;
            *view != before
        });
    }
}

/// What the mutexes here guard is changed in single steps, so it is whole after a panic too.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(op: &Op) -> &'static str {
    match op {
        Op::Add(_) => "add",
        Op::Activate(_) => "activate",
        Op::Del(_) => "del",
        Op::Check(_) => "check",
        Op::Gc(_) => "gc",
        Op::Status => "status",
    }
}

fn failure(code: u32, message: impl Into<String>, details: impl Into<String>) -> api::Error {
    api::Error {
        code,
        message: message.into(),
        details: details.into(),
    }
}

/// Something on this host refused; the runtime may try again.
fn host_failure(error: anyhow::Error) -> api::Error {
    failure(
        code::IO,
        format!("{error:#}"),
        "check the state directory of the agent",
    )
}

/// Names from the runtime become names of files.
fn checked_names(container_id: &str, ifname: &str) -> Result<(), api::Error> {
    for name in [container_id, ifname] {
        record::check_name(name)
            .map_err(|error| failure(code::INVALID_ENVIRONMENT, error.to_string(), ""))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
