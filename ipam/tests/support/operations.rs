//! What happens in a history: requests, releases, upkeep, loss.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use crds::{Cidr, IpPool, IpamConfig, names};
use datastore::{get_typed, update_typed};
use ipam::{Assign, AutoAssign, Error, Release};

use crate::stepped::block_on;

use super::{COOLDOWN_SECS, History, Known, Label, NODES, Outcome, name};

impl History {
    pub(super) fn begin(&mut self) {
        let node = self.random.below(NODES);
        let running = &self.tasks.running;
        if running.iter().any(|task| task.label.clears == Some(node)) {
            return;
        }
        match self.random.below(100) {
            0..35 => self.add(node),
            35..60 => self.delete(),
            60..67 => self.assign(node),
            67..72 => self.reconcile(node),
            72..76 => {
                let ipam = self.processes[NODES].clone();
                self.other(NODES, async move { ipam.repair().await.map(|_| ()) });
            }
            76..82 => {
                let process = *self.random.pick(&[node, NODES]);
                let (ipam, keep) = (self.processes[process].clone(), self.random.below(2));
                self.other(process, async move {
                    ipam.release_empty_blocks(&name(node), keep)
                        .await
                        .map(|_| ())
                });
            }
            82..87 => {
                let (ipam, cidr) = (self.processes[node].clone(), self.block());
                self.other(node, async move {
                    ipam.release_affinity(&name(node), cidr).await
                });
            }
            87..90 => {
                let (ipam, cidr) = (self.processes[node].clone(), self.block());
                self.other(node, async move {
                    tolerate(ipam.claim_block(&name(node), cidr).await)
                });
            }
            90..94 => self.release_stale(),
            94..96 => self.change_config(),
            96..98 => drop(
                self.clock
                    .fetch_add(self.random.next() % 40, Ordering::Relaxed),
            ),
            _ => self.lose_node(node),
        }
    }

    /// A pod of a node gets addresses: a new one, or one whose request is repeated.
    fn add(&mut self, node: usize) {
        // Now and then one that was released already.
        let any = self.random.percent(20);
        let again: Vec<String> = {
            let known = self.known.borrow();
            let repeats = |handle: &String| {
                known.nodes[handle] == node && (any || known.wanted.contains(handle))
            };
            known
                .nodes
                .keys()
                .filter(|handle| repeats(handle))
                .cloned()
                .collect()
        };
        let handle = if !again.is_empty() && self.random.percent(30) {
            self.random.pick(&again).clone()
        } else {
            self.new_handle(node)
        };
        let request = AutoAssign {
            node: name(node),
            handle: handle.clone(),
            v4: 1 + self.random.below(3) as u32,
            v6: self.random.below(2) as u32,
            ..AutoAssign::default()
        };
        self.want(&handle);
        let ipam = self.processes[node].clone();
        let label = Label {
            process: node,
            handle: Some(handle),
            clears: None,
        };
        self.tasks.start(label, async move {
            Outcome::Added(ipam.auto_assign(&request).await)
        });
    }

    fn assign(&mut self, node: usize) {
        let addr = IpAddr::from([10, 0, 0, self.random.below(32) as u8]);
        let handle = self.new_handle(node);
        let request = Assign {
            addr,
            node: name(node),
            handle: handle.clone(),
            attributes: BTreeMap::new(),
        };
        self.want(&handle);
        let ipam = self.processes[node].clone();
        let label = Label {
            process: node,
            handle: Some(handle),
            clears: None,
        };
        self.tasks.start(label, async move {
            Outcome::Assigned(addr, ipam.assign(&request).await)
        });
    }

    fn delete(&mut self) {
        let handles: Vec<(String, usize)> = self
            .known
            .borrow()
            .nodes
            .iter()
            .map(|(handle, node)| (handle.clone(), *node))
            .collect();
        if handles.is_empty() {
            return;
        }
        let (handle, node) = self.random.pick(&handles).clone();
        self.unsure(&handle);
        self.known.borrow_mut().wanted.remove(&handle);
        let ipam = self.processes[node].clone();
        let label = Label {
            process: node,
            handle: Some(handle.clone()),
            clears: None,
        };
        self.tasks.start(label, async move {
            Outcome::Deleted(ipam.release_handle(&handle).await)
        });
    }

    fn reconcile(&mut self, node: usize) {
        let process = *self.random.pick(&[node, NODES]);
        let (ipam, known) = (self.processes[process].clone(), Rc::clone(&self.known));
        self.other(process, async move {
            let held = ipam.allocations_of_node(&name(node)).await?;
            let live = known.borrow().wanted.clone();
            ipam.release_dead(held, None, live).await.map(|_| ())
        });
    }

    /// Frees addresses by what was known of them a while ago: only the very same allocation may go.
    fn release_stale(&mut self) {
        let (ipam, known) = (self.processes[NODES].clone(), Rc::clone(&self.known));
        let node = self.random.below(NODES);
        self.other(NODES, async move {
            let held = ipam.allocations_of_node(&name(node)).await?;
            let unwanted =
                |handle: &Option<String>| !known.borrow().wanted.contains(handle.as_ref().unwrap());
            let stale: Vec<Release> = held
                .into_iter()
                .filter(|held| unwanted(&held.handle))
                .map(Release::from)
                .collect();
            ipam.release(&stale).await.map(|_| ())
        });
    }

    fn change_config(&self) {
        let store = &self.store.inner;
        let mut config = block_on(get_typed::<IpamConfig>(store, names::DEFAULT)).unwrap();
        config.resource.spec.strict_affinity = self.random.percent(50);
        config.resource.spec.ip_cooldown_seconds = self.random.percent(30).then_some(COOLDOWN_SECS);
        block_on(update_typed(store, &config)).unwrap();
        let mut pool = block_on(get_typed::<IpPool>(store, "b")).unwrap();
        pool.resource.spec.disabled = Some(self.random.percent(30));
        block_on(update_typed(store, &pool)).unwrap();
    }

    /// A node is gone for good, and the controller cleans up; a new one of the same name may come.
    fn lose_node(&mut self, node: usize) {
        self.restart(node);
        let mut known = self.known.borrow_mut();
        let Known {
            nodes,
            wanted,
            holds,
            ..
        } = &mut *known;
        wanted.retain(|handle| nodes[handle] != node);
        holds.retain(|handle, _| nodes[handle] != node);
        drop(known);
        let ipam = self.processes[NODES].clone();
        let label = Label {
            process: NODES,
            handle: None,
            clears: Some(node),
        };
        self.tasks.start(label, async move {
            Outcome::Other(ipam.release_node(&name(node)).await.map(|_| ()))
        });
    }

    fn other(&mut self, process: usize, run: impl Future<Output = Result<(), Error>> + 'static) {
        self.tasks.start(
            Label {
                process,
                handle: None,
                clears: None,
            },
            async move { Outcome::Other(run.await) },
        );
    }

    /// One operation ends where it is, or a node with all of them.
    pub(super) fn cut_off(&mut self) {
        let process = self.random.below(NODES + 1);
        if self.random.percent(30) {
            self.restart(process);
            return;
        }
        let mut first = true;
        let mut one = Vec::new();
        for task in &self.tasks.running {
            one.push(
                task.label.process == process
                    && std::mem::replace(&mut first, task.label.process != process),
            );
        }
        let index = std::cell::Cell::new(0);
        let gone = self.tasks.abandon(|_| one[index.replace(index.get() + 1)]);
        self.forget(gone);
    }

    fn restart(&mut self, process: usize) {
        let gone = self.tasks.abandon(|label| label.process == process);
        self.processes[process] = self.process();
        self.forget(gone);
    }

    /// Some requests that were cut off are repeated some day, others never.
    fn forget(&mut self, gone: Vec<Label>) {
        for handle in gone.into_iter().filter_map(|label| label.handle) {
            self.unsure(&handle);
            if self.random.percent(50) {
                self.known.borrow_mut().wanted.remove(&handle);
            }
        }
    }

    fn new_handle(&mut self, node: usize) -> String {
        self.handles += 1;
        let handle = format!("net.h{}", self.handles);
        self.known.borrow_mut().nodes.insert(handle.clone(), node);
        handle
    }

    fn block(&self) -> Cidr {
        match self.random.below(3) {
            0 => format!("10.0.0.{}/30", 4 * self.random.below(8))
                .parse()
                .unwrap(),
            1 => format!("fd00::{:x}/126", 4 * self.random.below(4))
                .parse()
                .unwrap(),
            _ => format!("10.0.1.{}/32", self.random.below(8))
                .parse()
                .unwrap(),
        }
    }
}

/// Claiming a block another has, or one of a disabled pool, fails as it should.
fn tolerate(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::BlockClaimed { .. } | Error::NotABlock { .. }) => Ok(()),
        other => other,
    }
}
