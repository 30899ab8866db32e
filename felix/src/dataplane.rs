//! The thread around `felix-dataplane`: takes what shall be, waits for the kernel, reports.
//!
//! Outputs that come faster than the kernel takes them are folded: the newest answer per
//! destination stays, so what waits is bounded by the number of routes.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::mem::take;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use felix_calc::{Output, Route, Update};
use felix_dataplane::{Applied, Config, Counters, Dataplane};
use foldhash::fast::RandomState;
use ipnet::IpNet;
use netlink::{RouteFilter, Socket, TABLE_MAIN};
use tokio::sync::{mpsc, oneshot};

use crate::board::Board;

/// Longest sleep when nothing happens.
const IDLE: Duration = Duration::from_secs(60);
/// Pause after a step that failed as a whole.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// What waits for the thread, and how it is woken.
#[derive(Debug)]
pub struct Inbox {
    pending: Mutex<Pending>,
    wake: UnixStream,
    sleep: UnixStream,
}

#[derive(Debug, Default)]
struct Pending {
    output: Option<Output>,
    routes: HashMap<IpNet, Option<Route>, RandomState>,
    probes: Vec<oneshot::Sender<()>>,
    stop: bool,
}

impl Inbox {
    /// An empty inbox.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> Result<Inbox> {
        let (wake, sleep) = UnixStream::pair().context("create a wake-up channel")?;
        wake.set_nonblocking(true)?;
        sleep.set_nonblocking(true)?;
        Ok(Inbox {
            pending: Mutex::default(),
            wake,
            sleep,
        })
    }

    /// Adds what changed.
    pub fn put(&self, mut output: Output) {
        let mut pending = self.lock();
        pending.routes.extend(take(&mut output.routes));
        pending.output = Some(match pending.output.take() {
            Some(earlier) => Output {
                endpoints: output.endpoints.or(earlier.endpoints),
                overlay: output.overlay.or(earlier.overlay),
                firewall: output.firewall.or(earlier.firewall),
                complete: earlier.complete || output.complete,
                ..output
            },
            None => output,
        });
        drop(pending);
        self.wake();
    }

    /// Asks for an answer by a thread that is alive.
    pub fn probe(&self, answer: oneshot::Sender<()>) {
        self.lock().probes.push(answer);
        self.wake();
    }

    /// Asks the thread to end.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // A full channel means that the thread has been woken already.
        let _full = (&self.wake).write(&[0]);
    }

    /// Empties the inbox.
    fn take(&self) -> Pending {
        let mut buffer = [0; 64];
        while matches!((&self.sleep).read(&mut buffer), Ok(count) if count == buffer.len()) {}
        let mut pending = take(&mut *self.lock());
        if let Some(output) = &mut pending.output {
            output.routes = take(&mut pending.routes).into_iter().collect();
        }
        pending
    }
}

/// What the thread is started with.
pub struct Ends {
    /// What shall be.
    pub inbox: Arc<Inbox>,
    /// The host's network and what is programmed go here.
    pub updates: mpsc::Sender<Update>,
    /// What is known, for everybody.
    pub board: Arc<Board>,
    /// Whether routes of ours were there at the start.
    pub restarting: oneshot::Sender<bool>,
}

/// Programs the kernel of the calling thread's network namespace until it is told to end.
/// What is programmed then stays.
///
/// # Errors
/// When the kernel cannot be asked at the start, or when the calculation is gone.
pub fn run(config: Config, ends: Ends) -> Result<()> {
    let own = RouteFilter {
        table: Some(TABLE_MAIN),
        protocol: Some(config.route_protocol),
        ..RouteFilter::default()
    };
    let left = Socket::open().and_then(|mut socket| socket.routes(&own));
    let left = left.context("list the routes of an earlier run")?;
    tracing::info!(routes = left.len(), "routes of an earlier run");
    let _nobody_waits = ends.restarting.send(!left.is_empty());
    let mut dataplane = Dataplane::open(config).context("connect to the kernel")?;
    loop {
        let pending = ends.inbox.take();
        if pending.stop {
            return Ok(());
        }
        for probe in pending.probes {
            let _gone = probe.send(());
        }
        if let Some(output) = &pending.output {
            dataplane.update(output);
        }
        match dataplane.step(Instant::now()) {
            Ok(applied) => report(applied, &ends.updates, &ends.board)?,
            Err(error) => {
                tracing::warn!(%error, "the kernel could not be programmed, trying again");
                ends.board.dataplane.send_modify(|view| view.errors += 1);
                std::thread::sleep(ERROR_PAUSE);
            }
        }
        dataplane.wait(ends.inbox.sleep.as_fd(), IDLE)?;
    }
}

fn report(applied: Applied, updates: &mpsc::Sender<Update>, board: &Board) -> Result<()> {
    let told = [
        applied.host.map(Update::Host),
        applied.programmed.map(Update::Programmed),
    ];
    board.dataplane.send_if_modified(|view| {
        let news = view.generation != applied.generation
            || applied.ready.is_some()
            || applied.failures.is_some();
        let routes = |counters: &Counters| (counters.in_place, counters.refused, counters.waiting);
        let news = news || routes(&view.counters) != routes(&applied.counters);
        view.generation = applied.generation;
        view.counters = applied.counters;
        if let Some(ready) = applied.ready {
            view.ready = ready;
        }
        if let Some(failures) = applied.failures {
            for failure in failures
                .iter()
                .filter(|failure| !view.failures.contains(failure))
            {
                tracing::warn!(%failure, "the kernel refuses");
            }
            view.failures = failures;
            view.failing_since = match view.failures.is_empty() {
                true => None,
                false => view.failing_since.or(Some(Instant::now())),
            };
        }
        news
    });
    for update in told.into_iter().flatten() {
        if updates.blocking_send(update).is_err() {
            bail!("the calculation has ended");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn outputs_that_wait_are_folded_into_the_newest() {
        let inbox = Inbox::new().unwrap();
        let net: IpNet = "10.0.0.0/26".parse().unwrap();
        let route = Route {
            destination: net,
            class: felix_calc::RouteClass::IpamBlockDrop,
            target: felix_calc::Target::Blackhole,
        };
        let first = Output {
            generation: 1,
            complete: true,
            hold_learned: true,
            endpoints: Some(Arc::default()),
            overlay: Some(Arc::default()),
            firewall: Some(Arc::default()),
            routes: vec![(net, Some(route))],
            ..Output::default()
        };
        inbox.put(first);
        inbox.put(Output {
            generation: 2,
            routes: vec![(net, None)],
            ..Output::default()
        });
        let output = inbox.take().output.unwrap();
        assert_eq!(
            (output.generation, output.complete, output.hold_learned),
            (2, true, false)
        );
        assert_eq!(output.routes, [(net, None)]);
        assert!(output.endpoints.is_some());
        assert!(output.overlay.is_some() && output.firewall.is_some());
        assert!(inbox.take().output.is_none());
        let mut byte = [0];
        let woken = (&inbox.sleep).read(&mut byte).unwrap_err();
        assert_eq!(
            woken.kind(),
            ErrorKind::WouldBlock,
            "wake-ups do not pile up"
        );
    }
}
