//! What we write, another implementation reads and writes again, and we read what it wrote: it
//! must be what we began with. An error in either direction, or a different reading, breaks that.
//!
//! UPDATEs and everything else go through `rustbgpd-wire`, control messages also through `bgp-rs`.
//! Its UPDATEs are left out: it guesses the width of AS numbers from the octets and drops or cannot
//! write large communities, AS4 attributes and unknown ones.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::io::Cursor;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bgp_wire::attribute::{LargeCommunity, Origin};
use bgp_wire::{
    AsPath, Attributes, AttributesBuilder, Capability, Community, Family, FamilyParams, Message,
    NextHop, Nlri, Notification, Open, Params, Prefix, Reach, Unreach, Update, decode, header,
};
use bytes::{Bytes, BytesMut};
use rustbgpd_wire as theirs;

const CASES: usize = 3_000;

/// Xorshift: the same sequence on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn word(&mut self) -> u32 {
        self.below(1 << 32) as u32
    }

    fn words(&mut self) -> Vec<u32> {
        (0..self.below(5)).map(|_| 1 + self.word() / 2).collect()
    }

    fn prefixes(&mut self, v6: bool) -> Vec<Nlri> {
        let count = 1 + self.below(20);
        let prefixes: BTreeSet<Prefix> = (0..count)
            .map(|_| match v6 {
                false => {
                    let address = Ipv4Addr::from(self.word());
                    let length = self.below(33) as u8;
                    let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                    Prefix::new(Ipv4Addr::from(u32::from(address) & mask), length)
                }
                true => {
                    let address = u128::from(self.word()) << 96 | u128::from(self.word());
                    let length = self.below(129) as u8;
                    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                    Prefix::new(Ipv6Addr::from(address & mask), length)
                }
            })
            .map(Option::unwrap)
            .collect();
        let nlri = |prefix| Nlri { prefix, path_id: 0 };
        prefixes.into_iter().map(nlri).collect()
    }

    fn large_communities(&mut self) -> Vec<LargeCommunity> {
        let community = |random: &mut Random| LargeCommunity {
            global: random.word(),
            local1: random.word(),
            local2: random.word(),
        };
        (0..self.below(4)).map(|_| community(self)).collect()
    }

    fn attributes(&mut self) -> Attributes {
        let origins = [Origin::Igp, Origin::Egp, Origin::Incomplete];
        let path: Vec<u32> = (0..self.below(300)).map(|_| 1 + self.word() / 2).collect();
        let builder = AttributesBuilder {
            origin: origins[self.below(3) as usize],
            as_path: AsPath::sequence(&path),
            med: self.one_in(2).then(|| self.word()),
            atomic_aggregate: self.one_in(3),
            large_communities: self.large_communities(),
            communities: self.words().into_iter().map(Community).collect(),
            ..AttributesBuilder::default()
        };
        builder.build().unwrap()
    }

    fn update(&mut self) -> Update {
        let mut update = Update::default();
        for (v6, family) in [(false, Family::IPV4_UNICAST), (true, Family::IPV6_UNICAST)] {
            if self.one_in(3) {
                let nlri = self.prefixes(v6);
                update.unreach.push(Unreach { family, nlri });
            } else if self.one_in(2) {
                let next_hop = match v6 {
                    false => NextHop::from(std::net::IpAddr::from([192, 0, 2, 1])),
                    true => NextHop::from(std::net::IpAddr::V6("2001:db8::1".parse().unwrap())),
                };
                let nlri = self.prefixes(v6);
                update.reach.push(Reach {
                    family,
                    next_hop,
                    nlri,
                });
            }
        }
        if !update.reach.is_empty() {
            update.attributes = Some(Arc::new(self.attributes()));
        }
        update
    }
}

fn params() -> Params {
    Params {
        four_octet_as: true,
        families: vec![
            FamilyParams::plain(Family::IPV4_UNICAST),
            FamilyParams::plain(Family::IPV6_UNICAST),
        ],
        ..Params::default()
    }
}

/// What UPDATEs say, in whatever order and number they say it.
#[derive(Debug, Default, PartialEq)]
struct Meaning {
    gone: BTreeSet<Prefix>,
    come: BTreeSet<(Prefix, String)>,
    attributes: Option<Vec<u8>>,
}

impl Meaning {
    fn add(&mut self, update: &Update) {
        assert_eq!(update.verdicts, []);
        let gone = update.unreach.iter().flat_map(|unreach| &unreach.nlri);
        self.gone.extend(gone.map(|nlri| nlri.prefix));
        for reach in &update.reach {
            let next_hop = format!("{:?}", reach.next_hop);
            let come = reach
                .nlri
                .iter()
                .map(|nlri| (nlri.prefix, next_hop.clone()));
            self.come.extend(come);
        }
        if let Some(set) = &update.attributes {
            self.attributes = Some(set.wire().to_vec());
        }
    }
}

/// Reads with `rustbgpd-wire` and writes again, both with all it knows of the content.
fn through_theirs(message: &[u8]) -> Vec<u8> {
    let mut octets = Bytes::copy_from_slice(message);
    let read = theirs::decode_message(&mut octets, 4096).unwrap();
    let again = match read {
        theirs::Message::Update(update) => {
            let parsed = update.parse_revised(true, false, false, &[]).unwrap();
            assert!(parsed.malformed.is_empty(), "{:?}", parsed.malformed);
            let parsed = parsed.update;
            let mode = theirs::update::Ipv4UnicastMode::Body;
            let built = theirs::UpdateMessage::build(
                &parsed.announced,
                &parsed.withdrawn,
                &parsed.attributes,
                true,
                false,
                mode,
            );
            theirs::Message::Update(built)
        }
        other => other,
    };
    theirs::encode_message(&again).unwrap().to_vec()
}

#[test]
fn updates_survive_rustbgpd() {
    let mut random = Random(0x6f72_6163_6c65);
    let params = params();
    let mut routes = 0;
    for _ in 0..CASES {
        let update = random.update();
        let (mut before, mut after) = (Meaning::default(), Meaning::default());
        before.add(&update);
        let mut written = BytesMut::new();
        Message::Update(update)
            .encode(&params, &mut written)
            .unwrap();
        let mut rest = &written[..];
        while let Some(len) = header::frame(rest, params.max_message_len()).unwrap() {
            let again = through_theirs(&rest[..len]);
            let Message::Update(read) = decode(&again, &params).unwrap() else {
                panic!("another type of message");
            };
            after.add(&read);
            rest = &rest[len..];
        }
        assert_eq!(before, after);
        routes += after.come.len() + after.gone.len();
    }
    assert!(routes > 10 * CASES, "only {routes} routes");
}

fn control(random: &mut Random) -> Message {
    match random.below(4) {
        0 => Message::Keepalive,
        1 => Message::Notification(Notification::new(6, 1 + random.below(8) as u8)),
        2 => decode_route_refresh(random.one_in(2)),
        _ => {
            let asn = 1 + random.word() / 2;
            let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
            let mut capabilities: Vec<Capability> =
                families.map(Capability::MultiProtocol).to_vec();
            if random.one_in(2) {
                capabilities.push(Capability::RouteRefresh);
            }
            capabilities.push(Capability::FourOctetAs(asn));
            Message::Open(Open {
                asn,
                hold_time: 3 + random.below(60_000) as u16,
                router_id: Ipv4Addr::from(1 + random.word() / 2),
                capabilities,
            })
        }
    }
}

fn decode_route_refresh(v6: bool) -> Message {
    let mut octets = vec![0xff; 16];
    octets.extend([0, 23, 5, 0, 1 + u8::from(v6), 0, 1]);
    decode(&octets, &params()).unwrap()
}

fn through_bgp_rs(message: &[u8]) -> Vec<u8> {
    let mut reader = bgp_rs::Reader::new(Cursor::new(message));
    let (_, read) = reader.read().unwrap();
    let mut again = Vec::new();
    read.encode(&mut again).unwrap();
    again
}

#[test]
fn control_messages_survive_both() {
    let mut random = Random(0x636f_6e74);
    let params = params();
    for _ in 0..CASES {
        let message = control(&mut random);
        let mut written = BytesMut::new();
        message.encode(&params, &mut written).unwrap();
        for through in [through_theirs, through_bgp_rs] {
            let again = through(&written);
            assert_eq!(Ok(&message), decode(&again, &params).as_ref());
        }
    }
}
