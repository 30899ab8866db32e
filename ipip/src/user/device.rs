//! The TAP device: made or attached to again, and its queues.
//!
//! It is persistent: routes, neighbours and addresses on it stay while nobody serves it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use super::error::Error;
use super::sys;
use super::vnet::VNET;

const PATH: &str = "/dev/net/tun";

/// The queues of a device, and what it can do.
pub(crate) struct Device {
    pub(crate) queues: Vec<File>,
    /// UDP datagrams may be handed over in one piece.
    pub(crate) udp: bool,
}

impl Device {
    /// Attaches `queues` queues to the device called `name`.
    pub(crate) fn open(name: &str, mac: [u8; 6], queues: usize) -> Result<Device, Error> {
        let queues: Vec<File> = (0..queues.max(1))
            .map(|_| queue(name))
            .collect::<Result<_, _>>()?;
        let first = &queues[0];
        let udp = offer(first).map_err(|source| Error::device("set offloads of", name, source))?;
        sys::set_mac(first, name, mac)
            .map_err(|source| Error::device("set the hardware address of", name, source))?;
        // Last: a device that could not be set up goes again.
        sys::persist(first).map_err(|source| Error::device("keep", name, source))?;
        Ok(Device { queues, udp })
    }
}

fn queue(name: &str) -> Result<File, Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(PATH)
        .map_err(|source| Error::Tun { source })?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    sys::attach(&file, name, flags).map_err(|source| Error::Attach {
        device: name.to_owned(),
        source,
    })?;
    sys::set_header_length(&file, VNET)
        .map_err(|source| Error::device("set the header length of", name, source))?;
    Ok(file)
}

/// Offers all that is cut or summed here; whether the kernel knows UDP in one piece (Linux 6.2).
fn offer(file: &File) -> io::Result<bool> {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    if sys::set_offload(file, tcp | udp).is_ok() {
        return Ok(true);
    }
    sys::set_offload(file, tcp)?;
    Ok(false)
}
