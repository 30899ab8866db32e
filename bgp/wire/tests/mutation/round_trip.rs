//! What has been read is written and read back as the same. Shared by the mutation test and the fuzz target.

use bgp_wire::{
    EncodeError, Family, FamilyParams, Message, NextHop, Nlri, Params, PeerType, Update, decode,
    header,
};
use bytes::BytesMut;

/// One session of each kind that reads differently.
pub(crate) fn sessions() -> Vec<Params> {
    let families = |add_path| {
        [Family::IPV4_UNICAST, Family::IPV6_UNICAST].map(|family| FamilyParams {
            family,
            add_path_receive: add_path,
            add_path_send: add_path,
            extended_next_hop: true,
        })
    };
    let plain = Params {
        four_octet_as: true,
        families: families(false).to_vec(),
        ..Params::default()
    };
    vec![
        plain.clone(),
        Params::default(),
        Params {
            peer_type: PeerType::Internal,
            ..plain.clone()
        },
        Params {
            four_octet_as: false,
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

/// Writes what was read, reads it again, and fails when it says something else.
pub(crate) fn check_round_trip(decoded: &Message, params: &Params) {
    let mut meaning = Meaning::default();
    meaning.add(decoded);
    let mut written = BytesMut::new();
    match decoded.encode(params, &mut written) {
        Ok(()) => {}
        // With 2-octet AS numbers the path can stand in the message twice.
        Err(EncodeError::AttributesTooLong { .. }) => return,
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
}
