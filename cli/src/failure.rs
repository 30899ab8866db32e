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
}

impl Failure {
    /// Exit status: 1 there is no such thing, 3 nobody answers.
    pub(crate) fn status(&self) -> ExitCode {
        match self {
            Failure::NoSuchThing(_) | Failure::Output(_) => ExitCode::from(1),
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
        }
    }
}
