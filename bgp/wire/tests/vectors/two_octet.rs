//! Sessions with 2-octet AS numbers (RFC 6793).

use std::sync::Arc;

use bgp_wire::attribute::{Aggregator, AttributeType, Attributes, SegmentKind};
use bgp_wire::{
    AsPath, AttributesBuilder, Family, Message, NextHop, Params, PeerType, Reach, Update,
};

use crate::both_ways;
use crate::build::{ROUTE, hex, params, prefix, read, update};

fn two_octet() -> Params {
    Params {
        four_octet_as: false,
        ..params()
    }
}

/// Reads an announcement with these attributes besides ORIGIN and NEXT_HOP.
fn set(attributes: &str, params: &Params) -> Arc<Attributes> {
    let message = update("", &format!("40010100 400304c0000201 {attributes}"), ROUTE);
    read(&message, params).attributes.unwrap()
}

fn path(attributes: &str) -> String {
    set(attributes, &two_octet()).as_path().to_string()
}

fn announcement(builder: &AttributesBuilder) -> Message {
    Message::Update(Update {
        reach: vec![Reach {
            family: Family::IPV4_UNICAST,
            next_hop: NextHop::V4([192, 0, 2, 1].into()),
            nlri: vec![prefix("198.51.100.0/24").into()],
        }],
        attributes: Some(Arc::new(builder.build().unwrap())),
        ..Update::default()
    })
}

#[test]
fn paths_without_as4_path_are_widened() {
    assert_eq!(path("400206 0202 fbf1 fbf2"), "64497 64498");
    assert_eq!(path("400200"), "");
    // AS 256 and 512, which a reader that guesses the width from the octets gets wrong.
    assert_eq!(path("40020a 0204 0001 0100 0002 0200"), "1 256 2 512");
}

#[test]
fn as4_path_replaces_the_tail() {
    // AS_PATH 64497 AS_TRANS AS_TRANS 64498, AS4_PATH 4200000001 4200000002 64498.
    let merged = path("40020a 0204 fbf1 5ba0 5ba0 fbf2 c0110e 0203 fa56ea01 fa56ea02 0000fbf2");
    assert_eq!(merged, "64497 4200000001 4200000002 64498");
}

#[test]
fn a_longer_as4_path_is_ignored() {
    assert_eq!(
        path("400204 0201 5ba0 c0110a 0202 fa56ea01 fa56ea02"),
        "23456"
    );
}

#[test]
fn sets_count_one_in_the_merge() {
    // AS_PATH 64497 {64498 AS_TRANS} AS_TRANS, AS4_PATH {64498 4200000001} 4200000002.
    let merged = path(
        "40020e 0201 fbf1 0102 fbf2 5ba0 0201 5ba0 c01110 0102 0000fbf2 fa56ea01 0201 fa56ea02",
    );
    assert_eq!(merged, "64497 {64498,4200000001} 4200000002");
}

#[test]
fn attribute_order_does_not_change_the_merge() {
    let as_path = "400206 0202 fbf1 5ba0";
    let as4_path = "c01106 0201 fa56ea01";
    let aggregator = "c00706 5ba0 c0000209";
    let as4_aggregator = "c01208 fa56ea01 c0000209";
    let mut attributes = [as_path, as4_path, aggregator, as4_aggregator];
    for turn in 0..4 {
        attributes.rotate_left(1);
        for swap in 0..4 {
            attributes.swap(0, swap);
            let set = set(&attributes.concat(), &two_octet());
            assert_eq!(
                set.as_path().to_string(),
                "64497 4200000001",
                "{turn} {swap}"
            );
            assert_eq!(
                set.aggregator().unwrap().asn,
                4_200_000_001,
                "{turn} {swap}"
            );
        }
    }
}

#[test]
fn an_aggregator_without_as_trans_voids_the_as4_attributes() {
    let set = set(
        "400206 0202 fbf1 5ba0 c01106 0201 fa56ea01 c00706 fbf1 c0000209 c01208 fa56ea01 c0000209",
        &two_octet(),
    );
    assert_eq!(set.as_path().to_string(), "64497 23456");
    assert_eq!(set.aggregator().unwrap().asn, 64497);
}

#[test]
fn an_as4_aggregator_alone_is_ignored() {
    let set = set(
        "400206 0202 fbf1 fbf2 c01208 fa56ea01 c0000209",
        &two_octet(),
    );
    assert_eq!(set.aggregator(), None);
}

#[test]
fn confederation_segments_in_as4_path_are_dropped() {
    let merged = path("400206 0202 fbf1 5ba0 c0110c 0301 0000ff01 0201 fa56ea01");
    assert_eq!(merged, "64497 4200000001");
    let confederation = Params {
        peer_type: PeerType::Confederation,
        ..two_octet()
    };
    let set = set(
        "40020a 0301 ff01 0202 fbf1 5ba0 c01106 0201 fa56ea01",
        &confederation,
    );
    assert_eq!(set.as_path().to_string(), "(65281) 64497 4200000001");
}

#[test]
fn as4_attributes_on_a_four_octet_session_are_discarded() {
    let message = update(
        "",
        "40010100 400304c0000201 400206 0201 0000fbf1 c01106 0201 fa56ea01 c01208 fa56ea01 c0000209",
        ROUTE,
    );
    let update = read(&message, &params());
    assert_eq!(update.attributes.unwrap().as_path().to_string(), "64497");
    let discarded: Vec<AttributeType> = update
        .verdicts
        .iter()
        .map(|verdict| verdict.attribute)
        .collect();
    assert_eq!(
        discarded,
        [AttributeType::AS4_PATH, AttributeType::AS4_AGGREGATOR]
    );
}

#[test]
fn small_as_numbers_need_no_as4_attributes() {
    let builder = AttributesBuilder {
        as_path: AsPath::sequence(&[64497, 65535]),
        aggregator: Some(Aggregator {
            asn: 64497,
            router_id: [192, 0, 2, 9].into(),
        }),
        ..Attributes::builder()
    };
    let expected = update(
        "",
        "40010100 400206 0202 fbf1 ffff 400304c0000201 c00706 fbf1 c0000209",
        ROUTE,
    );
    both_ways(&expected, &announcement(&builder), &two_octet());
}

#[test]
fn a_path_that_gets_short_gets_a_short_length() {
    // 64 AS numbers: 258 octets wide, 130 octets narrow.
    let builder = AttributesBuilder {
        as_path: AsPath::sequence(&[64497; 64]),
        ..Attributes::builder()
    };
    let path = format!("0240{}", "fbf1".repeat(64));
    let expected = update("", &format!("40010100 400282 {path} 400304c0000201"), ROUTE);
    both_ways(&expected, &announcement(&builder), &two_octet());
}

#[test]
fn large_as_numbers_survive_in_as4_attributes() {
    let mut as_path = AsPath::new();
    as_path.push(SegmentKind::ConfedSequence, &[65281]);
    as_path.push(SegmentKind::Sequence, &[64497, 4_200_000_001]);
    as_path.push(SegmentKind::Set, &[4_200_000_002, 64498]);
    let builder = AttributesBuilder {
        as_path,
        aggregator: Some(Aggregator {
            asn: 4_200_000_001,
            router_id: [192, 0, 2, 9].into(),
        }),
        ..Attributes::builder()
    };
    let expected = update(
        "",
        "40010100 400210 0301 ff01 0202 fbf1 5ba0 0102 5ba0 fbf2 400304c0000201 c00706 5ba0 c0000209
         c01114 0202 0000fbf1 fa56ea01 0102 fa56ea02 0000fbf2 c01208 fa56ea01 c0000209",
        ROUTE,
    );
    let confederation = Params {
        peer_type: PeerType::Confederation,
        ..two_octet()
    };
    both_ways(&expected, &announcement(&builder), &confederation);
}

#[test]
fn a_path_too_long_to_be_widened_is_withdrawn() {
    let params = Params {
        extended_message: true,
        ..two_octet()
    };
    let mut path = Vec::new();
    for _ in 0..80 {
        path.extend([2, 255]);
        path.extend([0xfb, 0xf1].repeat(255));
    }
    let mut attributes = hex("40010100 400304c0000201");
    attributes.extend(crate::build::attribute(0x40, 2, &path));
    let update = read(
        &crate::build::update_of(&[], &attributes, &hex(ROUTE)),
        &params,
    );
    assert!(update.is_treated_as_withdraw());
    assert_eq!(update.unreach[0].nlri.len(), 1);
}
