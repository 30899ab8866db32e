//! A store in memory, for tests: it can be told to conflict, to fail, to be slow and to crash.

mod fault;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use crds::{FieldError, Kind};
use serde_json::Value;

pub use fault::{Call, Fault, Operation};

use crate::admission::{
    admit, same_content, set_creation_time, set_version, with_annotations, with_status,
};
use crate::table::{Table, lock};
use crate::{Broken, Datastore, Error, Key, Object, Watch};

/// Objects that live as long as the last clone of the store.
///
/// All clones are the same store, so a test keeps one to inject faults into the one it hands out.
#[derive(Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    table: Arc<Table>,
    /// Version of the last write; held for the whole of a write.
    version: Mutex<u64>,
    faults: Mutex<fault::Faults>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.table.close();
    }
}

impl MemoryStore {
    /// An empty store that never fails.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Lets the next call of this operation fail in this way; several are taken in the order given.
    pub fn fail_next(&self, operation: Operation, fault: Fault) {
        lock(&self.shared.faults).plan(operation, fault);
    }

    /// Asks about every call whether and how it fails.
    pub fn on_call(&self, decide: impl FnMut(&Call<'_>) -> Option<Fault> + Send + 'static) {
        lock(&self.shared.faults).decide(Box::new(decide));
    }

    /// Ends all injected faults and a crash; the objects are as the crash left them.
    pub fn restart(&self) {
        *lock(&self.shared.faults) = fault::Faults::default();
    }

    /// Reports something as broken, as a back end that reads foreign data does.
    pub fn report_broken(&self, broken: Broken) {
        self.shared.table.report(broken);
    }

    /// Takes a report back.
    pub fn report_mended(&self, place: &str) {
        self.shared.table.mend(place);
    }

    /// Runs one operation, with the fault planned for it.
    async fn call<T>(
        &self,
        operation: Operation,
        kind: Kind,
        key: Option<&Key>,
        run: impl FnOnce(&Shared) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let fault = lock(&self.shared.faults).next(operation, kind, key)?;
        let conflict = |key: &Key| Error::Conflict { key: key.clone() };
        match (fault, key) {
            (Some(Fault::Delay(delay)), _) => {
                tokio::time::sleep(delay).await;
                run(&self.shared)
            }
            (Some(Fault::Conflict), Some(key)) => Err(conflict(key)),
            (Some(Fault::Unavailable | Fault::CrashBefore), _) => {
                Err(fault::unavailable(operation))
            }
            (Some(Fault::CrashAfter), _) => {
                run(&self.shared)?;
                Err(fault::unavailable(operation))
            }
            (None | Some(Fault::Conflict), _) => run(&self.shared),
        }
    }
}

impl Shared {
    fn create(&self, object: Object) -> Result<Object, Error> {
        let mut object = admit(object)?;
        let mut version = lock(&self.version);
        if self.table.get(&object.key).is_some() {
            return Err(Error::AlreadyExists { key: object.key });
        }
        let now = crds::core::time_text(SystemTime::now());
        set_creation_time(&mut object.value, &now)
            .map_err(|error| Error::invalid(&object.key, error))?;
        self.store(object.key, object.value, &mut version)
    }

    /// Replaces the content of an object that has this version, or any.
    fn replace(
        &self,
        key: &Key,
        expected: Option<&str>,
        change: impl FnOnce(&Value) -> Result<Value, FieldError>,
    ) -> Result<Object, Error> {
        let mut version = lock(&self.version);
        let before = self.table.expect(key, expected)?;
        let value = change(&before.value).map_err(|error| Error::invalid(key, error))?;
        let after = admit(Object {
            key: key.clone(),
            resource_version: String::new(),
            value,
        })?;
        if same_content(&before.value, &after.value) {
            return Ok(Arc::unwrap_or_clone(before));
        }
        self.store(after.key, after.value, &mut version)
    }

    fn delete(&self, key: &Key, expected: Option<&str>) -> Result<(), Error> {
        let _version = lock(&self.version);
        self.table.expect(key, expected)?;
        self.table.remove(key);
        Ok(())
    }

    fn store(&self, key: Key, mut value: Value, version: &mut u64) -> Result<Object, Error> {
        *version += 1;
        let resource_version = version.to_string();
        set_version(&mut value, &resource_version).map_err(|error| Error::invalid(&key, error))?;
        let object = Object {
            key,
            resource_version,
            value,
        };
        self.table.put(Arc::new(object.clone()));
        Ok(object)
    }
}

#[async_trait]
impl Datastore for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Object, Error> {
        self.call(Operation::Get, key.kind, Some(key), |shared| {
            shared.table.expect(key, None).map(Arc::unwrap_or_clone)
        })
        .await
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Object>, Error> {
        self.call(Operation::List, kind, None, |shared| {
            Ok(shared.table.list(kind))
        })
        .await
    }

    async fn watch(&self, kind: Kind) -> Result<Watch, Error> {
        self.call(Operation::Watch, kind, None, |shared| {
            Ok(shared.table.watch(kind))
        })
        .await
    }

    async fn create(&self, object: Object) -> Result<Object, Error> {
        let key = object.key.clone();
        self.call(Operation::Create, key.kind, Some(&key), |shared| {
            shared.create(object)
        })
        .await
    }

    async fn update(&self, object: Object) -> Result<Object, Error> {
        let Object {
            key,
            resource_version,
            value,
        } = object;
        let run = |shared: &Shared| shared.replace(&key, Some(&resource_version), |_| Ok(value));
        self.call(Operation::Update, key.kind, Some(&key), run)
            .await
    }

    async fn delete(&self, key: &Key, resource_version: Option<&str>) -> Result<(), Error> {
        self.call(Operation::Delete, key.kind, Some(key), |shared| {
            shared.delete(key, resource_version)
        })
        .await
    }

    async fn patch_status(&self, key: &Key, status: Value) -> Result<Object, Error> {
        let run = |shared: &Shared| shared.replace(key, None, |value| with_status(value, status));
        self.call(Operation::PatchStatus, key.kind, Some(key), run)
            .await
    }

    async fn patch_annotations(
        &self,
        key: &Key,
        annotations: BTreeMap<String, Option<String>>,
    ) -> Result<Object, Error> {
        let run = |shared: &Shared| {
            shared.replace(key, None, |value| with_annotations(value, annotations))
        };
        self.call(Operation::PatchAnnotations, key.kind, Some(key), run)
            .await
    }

    async fn problems(&self) -> Result<Vec<Broken>, Error> {
        Ok(self.shared.table.problems())
    }
}
