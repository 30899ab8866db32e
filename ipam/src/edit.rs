//! What requests that wait for one block want of it, done in one write. Pure.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crds::ipam_block::AllocationAttribute;

use crate::block::Block;
use crate::range::Ranges;

/// What one request wants of a block.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// Addresses for a handle that has raised its count by as many.
    Take {
        handle: String,
        want: usize,
        /// What the request has already. Anything else the handle holds was given to this request by a write whose answer
        /// was lost.
        known: Vec<IpAddr>,
        attribute: Arc<AllocationAttribute>,
        reserved: Arc<Ranges>,
        cooldown: Duration,
    },
    /// Everything of a handle is freed.
    Release { handle: String, cooldown: Duration },
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// What the handle got, or what was freed.
    pub(crate) addrs: Vec<IpAddr>,
    /// How many the handle has in the block after the write.
    pub(crate) held: u32,
}

/// Makes all edits, first come first served. One that finds the block full gets less and is in nobody's way.
pub(crate) fn apply(block: &mut Block, edits: &[Edit], now: SystemTime) -> Vec<Done> {
    let addrs: Vec<_> = edits.iter().map(|edit| edit.apply(block, now)).collect();
    let counted = |(edit, addrs): (&Edit, Vec<IpAddr>)| Done {
        addrs,
        held: block.held_by(edit.handle()).len() as u32,
    };
    edits.iter().zip(addrs).map(counted).collect()
}

impl Edit {
    fn handle(&self) -> &str {
        let (Edit::Take { handle, .. } | Edit::Release { handle, .. }) = self;
        handle
    }

    fn apply(&self, block: &mut Block, now: SystemTime) -> Vec<IpAddr> {
        match self {
            Edit::Take {
                handle,
                want,
                known,
                attribute,
                reserved,
                cooldown,
            } => {
                block.thaw(now, *cooldown);
                let mut got = block.held_by(handle);
                got.retain(|addr| !known.contains(addr));
                got.truncate(*want);
                got.append(&mut block.take(*want - got.len(), attribute, reserved));
                got
            }
            Edit::Release { handle, cooldown } => block.release_handle(handle, now, *cooldown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn block() -> Block {
        Block::new("10.0.0.0/30".parse().unwrap(), "node-1", NOW)
    }

    fn take(handle: &str, want: usize, known: &[IpAddr]) -> Edit {
        Edit::Take {
            handle: handle.to_owned(),
            want,
            known: known.to_vec(),
            attribute: Arc::new(AllocationAttribute {
                handle_id: Some(handle.to_owned()),
                ..Default::default()
            }),
            reserved: Arc::default(),
            cooldown: Duration::ZERO,
        }
    }

    fn release(handle: &str) -> Edit {
        Edit::Release {
            handle: handle.to_owned(),
            cooldown: Duration::ZERO,
        }
    }

    fn sizes(done: &[Done]) -> Vec<(usize, u32)> {
        done.iter()
            .map(|done| (done.addrs.len(), done.held))
            .collect()
    }

    #[test]
    fn each_gets_its_own_and_who_comes_late_less() {
        let mut block = block();
        let edits = [take("a", 2, &[]), take("b", 1, &[]), take("c", 2, &[])];
        let done = apply(&mut block, &edits, NOW);
        assert_eq!(sizes(&done), [(2, 2), (1, 1), (1, 1)]);
        let done = apply(&mut block, &[take("d", 1, &[]), release("b")], NOW);
        assert_eq!(sizes(&done), [(0, 0), (1, 0)]);
    }

    #[test]
    fn what_is_freed_can_be_had_in_the_same_write() {
        let mut block = block();
        apply(&mut block, &[take("a", 4, &[])], NOW);
        let done = apply(&mut block, &[release("a"), take("b", 1, &[])], NOW);
        assert_eq!(sizes(&done), [(4, 0), (1, 1)]);
    }

    #[test]
    fn what_a_lost_write_gave_counts_and_what_the_request_had_does_not() {
        let mut block = block();
        let had = apply(&mut block, &[take("a", 1, &[])], NOW).remove(0).addrs;
        let lost = apply(&mut block, &[take("a", 1, &had)], NOW).remove(0);
        let again = apply(&mut block, &[take("a", 1, &had)], NOW).remove(0);
        assert_eq!((lost.held, &again), (2, &lost));
        let more = apply(&mut block, &[take("a", 2, &had)], NOW).remove(0);
        assert_eq!((more.addrs.len(), more.held), (2, 3));
    }
}
