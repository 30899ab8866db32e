//! What a watch delivers.

use crds::Kind;
use serde_json::Value;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where: file and document, `pools.yaml, document 2`.
    pub place: String,
    /// The object, if that much is known.
    pub key: Option<Key>,
    /// What is wrong and what to do about it.
    pub problem: String,
    /// What may be meant, and is not in force in an earlier state.
    pub remains: Remains,
}

/// What a broken thing may hold that nobody knows otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Remains {
    /// Nothing.
    #[default]
    Nothing,
    /// This object, as it is written. Of one with a key the last good state may be in force.
    Object(Value),
    /// Objects of these kinds: those that the text names, all when there is no text.
    Kinds(Vec<Kind>),
}

impl Broken {
    /// Whether an object of this kind may be in it.
    pub fn may_hold(&self, kind: Kind) -> bool {
        match &self.remains {
            Remains::Nothing => false,
            Remains::Object(value) => {
                let named = value.get("kind").and_then(Value::as_str);
                self.kind()
                    .map_or(named == Some(kind.name()), |own| own == kind)
            }
            Remains::Kinds(kinds) => kinds.contains(&kind),
        }
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        self.key.as_ref().map(|key| key.kind)
    }

    /// Whether a watch of this kind is told.
    pub(crate) fn concerns(&self, kind: Kind) -> bool {
        self.kind().is_none_or(|own| own == kind)
    }
}
