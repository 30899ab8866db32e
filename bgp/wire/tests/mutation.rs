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

use bgp_wire::{
    EncodeError, Family, FamilyParams, Message, NextHop, Nlri, Params, PeerType, Update, decode,
    header,
};
use bytes::BytesMut;

#[path = "build/message.rs"]
mod build;
#[path = "mutation/seeds.rs"]
mod seeds;

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

fn sessions() -> Vec<Params> {
    let families = |add_path| {
        [Family::IPV4_UNICAST, Family::IPV6_UNICAST].map(|family| FamilyParams {
            family,
            add_path_receive: add_path,
            add_path_send: add_path,
            extended_next_hop: true,
        })
    };
    let plain = build::params();
    vec![
        plain.clone(),
        Params::default(),
        build::internal(),
        Params {
            families: families(false).to_vec(),
            ..plain.clone()
        },
        Params {
            four_octet_as: false,
            families: families(false).to_vec(),
            ..plain.clone()
        },
        Params {
            extended_message: true,
            enhanced_route_refresh: true,
            peer_type: PeerType::Confederation,
            families: families(true).to_vec(),
            ..plain
        },
    ]
}

/// What an UPDATE says, however many messages it takes.
#[derive(Debug, Default, PartialEq)]
struct Meaning {
    gone: Vec<(Family, Nlri)>,
    come: Vec<(Family, NextHop, Nlri)>,
    attributes: Vec<Vec<u8>>,
    marks: Vec<Family>,
    others: Vec<Message>,
}

impl Meaning {
    fn add(&mut self, message: &Message) {
        let Message::Update(update) = message else {
            self.others.push(message.clone());
            return;
        };
        self.add_update(update);
    }

    fn add_update(&mut self, update: &Update) {
        self.marks.extend(update.as_end_of_rib());
        for unreach in &update.unreach {
            self.gone
                .extend(unreach.nlri.iter().map(|nlri| (unreach.family, *nlri)));
        }
        for reach in &update.reach {
            self.come.extend(
                reach
                    .nlri
                    .iter()
                    .map(|nlri| (reach.family, reach.next_hop, *nlri)),
            );
        }
        if let Some(set) = &update.attributes {
            assert_eq!(set.to_builder().build().as_ref(), Ok(&**set));
            self.attributes.push(set.wire().to_vec());
            self.attributes.dedup();
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
    let mut meaning = Meaning::default();
    meaning.add(&decoded);
    let mut written = BytesMut::new();
    match decoded.encode(params, &mut written) {
        Ok(()) => {}
        // With 2-octet AS numbers the path can stand in the message twice.
        Err(EncodeError::AttributesTooLong { .. }) => return true,
        Err(error) => panic!("{error}: {decoded:?}"),
    }
    let mut again = Meaning::default();
    let mut written_again = BytesMut::new();
    let mut rest = &written[..];
    while let Some(len) = header::frame(rest, params.max_message_len()).unwrap() {
        let decoded = decode(&rest[..len], params).unwrap();
        if let Message::Update(update) = &decoded {
            assert_eq!(update.verdicts, []);
        }
        again.add(&decoded);
        decoded.encode(params, &mut written_again).unwrap();
        rest = &rest[len..];
    }
    assert!(rest.is_empty());
    assert_eq!(again, meaning);
    assert_eq!(written_again, written);
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
