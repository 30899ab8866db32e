//! What can be injected into a [`super::MemoryStore`].

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crds::Kind;

use crate::{Error, Key};

/// A way to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Somebody else was faster. Has no effect on calls without an object.
    Conflict,
    /// The store cannot be reached; nothing is done.
    Unavailable,
    /// The call takes this long.
    Delay(Duration),
    /// The caller dies before the store does anything: this call and all later ones fail until `restart`.
    CrashBefore,
    /// The caller dies after the store has done it: this call and all later ones fail until `restart`.
    CrashAfter,
}

/// The operations of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "named after the methods of `Datastore`")]
pub enum Operation {
    Get,
    List,
    Watch,
    Create,
    Update,
    Delete,
    PatchStatus,
    PatchAnnotations,
}

impl Operation {
    /// Whether it changes anything.
    pub fn writes(self) -> bool {
        !matches!(self, Operation::Get | Operation::List | Operation::Watch)
    }
}

/// A call that may fail.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What is asked.
    pub operation: Operation,
    /// Of which kind.
    pub kind: Kind,
    /// Of which object, unless of all.
    pub key: Option<&'a Key>,
    /// How many writes came before.
    pub writes: u64,
}

type Decide = Box<dyn FnMut(&Call<'_>) -> Option<Fault> + Send>;

#[derive(Default)]
pub(super) struct Faults {
    planned: BTreeMap<Operation, VecDeque<Fault>>,
    decide: Option<Decide>,
    writes: u64,
    crashed: bool,
}

impl Faults {
    pub(super) fn plan(&mut self, operation: Operation, fault: Fault) {
        self.planned.entry(operation).or_default().push_back(fault);
    }

    pub(super) fn decide(&mut self, decide: Decide) {
        self.decide = Some(decide);
    }

    pub(super) fn next(
        &mut self,
        operation: Operation,
        kind: Kind,
        key: Option<&Key>,
    ) -> Result<Option<Fault>, Error> {
        if self.crashed {
            return Err(unavailable(operation));
        }
        let call = Call {
            operation,
            kind,
            key,
            writes: self.writes,
        };
        self.writes += u64::from(operation.writes());
        let planned = self
            .planned
            .get_mut(&operation)
            .and_then(VecDeque::pop_front);
        let fault = planned.or_else(|| self.decide.as_mut().and_then(|decide| decide(&call)));
        self.crashed = matches!(fault, Some(Fault::CrashBefore | Fault::CrashAfter));
        Ok(fault)
    }
}

pub(super) fn unavailable(operation: Operation) -> Error {
    Error::unavailable(format!("the store is away ({operation:?}, injected)"))
}
