//! What all kinds have in common, and how one is read from a manifest.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Kind;
use crate::core::ObjectMeta;

/// One thing wrong with an object: where, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}; {remedy}")]
pub struct FieldError {
    /// Path in the manifest: `spec.cidr`, `spec.communities[2].value`.
    pub field: String,
    /// What is wrong, with the value found.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl FieldError {
    /// Builds an error; texts start in lower case and have no final dot.
    pub fn new(
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        FieldError {
            field: field.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// A kind of object as a Rust type.
pub trait Resource:
    Serialize + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static
{
    /// The kind this type is.
    const KIND: Kind;

    /// Name, labels, annotations, resource version.
    fn metadata(&self) -> &ObjectMeta;

    /// The same, to change.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;

    /// Checks what the types cannot express. Reports everything wrong at once, not only the first finding.
    fn validate(&self) -> Result<(), Vec<FieldError>> {
        Ok(())
    }

    /// `metadata.name`, empty when the manifest has none.
    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// The whole manifest, `apiVersion` and `kind` included.
    fn to_value(&self) -> Result<Value, FieldError> {
        serde_json::to_value(self)
            .map_err(|e| FieldError::new("", e.to_string(), "report this as a bug"))
    }
}

/// Reads a resource from a manifest without judging its content; unknown fields are ignored.
///
/// The error names the field and what was expected there.
pub fn decode<T: Resource>(value: &Value) -> Result<T, FieldError> {
    // Keeping track of the path doubles the time, so it is only done to explain an error.
    T::deserialize(value).or_else(|_| {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { String::new() } else { path };
            let remedy = format!("see `kubectl explain {}` for its type", T::KIND.plural());
            FieldError::new(field, error.into_inner().to_string(), remedy)
        })
    })
}

macro_rules! core_resource {
    ($($kind:ident),*) => {$(
        impl Resource for crate::core::$kind {
            const KIND: Kind = Kind::$kind;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )*};
}

core_resource!(Node, Pod, Namespace);

/// Implements [`Resource`] for a custom resource whose spec has `fn check(&self, &mut Vec<FieldError>)`.
macro_rules! custom_resource {
    ($kind:ident) => {
        impl $crate::Resource for $kind {
            const KIND: $crate::Kind = $crate::Kind::$kind;

            fn metadata(&self) -> &$crate::core::ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut $crate::core::ObjectMeta {
                &mut self.metadata
            }

            fn validate(&self) -> Result<(), Vec<$crate::FieldError>> {
                let mut errors = Vec::new();
                self.spec.check(&mut errors);
                if errors.is_empty() {
                    Ok(())
                } else {
                    Err(errors)
                }
            }
        }
    };
}

pub(crate) use custom_resource;
