//! Mutated UPDATEs: what `rustbgpd-wire` will not use, we do not use either (RFC 7606).
//!
//! Where it withdraws or resets so must we, or the reason is one of [`is_known_difference`].
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "../../tests/build/message.rs"]
mod build;
#[path = "../../tests/mutation/seeds.rs"]
mod seeds;

use bgp_wire::{Disposition, Message, Params, PeerType, decode};
use bytes::Bytes;
use rustbgpd_wire as theirs;
use theirs::validate::{ErrorDisposition, validate_update_attributes};

const CASES: usize = 10_000;

/// Xorshift: the same sequence on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn mutate(&mut self, message: &mut [u8]) {
        for _ in 0..self.below(3) {
            let at = 19 + self.below(message.len() as u64 - 19) as usize;
            message[at] = match self.below(3) {
                0 => self.below(256) as u8,
                1 => message[at].wrapping_add(1),
                _ => message[at] ^ (1 << self.below(8)),
            };
        }
    }
}

fn params(peer_type: PeerType) -> Params {
    let mut params = build::params();
    params.peer_type = peer_type;
    for family in &mut params.families {
        // Theirs does not ask whether RFC 8950 was negotiated.
        family.extended_next_hop = true;
    }
    params
}

/// Why theirs does not use an UPDATE; none when it does.
fn refusal(message: &[u8], external: bool) -> Option<String> {
    let mut octets = Bytes::copy_from_slice(message);
    let update = match theirs::decode_message(&mut octets, 4096) {
        Ok(theirs::Message::Update(update)) => update,
        other => return Some(format!("{other:?}")),
    };
    let parsed = match update.parse_revised(true, !external, false, &[]) {
        Ok(parsed) => parsed,
        Err(error) => return Some(format!("{error:?}")),
    };
    let mut malformed = parsed.malformed.iter();
    let is_bad = |disposition| disposition > ErrorDisposition::AttributeDiscard;
    if let Some(found) = malformed.find(|found| is_bad(found.disposition)) {
        return Some(format!("{found:?}"));
    }
    let attributes = &parsed.update.attributes;
    let in_body = !parsed.update.announced.is_empty();
    let in_mp = attributes.iter().any(|attribute| {
        matches!(attribute, theirs::PathAttribute::MpReachNlri(mp) if !mp.announced.is_empty())
    });
    let verdict = validate_update_attributes(attributes, in_body || in_mp, in_body, external);
    let error = verdict.err().filter(|error| is_bad(error.disposition))?;
    Some(format!("{error:?}"))
}

/// Differences that are meant.
fn is_known_difference(refusal: &str) -> bool {
    let of = |kind: u8| refusal.contains(&format!("type_code: {kind},"));
    // RFC 9774 deprecates AS_SET; we take it as RFC 4271 has it, as BIRD does.
    refusal.contains("ProhibitedAsSet")
        // Attributes that we do not read and pass on.
        || [22, 23, 26, 27, 29, 33, 34, 36, 38, 40, 128].into_iter().any(of)
        // A flag that is wrong: as FRR, we do without what does not decide about the route.
        || [7, 17, 18].into_iter().any(of)
        // The Partial bit where it cannot be is none of the flags of RFC 7606 §3 c.
        || [14, 15].into_iter().any(|kind| has_partial_bit(refusal, kind))
        // A family that was not negotiated: we leave its routes out (RFC 4760 §7).
        || refusal.contains("subcode: 9")
}

/// The attribute as theirs quotes it has the Partial bit.
fn has_partial_bit(refusal: &str, kind: u8) -> bool {
    let quoted = refusal.split_once("data: [").map(|(_, data)| data);
    let mut numbers = quoted.into_iter().flat_map(|data| data.split(", "));
    let (flags, code) = (numbers.next(), numbers.next());
    code.is_some_and(|code| code == kind.to_string())
        && flags.is_some_and(|flags| flags.parse::<u8>().unwrap() & 0x20 != 0)
}

#[test]
fn what_rustbgpd_refuses_we_refuse() {
    let mut seeds = seeds::all();
    seeds.retain(|message| message[18] == 2);
    let mut random = Random(0x6f72_6163_6c65);
    let (mut refused, mut together) = (0, 0);
    for _ in 0..CASES {
        let mut message = seeds[random.below(seeds.len() as u64) as usize].clone();
        random.mutate(&mut message);
        let external = random.below(2) == 0;
        let kind = if external {
            PeerType::External
        } else {
            PeerType::Internal
        };
        let Some(refusal) = refusal(&message, external) else {
            continue;
        };
        refused += 1;
        let is_used = match decode(&message, &params(kind)) {
            Ok(Message::Update(update)) => {
                let bad = |d: Disposition| d != Disposition::Discard;
                let announces = !update.reach.is_empty();
                announces && !update.verdicts.iter().any(|v| bad(v.disposition))
            }
            _ => false,
        };
        together += usize::from(!is_used);
        assert!(
            !is_used || is_known_difference(&refusal),
            "{refusal}\nexternal: {external}\n{message:02x?}"
        );
    }
    assert!(
        together > CASES / 5,
        "only {together} of {refused} refusals were common"
    );
}
