//! A tunnel in user space, for hosts whose kernel has no `ipip` or no `vxlan`.
//!
//! On the wire it is the same as the kernel's, so that such a host talks to others that have it:
//! IPIP (RFC 2003) through raw sockets, VXLAN (RFC 7348) over IPv4 and IPv6 through UDP sockets.
//!
//! Towards the host it is a TAP device, and there is no table of routes in user space. The kernel's
//! route chooses the next hop, its neighbour entry becomes the destination of the Ethernet frame, and
//! that says which node is meant: for VXLAN by the permanent neighbours that every VXLAN device has,
//! for IPIP by an answer to ARP that has the node's address in the hardware address
//! ([`ipip_mac`]). Routes may change, and there may be several next hops, without a word to this module.
//!
//! Packets cross in batches, without allocation: 64 KiB pieces from and to the device (offloads of
//! `IFF_VNET_HDR`), `sendmmsg` with `UDP_SEGMENT`, `recvmmsg` with `UDP_GRO`, and TCP segments put
//! together again for the device. Each queue of the device has a thread that sends and, but for IPIP
//! where one is enough, a thread that receives.
//!
//! What it never does: addresses, routes, neighbours, MTU, up and down; those belong to the device's
//! owner. It accepts packets from known hosts only and counts what it drops.

mod answer;
mod checksum;
mod coalesce;
mod counters;
mod decapsulate;
mod device;
mod encapsulate;
mod error;
mod outbox;
mod packet;
mod peers;
mod receive;
#[cfg(test)]
mod samples;
mod segment;
mod socket;
mod stand_in;
mod sys;
mod transmit;
mod vnet;
mod wait;
mod wire;
mod worker;

use std::io::PipeWriter;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

pub use counters::{Counters, Reason};
pub use error::Error;
pub use peers::Peers;
pub use stand_in::StandIn;
pub use wire::{Wire, ipip_mac};
pub use worker::Health;

use encapsulate::End;
use worker::{Open, Shared};

/// Reads what one tunnel counts, also after its end. Another tunnel has another meter and begins at
/// zero.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Shared>);

impl Meter {
    /// What has been carried and dropped so far.
    pub fn counters(&self) -> Counters {
        self.0.totals.snapshot()
    }
}

impl PartialEq for Meter {
    fn eq(&self, other: &Meter) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Meter {}

/// What a tunnel is started with. To change it, stop the tunnel and start another: the device stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the device, made when there is none.
    pub device: String,
    /// Its hardware address; for IPIP [`ipip_mac`] of `local`.
    pub mac: [u8; 6],
    /// Its MTU in bytes, which others set: longer packets come from joined segments.
    pub mtu: u32,
    /// How packets look on the wire.
    pub wire: Wire,
    /// Address of this node, the source of what is sent.
    pub local: IpAddr,
    /// Queues of the device, at least one.
    pub queues: usize,
}

impl Config {
    fn end(&self) -> End {
        End {
            wire: self.wire,
            local: self.local,
        }
    }
}

/// A running tunnel. It ends when dropped; the device stays.
#[derive(Debug)]
pub struct Tunnel {
    config: Config,
    shared: Arc<Shared>,
    quit: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// Opens device and sockets in the caller's network namespace and starts to carry packets.
    /// Nobody is known at the other ends until [`Tunnel::update`].
    pub fn start(config: Config) -> Result<Tunnel, Error> {
        if config.wire == Wire::Ipip && config.local.is_ipv6() {
            return Err(Error::Family {
                local: config.local,
            });
        }
        let thread_error = |source| Error::Thread {
            device: config.device.clone(),
            source,
        };
        let open = Open::new(&config)?;
        let shared = Arc::new(Shared::default());
        let (quit, ender) = worker::quit_pipe().map_err(thread_error)?;
        let thread = {
            let (config, shared) = (config.clone(), Arc::clone(&shared));
            std::thread::Builder::new()
                .name("user-tunnel".to_owned())
                .spawn(move || worker::supervise(&config, &shared, open, &quit))
                .map_err(thread_error)?
        };
        Ok(Tunnel {
            config,
            shared,
            quit: Some(ender),
            thread: Some(thread),
        })
    }

    /// What it was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Replaces the other ends; packets in flight are not disturbed.
    pub fn update(&self, peers: Peers) {
        self.shared.peers.replace(peers);
    }

    /// What it has carried and dropped.
    pub fn counters(&self) -> Counters {
        self.shared.totals.snapshot()
    }

    /// The same for others to read at any time.
    pub fn meter(&self) -> Meter {
        Meter(Arc::clone(&self.shared))
    }

    /// Whether it works, and how often it had to be started again.
    pub fn health(&self) -> Health {
        let health = self.shared.health.lock();
        health.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops carrying packets and waits for the threads. The device stays, with its routes.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.quit = None;
        if let Some(thread) = self.thread.take() {
            // The supervisor catches panics of the others and has none of its own to tell.
            let _ = thread.join();
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.end();
    }
}
