//! The threads of a tunnel, and the one that starts them again.
//!
//! When one of them fails, all end, what went wrong is recorded, and after a second device and
//! sockets are opened anew.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use nix::poll::PollFlags;
use socket2::Socket;

use super::Config;
use super::counters::Totals;
use super::device::Device;
use super::encapsulate::End;
use super::error::Error;
use super::peers;
use super::receive;
use super::socket::Sockets;
use super::transmit::Transmitter;
use super::wait::{Quit, Woken};

/// Milliseconds between a failure and the next attempt.
const PAUSE: u16 = 1000;

/// What owner and threads share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) peers: peers::Shared,
    pub(crate) totals: Totals,
    pub(crate) health: Mutex<Health>,
}

/// How a tunnel is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What went wrong, while it is not mended.
    pub failure: Option<String>,
    /// How often it had to be started again.
    pub restarts: u64,
}

/// What the threads know.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) end: End,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    pub(crate) udp: bool,
    quit: Quit,
}

impl Context {
    /// Waits until a socket can take more; false when it is time to end.
    pub(crate) fn wait_for_room(&self, socket: &Socket) -> bool {
        let woken = self.quit.wait(socket.as_fd(), PollFlags::POLLOUT);
        matches!(woken, Ok(Woken::Ready))
    }
}

/// A device and its sockets.
pub(crate) struct Open {
    device: Device,
    sockets: Vec<Sockets>,
}

impl Open {
    pub(crate) fn new(config: &Config) -> Result<Open, Error> {
        let end = config.end();
        let device = Device::open(&config.device, config.mac, config.queues)?;
        let sockets = (0..device.queues.len())
            .map(|queue| Sockets::open(end, queue))
            .collect::<Result<_, _>>()?;
        Ok(Open { device, sockets })
    }
}

/// Serves the tunnel until `quit` rings.
pub(crate) fn supervise(config: &Config, shared: &Arc<Shared>, first: Open, quit: &Quit) {
    let mut open = Ok(first);
    loop {
        let error = match open.and_then(|open| serve(config, shared, open, quit)) {
            Ok(()) => return,
            Err(error) => error,
        };
        {
            let mut health = shared.health.lock().unwrap_or_else(PoisonError::into_inner);
            health.failure = Some(error.to_string());
            health.restarts += 1;
        }
        if !matches!(quit.pause(PAUSE), Ok(Woken::Ready)) {
            return;
        }
        open = Open::new(config);
        if open.is_ok() {
            let mut health = shared.health.lock().unwrap_or_else(PoisonError::into_inner);
            health.failure = None;
        }
    }
}

/// Runs the threads until `quit` rings (no error) or one of them ends.
fn serve(config: &Config, shared: &Arc<Shared>, open: Open, quit: &Quit) -> Result<(), Error> {
    let pipes = || -> io::Result<_> { Ok((io::pipe()?, io::pipe()?)) };
    let ((end, ender), (alive, bell)) =
        pipes().map_err(|source| Error::device("watch over", &config.device, source))?;
    let context = Context {
        shared: Arc::clone(shared),
        end: config.end(),
        mac: config.mac,
        mtu: config.mtu,
        udp: open.device.udp,
        quit: Quit(end),
    };
    std::thread::scope(|scope| {
        let threads = start(scope, config, &context, &open, &bell);
        if threads.is_ok() {
            // Rung by whichever thread ends first.
            let _ = quit.wait(alive.as_fd(), PollFlags::POLLIN);
        }
        drop(ender);
        let mut result = Ok(());
        for thread in threads? {
            let ended = thread.join().unwrap_or_else(|_| {
                Err(Error::Panic {
                    device: config.device.clone(),
                })
            });
            result = result.and(ended);
        }
        result
    })
}

type Thread<'scope> = ScopedJoinHandle<'scope, Result<(), Error>>;

fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    config: &'scope Config,
    context: &'scope Context,
    open: &'scope Open,
    bell: &PipeWriter,
) -> Result<Vec<Thread<'scope>>, Error> {
    let mut threads = Vec::new();
    for (device, sockets) in open.device.queues.iter().zip(&open.sockets) {
        let name = &config.device;
        let transmit = move || {
            (Transmitter::new(context, device, &sockets.lanes).run(&context.quit))
                .map_err(|source| Error::device("read from", name, source))
        };
        threads.push(spawn(scope, config, "tx", bell, transmit)?);
        if let Some(inbox) = &sockets.inbox {
            let receive = move || {
                receive::run(context, device, inbox, &context.quit)
                    .map_err(|source| Error::socket(format!("receive for {name}"), source))
            };
            threads.push(spawn(scope, config, "rx", bell, receive)?);
        }
    }
    Ok(threads)
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    config: &Config,
    what: &str,
    bell: &PipeWriter,
    work: impl FnOnce() -> Result<(), Error> + Send + 'scope,
) -> Result<Thread<'scope>, Error> {
    let failed = |source| Error::Thread {
        device: config.device.clone(),
        source,
    };
    let bell = Bell(bell.try_clone().map_err(failed)?);
    Builder::new()
        // The kernel shows 15 characters.
        .name(format!(
            "{}-{what}",
            config.device.split('.').next().unwrap_or("user")
        ))
        .spawn_scoped(scope, move || {
            let _bell = bell;
            work()
        })
        .map_err(failed)
}

/// Rings when a thread ends, in whatever way.
struct Bell(PipeWriter);

impl Drop for Bell {
    fn drop(&mut self) {
        // Nobody listens any more when the tunnel is ending.
        let _ = self.0.write(&[0]);
    }
}

/// The pipe whose writing end ends a tunnel when it is dropped.
pub(crate) fn quit_pipe() -> io::Result<(Quit, PipeWriter)> {
    let (reader, writer): (PipeReader, PipeWriter) = io::pipe()?;
    Ok((Quit(reader), writer))
}
