//! Numbered packets at a constant rate, and a count of the lost ones.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

use crate::lab::Namespace;

/// How long the receiver waits for stragglers after the last packet was sent.
const DRAIN: Duration = Duration::from_millis(500);

/// Receive buffer in octets: more than ten seconds of packets.
const BUFFER: usize = 16 << 20;

/// What a flow counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Packets sent.
    pub sent: u64,
    /// Different packets that arrived.
    pub received: u64,
    /// Packets the sender's kernel refused to send.
    pub refused: u64,
    /// Longest time without an arrival.
    pub longest_gap: Duration,
}

impl Count {
    /// Packets that never arrived, refused ones included.
    pub fn lost(&self) -> u64 {
        self.sent + self.refused - self.received
    }
}

/// A running one-way flow of UDP packets between two namespaces.
#[derive(Debug)]
pub struct Flow {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<(u64, u64)>,
    receiver: JoinHandle<(u64, Duration)>,
}

impl Flow {
    /// Starts `rate` packets a second from one namespace to `address` in another.
    pub fn start(from: &Namespace, to: &Namespace, address: IpAddr, rate: u32) -> Result<Self> {
        let any: IpAddr = if address.is_ipv6() {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        };
        // Several flows may end at one address.
        let input = to.inside(|| Ok(UdpSocket::bind(SocketAddr::new(address, 0))?))?;
        // A busy host may stall the receiver for a second or more; that is no packet lost.
        setsockopt(&input, RcvBufForce, &BUFFER)?;
        let target = input.local_addr()?;
        let output = from.inside(|| Ok(UdpSocket::bind(SocketAddr::new(any, 0))?))?;
        input.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicBool::new(false));
        let sender = {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            std::thread::spawn(move || {
                let counts = send(&output, target, rate, &stop);
                std::thread::sleep(DRAIN);
                done.store(true, Ordering::Release);
                counts
            })
        };
        let receiver = std::thread::spawn(move || receive(&input, &done));
        Ok(Self {
            stop,
            sender,
            receiver,
        })
    }

    /// Stops sending, waits for stragglers and returns the count.
    pub fn stop(self) -> Result<Count> {
        self.stop.store(true, Ordering::Release);
        let panicked = |_| anyhow!("a traffic thread panicked");
        let (sent, refused) = self.sender.join().map_err(panicked)?;
        let (received, longest_gap) = self.receiver.join().map_err(panicked)?;
        Ok(Count {
            sent,
            received,
            refused,
            longest_gap,
        })
    }
}

fn send(socket: &UdpSocket, target: SocketAddr, rate: u32, stop: &AtomicBool) -> (u64, u64) {
    let interval = Duration::from_secs(1) / rate;
    let start = Instant::now();
    let (mut sent, mut refused) = (0_u64, 0_u64);
    while !stop.load(Ordering::Acquire) {
        // Absolute times: a late wake-up is caught up and the rate holds.
        let number = sent + refused;
        let due = start + interval * u32::try_from(number).unwrap_or(u32::MAX);
        if let Some(pause) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(pause);
        }
        match socket.send_to(&number.to_be_bytes(), target) {
            Ok(_) => sent += 1,
            Err(_) => refused += 1,
        }
    }
    (sent, refused)
}

fn receive(socket: &UdpSocket, done: &AtomicBool) -> (u64, Duration) {
    let mut seen = Vec::new();
    let mut received = 0;
    let mut last: Option<Instant> = None;
    let mut longest = Duration::ZERO;
    let mut buffer = [0; 64];
    loop {
        // What waits in the socket's buffer has arrived, however late it is read.
        let is_last = done.load(Ordering::Acquire);
        match socket.recv(&mut buffer) {
            Ok(8) => {}
            Err(_) if is_last => break,
            _ => continue,
        }
        let now = Instant::now();
        if let Some(last) = last.replace(now) {
            longest = longest.max(now - last);
        }
        let mut number = [0; 8];
        number.copy_from_slice(&buffer[..8]);
        let index = usize::try_from(u64::from_be_bytes(number)).unwrap_or(usize::MAX);
        // Two hours at a thousand a second; a larger number is not one of ours.
        if index > 7_200_000 {
            continue;
        }
        if seen.len() <= index {
            seen.resize(index + 1, false);
        }
        if !std::mem::replace(&mut seen[index], true) {
            received += 1;
        }
    }
    (received, longest)
}
