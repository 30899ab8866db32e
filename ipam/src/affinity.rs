//! Affinities: which node owns which block, and what a claim that finds a block there has to do. Pure.
//!
//! Claim: affinity `pending`, block, affinity `confirmed`. Release: affinity `pendingDeletion`, block deleted or disowned,
//! affinity deleted. So a confirmed affinity always has its block, and only that one means ownership.
//! Whoever confirms has written the block since the affinity became pending, and whoever releases looks at the affinity
//! again after reading the block: of a claim and a release of one block at the same time, one always notices.

use std::time::SystemTime;

use crds::Cidr;

use crate::block::{Block, unix_nanos};

/// What a claim does about a block that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It is ours from an earlier claim: write it once more, then confirm.
    Ours,
    /// Nobody owns it: take it.
    Ownerless,
    /// It is another's: withdraw.
    Lost,
}

/// Judges a block that a claim of `node` finds in its way.
pub(crate) fn judge(block: &Block, node: &str) -> Existing {
    match block.affinity() {
        None => Existing::Ownerless,
        Some(_) if block.owned_by(node) => Existing::Ours,
        Some(_) => Existing::Lost,
    }
}

/// Seed of a node's walk over the blocks of a pool: FNV-1 of its name. Blocks of one address are walked from a place that
/// depends on the time, since a node claims one after the other (Calico behaviour).
pub(crate) fn seed(node: &str, pool: Cidr, block_size: u8, now: SystemTime) -> u64 {
    if block_size == pool.max_prefix_len() {
        unix_nanos(now)
    } else {
        u64::from(fnv32(node))
    }
}

/// FNV-1, 32 bits.
pub(crate) fn fnv32(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash: u32, byte| {
        hash.wrapping_mul(0x0100_0193) ^ u32::from(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hash_as_published() {
        // Test vectors of the FNV authors for FNV-1, 32 bits.
        for (text, hash) in [
            ("", 0x811c_9dc5),
            ("a", 0x050c_5d7e),
            ("foobar", 0x31f0_b262),
        ] {
            assert_eq!(fnv32(text), hash, "{text}");
        }
    }

    #[test]
    fn only_blocks_of_one_address_are_walked_by_time() {
        let pool = "10.0.0.0/24".parse().unwrap();
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(7);
        assert_eq!(seed("a", pool, 26, now), 0x050c_5d7e);
        assert_eq!(seed("a", pool, 32, now), 7);
    }
}
