//! The thread that receives from nodes and writes frames to the device.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd};

use nix::poll::PollFlags;
use socket2::Socket;

use super::coalesce::Coalescer;
use super::counters::Reason;
use super::decapsulate::Decapsulator;
use super::peers::View;
use super::sys::Inbox;
use super::wait::{Quit, Woken};
use super::worker::Context;

/// Datagrams per system call.
const SLOTS: usize = 32;
/// A socket that reports so many errors in a row is broken.
const MOST_ERRORS: u32 = 100;

/// Works until told to end.
pub(crate) fn run(
    context: &Context,
    device: &File,
    socket: &Socket,
    quit: &Quit,
) -> io::Result<()> {
    let mut view = View::new(&context.shared.peers);
    let mut inbox = Inbox::new(SLOTS);
    let coalescer = Coalescer::new(context.mtu, context.udp);
    let mut decapsulator = Decapsulator::new(context.end, context.mac, coalescer);
    let mut errors = 0;
    loop {
        let received = match inbox.receive(socket.as_raw_fd()) {
            Ok(received) => {
                errors = 0;
                received
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            // Errors of packets sent earlier are reported here too.
            Err(_) if errors < MOST_ERRORS => {
                errors += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        view.refresh();
        take(&mut decapsulator, &mut inbox, received, (device, &view));
        inbox.empty(received);
        context.shared.totals.add_received(&mut decapsulator.tally);
        let woken = if received == inbox.slots() {
            quit.rung()?
        } else {
            quit.wait(socket.as_fd(), PollFlags::POLLIN)?
        };
        if woken == Woken::Quit {
            return Ok(());
        }
    }
}

fn take(
    decapsulator: &mut Decapsulator,
    inbox: &mut Inbox,
    received: usize,
    (mut device, view): (&File, &View<'_>),
) {
    let mut refused = 0;
    let mut sink = |slices: &[io::IoSlice<'_>]| {
        if device.write_vectored(slices).is_err() {
            refused += 1;
        }
    };
    for slot in 0..received {
        match inbox.datagram(slot) {
            Some(datagram) => {
                decapsulator.datagram(inbox.bytes(), &datagram, view.peers(), &mut sink);
            }
            None => decapsulator.tally.drop(Reason::Malformed),
        }
    }
    decapsulator.coalescer.flush(inbox.bytes(), &mut sink);
    for _ in 0..refused {
        decapsulator.tally.drop(Reason::DeviceRefused);
    }
}
