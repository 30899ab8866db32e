//! Tracked connections of addresses that go or move end, so that they do not reach the next pod.
//!
//! Looking through the connections of a busy node takes a while, so a thread of its own does it.
//! While it works on an address no route to it is added, and its pod does not count as ready
//! (Calico behaviour: adding a route again waits for the pending deletion).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use felix_calc::Endpoints;
use ipnet::IpNet;
use netlink::bulk::Operation;
use netlink::conntrack::Conntrack;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::Error;
use crate::routes::Change;

/// How often it is tried (Calico behaviour).
const TRIES: u32 = 3;

/// Who has an address: an interface, and the container behind it.
type Holder = (Arc<str>, String);

/// The owner of the thread that ends connections.
#[derive(Debug)]
pub(crate) struct Flows {
    holders: BTreeMap<IpAddr, Holder>,
    /// To be looked through; their routes are changed first.
    queued: BTreeSet<IpAddr>,
    /// The thread works on them.
    under_way: BTreeSet<IpAddr>,
    work: Option<SyncSender<BTreeSet<IpAddr>>>,
    /// Readable when the thread has finished.
    finished: PipeReader,
    thread: Option<JoinHandle<()>>,
}

impl Flows {
    /// Starts the thread, in the network namespace of the caller.
    pub(crate) fn start() -> Result<Flows, Error> {
        let (finished, done) = pipe().map_err(Error::Thread)?;
        // One batch at a time: the next is sent when the thread has told about the last.
        let (work, batches) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("conntrack".to_owned())
            .spawn(move || end_flows(&batches, done))
            .map_err(Error::Thread)?;
        Ok(Flows {
            holders: BTreeMap::new(),
            queued: BTreeSet::new(),
            under_way: BTreeSet::new(),
            work: Some(work),
            finished,
            thread: Some(thread),
        })
    }

    /// Takes in who has which address now; what another pod had before is queued.
    pub(crate) fn hold(&mut self, endpoints: &Endpoints) {
        let mut holders = BTreeMap::new();
        for (interface, endpoint) in &endpoints.interfaces {
            let holder = (interface.clone(), endpoint.container_id.clone());
            let held = endpoint.addresses.iter().map(|a| (*a, holder.clone()));
            holders.extend(held);
        }
        let before = std::mem::replace(&mut self.holders, holders);
        let left = before.into_iter().filter(|(address, holder)| {
            let now = self.holders.get(address);
            now != Some(holder)
        });
        self.queued.extend(left.map(|(address, _)| address));
    }

    /// Queues the address of a pod whose route is gone, also of one of an earlier run.
    pub(crate) fn route_is_gone(&mut self, change: &Change) {
        self.queued.extend(host(change.key.destination));
    }

    /// Whether a change has to wait: it would lead connections of before to a pod.
    pub(crate) fn holds_back(&self, change: &Change) -> bool {
        change.operation == Operation::Add
            && host(change.key.destination).is_some_and(|address| self.is_pending(address))
    }

    /// Whether connections of an address may not have been ended yet.
    pub(crate) fn is_pending(&self, address: IpAddr) -> bool {
        self.queued.contains(&address) || self.under_way.contains(&address)
    }

    /// Hands over what is queued, if the thread has nothing to do, but for addresses whose route
    /// is being changed.
    pub(crate) fn end(&mut self, is_changing: impl Fn(IpAddr) -> bool) {
        if !self.under_way.is_empty() || self.queued.is_empty() {
            return;
        }
        let queued = std::mem::take(&mut self.queued).into_iter();
        (self.queued, self.under_way) = queued.partition(|address| is_changing(*address));
        if self.under_way.is_empty() {
            return;
        }
        let sent = self.work.as_ref().is_some_and(|work| {
            let batch = self.under_way.clone();
            work.try_send(batch).is_ok()
        });
        if !sent {
            self.under_way.clear();
        }
    }

    /// What becomes readable when the thread has finished.
    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.work.as_ref().map(|_| self.finished.as_fd())
    }

    /// Notes that the thread has finished, if it has.
    pub(crate) fn read_events(&mut self) {
        let mut fds = [PollFd::new(self.finished.as_fd(), PollFlags::POLLIN)];
        if self.work.is_none() || !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..)) {
            return;
        }
        let mut byte = [0];
        if !matches!(self.finished.read(&mut byte), Ok(1..)) {
            tracing::error!("the thread that ends tracked connections is gone");
            self.work = None;
        }
        self.under_way.clear();
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        // The thread ends when there is nobody to send it anything.
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The address of a route to a single one.
fn host(destination: IpNet) -> Option<IpAddr> {
    (destination.prefix_len() == destination.max_prefix_len()).then(|| destination.addr())
}

/// What the thread does.
fn end_flows(batches: &Receiver<BTreeSet<IpAddr>>, mut done: PipeWriter) {
    let mut connection = None;
    for addresses in batches {
        for attempt in 1..=TRIES {
            match delete(&mut connection, &addresses) {
                Ok(0) => break,
                Ok(count) => {
                    tracing::debug!(count, ?addresses, "ended tracked connections");
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, attempt, ?addresses, "tracked connections of addresses that went are not ended");
                    connection = None;
                }
            }
        }
        if done.write_all(&[0]).is_err() {
            return;
        }
    }
}

fn delete(
    connection: &mut Option<Conntrack>,
    addresses: &BTreeSet<IpAddr>,
) -> Result<usize, netlink::Error> {
    let conntrack = match connection {
        Some(conntrack) => conntrack,
        None => connection.insert(Conntrack::open()?),
    };
    conntrack.delete_flows_of(addresses)
}
