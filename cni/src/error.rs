//! The one error of the plugin: what the CNI specification wants on stdout.

use std::fmt;
use std::path::Path;

use felix_api::cni::code;
use serde::Serialize;

/// A CNI error (CNI 1.1.0, "Error"); `cniVersion` is added where it is printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Error {
    /// One of [`felix_api::cni::code`].
    pub(crate) code: u32,
    /// What is wrong, in one line.
    #[serde(rename = "msg")]
    pub(crate) message: String,
    /// Cause and remedy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) details: String,
}

impl Error {
    /// An error without details.
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Error {
        Error {
            code,
            message: message.into(),
            details: String::new(),
        }
    }

    /// The same error with cause and remedy.
    pub(crate) fn with_details(mut self, details: impl Into<String>) -> Error {
        self.details = details.into();
        self
    }

    /// A failed operation on a file.
    pub(crate) fn file(doing: &str, path: &Path, error: &std::io::Error) -> Error {
        Error::new(code::IO, format!("{doing} {}: {error}", path.display()))
    }

    /// A failed operation in the kernel; `doing` is a phrase like "creating interface eth0".
    pub(crate) fn kernel(doing: impl fmt::Display, error: impl fmt::Display) -> Error {
        Error::new(code::KERNEL, format!("{doing}: {error}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)?;
        if !self.details.is_empty() {
            write!(f, ": {}", self.details)?;
        }
        Ok(())
    }
}
