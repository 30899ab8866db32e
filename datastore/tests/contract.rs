//! What every back end must do. A new one implements `Backend` and adds a module at the end; the API server has a
//! program of its own, `kubernetes.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "contract/objects.rs"]
mod objects;
#[path = "contract/suite.rs"]
mod suite;
#[path = "contract/unknown.rs"]
mod unknown;
#[path = "contract/watch.rs"]
mod watch;

use std::sync::Arc;

use datastore::Datastore;
use datastore::file::FileStore;
use datastore::memory::MemoryStore;
use suite::Backend;

struct File(tempfile::TempDir);

impl Backend for File {
    async fn new() -> Self {
        File(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Arc<dyn Datastore> {
        Arc::new(FileStore::open(self.0.path()).unwrap())
    }
}

struct Memory(MemoryStore);

impl Backend for Memory {
    async fn new() -> Self {
        Memory(MemoryStore::new())
    }

    async fn open(&self) -> Arc<dyn Datastore> {
        Arc::new(self.0.clone())
    }
}

mod file {
    crate::suite::suite!(crate::File, keeps_unknown_fields);
}

mod memory {
    crate::suite::suite!(crate::Memory, keeps_unknown_fields);
}
