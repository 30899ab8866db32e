//! What a watch delivers.

use crds::Kind;

use crate::{Key, Object};

/// One step of a watch.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The object is new or changed.
    Upsert(Object),
    /// The object is gone.
    Delete(Key),
    /// Everything that existed when the watch began has been delivered. Comes once.
    InSync,
    /// Something cannot be used; the last good state of the object, if there was one, stays.
    Broken(Broken),
    /// What was broken at this place is not any more; the objects come as `Upsert` or `Delete` if they changed.
    Mended {
        /// As in [`Broken::place`].
        place: String,
    },
}

/// Something stored that cannot be used. A file that cannot be read at all is told to the watches of every kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broken {
    /// Where: file and document, `pools.yaml, document 2`.
    pub place: String,
    /// The object, if that much is known.
    pub key: Option<Key>,
    /// What is wrong and what to do about it.
    pub problem: String,
}

impl Broken {
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.key.as_ref().map(|key| key.kind)
    }

    /// Whether a watch of this kind is told.
    pub(crate) fn concerns(&self, kind: Kind) -> bool {
        self.kind().is_none_or(|own| own == kind)
    }
}
