//! UPDATE: where routes stand, and how they are packed.

use std::sync::Arc;

use bgp_wire::{
    AsPath, Attributes, AttributesBuilder, EncodeError, Family, FamilyParams, Message, NextHop,
    Nlri, Params, Prefix4, Reach, ReachBlock, Unreach, Update, decode, header, pack_end_of_rib,
    pack_unreach,
};
use bytes::BytesMut;

use crate::both_ways;
use crate::build::{MANDATORY, NO_NEXT_HOP, ROUTE, hex, params, prefix, read, update};

fn attributes() -> Arc<Attributes> {
    let builder = AttributesBuilder {
        as_path: AsPath::sequence(&[64497]),
        ..Attributes::builder()
    };
    Arc::new(builder.build().unwrap())
}

fn reach(next_hop: NextHop, routes: &[&str]) -> Update {
    Update {
        reach: vec![Reach {
            family: prefix(routes[0]).family(),
            next_hop,
            nlri: routes.iter().map(|text| prefix(text).into()).collect(),
        }],
        attributes: Some(attributes()),
        ..Update::default()
    }
}

fn v6(global: &str, link_local: Option<&str>) -> NextHop {
    NextHop::V6 {
        global: global.parse().unwrap(),
        link_local: link_local.map(|addr| addr.parse().unwrap()),
    }
}

#[test]
fn ipv4_routes_of_every_length() {
    let routes = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "198.51.100.0/24",
        "192.0.2.7/32",
    ];
    let message = update("", MANDATORY, "00 080a 0cac10 18c63364 20c0000207");
    let expected = reach(NextHop::V4([192, 0, 2, 1].into()), &routes);
    both_ways(&message, &Message::Update(expected), &params());
}

#[test]
fn ipv4_withdrawal() {
    let message = update("18c63364 20c0000207", "", "");
    let expected = Update {
        unreach: vec![Unreach {
            family: Family::IPV4_UNICAST,
            nlri: vec![
                prefix("198.51.100.0/24").into(),
                prefix("192.0.2.7/32").into(),
            ],
        }],
        ..Update::default()
    };
    both_ways(&message, &Message::Update(expected), &params());
}

#[test]
fn host_bits_are_cleared() {
    let update = read(&update("", MANDATORY, "09 0aff"), &params());
    assert_eq!(update.reach[0].nlri[0].prefix, prefix("10.128.0.0/9"));
}

#[test]
fn ipv6_routes() {
    let message = update(
        "",
        &format!(
            "900e001d 0002 01 10 20010db8000000000000000000000001 00 00 3020010db80001 {NO_NEXT_HOP}"
        ),
        "",
    );
    let expected = reach(v6("2001:db8::1", None), &["::/0", "2001:db8:1::/48"]);
    both_ways(&message, &Message::Update(expected), &params());
}

#[test]
fn ipv6_routes_with_a_link_local_next_hop() {
    let message = update(
        "",
        &format!(
            "900e0026 0002 01 20 20010db8000000000000000000000001 fe800000000000000000000000000001 00 00 {NO_NEXT_HOP}"
        ),
        "",
    );
    let expected = reach(v6("2001:db8::1", Some("fe80::1")), &["::/0"]);
    both_ways(&message, &Message::Update(expected.clone()), &params());
    assert_eq!(
        expected.reach[0].next_hop.to_string(),
        "2001:db8::1 (fe80::1)"
    );
}

#[test]
fn ipv6_withdrawal() {
    let message = update("", "900f000a 0002 01 3020010db80001", "");
    let expected = Update {
        unreach: vec![Unreach {
            family: Family::IPV6_UNICAST,
            nlri: vec![prefix("2001:db8:1::/48").into()],
        }],
        ..Update::default()
    };
    both_ways(&message, &Message::Update(expected), &params());
}

#[test]
fn end_of_rib() {
    let v4 = update("", "", "");
    let v6 = update("", "800f03 0002 01", "");
    assert_eq!(v4.len(), 23);
    for (bytes, family) in [(v4, Family::IPV4_UNICAST), (v6, Family::IPV6_UNICAST)] {
        let mark = Update::end_of_rib(family);
        assert_eq!(mark.as_end_of_rib(), Some(family));
        both_ways(&bytes, &Message::Update(mark), &params());
        let mut out = BytesMut::new();
        pack_end_of_rib(family, &mut out);
        assert_eq!(out, bytes);
    }
    // IPv4 in the attribute means the same.
    let update = read(&update("", "800f03 0001 01", ""), &params());
    assert_eq!(update.as_end_of_rib(), Some(Family::IPV4_UNICAST));
}

#[test]
fn a_withdrawal_or_an_empty_announcement_is_no_end_of_rib() {
    for (withdrawn, attributes) in [
        (ROUTE, ""),
        (ROUTE, "800f03 0002 01"),
        ("", MANDATORY),
        ("", "800f03 0002 01 40010100"),
    ] {
        let update = read(&update(withdrawn, attributes, ""), &params());
        assert_eq!(update.as_end_of_rib(), None, "{withdrawn} {attributes}");
        assert_eq!(update.verdicts, []);
    }
}

#[test]
fn all_four_places_in_one_message() {
    let mp_unreach = "800f0a 0002 01 3020010db80001";
    let mp_reach = "800e16 0002 01 10 20010db8000000000000000000000001 00 00";
    let attributes = format!("{MANDATORY} {mp_reach} {mp_unreach}");
    let update = read(&update("080a", &attributes, ROUTE), &params());
    assert_eq!(update.unreach[0].nlri[0].prefix, prefix("10.0.0.0/8"));
    assert_eq!(update.unreach[1].nlri[0].prefix, prefix("2001:db8:1::/48"));
    assert_eq!(update.reach[0].nlri[0].prefix, prefix("::/0"));
    assert_eq!(update.reach[1].nlri[0].prefix, prefix("198.51.100.0/24"));
    assert!(update.attributes.is_some());
    assert_eq!(update.verdicts, []);
}

#[test]
fn an_mp_reach_without_routes_says_nothing() {
    let mp_reach = "800e15 0002 01 10 20010db8000000000000000000000001 00";
    let update = read(
        &update("", &format!("{NO_NEXT_HOP} {mp_reach}"), ""),
        &params(),
    );
    assert_eq!(update, Update::default());
}

#[test]
fn ipv4_routes_with_an_ipv6_next_hop_need_rfc_8950() {
    let message = update(
        "",
        &format!("900e0019 0001 01 10 20010db8000000000000000000000001 00 18c63364 {NO_NEXT_HOP}"),
        "",
    );
    let expected = reach(v6("2001:db8::1", None), &["198.51.100.0/24"]);
    let mut extended = params();
    extended.families[0].extended_next_hop = true;
    both_ways(&message, &Message::Update(expected.clone()), &extended);
    assert!(decode(&message, &params()).is_err());
    let error = Message::Update(expected).encode(&params(), &mut BytesMut::new());
    assert!(
        matches!(error, Err(EncodeError::NextHop { .. })),
        "{error:?}"
    );
}

#[test]
fn path_identifiers_are_as_negotiated() {
    let mut add_path = params();
    add_path.families = vec![FamilyParams {
        add_path_receive: true,
        add_path_send: true,
        ..FamilyParams::plain(Family::IPV4_UNICAST)
    }];
    let message = update("00000007 18c63364", "", "");
    let expected = Update {
        unreach: vec![Unreach {
            family: Family::IPV4_UNICAST,
            nlri: vec![Nlri {
                prefix: prefix("198.51.100.0/24"),
                path_id: 7,
            }],
        }],
        ..Update::default()
    };
    both_ways(&message, &Message::Update(expected), &add_path);
    // Without them the same octets are four default routes and something else.
    let plain = read(&update("00000000 18c63364", "", ""), &params());
    assert_eq!(plain.unreach[0].nlri.len(), 5);
}

#[test]
fn families_not_in_use_are_read_over() {
    let only_v6 = Params {
        families: vec![FamilyParams::plain(Family::IPV6_UNICAST)],
        ..params()
    };
    let update4 = read(&update(ROUTE, MANDATORY, "080a"), &only_v6);
    assert_eq!(
        (update4.reach, update4.unreach, update4.attributes),
        (vec![], vec![], None)
    );
    let vpn = format!("{NO_NEXT_HOP} 800e06 0001 80 00 00 70");
    let update = read(&update("", &vpn, ""), &params());
    assert_eq!((update.reach.len(), update.verdicts.len()), (0, 1));
}

fn many(count: u32) -> Vec<Nlri> {
    let prefix = |index: u32| Prefix4::new(10 << 24 | index << 8, 24).unwrap();
    (0..count)
        .map(|index| Nlri::from(bgp_wire::Prefix::V4(prefix(index))))
        .collect()
}

fn frames(bytes: &[u8], params: &Params) -> Vec<Update> {
    let mut rest = bytes;
    let mut updates = Vec::new();
    while !rest.is_empty() {
        let len = header::frame(rest, params.max_message_len())
            .unwrap()
            .unwrap();
        updates.push(read(&rest[..len], params));
        rest = &rest[len..];
    }
    updates
}

#[test]
fn routes_are_packed_to_the_limit() {
    let routes = many(3000);
    for (extended_message, limit, expected) in [(false, 4096, 3), (true, 65_535, 1)] {
        let params = Params {
            extended_message,
            ..params()
        };
        let next_hop = NextHop::V4([192, 0, 2, 1].into());
        let block =
            ReachBlock::new(&attributes(), next_hop, Family::IPV4_UNICAST, &params).unwrap();
        let mut out = BytesMut::new();
        assert_eq!(block.pack(&routes, &mut out), Ok(expected));
        let updates = frames(&out, &params);
        let read: Vec<Nlri> = updates
            .iter()
            .flat_map(|update| &update.reach[0].nlri)
            .copied()
            .collect();
        assert_eq!(read, routes);
        if expected > 1 {
            let len = header::frame(&out, limit).unwrap().unwrap();
            assert!(
                len > limit - 4,
                "{len} octets leave room for one more route"
            );
        }
        out.clear();
        assert_eq!(
            pack_unreach(Family::IPV4_UNICAST, &routes, &params, &mut out),
            Ok(expected)
        );
        let updates = frames(&out, &params);
        let read: Vec<Nlri> = updates
            .iter()
            .flat_map(|update| &update.unreach[0].nlri)
            .copied()
            .collect();
        assert_eq!(read, routes);
    }
}

#[test]
fn a_message_of_65535_octets() {
    let params = Params {
        extended_message: true,
        ..params()
    };
    // 65,535 - 23 octets: 16,377 /24s and one /16, /8 and default route more.
    let mut nlri = many(16_376);
    nlri.extend(
        ["10.0.0.0/16", "10.0.0.0/16", "0.0.0.0/0", "0.0.0.0/0"]
            .map(|text| Nlri::from(prefix(text))),
    );
    let mut out = BytesMut::new();
    assert_eq!(
        pack_unreach(Family::IPV4_UNICAST, &nlri, &params, &mut out),
        Ok(1)
    );
    assert_eq!(out.len(), 65_535);
    assert_eq!(read(&out, &params).unreach[0].nlri, nlri);
}

#[test]
fn routes_of_another_family_are_refused() {
    let family = Family::IPV6_UNICAST;
    let block = ReachBlock::new(&attributes(), v6("2001:db8::1", None), family, &params()).unwrap();
    let mut out = BytesMut::new();
    let error = Err(EncodeError::WrongFamily { family });
    assert_eq!(block.pack(&many(1), &mut out), error);
    assert_eq!(pack_unreach(family, &many(1), &params(), &mut out), error);
    let foreign = Family::new(25, 70);
    let refused = ReachBlock::new(&attributes(), v6("2001:db8::1", None), foreign, &params());
    assert_eq!(refused, Err(EncodeError::WrongFamily { family: foreign }));
    assert!(out.is_empty());
}

#[test]
fn attributes_without_room_for_a_route_are_refused() {
    let mut builder = attributes().to_builder();
    builder.as_path = AsPath::sequence(&vec![64497; 1012]);
    let attributes = builder.build().unwrap();
    let next_hop = NextHop::V4([192, 0, 2, 1].into());
    let block = ReachBlock::new(&attributes, next_hop, Family::IPV4_UNICAST, &params());
    assert!(
        matches!(block, Err(EncodeError::AttributesTooLong { .. })),
        "{block:?}"
    );
    let extended = Params {
        extended_message: true,
        ..params()
    };
    assert!(ReachBlock::new(&attributes, next_hop, Family::IPV4_UNICAST, &extended).is_ok());
}

#[test]
fn the_three_parts_must_fit_the_message() {
    use crate::build::{message, told};
    for body in [
        "0001 0000",
        "0000 0001",
        "ffff 0000",
        "0004 18c633 64",
        "0000 0005 40010100",
    ] {
        assert_eq!(
            told(&message(2, &hex(body)), &params()),
            (3, 1, vec![]),
            "{body}"
        );
    }
}
