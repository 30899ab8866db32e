//! Properties that hold for every value: what is written reads back as the same.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::Ipv4Addr;
use std::sync::Arc;

use bgp_wire::attribute::{
    Aggregator, AttributeType, ExtCommunity, LargeCommunity, SegmentKind, UnknownAttribute,
};
use bgp_wire::{
    AsPath, AttributesBuilder, Community, EncodeError, Family, FamilyParams, Message, NextHop,
    Nlri, Origin, Params, PeerType, Prefix, Reach, ReachBlock, Unreach, Update, decode, header,
    pack_unreach,
};
use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn prefix4() -> impl Strategy<Value = Prefix> {
    (any::<u32>(), 0..=32_u8)
        .prop_map(|(addr, len)| Prefix::new(Ipv4Addr::from(addr), len).unwrap())
}

fn prefix6() -> impl Strategy<Value = Prefix> {
    (any::<u128>(), 0..=128_u8)
        .prop_map(|(addr, len)| Prefix::new(std::net::Ipv6Addr::from(addr), len).unwrap())
}

fn as_path() -> impl Strategy<Value = AsPath> {
    let kind = prop_oneof![
        4 => Just(SegmentKind::Sequence),
        1 => Just(SegmentKind::Set),
        1 => Just(SegmentKind::ConfedSequence),
        1 => Just(SegmentKind::ConfedSet),
    ];
    vec((kind, vec(asn(), 1..300)), 0..3).prop_map(|segments| {
        let mut path = AsPath::new();
        for (kind, asns) in segments {
            path.push(kind, &asns);
        }
        path
    })
}

fn asn() -> impl Strategy<Value = u32> {
    // AS_TRANS itself is what a narrow session makes of large AS numbers.
    prop_oneof![1..=65_535_u32, 1..=u32::MAX].prop_filter("AS_TRANS", |asn| *asn != 23_456)
}

fn addr() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn unknown() -> impl Strategy<Value = UnknownAttribute> {
    (41..=255_u8, vec(any::<u8>(), 0..400)).prop_map(|(kind, value)| UnknownAttribute {
        attribute: AttributeType(kind),
        partial: true,
        value,
    })
}

prop_compose! {
    fn large()(global in any::<u32>(), local1 in any::<u32>(), local2 in 0..3_u32) -> LargeCommunity {
        LargeCommunity { global, local1, local2 }
    }
}

prop_compose! {
    fn builder()(
        origin in prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)],
        as_path in as_path(),
        (med, local_pref, only_to_customer) in any::<(Option<u32>, Option<u32>, Option<u32>)>(),
        atomic_aggregate in any::<bool>(),
        aggregator in option::of((asn(), addr())),
        communities in vec(any::<u32>().prop_map(Community), 0..80),
        originator_id in option::of(addr()),
        cluster_list in vec(addr(), 0..5),
        ext_communities in vec(any::<[u8; 8]>().prop_map(ExtCommunity), 0..5),
        large_communities in vec(large(), 0..5),
        unknown in vec(unknown(), 0..3),
    ) -> AttributesBuilder {
        AttributesBuilder {
            origin, as_path, med, local_pref, atomic_aggregate,
            aggregator: aggregator.map(|(asn, router_id)| Aggregator { asn, router_id }),
            communities, originator_id, cluster_list, ext_communities, large_communities, only_to_customer, unknown,
            partial: vec![],
        }
    }
}

fn params() -> impl Strategy<Value = Params> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(four_octet_as, extended_message, add_path)| {
            let family = |family| FamilyParams {
                family,
                add_path_receive: add_path,
                add_path_send: add_path,
                extended_next_hop: true,
            };
            Params {
                four_octet_as,
                extended_message,
                enhanced_route_refresh: true,
                peer_type: PeerType::Confederation,
                families: vec![family(Family::IPV4_UNICAST), family(Family::IPV6_UNICAST)],
            }
        },
    )
}

fn with_ids(prefixes: Vec<Prefix>, params: &Params) -> Vec<Nlri> {
    let add_path = params.families[0].add_path_send;
    let id = |index: usize| if add_path { index as u32 } else { 0 };
    let numbered = prefixes.into_iter().enumerate();
    numbered
        .map(|(index, prefix)| Nlri {
            prefix,
            path_id: id(index),
        })
        .collect()
}

/// Reads every message of `bytes`, which must be whole messages within the limit.
fn read_all(mut bytes: &[u8], params: &Params) -> Vec<Update> {
    let mut updates = Vec::new();
    while let Some(len) = header::frame(bytes, params.max_message_len()).unwrap() {
        match decode(&bytes[..len], params) {
            Ok(Message::Update(update)) => updates.push(update),
            other => panic!("{other:?}"),
        }
        bytes = &bytes[len..];
    }
    assert!(bytes.is_empty());
    updates
}

proptest! {
    #[test]
    fn attribute_sets_keep_their_fields(builder in builder()) {
        let set = builder.build().unwrap();
        let again = set.to_builder();
        prop_assert_eq!(again.build(), Ok(set));
        prop_assert_eq!(again.as_path, builder.as_path);
        prop_assert_eq!(again.communities, builder.communities);
        prop_assert_eq!(again.cluster_list, builder.cluster_list);
        prop_assert_eq!((again.med, again.local_pref), (builder.med, builder.local_pref));
        prop_assert_eq!(again.aggregator, builder.aggregator);
    }

    #[test]
    fn announcements_read_back(
        builder in builder(),
        params in params(),
        prefixes in prop_oneof![vec(prefix4(), 1..2000), vec(prefix6(), 1..1000)],
        next_hop in prop_oneof![Just("192.0.2.1"), Just("2001:db8::1")],
    ) {
        let family = prefixes[0].family();
        let is_v6 = family == Family::IPV6_UNICAST;
        let next_hop = NextHop::from(if is_v6 { "2001:db8::1" } else { next_hop }.parse::<std::net::IpAddr>().unwrap());
        let set = builder.build().unwrap();
        let block = ReachBlock::new(&set, next_hop, family, &params);
        if let Err(error) = block {
            let EncodeError::AttributesTooLong { octets } = error else {
                return Err(TestCaseError::fail(error.to_string()));
            };
            prop_assert!(octets + 21 > params.max_message_len());
            return Ok(());
        }
        let routes = with_ids(prefixes, &params);
        let mut out = BytesMut::new();
        let count = block.unwrap().pack(&routes, &mut out).unwrap();
        let updates = read_all(&out, &params);
        prop_assert_eq!(updates.len(), count);
        let mut read = Vec::new();
        for update in updates {
            prop_assert_eq!(&update.verdicts, &vec![]);
            if params.four_octet_as {
                prop_assert_eq!(update.attributes.as_deref(), Some(&set));
            }
            prop_assert_eq!(update.reach[0].next_hop, next_hop);
            read.extend_from_slice(&update.reach[0].nlri);
        }
        prop_assert_eq!(read, routes);
    }

    #[test]
    fn paths_without_confederation_survive_two_octet_sessions(
        segments in vec((any::<bool>(), vec(asn(), 1..100)), 0..4),
    ) {
        let mut as_path = AsPath::new();
        for (is_set, asns) in segments {
            as_path.push(if is_set { SegmentKind::Set } else { SegmentKind::Sequence }, &asns);
        }
        let builder = AttributesBuilder { as_path: as_path.clone(), ..AttributesBuilder::default() };
        let params = Params { extended_message: true, ..Params::default() };
        let next_hop = NextHop::V4([192, 0, 2, 1].into());
        let family = Family::IPV4_UNICAST;
        let set = builder.build().unwrap();
        let block = ReachBlock::new(&set, next_hop, family, &params).unwrap();
        let mut out = BytesMut::new();
        block.pack(&[Nlri::from(Prefix::new([10, 0, 0, 0], 8).unwrap())], &mut out).unwrap();
        let updates = read_all(&out, &params);
        prop_assert_eq!(updates[0].attributes.as_ref().unwrap().as_path().to_path(), as_path);
    }

    #[test]
    fn withdrawals_read_back(
        params in params(),
        prefixes in prop_oneof![vec(prefix4(), 1..2000), vec(prefix6(), 1..1000)],
    ) {
        let family = prefixes[0].family();
        let routes = with_ids(prefixes, &params);
        let mut out = BytesMut::new();
        let count = pack_unreach(family, &routes, &params, &mut out).unwrap();
        let updates = read_all(&out, &params);
        prop_assert_eq!(updates.len(), count);
        let read: Vec<Nlri> = updates.into_iter().flat_map(|mut update| update.unreach.remove(0).nlri).collect();
        prop_assert_eq!(read, routes);
    }

    #[test]
    fn small_updates_read_back_whole(
        builder in builder(),
        params in params(),
        gone in vec(prefix6(), 1..5),
        come in vec(prefix4(), 1..5),
    ) {
        let params = Params { extended_message: true, four_octet_as: true, ..params };
        let unreach = Unreach { family: Family::IPV6_UNICAST, nlri: with_ids(gone, &params) };
        let reach = Reach {
            family: Family::IPV4_UNICAST,
            next_hop: NextHop::V4([192, 0, 2, 1].into()),
            nlri: with_ids(come, &params),
        };
        let update = Update {
            unreach: vec![unreach],
            reach: vec![reach],
            attributes: Some(Arc::new(builder.build().unwrap())),
            verdicts: vec![],
        };
        let mut out = BytesMut::new();
        Message::Update(update.clone()).encode(&params, &mut out).unwrap();
        let [first, second] = <[Update; 2]>::try_from(read_all(&out, &params)).unwrap();
        prop_assert_eq!((first.unreach, first.reach), (update.unreach, vec![]));
        prop_assert_eq!((second.unreach, second.reach), (vec![], update.reach));
        prop_assert_eq!(second.attributes, update.attributes);
    }

    #[test]
    fn prefixes_read_back_from_text(prefix in prop_oneof![prefix4(), prefix6()]) {
        prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
        prop_assert!(prefix.contains(prefix.addr()));
    }

    #[test]
    fn any_octets_are_a_message_or_an_error(body in vec(any::<u8>(), 0..200), kind in 0..7_u8, params in params()) {
        let mut message = vec![0xff; 16];
        message.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
        message.push(kind);
        message.extend(body);
        let _ = decode(&message, &params);
    }
}
