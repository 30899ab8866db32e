//! The thread around `felix-dataplane`: takes what shall be, waits for the kernel, reports.
//!
//! Outputs that come faster than they are taken are folded: the newest answer per destination
//! stays, so what waits is bounded by the number of routes.

use std::collections::HashSet;
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

use crate::board::{Board, HostView};

/// Longest sleep when nothing happens.
const IDLE: Duration = Duration::from_secs(60);
/// So many routes may wait before they are folded: the thread mostly takes them sooner.
const FOLD: usize = 1 << 16;
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
    /// In the order they came.
    routes: Vec<(IpNet, Option<Route>)>,
    /// How many there were after they had been folded last.
    folded: usize,
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
        if pending.routes.is_empty() {
            pending.routes = take(&mut output.routes);
        } else {
            pending.routes.append(&mut output.routes);
        }
        // Twice as many as last time: then folding costs little for each of them.
        if pending.routes.len() > FOLD.max(2 * pending.folded) {
            fold(&mut pending.routes);
            pending.folded = pending.routes.len();
        }
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
            output.routes = take(&mut pending.routes);
        }
        pending
    }
}

/// Leaves the newest answer for each destination.
fn fold(routes: &mut Vec<(IpNet, Option<Route>)>) {
    let mut seen = HashSet::<IpNet, RandomState>::default();
    routes.reverse();
    routes.retain(|(destination, _)| seen.insert(*destination));
    routes.reverse();
    routes.shrink_to_fit();
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
    let left = Socket::open().and_then(|mut socket| socket.routes_as(&own, drop));
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
    if let Some(host) = &applied.host {
        let interfaces = Arc::new(host.interfaces.clone());
        board.host.send_replace(HostView {
            listed: true,
            interfaces,
        });
    }
    let told = [
        applied.host.map(Update::Host),
        applied.programmed.map(Update::Programmed),
    ];
    board.dataplane.send_if_modified(|view| {
        let news = view.generation != applied.generation
            || view.settled != applied.settled
            || applied.ready.is_some()
            || applied.tunnels.is_some()
            || applied.failures.is_some();
        let routes = |counters: &Counters| (counters.in_place, counters.refused, counters.waiting);
        let news = news || routes(&view.counters) != routes(&applied.counters);
        view.generation = applied.generation;
        view.settled = applied.settled;
        view.counters = applied.counters;
        if let Some(ready) = applied.ready {
            view.ready = ready;
        }
        if let Some(tunnels) = applied.tunnels {
            view.tunnels = tunnels;
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
                false => view.failing_since.or(Some(tokio::time::Instant::now())),
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
        let newest = output.routes.last();
        assert_eq!(newest, Some(&(net, None)), "the last word counts");
        assert!(output.endpoints.is_some());
        assert!(output.overlay.is_some() && output.firewall.is_some());
        assert!(inbox.take().output.is_none());
        assert!(inbox.take().routes.is_empty());
        let mut byte = [0];
        let woken = (&inbox.sleep).read(&mut byte).unwrap_err();
        assert_eq!(
            woken.kind(),
            ErrorKind::WouldBlock,
            "wake-ups do not pile up"
        );
    }

    #[test]
    fn routes_that_flap_while_nobody_takes_them_take_bounded_room() {
        let inbox = Inbox::new().unwrap();
        let net = |number: u32| IpNet::from(std::net::IpAddr::from(number.to_be_bytes()));
        let mut longest = 0;
        for round in 0..200 {
            let route = |number| felix_calc::Route {
                destination: net(number),
                class: felix_calc::RouteClass::Learned,
                target: felix_calc::Target::Blackhole,
            };
            let routes =
                (0..10_000).map(|number| (net(number), (round % 2 == 0).then(|| route(number))));
            inbox.put(Output {
                generation: round,
                routes: routes.collect(),
                ..Output::default()
            });
            longest = longest.max(inbox.lock().routes.len());
        }
        assert!(longest <= FOLD + 10_000, "{longest}");
        let output = inbox.take().output.unwrap();
        assert!(
            output
                .routes
                .iter()
                .rev()
                .take(10_000)
                .all(|(_, route)| route.is_none())
        );
    }
}
