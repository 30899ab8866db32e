//! Counts the bytes of connections: a relay in front of a server.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::Namespace;

/// Read and written at once.
const PIECE: usize = 64 * 1024;
/// Between two looks for a new connection.
const PAUSE: Duration = Duration::from_millis(5);

/// Bytes that went through, of all connections together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// From the clients.
    pub sent: u64,
    /// To the clients.
    pub received: u64,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    stopped: AtomicBool,
}

/// A relay that counts. It takes no new connections when it goes; those it has end with their ends.
#[derive(Debug)]
pub struct Meter(Arc<Counters>);

impl Meter {
    /// Listens in a namespace and relays to a server there.
    pub fn inside(namespace: &Namespace, listen: SocketAddr, server: SocketAddr) -> Result<Self> {
        let listener = namespace.inside(|| {
            TcpListener::bind(listen).with_context(|| format!("a meter listens on {listen}"))
        })?;
        let namespace = namespace.clone();
        Self::start(listener, move || {
            namespace.inside(|| Ok(TcpStream::connect(server)?))
        })
    }

    fn start(
        listener: TcpListener,
        connect: impl Fn() -> Result<TcpStream> + Send + 'static,
    ) -> Result<Self> {
        // So that it can be stopped.
        listener.set_nonblocking(true)?;
        let counters = Arc::new(Counters::default());
        let shared = counters.clone();
        std::thread::spawn(move || {
            while !shared.stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((client, _)) => match connect() {
                        Ok(server) => relay(client, server, &shared),
                        // The client sees its connection end, and says so.
                        Err(error) => eprintln!("meter: cannot reach the server: {error:#}"),
                    },
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        std::thread::sleep(PAUSE);
                    }
                    Err(error) => eprintln!("meter: {error}"),
                }
            }
        });
        Ok(Self(counters))
    }

    /// What went through so far.
    pub fn bytes(&self) -> Bytes {
        Bytes {
            sent: self.0.sent.load(Ordering::Relaxed),
            received: self.0.received.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }
}

fn relay(client: TcpStream, server: TcpStream, counters: &Arc<Counters>) {
    let halves = || -> std::io::Result<_> {
        client.set_nonblocking(false)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok((client.try_clone()?, server.try_clone()?))
    };
    match halves() {
        Ok((client_too, server_too)) => {
            let (up, down) = (counters.clone(), counters.clone());
            std::thread::spawn(move || copy(client, server, &up.sent));
            std::thread::spawn(move || copy(server_too, client_too, &down.received));
        }
        Err(error) => eprintln!("meter: {error}"),
    }
}

/// Until one end is closed; then the other is, too.
fn copy(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut piece = vec![0; PIECE];
    while let Ok(read) = from.read(&mut piece) {
        // First, so that who has an answer finds it counted.
        count.fetch_add(read as u64, Ordering::Relaxed);
        if read == 0 || to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    // Either may be closed already.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn both_ways_are_counted_apart() -> Result<()> {
        let server = TcpListener::bind("127.0.0.1:0")?;
        let address = server.local_addr()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let metered = listener.local_addr()?;
        let meter = Meter::start(listener, move || Ok(TcpStream::connect(address)?))?;
        let serve = std::thread::spawn(move || -> Result<()> {
            let (mut stream, _) = server.accept()?;
            let mut question = [0; 10];
            stream.read_exact(&mut question)?;
            Ok(stream.write_all(&[1; 300_000])?)
        });
        let mut client = TcpStream::connect(metered)?;
        client.write_all(&[2; 10])?;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer)?;
        assert_eq!(answer.len(), 300_000);
        serve.join().map_err(|_| anyhow!("the server panicked"))??;
        let expected = Bytes {
            sent: 10,
            received: 300_000,
        };
        assert_eq!(meter.bytes(), expected);
        Ok(())
    }
}
