//! Valid messages with octets changed at random: nothing panics, memory stays in proportion, and what was read is
//! written and read back as the same.
//!
//! `TORTIE_FUZZ_CASES` says how many; the same number always makes the same messages. `TORTIE_FUZZ_SEED` makes others.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bgp_wire::{Params, decode, header};

#[path = "build/message.rs"]
mod build;
#[path = "mutation/round_trip.rs"]
mod round_trip;
#[path = "mutation/seeds.rs"]
mod seeds;

use round_trip::{check_round_trip, sessions};

/// Counts what is allocated. There is one test in this program, so nobody else allocates meanwhile.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; this one only counts"
)]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Octets that may be allocated at once while a message of `len` octets is read: a default route is one octet on the
/// wire and 24 in memory, and a growing list is there twice.
fn allowance(len: usize) -> usize {
    8192 + 96 * len
}

/// SplitMix64, so that a case can be run again from its number.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn octet(&mut self) -> u8 {
        const TELLING: [u8; 12] = [0, 1, 2, 3, 4, 16, 32, 33, 64, 128, 254, 255];
        match self.below(3) {
            0 => TELLING[self.below(TELLING.len())],
            1 => self.next() as u8,
            _ => self.below(24) as u8,
        }
    }
}

fn mutate(message: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = header::LEN + random.below(message.len().saturating_sub(header::LEN));
        let at = at.min(message.len());
        match random.below(8) {
            0..=2 if at < message.len() => message[at] = random.octet(),
            3 if at < message.len() => message[at] ^= 1 << random.below(8),
            4 => message.insert(at, random.octet()),
            5 => {
                let end = (at + 1 + random.below(8)).min(message.len());
                message.drain(at..end);
            }
            6 => {
                let end = (at + 1 + random.below(64)).min(message.len());
                let copy = message[at..end].to_vec();
                let target = at + random.below(end - at + 1);
                message.splice(target..target, copy);
            }
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let from = header::LEN + random.below(other.len() - header::LEN + 1);
                message.truncate(at);
                message.extend_from_slice(&other[from.min(other.len())..]);
            }
        }
    }
    message.truncate(header::MAX_EXTENDED_LEN);
    mend_lengths(message, random);
}

/// Mostly puts the lengths right again, else hardly any message gets past them.
fn mend_lengths(message: &mut [u8], random: &mut Random) {
    if message.len() >= header::LEN && random.below(50) != 0 {
        let len = u16::try_from(message.len()).unwrap();
        message[16..18].copy_from_slice(&len.to_be_bytes());
    }
    if message.len() > 23 && message[18] == 2 && random.below(2) == 0 {
        let withdrawn = usize::from(u16::from_be_bytes([message[19], message[20]]));
        if let Some(rest) = message.len().checked_sub(23 + withdrawn) {
            let nlri = random.below(9).min(rest);
            let attributes = u16::try_from(rest - nlri).unwrap();
            message[21 + withdrawn..23 + withdrawn].copy_from_slice(&attributes.to_be_bytes());
        }
    }
}

/// Reads, writes and reads again. True when the message could be read.
fn check(message: &[u8], params: &Params) -> bool {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = decode(message, params);
    let used = PEAK.load(Relaxed) - before;
    assert!(
        used <= allowance(message.len()),
        "{used} octets for {} octets",
        message.len()
    );
    let decoded = match result {
        Ok(decoded) => decoded,
        Err(error) => {
            let notification = error.notification();
            assert!((1..=7).contains(&notification.code), "{notification}");
            return false;
        }
    };
    check_round_trip(&decoded, params);
    true
}

#[allow(
    clippy::disallowed_methods,
    reason = "the number of cases is the only setting of this test"
)]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn mutated_messages_neither_panic_nor_grow_nor_change() {
    let cases = setting("TORTIE_FUZZ_CASES", 200_000);
    let seed = setting("TORTIE_FUZZ_SEED", 1);
    let sessions = sessions();
    let seeds = seeds::all();
    for seed in &seeds {
        assert!(
            sessions.iter().any(|params| check(seed, params)),
            "{seed:02x?}"
        );
    }
    let mut readable = 0;
    for case in 0..cases {
        let mut random = Random(seed << 40 ^ case);
        let mut message = seeds[random.below(seeds.len())].clone();
        mutate(&mut message, &seeds, &mut random);
        let params = &sessions[random.below(sessions.len())];
        let result = std::panic::catch_unwind(|| check(&message, params));
        match result {
            Ok(is_readable) => readable += u64::from(is_readable),
            Err(_) => panic!("case {case} of seed {seed}, {params:?}: {message:02x?}"),
        }
    }
    // Mutations that never get past the header would show nothing.
    assert!(
        readable > cases / 5,
        "only {readable} of {cases} messages could be read"
    );
}
