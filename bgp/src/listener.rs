//! Accepting connections; whose they are is decided by the owner of the peers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bgp_wire::Prefix;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::Password;
use crate::socket;

/// Wait after an error such as too many open files, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection somebody made to us.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) from: IpAddr,
    /// Where a link-local address is.
    pub(crate) interface: Option<String>,
}

/// One listening socket and the task that accepts from it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Arc<TcpListener>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens; connections go to `accepted`. While that is full, the kernel holds them.
    pub(crate) fn start(
        address: SocketAddr,
        accepted: mpsc::Sender<Accepted>,
    ) -> io::Result<Listener> {
        let socket = Arc::new(socket::listen(address)?);
        let task = tokio::spawn(accept_all(socket.clone(), accepted));
        Ok(Listener { socket, task })
    }

    /// Where it listens, with the port the kernel chose.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Expects the signature of peers from now on, or no longer.
    pub(crate) fn expect_signature(
        &self,
        peers: Prefix,
        password: Option<&Password>,
    ) -> io::Result<()> {
        socket::expect_signature(&self.socket, peers, password)
    }

    /// Closes the socket; returns when it is closed.
    pub(crate) async fn stop(self) {
        self.task.abort();
        // Cancelled, as asked.
        let _cancelled = self.task.await;
    }
}

async fn accept_all(socket: Arc<TcpListener>, accepted: mpsc::Sender<Accepted>) {
    loop {
        match socket.accept().await {
            Ok((stream, from)) => {
                let interface = match from {
                    SocketAddr::V6(from) if from.scope_id() != 0 => {
                        socket::interface_name(from.scope_id())
                    }
                    SocketAddr::V4(_) | SocketAddr::V6(_) => None,
                };
                let connection = Accepted {
                    stream,
                    from: from.ip().to_canonical(),
                    interface,
                };
                if accepted.send(connection).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
