//! A thread that waits in the kernel, so that its owner need not.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::RouteBatch;
use crate::{Error, Socket};

/// Batches that may be under way: enough for the kernel to have work while the owner of the pipe
/// takes something in, few enough that what is urgent does not wait long.
const UNDER_WAY: usize = 16;

/// Sends batches in order, each after the one before, from a thread of its own.
///
/// The thread ends with the pipe; batches that it has not begun then are dropped.
#[derive(Debug)]
pub struct Pipe {
    batches: Option<Sender<RouteBatch>>,
    results: Receiver<Result<Done, Error>>,
    finished: UnixStream,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    under_way: usize,
    limit: usize,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Done {
    /// Position and reason of each change that the kernel refused, in their order.
    pub refused: Vec<(usize, Error)>,
}

impl Pipe {
    /// Starts the thread; the changes are made in the network namespace of the socket.
    pub fn new(socket: Socket) -> Result<Pipe, Error> {
        let fail = |source| Error::system("start a thread for routes", source);
        let (finished, notify) = UnixStream::pair().map_err(fail)?;
        finished.set_nonblocking(true).map_err(fail)?;
        notify.set_nonblocking(true).map_err(fail)?;
        let (batches, to_send) = channel();
        let (sent, results) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let limit = socket.batch_limit();
        let worker = Worker {
            socket,
            to_send,
            sent,
            notify,
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new().name("routes".to_owned());
        Ok(Pipe {
            batches: Some(batches),
            results,
            finished,
            stop,
            thread: Some(thread.spawn(move || worker.run()).map_err(fail)?),
            under_way: 0,
            limit,
        })
    }

    /// How many changes a batch may have.
    pub fn batch_limit(&self) -> usize {
        self.limit
    }

    /// Whether another batch may be sent.
    pub fn has_room(&self) -> bool {
        self.under_way < UNDER_WAY
    }

    /// How many batches are under way.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Hands over a batch; nothing comes of an empty one.
    pub fn send(&mut self, batch: RouteBatch) {
        if batch.is_empty() {
            return;
        }
        // A thread that has ended has left its error behind.
        let _ended = self.batches.as_ref().map(|batches| batches.send(batch));
        self.under_way += 1;
    }

    /// What became of the oldest batch, waiting up to `limit` for it; nothing when none is under
    /// way, or when it takes longer.
    ///
    /// After an error nobody knows what became of it and of those behind it: open a new pipe and
    /// list the routes.
    pub fn next(&mut self, limit: Duration) -> Result<Option<Done>, Error> {
        if self.under_way == 0 {
            return Ok(None);
        }
        let result = match self.results.try_recv() {
            Err(TryRecvError::Empty) if limit.is_zero() => return Ok(None),
            Err(TryRecvError::Empty) => self.results.recv_timeout(limit),
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            Ok(result) => Ok(result),
        };
        match result {
            Ok(result) => {
                self.under_way -= 1;
                let mut byte = [0];
                let _none = (&self.finished).read(&mut byte);
                result.map(Some)
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Error::system(
                "change routes",
                std::io::Error::other("the thread for routes has ended"),
            )),
        }
    }
}

/// Readable while a result waits or is about to.
impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.finished.as_fd()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // There must not be two writers: the next pipe begins after this one.
            let _panicked = thread.join();
        }
    }
}

struct Worker {
    socket: Socket,
    to_send: Receiver<RouteBatch>,
    sent: Sender<Result<Done, Error>>,
    notify: UnixStream,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self) {
        while let Ok(batch) = self.to_send.recv() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let result = batch.apply(&mut self.socket);
            let failed = result.is_err();
            // First, so that whoever takes the result finds the byte that goes with it.
            let _full = (&self.notify).write(&[0]);
            let told = self.sent.send(result.map(|refused| Done { refused }));
            if told.is_err() || failed {
                return;
            }
        }
    }
}
