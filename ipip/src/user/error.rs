//! Why a tunnel in user space does not work.

use std::io;
use std::net::IpAddr;

/// Why a tunnel could not be started, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to TAP devices.
    #[error("open /dev/net/tun: {source}; load the module `tun`, or give the agent the device")]
    Tun {
        /// The reason.
        source: io::Error,
    },
    /// The device could not be made or attached to.
    #[error(
        "attach to {device}: {source}; \
         if a device of that name exists that is no multi-queue TAP device, or that another \
         process serves, remove it or end that process"
    )]
    Attach {
        /// Its name.
        device: String,
        /// The reason.
        source: io::Error,
    },
    /// The device refused an operation, or went.
    #[error("{operation} {device}: {source}")]
    Device {
        /// A verb.
        operation: &'static str,
        /// Its name.
        device: String,
        /// The reason.
        source: io::Error,
    },
    /// A socket could not be made or used.
    #[error("{operation}: {source}; is another tunnel in the way, or CAP_NET_RAW missing?")]
    Socket {
        /// What was tried.
        operation: String,
        /// The reason.
        source: io::Error,
    },
    /// IPIP between IPv6 addresses was asked for.
    #[error("IPIP from {local}: it exists for IPv4 only; use VXLAN")]
    Family {
        /// The node address asked for.
        local: IpAddr,
    },
    /// A thread could not be started.
    #[error("start a thread for {device}: {source}")]
    Thread {
        /// The device that it would serve.
        device: String,
        /// The reason.
        source: io::Error,
    },
    /// A thread ended by a fault in the program.
    #[error("a thread of {device} panicked")]
    Panic {
        /// The device that it served.
        device: String,
    },
}

impl Error {
    pub(crate) fn device(operation: &'static str, device: &str, source: io::Error) -> Error {
        Error::Device {
            operation,
            device: device.to_owned(),
            source,
        }
    }

    pub(crate) fn socket(operation: impl Into<String>, source: io::Error) -> Error {
        Error::Socket {
            operation: operation.into(),
            source,
        }
    }
}
