//! Intervals: what is said, what is used, and the Poll Sequence between the two
//! (RFC 5880 §6.5, §6.8.2 to §6.8.4).

use std::num::NonZeroU8;
use std::time::Duration;

use crate::session::Config;

/// Slowest allowed pace of a session that is not Up, in microseconds (RFC 5880 §6.8.3).
const SLOW: u32 = 1_000_000;

/// A change that the neighbour has yet to confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poll {
    Idle,
    /// Packets carry the Poll bit.
    Active,
    /// Something changed again while they did: the answer that comes next is to the old values.
    Again,
    /// One packet without the bit parts two sequences.
    Gap,
}

/// Our own intervals, in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    /// What packets say.
    said_tx: u32,
    said_rx: u32,
    /// What is obeyed until the neighbour has confirmed what is said.
    used_tx: u32,
    used_rx: u32,
    poll: Poll,
}

impl Timing {
    pub(crate) fn new(config: Config) -> Self {
        let (tx, rx) = wanted(config, false);
        Timing {
            said_tx: tx,
            said_rx: rx,
            used_tx: tx,
            used_rx: rx,
            poll: Poll::Idle,
        }
    }

    /// Minimal intervals as packets say them: transmission, reception.
    pub(crate) fn said(&self) -> (u32, u32) {
        (self.said_tx, self.said_rx)
    }

    /// Minimal intervals as they are obeyed: transmission, reception.
    pub(crate) fn used(&self) -> (u32, u32) {
        (self.used_tx, self.used_rx)
    }

    pub(crate) fn polls(&self) -> bool {
        matches!(self.poll, Poll::Active | Poll::Again)
    }

    /// Something waits for the neighbour's confirmation.
    pub(crate) fn waits(&self) -> bool {
        self.poll != Poll::Idle
    }

    /// The configuration or the state changed. True when there is something new to say.
    pub(crate) fn update(&mut self, config: Config, up: bool, neighbor_known: bool) -> bool {
        let (tx, rx) = wanted(config, up);
        let news = (tx, rx) != self.said();
        (self.said_tx, self.said_rx) = (tx, rx);
        if up {
            // Faster sending and slower reception are safe before the neighbour knows.
            self.used_tx = self.used_tx.min(tx);
            self.used_rx = self.used_rx.max(rx);
        } else {
            (self.used_tx, self.used_rx) = (tx, rx);
        }
        if !neighbor_known {
            self.poll = Poll::Idle;
        } else if news {
            self.poll = match self.poll {
                Poll::Idle => Poll::Active,
                Poll::Active | Poll::Again => Poll::Again,
                Poll::Gap => Poll::Gap,
            };
        }
        news
    }

    /// The neighbour answered a poll.
    pub(crate) fn confirmed(&mut self) {
        match self.poll {
            Poll::Active => {
                self.poll = Poll::Idle;
                (self.used_tx, self.used_rx) = self.said();
            }
            Poll::Again => self.poll = Poll::Gap,
            Poll::Idle | Poll::Gap => {}
        }
    }

    /// A packet without the Final bit was sent.
    pub(crate) fn sent(&mut self) {
        if self.poll == Poll::Gap {
            self.poll = Poll::Active;
        }
    }
}

/// What the configuration asks for: transmission, reception.
fn wanted(config: Config, up: bool) -> (u32, u32) {
    let tx = config.min_tx_micros.max(1);
    let tx = if up { tx } else { tx.max(SLOW) };
    (tx, config.min_rx_micros.max(1))
}

/// Shares of an interval, in 1024ths, between which a packet is sent (RFC 5880 §6.8.7): at most
/// 90 % where one lost packet ends the session.
pub(crate) fn jitter(random: &mut u64, multiplier: NonZeroU8) -> u32 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let (least, most) = (768, if multiplier.get() == 1 { 921 } else { 1024 });
    least + (*random % u64::from(most - least + 1)) as u32
}

/// `micros` times `count`.
pub(crate) fn times(micros: u32, count: u8) -> Duration {
    Duration::from_micros(u64::from(micros) * u64::from(count))
}
