//! Something that happened to an object, for people: a Kubernetes Event.

use crds::Kind;

/// What is told about an object.
///
/// An Event of the same name and namespace is there already when somebody else has told the same, and that is as good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Name of the Event.
    pub name: String,
    /// Kind of the object it is about; one without namespace.
    pub kind: Kind,
    /// Name of the object.
    pub object: String,
    /// What happened in one word, such as `BGPSessionDown`.
    pub reason: String,
    /// What happened, for people.
    pub text: String,
    /// The node that tells.
    pub node: String,
    /// When, as RFC 3339.
    pub time: String,
}
