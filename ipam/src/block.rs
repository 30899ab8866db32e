//! One block of addresses: who has which, and which comes next. Pure.
//!
//! An `IPAMBlock` is decoded into a [`Block`] once, and refused when it contradicts itself; afterwards every ordinal is
//! exactly one of free, held or cooling down. Freed addresses go to the tail of the free list and are taken from its
//! head, so that an address rests as long as possible (Calico behaviour).
//! A stamp is the sequence number of the block at the time of allocation; a release that names an older stamp is
//! refused, so that it cannot free an address that was given to somebody else in between.

mod codec;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crds::ipam_block::AllocationAttribute;
use crds::{Cidr, IpamBlockSpec};

pub use codec::BrokenBlock;

use crate::range::{self, Ranges};

/// Most addresses a block may have (`/20` and `/116`).
pub(crate) const MAX_SIZE: u32 = 4096;

/// A decoded block.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    cidr: Cidr,
    affinity: Option<String>,
    claimed_at: Option<SystemTime>,
    slots: Vec<Slot>,
    free: VecDeque<u32>,
    sequence: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Slot {
    Free,
    Held {
        attribute: Arc<AllocationAttribute>,
        stamp: Option<u64>,
    },
    Cooling {
        released_at: SystemTime,
    },
}

/// One allocated address.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Allocation {
    /// The address.
    pub(crate) addr: IpAddr,
    /// Whose it is and what is known about the owner.
    pub(crate) attribute: Arc<AllocationAttribute>,
    /// Sequence number of the block when it was allocated; absent in blocks older than that field.
    pub(crate) stamp: Option<u64>,
}

/// What a release must find for the address to be freed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Guard<'a> {
    /// The handle that must hold it; `None` = whoever.
    pub(crate) handle: Option<&'a str>,
    /// The stamp it must have; `None` = any.
    pub(crate) stamp: Option<u64>,
}

/// Why an address was not freed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody holds it.
    NotAllocated,
    /// Another handle holds it.
    OtherHandle(Option<String>),
    /// It was allocated anew since the caller looked.
    Reallocated,
}

/// How many addresses of a block are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Can be handed out now.
    pub(crate) free: u32,
    /// Free, but inside an IPReservation.
    pub(crate) reserved: u32,
    /// Allocated.
    pub(crate) held: u32,
    /// Released and still resting.
    pub(crate) cooling: u32,
}

impl Block {
    /// A block nobody has an address of, owned by `node`.
    pub(crate) fn new(cidr: Cidr, node: &str, now: SystemTime) -> Block {
        let size = range::size(cidr).min(MAX_SIZE);
        Block {
            cidr,
            affinity: Some(IpamBlockSpec::host_affinity(node)),
            claimed_at: Some(now),
            slots: vec![Slot::Free; size as usize],
            free: (0..size).collect(),
            sequence: unix_nanos(now),
        }
    }

    /// Its prefix.
    pub(crate) fn cidr(&self) -> Cidr {
        self.cidr
    }

    /// Its owner as written: `host:<node>`, `virtual:<name>`; `None` when nobody owns it.
    pub(crate) fn affinity(&self) -> Option<&str> {
        self.affinity.as_deref()
    }

    /// Whether `node` owns it.
    pub(crate) fn owned_by(&self, node: &str) -> bool {
        self.affinity
            .as_deref()
            .and_then(|a| a.strip_prefix("host:"))
            == Some(node)
    }

    /// When its owner claimed it.
    pub(crate) fn claimed_at(&self) -> Option<SystemTime> {
        self.claimed_at
    }

    /// Makes `node` its owner.
    pub(crate) fn claim(&mut self, node: &str, now: SystemTime) {
        self.affinity = Some(IpamBlockSpec::host_affinity(node));
        self.claimed_at = Some(now);
    }

    /// Takes it away from its owner; the addresses stay allocated.
    pub(crate) fn disown(&mut self) {
        self.affinity = None;
        self.claimed_at = None;
    }

    /// Whether no address is held and none is resting, so that deleting the block loses nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Counts its addresses by state.
    pub(crate) fn usage(&self, reserved: &Ranges) -> Usage {
        let mut usage = Usage::default();
        for (ordinal, slot) in (0..).zip(&self.slots) {
            match slot {
                Slot::Free if reserved.contains(range::nth(self.cidr, ordinal)) => {
                    usage.reserved += 1
                }
                Slot::Free => usage.free += 1,
                Slot::Held { .. } => usage.held += 1,
                Slot::Cooling { .. } => usage.cooling += 1,
            }
        }
        usage
    }

    /// Returns addresses that have rested for `cooldown` to the free list, longest rested first.
    pub(crate) fn thaw(&mut self, now: SystemTime, cooldown: Duration) {
        let mut rested: Vec<(SystemTime, u32)> = (0..)
            .zip(&self.slots)
            .filter_map(|(ordinal, slot)| match slot {
                Slot::Cooling { released_at } if rested(*released_at, now, cooldown) => {
                    Some((*released_at, ordinal))
                }
                _ => None,
            })
            .collect();
        rested.sort_unstable();
        for (_, ordinal) in rested {
            self.slots[ordinal as usize] = Slot::Free;
            self.free.push_back(ordinal);
        }
    }

    /// Allocates up to `want` addresses, longest free first; reserved ones are passed over and keep their place.
    pub(crate) fn take(
        &mut self,
        want: usize,
        attribute: &Arc<AllocationAttribute>,
        reserved: &Ranges,
    ) -> Vec<IpAddr> {
        let mut taken = Vec::new();
        let mut kept = VecDeque::with_capacity(self.free.len());
        while taken.len() < want {
            let Some(ordinal) = self.free.pop_front() else {
                break;
            };
            let addr = range::nth(self.cidr, ordinal);
            if reserved.contains(addr) {
                kept.push_back(ordinal);
                continue;
            }
            self.slots[ordinal as usize] = Slot::Held {
                attribute: Arc::clone(attribute),
                stamp: Some(self.sequence),
            };
            taken.push(addr);
        }
        kept.append(&mut self.free);
        self.free = kept;
        taken
    }

    /// Allocates this very address, resting or reserved ones included.
    ///
    /// # Errors
    /// The allocation that is in the way; `None` when the address is not in this block.
    pub(crate) fn assign(
        &mut self,
        addr: IpAddr,
        attribute: &Arc<AllocationAttribute>,
    ) -> Result<(), Option<Allocation>> {
        let ordinal = range::ordinal(self.cidr, addr).ok_or(None)?;
        if let Some(allocation) = self.allocation(ordinal) {
            return Err(Some(allocation));
        }
        self.free.retain(|free| *free != ordinal);
        self.slots[ordinal as usize] = Slot::Held {
            attribute: Arc::clone(attribute),
            stamp: Some(self.sequence),
        };
        Ok(())
    }

    /// Frees an address if the guard agrees. It rests for a non-zero `cooldown`, else it goes to the tail of the free list.
    ///
    /// # Errors
    /// Why it stays as it is.
    pub(crate) fn release(
        &mut self,
        addr: IpAddr,
        guard: Guard<'_>,
        now: SystemTime,
        cooldown: Duration,
    ) -> Result<Allocation, Refusal> {
        let ordinal = range::ordinal(self.cidr, addr).ok_or(Refusal::NotAllocated)?;
        let allocation = self.allocation(ordinal).ok_or(Refusal::NotAllocated)?;
        if guard
            .handle
            .is_some_and(|handle| !is_handle(&allocation.attribute, handle))
        {
            return Err(Refusal::OtherHandle(allocation.attribute.handle_id.clone()));
        }
        if guard.stamp.is_some() && guard.stamp != allocation.stamp {
            return Err(Refusal::Reallocated);
        }
        if cooldown.is_zero() {
            self.slots[ordinal as usize] = Slot::Free;
            self.free.push_back(ordinal);
        } else {
            self.slots[ordinal as usize] = Slot::Cooling { released_at: now };
        }
        Ok(allocation)
    }

    /// Frees everything a handle holds here.
    pub(crate) fn release_handle(
        &mut self,
        handle: &str,
        now: SystemTime,
        cooldown: Duration,
    ) -> Vec<IpAddr> {
        let held = self.held_by(handle);
        for addr in &held {
            // Just listed as allocated, and an empty guard agrees to everything.
            let _ = self.release(*addr, Guard::default(), now, cooldown);
        }
        held
    }

    /// Stamps everything a handle holds here anew, so that a release decided on before is refused.
    pub(crate) fn renew(&mut self, handle: &str) {
        for slot in &mut self.slots {
            if let Slot::Held { attribute, stamp } = slot
                && is_handle(attribute, handle)
            {
                *stamp = Some(self.sequence);
            }
        }
    }

    /// The addresses a handle holds here, in order.
    pub(crate) fn held_by(&self, handle: &str) -> Vec<IpAddr> {
        self.allocations()
            .filter(|a| is_handle(&a.attribute, handle))
            .map(|a| a.addr)
            .collect()
    }

    /// Everything allocated here, in order of address.
    pub(crate) fn allocations(&self) -> impl Iterator<Item = Allocation> + '_ {
        (0..range::size(self.cidr)).filter_map(|ordinal| self.allocation(ordinal))
    }

    fn allocation(&self, ordinal: u32) -> Option<Allocation> {
        match &self.slots[ordinal as usize] {
            Slot::Held { attribute, stamp } => Some(Allocation {
                addr: range::nth(self.cidr, ordinal),
                attribute: Arc::clone(attribute),
                stamp: *stamp,
            }),
            Slot::Free | Slot::Cooling { .. } => None,
        }
    }
}

/// Nanoseconds since 1970.
pub(crate) fn unix_nanos(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_nanos() as u64)
}

/// Whether an allocation belongs to a handle; ids are compared without case, as their object names have none.
pub(crate) fn is_handle(attribute: &AllocationAttribute, handle: &str) -> bool {
    attribute
        .handle_id
        .as_deref()
        .is_some_and(|id| id.eq_ignore_ascii_case(handle))
}

/// A release time further ahead than the cool-down itself is a clock that was set back: do not wait for it.
fn rested(released_at: SystemTime, now: SystemTime, cooldown: Duration) -> bool {
    match now.duration_since(released_at) {
        Ok(elapsed) => elapsed >= cooldown,
        Err(ahead) => ahead.duration() > cooldown,
    }
}
