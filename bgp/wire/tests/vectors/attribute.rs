//! Path attributes on sessions with 4-octet AS numbers.

use std::sync::Arc;

use bgp_wire::attribute::{
    Aggregator, AttributeType, Attributes, ExtCommunity, LargeCommunity, SegmentKind,
    UnknownAttribute,
};
use bgp_wire::{
    AsPath, AttributesBuilder, Community, EncodeError, Family, Message, NextHop, Origin, Params,
    PeerType, Reach, Update, decode,
};

use crate::build::{
    MANDATORY, NO_NEXT_HOP, ROUTE, attribute, hex, internal, params, prefix, read, update,
    update_of,
};
use crate::{both_ways, written};

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

fn attributes_of(message: &[u8], params: &Params) -> Arc<Attributes> {
    let update = read(message, params);
    assert_eq!(update.verdicts, []);
    update.attributes.unwrap()
}

fn every_attribute() -> AttributesBuilder {
    let mut as_path = AsPath::sequence(&[64497, 64498]);
    as_path.push(SegmentKind::Set, &[64499]);
    let large = |local2| LargeCommunity {
        global: 64496,
        local1: 1,
        local2,
    };
    AttributesBuilder {
        origin: Origin::Incomplete,
        as_path,
        med: Some(100),
        local_pref: Some(200),
        atomic_aggregate: true,
        aggregator: Some(Aggregator {
            asn: 64497,
            router_id: [192, 0, 2, 1].into(),
        }),
        communities: vec![Community::new(64496, 100), Community::NO_EXPORT],
        originator_id: Some([192, 0, 2, 2].into()),
        cluster_list: vec![[192, 0, 2, 3].into(), [192, 0, 2, 4].into()],
        ext_communities: vec![ExtCommunity([0, 2, 0xfb, 0xf0, 0, 0, 0, 100])],
        large_communities: vec![large(2), large(3)],
        only_to_customer: Some(64497),
        unknown: vec![
            UnknownAttribute {
                attribute: AttributeType::IPV6_EXT_COMMUNITIES,
                partial: false,
                value: vec![7; 20],
            },
            UnknownAttribute {
                attribute: AttributeType(99),
                partial: true,
                value: vec![1, 2, 3],
            },
        ],
        partial: vec![],
    }
}

#[test]
fn every_attribute_in_canonical_order() {
    let message = update(
        "",
        "40010102 400210 0202 0000fbf1 0000fbf2 0101 0000fbf3 400304 c0000201 800404 00000064 400504 000000c8 400600
         c00708 0000fbf1 c0000201 c00808 fbf00064 ffffff01 800904 c0000202 800a08 c0000203 c0000204
         c01008 0002fbf000000064 c01914 0707070707070707070707070707070707070707
         c02018 0000fbf0 00000001 00000002 0000fbf0 00000001 00000003 c02304 0000fbf1 e06303 010203",
        ROUTE,
    );
    both_ways(&message, &announcement(&every_attribute()), &internal());
    let set = attributes_of(&message, &internal());
    assert_eq!(set.to_builder(), every_attribute());
    assert_eq!(set.as_path().to_string(), "64497 64498 {64499}");
    assert_eq!((set.hops(), set.neighbor_as()), (3, Some(64497)));
    assert_eq!(set.cluster_list_len(), 2);
}

#[test]
fn order_on_the_wire_does_not_matter() {
    let attributes = [
        "e0630101",
        "c00804fbf00064",
        "400304c0000201",
        "40020602010000fbf1",
        "40010100",
    ];
    let forward = attributes_of(&update("", &attributes.concat(), ROUTE), &params());
    let mut reversed = attributes;
    reversed.reverse();
    let backward = attributes_of(&update("", &reversed.concat(), ROUTE), &params());
    assert_eq!(forward, backward);
    assert_eq!(
        forward.wire(),
        hex("40010100 40020602010000fbf1 c00804fbf00064 e0630101")
    );
}

#[test]
fn unknown_transitive_attributes_are_kept_with_the_partial_bit() {
    let value: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let attributes = [hex(MANDATORY), attribute(0xc0, 200, &value)].concat();
    let set = attributes_of(&update_of(&[], &attributes, &hex(ROUTE)), &params());
    let unknown: Vec<UnknownAttribute> = set.unknown().collect();
    let expected = UnknownAttribute {
        attribute: AttributeType(200),
        partial: true,
        value: value.clone(),
    };
    assert_eq!(unknown, [expected]);
    assert!(set.wire().ends_with(&attribute(0xe0, 200, &value)));
}

#[test]
fn unknown_attributes_that_are_not_transitive_end_here() {
    let set = attributes_of(
        &update("", &format!("{MANDATORY} 80c80101"), ROUTE),
        &params(),
    );
    assert_eq!(set.wire(), hex(NO_NEXT_HOP));
}

#[test]
fn the_partial_bit_of_known_attributes_is_passed_on() {
    let set = attributes_of(
        &update("", &format!("{MANDATORY} e00804fbf00064"), ROUTE),
        &params(),
    );
    assert_eq!(set.wire(), hex(&format!("{NO_NEXT_HOP} e00804fbf00064")));
    let builder = set.to_builder();
    assert_eq!(builder.partial, [AttributeType::COMMUNITIES]);
    assert_eq!(builder.build().unwrap(), *set);
    // It means nothing on attributes that everybody knows, or that nobody passes on.
    let message = update(
        "",
        "60010100 60020602010000fbf1 600304c0000201 a004040000000a",
        ROUTE,
    );
    let set = attributes_of(&message, &params());
    assert_eq!(set.wire(), hex(&format!("{NO_NEXT_HOP} 8004040000000a")));
}

#[test]
fn extended_length_is_read_and_written_only_where_needed() {
    let message = update(
        "",
        "5001000100 5002000602010000fbf1 50030004c0000201",
        ROUTE,
    );
    assert_eq!(attributes_of(&message, &params()).wire(), hex(NO_NEXT_HOP));
}

#[test]
fn unused_flag_bits_are_ignored() {
    let message = update("", "4f010100 4202 0602010000fbf1 470304c0000201", ROUTE);
    assert_eq!(attributes_of(&message, &params()).wire(), hex(NO_NEXT_HOP));
}

#[test]
fn an_empty_as_path_is_valid() {
    let set = attributes_of(
        &update("", "40010100 400200 400304c0000201", ROUTE),
        &internal(),
    );
    assert!(set.as_path().is_empty());
    assert_eq!((set.hops(), set.neighbor_as()), (0, None));
}

#[test]
fn segments_of_255_as_numbers() {
    let path = AsPath::sequence(&vec![4_200_000_001; 600]);
    let lens: Vec<usize> = path
        .view()
        .segments()
        .map(|segment| segment.asns().len())
        .collect();
    assert_eq!(lens, [255, 255, 90]);
    let builder = AttributesBuilder {
        as_path: path,
        ..Attributes::builder()
    };
    let set = builder.build().unwrap();
    assert_eq!(set.hops(), 600);
    let message = announcement(&builder);
    let bytes = written(&message, &params());
    assert_eq!(decode(&bytes, &params()), Ok(message));
}

#[test]
fn prepending_fills_a_segment_and_starts_the_next() {
    let mut path = AsPath::sequence(&[64497; 254]);
    path.prepend(64496, 2);
    let first: Vec<u32> = path.view().asns().take(3).collect();
    assert_eq!(first, [64496, 64496, 64497]);
    let lens: Vec<usize> = path
        .view()
        .segments()
        .map(|segment| segment.asns().len())
        .collect();
    assert_eq!(lens, [1, 255]);
    let mut path = AsPath::new();
    path.push(SegmentKind::Set, &[64498, 64499]);
    path.prepend(64496, 1);
    assert_eq!(path.to_string(), "64496 {64498,64499}");
    assert_eq!(path.view().origin_as(), None);
    assert!(path.view().contains(64499) && !path.view().contains(64500));
}

#[test]
fn confederation_segments_come_only_from_the_confederation() {
    let attributes = "40010100 400212 0301 0000ff01 0401 0000ff02 0201 0000fbf1 400304c0000201";
    let message = update("", attributes, ROUTE);
    let confederation = Params {
        peer_type: PeerType::Confederation,
        ..params()
    };
    let set = attributes_of(&message, &confederation);
    assert_eq!(set.as_path().to_string(), "(65281) [65282] 64497");
    assert_eq!((set.hops(), set.neighbor_as()), (1, Some(64497)));
    for params in [params(), internal()] {
        let update = read(&message, &params);
        assert!(update.is_treated_as_withdraw());
        assert_eq!(update.verdicts[0].subcode, 11);
    }
}

#[test]
fn repeated_large_communities_are_kept_once() {
    let [a, b] = ["0000fbf0 00000001 00000002", "0000fbf0 00000001 00000001"];
    let message = update("", &format!("{MANDATORY} c02030 {a} {b} {a} {b}"), ROUTE);
    let set = attributes_of(&message, &params());
    let texts: Vec<String> = set
        .large_communities()
        .map(|community| community.to_string())
        .collect();
    assert_eq!(texts, ["64496:1:2", "64496:1:1"]);
}

#[test]
fn sets_that_no_message_can_hold_are_refused() {
    let builder = AttributesBuilder {
        communities: vec![Community::NO_EXPORT; 20_000],
        ..Attributes::builder()
    };
    assert!(matches!(
        builder.build(),
        Err(EncodeError::AttributesTooLong { .. })
    ));
    let builder = AttributesBuilder {
        unknown: vec![UnknownAttribute {
            attribute: AttributeType::COMMUNITIES,
            partial: false,
            value: vec![],
        }],
        ..Attributes::builder()
    };
    assert_eq!(
        builder.build(),
        Err(EncodeError::NotUnknown(AttributeType::COMMUNITIES))
    );
}

#[test]
fn communities_as_text() {
    assert_eq!("64496:100".parse(), Ok(Community::new(64496, 100)));
    assert_eq!(Community::NO_EXPORT.to_string(), "65535:65281");
    let large: LargeCommunity = "64496:1:4294967295".parse().unwrap();
    assert_eq!(large.to_string(), "64496:1:4294967295");
    for text in ["", "1", "1:", "65536:1", "1:2:3"] {
        assert!(text.parse::<Community>().is_err(), "{text}");
    }
    for text in ["1:2", "1:2:3:4", "1:2:4294967296"] {
        assert!(text.parse::<LargeCommunity>().is_err(), "{text}");
    }
}
