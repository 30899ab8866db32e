//! What can go wrong between us and the kernel, told with the operation and the object.

use std::fmt;
use std::io;

/// A request that the kernel answered with an error number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked for, as a verb: `add route`.
    pub operation: &'static str,
    /// The object it was asked for: `10.0.1.0/26 via 192.0.2.1 dev 3`.
    pub object: String,
    /// The positive error number.
    pub errno: i32,
    /// The kernel's own words (extended acknowledgement), when it had any.
    pub detail: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = io::Error::from_raw_os_error(self.errno);
        write!(f, "{} {}: {reason}", self.operation, self.object)?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

/// Why a call of this crate failed.
///
/// The first group is the kernel's answer, sorted by what the caller can do about it.
/// After [`Error::Overrun`] and [`Error::Interrupted`] the caller knows nothing and has to list again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `EEXIST`: an object with this key is there already.
    #[error("{0}")]
    Exists(Refusal),
    /// `ENOENT`, `ESRCH` or `EADDRNOTAVAIL`: there is no such object.
    #[error("{0}")]
    NotFound(Refusal),
    /// `EBUSY`: the object is in use.
    #[error("{0}")]
    Busy(Refusal),
    /// `ENODEV` or `ENXIO`: the interface it refers to is not there.
    #[error("{0}")]
    NoDevice(Refusal),
    /// `ENETDOWN`: the interface it refers to is down.
    #[error("{0}")]
    Down(Refusal),
    /// `ENETUNREACH` or `EHOSTUNREACH`: the gateway cannot be reached directly.
    #[error("{0}")]
    Unreachable(Refusal),
    /// `EPERM` or `EACCES`: the process lacks CAP_NET_ADMIN here.
    #[error("{0}")]
    Permission(Refusal),
    /// `EOPNOTSUPP`: this kernel cannot do it, mostly for want of a module.
    #[error("{0}")]
    Unsupported(Refusal),
    /// Any other error number.
    #[error("{0}")]
    Kernel(Refusal),

    /// The kernel did not answer in time.
    #[error("{operation} {object}: the kernel did not answer within {seconds} s")]
    Timeout {
        /// What was asked for.
        operation: &'static str,
        /// The object it was asked for.
        object: String,
        /// The limit that passed.
        seconds: u64,
    },
    /// Answers or events were lost because the receive buffer was full.
    #[error("{operation}: the receive buffer overflowed and messages were lost")]
    Overrun {
        /// What was going on.
        operation: &'static str,
    },
    /// The table changed under every attempt to list it.
    #[error("{operation}: the table changed during each of {attempts} attempts to list it")]
    Interrupted {
        /// What was listed.
        operation: &'static str,
        /// How often it was tried.
        attempts: u32,
    },
    /// The kernel sent something this crate cannot read.
    #[error("{operation}: malformed message: {problem}")]
    Malformed {
        /// What was going on.
        operation: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A system call other than a netlink request failed.
    #[error("{call}: {source}")]
    System {
        /// The call and its object.
        call: String,
        /// The reason.
        source: io::Error,
    },
}

impl Error {
    /// Sorts a kernel answer by its error number.
    pub(crate) fn from_errno(
        errno: i32,
        operation: &'static str,
        object: &dyn fmt::Display,
        detail: Option<String>,
    ) -> Error {
        let refusal = Refusal {
            operation,
            object: object.to_string(),
            errno,
            detail,
        };
        match errno {
            libc::EEXIST => Error::Exists(refusal),
            libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL => Error::NotFound(refusal),
            libc::EBUSY => Error::Busy(refusal),
            libc::ENODEV | libc::ENXIO => Error::NoDevice(refusal),
            libc::ENETDOWN => Error::Down(refusal),
            libc::ENETUNREACH | libc::EHOSTUNREACH => Error::Unreachable(refusal),
            libc::EPERM | libc::EACCES => Error::Permission(refusal),
            libc::EOPNOTSUPP => Error::Unsupported(refusal),
            _ => Error::Kernel(refusal),
        }
    }

    pub(crate) fn system(call: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::System {
            call: call.into(),
            source: source.into(),
        }
    }

    /// The kernel's answer, if it was one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Error::Exists(refusal)
            | Error::NotFound(refusal)
            | Error::Busy(refusal)
            | Error::NoDevice(refusal)
            | Error::Down(refusal)
            | Error::Unreachable(refusal)
            | Error::Permission(refusal)
            | Error::Unsupported(refusal)
            | Error::Kernel(refusal) => Some(refusal),
            Error::Timeout { .. }
            | Error::Overrun { .. }
            | Error::Interrupted { .. }
            | Error::Malformed { .. }
            | Error::System { .. } => None,
        }
    }
}

/// Treats "it is not there" as success: what deletions want.
pub fn ignore_not_found(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::NotFound(_) | Error::NoDevice(_)) => Ok(()),
        other => other,
    }
}
