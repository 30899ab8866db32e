//! What a device does in place of the processor (`ethtool -k`), by the `SIOCETHTOOL` call.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::Error;

/// Bytes of an interface name with its NUL.
const NAME_BYTES: usize = libc::IFNAMSIZ;

/// Something that a device may take off the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Offload {
    /// Checksums of what is sent. Some kernels and cards get those of tunnelled packets wrong.
    TransmitChecksum,
    /// Joining of received packets (GRO).
    ReceiveJoin,
    /// Splitting of large packets by software right before they are sent (GSO).
    SendSplit,
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `struct ifreq` with the member of its union that the call uses.
#[repr(C)]
struct Request {
    name: [libc::c_char; NAME_BYTES],
    data: *mut EthtoolValue,
    /// The union's other members are longer.
    padding: [u8; 16],
}

impl Offload {
    fn get_command(self) -> u32 {
        match self {
            Offload::TransmitChecksum => 0x16,
            Offload::ReceiveJoin => 0x2b,
            Offload::SendSplit => 0x23,
        }
    }

    fn set_command(self) -> u32 {
        self.get_command() + 1
    }

    /// Whether the interface does it.
    ///
    /// # Errors
    /// [`Error::System`] when there is no such interface, or it cannot be asked.
    pub fn is_on(self, interface: &str) -> Result<bool, Error> {
        call(interface, self.get_command(), 0).map(|value| value != 0)
    }

    /// Lets the interface do it, or not.
    ///
    /// # Errors
    /// [`Error::System`] when there is no such interface, or it cannot do otherwise.
    pub fn set(self, interface: &str, on: bool) -> Result<(), Error> {
        call(interface, self.set_command(), u32::from(on)).map(drop)
    }
}

fn call(interface: &str, command: u32, data: u32) -> Result<u32, Error> {
    let fail = |source: io::Error| Error::system(format!("ask {interface} for offloads"), source);
    let mut name = [0; NAME_BYTES];
    if interface.len() >= NAME_BYTES {
        return Err(fail(io::ErrorKind::InvalidInput.into()));
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    let socket: OwnedFd = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|errno| fail(errno.into()))?;
    let mut value = EthtoolValue { command, data };
    let mut request = Request {
        name,
        data: &mut value,
        padding: [0; 16],
    };
    #[allow(unsafe_code, reason = "no library covers it")]
    // SAFETY: the request is as large as `struct ifreq`, its name ends with a NUL, and it points to
    // a `struct ethtool_value` that lives longer than the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &mut request) };
    if result < 0 {
        return Err(fail(io::Error::last_os_error()));
    }
    Ok(value.data)
}
