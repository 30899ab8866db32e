//! A datastore that lets a scheduler decide who goes on after every call, and the scheduler. All by one seed.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use crds::Kind;
use datastore::memory::MemoryStore;
use datastore::{Broken, Datastore, Error, Key, Object, Watch};
use serde_json::Value;

/// Numbers that depend on the seed only (splitmix64).
#[derive(Clone)]
pub(crate) struct Random(Arc<Mutex<u64>>);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(Arc::new(Mutex::new(seed)))
    }

    pub(crate) fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn percent(&self, chance: u64) -> bool {
        self.next() % 100 < chance
    }

    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// A store whose callers pause before and after every call, and which fails at random.
#[derive(Clone)]
pub(crate) struct Stepped {
    pub(crate) inner: MemoryStore,
    random: Random,
    /// Chances in percent of a false conflict, and of being away before or after the call.
    pub(crate) faults: Arc<Mutex<(u64, u64)>>,
    written: Arc<AtomicBool>,
}

impl Stepped {
    pub(crate) fn new(random: Random) -> Stepped {
        Stepped {
            inner: MemoryStore::new(),
            random,
            faults: Arc::default(),
            written: Arc::default(),
        }
    }

    /// Whether anything was written since this was asked last.
    pub(crate) fn take_written(&self) -> bool {
        self.written.swap(false, Ordering::Relaxed)
    }

    async fn call<T>(
        &self,
        write: Option<&Key>,
        run: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let away = || Error::Unavailable {
            what: "injected".to_owned(),
            source: None,
        };
        pause().await;
        let (conflict, unavailable) = *self.faults.lock().unwrap();
        if self.random.percent(unavailable) {
            return Err(away());
        }
        if let Some(key) = write
            && self.random.percent(conflict)
        {
            return Err(Error::Conflict { key: key.clone() });
        }
        let result = run.await;
        if write.is_some() {
            self.written.store(true, Ordering::Relaxed);
        }
        pause().await;
        if self.random.percent(unavailable) {
            Err(away())
        } else {
            result
        }
    }
}

#[async_trait]
impl Datastore for Stepped {
    async fn get(&self, key: &Key) -> Result<Object, Error> {
        self.call(None, self.inner.get(key)).await
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Object>, Error> {
        self.call(None, self.inner.list(kind)).await
    }

    async fn watch(&self, kind: Kind) -> Result<Watch, Error> {
        self.call(None, self.inner.watch(kind)).await
    }

    async fn create(&self, object: Object) -> Result<Object, Error> {
        let key = object.key.clone();
        self.call(Some(&key), self.inner.create(object)).await
    }

    async fn update(&self, object: Object) -> Result<Object, Error> {
        let key = object.key.clone();
        self.call(Some(&key), self.inner.update(object)).await
    }

    async fn delete(&self, key: &Key, resource_version: Option<&str>) -> Result<(), Error> {
        self.call(Some(key), self.inner.delete(key, resource_version))
            .await
    }

    async fn patch_status(&self, key: &Key, status: Value) -> Result<Object, Error> {
        self.call(Some(key), self.inner.patch_status(key, status))
            .await
    }

    async fn patch_annotations(
        &self,
        key: &Key,
        annotations: BTreeMap<String, Option<String>>,
    ) -> Result<Object, Error> {
        self.call(Some(key), self.inner.patch_annotations(key, annotations))
            .await
    }

    async fn problems(&self) -> Result<Vec<Broken>, Error> {
        self.inner.problems().await
    }
}

/// Lets the scheduler choose anew.
async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut paused, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// An operation that has begun.
pub(crate) struct Task<L, O> {
    pub(crate) label: L,
    future: Pin<Box<dyn Future<Output = O>>>,
}

/// Operations in flight.
pub(crate) struct Tasks<L, O> {
    random: Random,
    pub(crate) running: Vec<Task<L, O>>,
    /// The one that went on last.
    pub(crate) current: usize,
}

impl<L, O> Tasks<L, O> {
    pub(crate) fn new(random: Random) -> Tasks<L, O> {
        Tasks {
            random,
            running: Vec::new(),
            current: 0,
        }
    }

    pub(crate) fn start(&mut self, label: L, future: impl Future<Output = O> + 'static) {
        self.running.push(Task {
            label,
            future: Box::pin(future),
        });
    }

    /// Takes one operation to its next pause; its outcome if it ended.
    pub(crate) fn step(&mut self) -> Option<(L, O)> {
        if self.running.is_empty() {
            return None;
        }
        // Often the same again: many races need one to overtake another by several calls.
        if self.current >= self.running.len() || self.random.percent(40) {
            self.current = self.random.below(self.running.len());
        }
        let index = self.current;
        let mut context = Context::from_waker(Waker::noop());
        match self.running[index].future.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => Some((self.running.swap_remove(index).label, outcome)),
            Poll::Pending => None,
        }
    }

    /// Cuts operations off where they are.
    pub(crate) fn abandon(&mut self, which: impl Fn(&L) -> bool) -> Vec<L> {
        let (gone, left) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|task| which(&task.label));
        self.running = left;
        gone.into_iter()
            .map(|task: Task<L, O>| task.label)
            .collect()
    }
}

/// Runs one operation alone to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10_000_000 {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut context) {
            return outcome;
        }
    }
    panic!("the operation never ends")
}
