//! What can go wrong.

use crds::FieldError;

use crate::Key;

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object.
    #[error("{key} does not exist")]
    NotFound {
        /// The object.
        key: Key,
    },
    /// There is such an object already.
    #[error("{key} exists already")]
    AlreadyExists {
        /// The object.
        key: Key,
    },
    /// The object has another version than expected: read it again and decide anew.
    #[error("{key} was changed by somebody else meanwhile")]
    Conflict {
        /// The object.
        key: Key,
    },
    /// The object, or the file it is in, is not what it should be.
    #[error("{object}: {field}: {problem}; {remedy}")]
    Invalid {
        /// The object, or the file.
        object: String,
        /// Path of the field in the manifest.
        field: String,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// The store cannot be reached or written; nothing half-written is left behind.
    #[error("{what}")]
    Unavailable {
        /// What could not be done, with the path or address.
        what: String,
        /// Why.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Error {
    pub(crate) fn invalid(object: impl ToString, error: FieldError) -> Error {
        let FieldError {
            field,
            problem,
            remedy,
        } = error;
        Error::Invalid {
            object: object.to_string(),
            field,
            problem,
            remedy,
        }
    }

    pub(crate) fn unavailable(what: impl Into<String>) -> Error {
        Error::Unavailable {
            what: what.into(),
            source: None,
        }
    }

    /// Whether reading again and deciding anew may succeed.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Conflict { .. })
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }
}
