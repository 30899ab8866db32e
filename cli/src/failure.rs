//! What can go wrong, in words that say what to do next.

use std::fmt;
use std::process::ExitCode;

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The speaker says that there is no such thing.
    NoSuchThing(String),
    /// Nobody answers.
    Unreachable(String),
    /// Somebody answers in a way we do not understand.
    NotUnderstood(String),
    /// The answer cannot be printed.
    Output(String),
    /// It was not done, and this is what to do first.
    #[cfg(target_os = "linux")]
    Refused(String),
    /// It was done in part.
    #[cfg(target_os = "linux")]
    Incomplete {
        /// What was done, for standard output.
        text: String,
        /// What was not.
        problem: String,
    },
}

impl Failure {
    /// Exit status: 1 there is no such thing or something was not done, 3 nobody answers.
    pub(crate) fn status(&self) -> ExitCode {
        match self {
            Failure::NoSuchThing(_) | Failure::Output(_) => ExitCode::from(1),
            #[cfg(target_os = "linux")]
            Failure::Refused(_) | Failure::Incomplete { .. } => ExitCode::from(1),
            Failure::Unreachable(_) | Failure::NotUnderstood(_) => ExitCode::from(3),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NoSuchThing(text)
            | Failure::Unreachable(text)
            | Failure::NotUnderstood(text)
            | Failure::Output(text) => f.write_str(text),
            #[cfg(target_os = "linux")]
            Failure::Refused(text) | Failure::Incomplete { problem: text, .. } => f.write_str(text),
        }
    }
}
