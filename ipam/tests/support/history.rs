//! One random history.

mod operations;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crds::core::ObjectMeta;
use crds::{
    IpPool, IpPoolSpec, IpReservation, IpReservationSpec, IpamConfig, IpamConfigSpec, names,
};
use datastore::{create_typed, get_typed, update_typed};
use ipam::{Assigned, AutoAssign, Error, Ipam};

use crate::stepped::{Random, Stepped, Tasks, block_on};
use crate::world::World;

const NODES: usize = 4;
const OPERATIONS: usize = 120;
/// An operation that takes more steps than this is stuck.
const MAX_STEPS: usize = 2_000_000;
const COOLDOWN_SECS: u32 = 30;

/// Chances in percent.
#[derive(Clone, Copy)]
pub(crate) struct Trouble {
    /// Of a write: a conflict nobody caused.
    pub(crate) conflict: u64,
    /// Of a call: the store is away before it, and once more after it.
    pub(crate) unavailable: u64,
    /// Of an operation begun: another one is cut off, or a whole node.
    pub(crate) abandon: u64,
}

/// An operation in flight: who runs it, and the handle it is about.
#[derive(Clone, Debug)]
struct Label {
    process: usize,
    handle: Option<String>,
    /// The node whose remains it clears away; nothing new begins there meanwhile.
    clears: Option<usize>,
}

enum Outcome {
    Added(Result<Assigned, Error>),
    Assigned(IpAddr, Result<(), Error>),
    Deleted(Result<Vec<IpAddr>, Error>),
    Other(Result<(), Error>),
}

/// What is known for certain about a handle. One with operations in flight or cut off is in neither map.
#[derive(Default)]
struct Known {
    /// Node of every handle that ever was.
    nodes: BTreeMap<String, usize>,
    /// Handles somebody still wants: reconciliation must spare them.
    wanted: BTreeSet<String>,
    /// Exactly these addresses.
    holds: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Nothing at all.
    released: BTreeSet<String>,
}

pub(crate) struct History {
    random: Random,
    trouble: Trouble,
    store: Stepped,
    clock: Arc<AtomicU64>,
    /// One per node and, last, the controller.
    processes: Vec<Ipam>,
    tasks: Tasks<Label, Outcome>,
    known: Rc<RefCell<Known>>,
    handles: usize,
}

impl History {
    pub(crate) fn new(seed: u64, trouble: Trouble) -> History {
        let random = Random::new(seed);
        let store = Stepped::new(random.clone());
        let mut history = History {
            trouble,
            clock: Arc::new(AtomicU64::new(1_800_000_000)),
            processes: Vec::new(),
            tasks: Tasks::new(random.clone()),
            known: Rc::default(),
            handles: 0,
            store,
            random,
        };
        history.processes = (0..=NODES).map(|_| history.process()).collect();
        history.set_up();
        history
    }

    fn process(&self) -> Ipam {
        let clock = Arc::clone(&self.clock);
        let now =
            move || SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed));
        Ipam::new(Arc::new(self.store.clone()))
            .with_clock(Arc::new(now))
            .with_backoff(Arc::new(|_| Duration::ZERO))
    }

    fn set_up(&self) {
        let store = &self.store.inner;
        for (name, range, block_size) in [
            ("a", "10.0.0.0/27", 30),
            ("b", "10.0.1.0/29", 32),
            ("c", "fd00::/124", 126),
        ] {
            let spec = IpPoolSpec {
                block_size: Some(block_size),
                ..IpPoolSpec::new(range.parse().unwrap())
            };
            block_on(create_typed(
                store,
                &IpPool {
                    metadata: named(name),
                    spec,
                    status: None,
                },
            ))
            .unwrap();
        }
        let spec = IpReservationSpec {
            reserved_cidrs: vec!["10.0.0.5/32".parse().unwrap()],
        };
        block_on(create_typed(
            store,
            &IpReservation {
                metadata: named("r"),
                spec,
            },
        ))
        .unwrap();
        let spec = IpamConfigSpec {
            max_blocks_per_host: Some(7),
            ..IpamConfigSpec::default()
        };
        block_on(create_typed(
            store,
            &IpamConfig {
                metadata: named(names::DEFAULT),
                spec,
            },
        ))
        .unwrap();
    }

    pub(crate) fn run(mut self) {
        *self.store.faults.lock().unwrap() = (self.trouble.conflict, self.trouble.unavailable);
        for _ in 0..OPERATIONS {
            self.begin();
            if self.random.percent(self.trouble.abandon) {
                self.cut_off();
            }
            for _ in 0..self.random.below(60) {
                self.step();
            }
        }
        self.finish_all();
        *self.store.faults.lock().unwrap() = (0, 0);
        self.settle();
        self.release_everything();
    }

    fn step(&mut self) {
        if let Some((label, outcome)) = self.tasks.step() {
            self.note(label, outcome);
        }
        if self.store.take_written() {
            self.check();
        }
    }

    fn note(&mut self, label: Label, outcome: Outcome) {
        let Some(handle) = label.handle else {
            if let Outcome::Other(result) = outcome {
                self.excuse(result.err());
            }
            return;
        };
        let busy = self
            .tasks
            .running
            .iter()
            .any(|task| task.label.handle.as_ref() == Some(&handle));
        let mut known = self.known.borrow_mut();
        match outcome {
            Outcome::Added(Ok(assigned)) if !busy && known.wanted.contains(&handle) => {
                let addrs: BTreeSet<IpAddr> = assigned.v4.into_iter().chain(assigned.v6).collect();
                // A repeated request may ask for fewer than the handle holds: all of them stay.
                known.holds.entry(handle).or_default().extend(addrs);
            }
            Outcome::Assigned(addr, Ok(())) if !busy && known.wanted.contains(&handle) => {
                known.holds.insert(handle, BTreeSet::from([addr]));
            }
            Outcome::Deleted(Ok(_)) if !busy && !known.wanted.contains(&handle) => {
                known.released.insert(handle);
            }
            Outcome::Added(result) => {
                drop(known);
                self.excuse(result.err());
            }
            Outcome::Assigned(_, result) => {
                drop(known);
                self.excuse(result.err());
            }
            Outcome::Deleted(result) => {
                drop(known);
                self.excuse(result.err());
            }
            Outcome::Other(_) => {}
        }
    }

    /// Which failures a history may have.
    fn excuse(&self, error: Option<Error>) {
        match error {
            None
            | Some(
                Error::AddressInUse { .. }
                | Error::StrictAffinity { .. }
                | Error::BlockNotEmpty { .. }
                | Error::BlockClaimed { .. },
            ) => {}
            Some(Error::Datastore(datastore::Error::Unavailable { .. }))
                if self.trouble.unavailable > 0 => {}
            Some(error) => panic!("unexpected error: {error}"),
        }
    }

    fn check(&self) {
        let world = World::read(&self.store.inner);
        let known = self.known.borrow();
        for (handle, addrs) in &known.holds {
            for addr in addrs {
                assert_eq!(
                    world.held.get(addr),
                    Some(handle),
                    "{addr} was given to {handle}"
                );
            }
        }
        for handle in &known.released {
            assert_eq!(world.actual.get(handle), None, "{handle} was released");
        }
    }

    fn finish_all(&mut self) {
        for _ in 0..MAX_STEPS {
            if self.tasks.running.is_empty() {
                return;
            }
            self.step();
        }
        let stuck: Vec<_> = self
            .tasks
            .running
            .iter()
            .map(|task| task.label.clone())
            .collect();
        panic!("operations never end: {stuck:?}");
    }

    /// After reconciliation and repair, exactly the known addresses are held.
    fn settle(&mut self) {
        let live: BTreeSet<String> = self.known.borrow().holds.keys().cloned().collect();
        let controller = self.processes[NODES].clone();
        for node in 0..NODES {
            let held = block_on(controller.allocations_of_node(&name(node))).unwrap();
            block_on(controller.release_dead(held, None, live.clone())).unwrap();
        }
        block_on(controller.repair()).unwrap();
        let world = World::read(&self.store.inner);
        world.check_settled();
        self.check();
        let mut held: BTreeMap<IpAddr, String> = BTreeMap::new();
        for handle in &live {
            let addrs = block_on(controller.addresses_of_handle(handle)).unwrap();
            held.extend(addrs.into_iter().map(|addr| (addr, handle.clone())));
        }
        assert_eq!(world.held, held, "what is held, and what handles say");
        assert_eq!(
            block_on(controller.repair()).unwrap(),
            ipam::Repaired::default(),
            "a second repair"
        );
    }

    /// Afterwards every address there is can be had, once.
    fn release_everything(&mut self) {
        let controller = self.processes[NODES].clone();
        for node in 0..NODES {
            block_on(controller.release_node(&name(node))).unwrap();
        }
        self.clock
            .fetch_add(u64::from(COOLDOWN_SECS) + 1, Ordering::Relaxed);
        block_on(controller.repair()).unwrap();
        let world = World::read(&self.store.inner);
        assert_eq!(
            (
                world.owners.len(),
                world.counted.len(),
                world.affinities.len()
            ),
            (0, 0, 0),
            "{world:?}"
        );
        let store = &self.store.inner;
        let mut config = block_on(get_typed::<IpamConfig>(store, names::DEFAULT)).unwrap();
        config.resource.spec.max_blocks_per_host = Some(100);
        block_on(update_typed(store, &config)).unwrap();
        let mut pool = block_on(get_typed::<IpPool>(store, "b")).unwrap();
        pool.resource.spec.disabled = Some(false);
        block_on(update_typed(store, &pool)).unwrap();
        let request = AutoAssign {
            node: name(0),
            handle: "net.all".to_owned(),
            v4: 50,
            v6: 50,
            ..AutoAssign::default()
        };
        let all = block_on(self.processes[0].auto_assign(&request)).unwrap();
        // 32 + 8, of which one is reserved.
        assert_eq!((all.v4.len(), all.v6.len()), (39, 16));
        World::read(&self.store.inner).check_settled();
    }

    fn want(&self, handle: &str) {
        let mut known = self.known.borrow_mut();
        known.wanted.insert(handle.to_owned());
        known.released.remove(handle);
    }

    fn unsure(&self, handle: &str) {
        let mut known = self.known.borrow_mut();
        known.holds.remove(handle);
        known.released.remove(handle);
    }
}

fn name(node: usize) -> String {
    format!("node-{node}")
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}
