//! Every fault of a path attribute, with the disposition and subcode RFC 7606 and RFC 4271 §6.3 give it.

use bgp_wire::attribute::AttributeType;
use bgp_wire::{Disposition, MAX_VERDICTS, Params};

use crate::build::{
    MANDATORY, MP_REACH, NO_NEXT_HOP, ROUTE, attribute, hex, internal, params, prefix,
};
use crate::build::{read, told, update, update_of};

/// Reads 198.51.100.0/24 with these attributes and checks that what was done fits the verdict.
fn verdict(attributes: &str, params: &Params) -> (u8, Disposition, u8) {
    let update = read(&update("", attributes, ROUTE), params);
    assert_eq!(
        update.verdicts.len(),
        1,
        "{attributes}: {:?}",
        update.verdicts
    );
    let verdict = &update.verdicts[0];
    let route = [prefix("198.51.100.0/24").into()];
    if verdict.disposition == Disposition::Withdraw {
        assert_eq!(update.unreach[0].nlri, route, "{attributes}");
        assert!(
            update.reach.is_empty() && update.attributes.is_none(),
            "{attributes}"
        );
    } else {
        assert_eq!(update.reach[0].nlri, route, "{attributes}");
        assert!(update.attributes.is_some(), "{attributes}");
    }
    (verdict.attribute.0, verdict.disposition, verdict.subcode)
}

const ORIGIN: &str = "40010100";
const AS_PATH: &str = "40020602010000fbf1";
const NEXT_HOP: &str = "400304c0000201";

#[test]
fn mandatory_attributes() {
    use Disposition::Withdraw;
    for (origin, as_path, next_hop, expected) in [
        ("", AS_PATH, NEXT_HOP, (1, 3)),
        ("400100", AS_PATH, NEXT_HOP, (1, 5)),
        ("4001020000", AS_PATH, NEXT_HOP, (1, 5)),
        ("40010103", AS_PATH, NEXT_HOP, (1, 6)),
        ("c0010100", AS_PATH, NEXT_HOP, (1, 4)),
        ("00010100", AS_PATH, NEXT_HOP, (1, 4)),
        (ORIGIN, "", NEXT_HOP, (2, 3)),
        (ORIGIN, "40020102", NEXT_HOP, (2, 11)),
        (ORIGIN, "4002020200", NEXT_HOP, (2, 11)),
        (ORIGIN, "40020605010000fbf1", NEXT_HOP, (2, 11)),
        (ORIGIN, "40020600010000fbf1", NEXT_HOP, (2, 11)),
        (ORIGIN, "40020602020000fbf1", NEXT_HOP, (2, 11)),
        (ORIGIN, "40020702010000fbf102", NEXT_HOP, (2, 11)),
        (ORIGIN, "400204 0201fbf1", NEXT_HOP, (2, 11)),
        (ORIGIN, "4002060201 00000000", NEXT_HOP, (2, 11)),
        (ORIGIN, "80020602010000fbf1", NEXT_HOP, (2, 4)),
        (ORIGIN, AS_PATH, "", (3, 3)),
        (ORIGIN, AS_PATH, "400300", (3, 5)),
        (ORIGIN, AS_PATH, "400303c00002", (3, 5)),
        (
            ORIGIN,
            AS_PATH,
            "400310 20010db8000000000000000000000001",
            (3, 5),
        ),
        (ORIGIN, AS_PATH, "40030400000000", (3, 8)),
        (ORIGIN, AS_PATH, "4003047f000001", (3, 8)),
        (ORIGIN, AS_PATH, "400304e0000005", (3, 8)),
        (ORIGIN, AS_PATH, "400304ffffffff", (3, 8)),
        (ORIGIN, AS_PATH, "c00304c0000201", (3, 4)),
    ] {
        let attributes = format!("{origin} {as_path} {next_hop}");
        let (kind, subcode) = expected;
        assert_eq!(
            verdict(&attributes, &params()),
            (kind, Withdraw, subcode),
            "{attributes}"
        );
    }
}

#[test]
fn optional_attributes() {
    use Disposition::{Discard, Withdraw};
    for (fault, expected) in [
        ("800400", (4, Withdraw, 5)),
        ("80040300000a", (4, Withdraw, 5)),
        ("c004040000000a", (4, Withdraw, 4)),
        ("400500", (5, Withdraw, 5)),
        ("40050500000000 0a", (5, Withdraw, 5)),
        ("800504000000 0a", (5, Withdraw, 4)),
        ("40060100", (6, Discard, 5)),
        ("c00600", (6, Discard, 4)),
        ("c00700", (7, Discard, 5)),
        ("c00706 fbf1 c0000201", (7, Discard, 5)),
        ("c00708 00000000 c0000201", (7, Discard, 9)),
        ("400708 0000fbf1 c0000201", (7, Discard, 4)),
        ("c00800", (8, Withdraw, 5)),
        ("c00803 fbf000", (8, Withdraw, 5)),
        ("800804 fbf00064", (8, Withdraw, 4)),
        ("800900", (9, Withdraw, 5)),
        ("800903 c00002", (9, Withdraw, 5)),
        ("c00904 c0000201", (9, Withdraw, 4)),
        ("800a00", (10, Withdraw, 5)),
        ("800a05 c0000201 c0", (10, Withdraw, 5)),
        ("c01000", (16, Withdraw, 5)),
        ("c01007 0002fbf0000000", (16, Withdraw, 5)),
        ("c01106 0201 0000fbf1", (17, Discard, 9)),
        ("c01208 0000fbf1 c0000201", (18, Discard, 9)),
        ("401208 0000fbf1 c0000201", (18, Discard, 4)),
        ("c01900", (25, Withdraw, 5)),
        ("c01908 0002fbf000000064", (25, Withdraw, 5)),
        ("c02000", (32, Withdraw, 5)),
        ("c0200b 0000fbf0 00000001 000000", (32, Withdraw, 5)),
        ("c02300", (35, Withdraw, 5)),
        ("c02303 00fbf0", (35, Withdraw, 5)),
        // Well-known by its flags, but not to us.
        ("40630101", (99, Withdraw, 2)),
        ("00630101", (99, Withdraw, 2)),
    ] {
        let attributes = format!("{MANDATORY} {fault}");
        assert_eq!(verdict(&attributes, &internal()), expected, "{fault}");
    }
}

#[test]
fn as4_attributes_never_cost_a_route() {
    let two_octet = Params {
        four_octet_as: false,
        ..params()
    };
    for (fault, kind, subcode) in [
        ("c01100", 17, 9),
        ("c01104 0201 fbf1", 17, 9),
        ("c01106 0901 0000fbf1", 17, 9),
        ("c01106 0201 00000000", 17, 9),
        ("801106 0201 0000fbf1", 17, 4),
        ("c01206 fbf1 c0000201", 18, 5),
        ("c01208 00000000 c0000201", 18, 9),
    ] {
        let attributes = format!("{ORIGIN} 4002040201fbf1 {NEXT_HOP} {fault}");
        let expected = (kind, Disposition::Discard, subcode);
        assert_eq!(verdict(&attributes, &two_octet), expected, "{fault}");
    }
}

#[test]
fn attributes_for_internal_peers_are_discarded_from_external_ones() {
    for (attribute, kind) in [
        ("400504000000c8", 5),
        ("400500", 5),
        ("800904c0000201", 9),
        ("800903c00002", 9),
        ("800a04c0000201", 10),
        ("800a00", 10),
    ] {
        let attributes = format!("{MANDATORY} {attribute}");
        let (actual, disposition, _) = verdict(&attributes, &params());
        assert_eq!(
            (actual, disposition),
            (kind, Disposition::Discard),
            "{attribute}"
        );
    }
}

#[test]
fn of_a_repeated_attribute_the_first_counts() {
    let attributes = format!("{MANDATORY} 80040400000001 80040400000002 80040400000003");
    let message = update("", &attributes, ROUTE);
    assert_eq!(
        verdict(&attributes, &params()),
        (4, Disposition::Discard, 1)
    );
    assert_eq!(read(&message, &params()).attributes.unwrap().med(), Some(1));
    // Unknown ones too.
    assert_eq!(
        verdict(&format!("{MANDATORY} c0630101 c0630102"), &params()),
        (99, Disposition::Discard, 1)
    );
}

#[test]
fn repeated_mp_attributes_reset_the_session() {
    for attribute in [MP_REACH, "800f0a0002013020010db80001"] {
        let attributes = format!("{NO_NEXT_HOP} {attribute} {attribute}");
        assert_eq!(
            told(&update("", &attributes, ""), &params()),
            (3, 1, vec![])
        );
    }
}

#[test]
fn attributes_that_do_not_end_withdraw() {
    for end in [
        "40",
        "4004",
        "800404000000",
        "90040004000000",
        "9004 00",
        "c0ff ff",
    ] {
        let attributes = format!("{MANDATORY} {end}");
        let (_, disposition, subcode) = verdict(&attributes, &params());
        assert_eq!((disposition, subcode), (Disposition::Withdraw, 1), "{end}");
    }
}

#[test]
fn without_announced_routes_a_fault_resets_the_session() {
    // RFC 7606 §5.2: which routes to withdraw may stand in what cannot be read.
    for (withdrawn, attributes, subcode) in [
        ("", "40010103", 6),
        (ROUTE, "40010103", 6),
        ("", "800f0a0002013020010db80001 40010103", 6),
        ("", "800e", 1),
    ] {
        let (code, actual, _) = told(&update(withdrawn, attributes, ""), &params());
        assert_eq!((code, actual), (3, subcode), "{attributes}");
    }
    // Attribute discard does not.
    let update = read(&update(ROUTE, "c00700", ""), &params());
    assert_eq!(update.verdicts[0].disposition, Disposition::Discard);
    assert_eq!(update.unreach.len(), 1);
}

#[test]
fn routes_that_cannot_be_read_reset_the_session() {
    for nlri in ["21c0000201 00", "18c633", "ff", "20c00002"] {
        assert_eq!(
            told(&update("", MANDATORY, nlri), &params()),
            (3, 10, vec![]),
            "{nlri}"
        );
        assert_eq!(
            told(&update(nlri, "", ""), &params()),
            (3, 10, vec![]),
            "{nlri}"
        );
    }
}

#[test]
fn mp_attributes_that_cannot_be_read_reset_the_session() {
    for mp in [
        "800e00",
        "800e02 0002",
        "800e03 0002 01",
        "800e04 0002 01 00",
        "800e05 0002 01 00 00",
        // The next hop is longer than the attribute, has no length of its family, or nothing follows it.
        "800e05 0002 01 10 00",
        "800e09 0002 01 04 c0000201 00",
        "800e14 0002 01 10 20010db8000000000000000000000001",
        "800e16 0002 01 11 20010db8000000000000000000000001 00 00",
        "800e1d 0002 01 18 0000000000000000 20010db8000000000000000000000001 00",
        // Prefixes longer than an address or than the attribute.
        "800e16 0002 01 10 20010db8000000000000000000000001 00 81",
        "800e17 0002 01 10 20010db8000000000000000000000001 00 30 20",
        "800f00",
        "800f02 0002",
        "800f04 0002 01 01",
        "800f04 0002 01 81",
    ] {
        let attributes = format!("{NO_NEXT_HOP} {mp}");
        let expected = (3, 9, hex(mp));
        assert_eq!(
            told(&update("", &attributes, ""), &params()),
            expected,
            "{mp}"
        );
    }
}

#[test]
fn ipv6_next_hops_that_are_no_router_withdraw() {
    for (global, link_local) in [
        ("00000000000000000000000000000000", ""),
        ("00000000000000000000000000000001", ""),
        ("ff020000000000000000000000000001", ""),
        (
            "20010db8000000000000000000000001",
            "20010db8000000000000000000000002",
        ),
    ] {
        let next_hop = hex(&format!("{global}{link_local}"));
        let mut value = hex("0002 01");
        value.push(u8::try_from(next_hop.len()).unwrap());
        value.extend(next_hop);
        value.extend(hex("00 3020010db80001"));
        let attributes = [hex(NO_NEXT_HOP), attribute(0x80, 14, &value)].concat();
        let update = read(&update_of(&[], &attributes, &[]), &params());
        assert_eq!(update.verdicts[0].subcode, 8, "{global} {link_local}");
        assert_eq!(update.unreach[0].nlri, [prefix("2001:db8:1::/48").into()]);
    }
}

#[test]
fn wrong_flags_of_mp_attributes_withdraw_their_routes() {
    let attributes = format!("{NO_NEXT_HOP} {}", MP_REACH.replacen("80", "c0", 1));
    let update = read(&update("", &attributes, ""), &params());
    assert_eq!(update.verdicts[0].subcode, 4);
    assert_eq!(update.unreach[0].nlri, [prefix("2001:db8:1::/48").into()]);
}

#[test]
fn next_hop_beside_mp_reach_is_ignored() {
    for next_hop in [NEXT_HOP, "400300", "40030400000000"] {
        let attributes = format!("{NO_NEXT_HOP} {next_hop} {MP_REACH}");
        let update = read(&update("", &attributes, ""), &params());
        assert_eq!(
            (update.verdicts, update.reach.len()),
            (vec![], 1),
            "{next_hop}"
        );
    }
}

#[test]
fn the_fault_that_decides_is_always_listed() {
    let mut attributes = hex(NO_NEXT_HOP);
    for kind in 100..200 {
        attributes.extend(attribute(0xc0, kind, &[]).repeat(2));
    }
    let update = read(&update_of(&[], &attributes, &hex(ROUTE)), &params());
    assert_eq!(update.verdicts.len(), MAX_VERDICTS);
    assert!(update.is_treated_as_withdraw());
    let last = update.verdicts.last().unwrap();
    assert_eq!(last.attribute, AttributeType::NEXT_HOP);
    assert_eq!(last.to_string(), "attribute NEXT_HOP: missing");
}
