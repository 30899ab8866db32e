//! One test for each class of fault that has taken BGP speakers down, named after what it was.
//!
//! None of these messages may end the process; which of them may end the session is what RFC 7606 says.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use bgp_wire::attribute::AttributeType;
use bgp_wire::{AsPath, AttributesBuilder, Disposition, Message, Notification, Params, decode};

#[path = "build/message.rs"]
mod build;

use build::{
    MANDATORY, NO_NEXT_HOP, ROUTE, attribute, hex, internal, message, params, read, told, update,
    update_of,
};

const FIXED: &str = "04 fbf0 00f0 c0000201";

/// Optional parameters and capabilities whose lengths lie, and capabilities with nothing inside.
#[test]
fn open_parameter_and_capability_lengths() {
    // Every cut of an OPEN with every capability in it, with the message length put right each time.
    let whole = hex(&format!(
        "{FIXED} 3f 023d 0104 00010001 0200 0506 0001 0001 0002 0901 03 400a c078 00010180 00020100
         4104 0000fbf0 4508 00010103 00020101 4707 000101 80 000e10 4b03 026869"
    ));
    assert!(decode(&message(1, &whole), &Params::default()).is_ok());
    for len in 10..whole.len() {
        let mut cut = whole[..len].to_vec();
        assert_eq!(
            told(&message(1, &cut), &Params::default()).0,
            2,
            "cut to {len}"
        );
        // With the parameter lengths put right as well, only a capability can be cut.
        if len > 12 {
            cut[9] = u8::try_from(len - 10).unwrap();
            cut[11] = u8::try_from(len - 12).unwrap();
            match decode(&message(1, &cut), &Params::default()) {
                Ok(Message::Open(open)) => assert_eq!(open.asn, 64496),
                other => assert_eq!(other.unwrap_err().notification().code, 2, "cut to {len}"),
            }
        }
    }
    // Every capability code with every short length, among them LLGR, ORF (3), FQDN (73) and software version (75).
    for code in 0..=255 {
        for len in 0..=8 {
            let capability = [&[code, len][..], &vec![0xff; len.into()]].concat();
            let parameter = [&[len + 4, 2, len + 2][..], &capability].concat();
            let open = message(1, &[hex(FIXED), parameter].concat());
            let is_as_number = code == 65 && len != 4;
            assert_eq!(
                decode(&open, &Params::default()).is_err(),
                is_as_number,
                "{code} {len}"
            );
        }
    }
}

/// Routes with no attributes at all, or without the mandatory ones, or next to attributes of no length.
#[test]
fn missing_mandatory_attributes_and_zero_lengths() {
    for attributes in ["", "40010100", "c00804fbf00064", "40010100 400304c0000201"] {
        let update = read(&update("", attributes, ROUTE), &params());
        assert!(update.is_treated_as_withdraw(), "{attributes}");
        assert_eq!(update.verdicts[0].subcode, 3, "{attributes}");
        assert_eq!((update.unreach.len(), update.reach.len()), (1, 0));
    }
    for kind in 0..=255 {
        for flags in [0x00, 0x40, 0x80, 0xc0, 0xd0] {
            let empty = [flags, kind, 0, 0];
            let len = if flags & 0x10 == 0 { 3 } else { 4 };
            let attributes = [hex(MANDATORY), empty[..len].to_vec()].concat();
            let result = decode(&update_of(&[], &attributes, &hex(ROUTE)), &params());
            let is_mp = kind == 14 || kind == 15;
            assert_eq!(result.is_err(), is_mp, "type {kind}, flags {flags:#x}");
        }
    }
}

/// Every attribute with every length around its own: index, underflow, overflow.
#[test]
fn attribute_length_against_type() {
    for kind in 0..=255 {
        for len in 0..=64 {
            let flags = match kind {
                1..=3 | 5 | 6 => 0x40,
                4 | 9 | 10 | 14 | 15 => 0x80,
                _ => 0xc0,
            };
            for fill in [0x00, 0x01, 0xff] {
                let attributes =
                    [attribute(flags, kind, &vec![fill; len]), hex(MANDATORY)].concat();
                let result = decode(&update_of(&[], &attributes, &hex(ROUTE)), &internal());
                if kind != 14 && kind != 15 {
                    assert!(
                        result.is_ok(),
                        "type {kind}, {len} octets of {fill}: {result:?}"
                    );
                }
            }
        }
    }
    // The attribute length reaches beyond the field, the message, and back to its start.
    for attributes in ["4001ff00", "5001ffff00", "5001fffc", "500100", "50"] {
        let update = read(&update("", attributes, ROUTE), &params());
        assert!(update.is_treated_as_withdraw(), "{attributes}");
    }
}

/// AS4_PATH before AS_PATH, or without it.
#[test]
fn attribute_order_and_as4_merge() {
    let two_octet = Params {
        four_octet_as: false,
        ..params()
    };
    let attributes = "c01106 0201 fa56ea01 c01208 fa56ea01 c0000209 40010100 400304c0000201";
    let without = read(&update("", attributes, ROUTE), &two_octet);
    assert_eq!(without.verdicts[0].attribute, AttributeType::AS_PATH);
    let with = read(
        &update("", &format!("{attributes} 4002040201 5ba0"), ROUTE),
        &two_octet,
    );
    assert_eq!(with.attributes.unwrap().as_path().to_string(), "4200000001");
}

/// A type nobody knows that claims to be well-known.
#[test]
fn unknown_well_known_attribute() {
    for kind in (0..=255).filter(|&kind| kind == 0 || kind > 40) {
        let attributes = [hex(MANDATORY), attribute(0x40, kind, &[1])].concat();
        let update = read(&update_of(&[], &attributes, &hex(ROUTE)), &params());
        let verdict = &update.verdicts[0];
        assert_eq!(
            (verdict.disposition, verdict.subcode),
            (Disposition::Withdraw, 2),
            "{kind}"
        );
    }
}

/// Attributes that travel through speakers which do not read them, and reset the sessions of those which do.
#[test]
fn poison_attributes_reset_nothing() {
    // ATTR_SET, AIGP, tunnel encapsulation, BGP-LS, prefix SID, OTC, 255, each with garbage inside.
    for kind in [128, 26, 23, 29, 40, 35, 255, 22, 33, 34, 36, 37] {
        for value in [vec![], vec![0], vec![0xff; 3], vec![0; 4], vec![0xff; 300]] {
            for flags in [0x80, 0xc0, 0xe0] {
                let attributes = [hex(MANDATORY), attribute(flags, kind, &value)].concat();
                let update = read(&update_of(&[], &attributes, &hex(ROUTE)), &params());
                assert_eq!(update.reach.len() + update.unreach.len(), 1);
                assert_eq!(
                    update.is_treated_as_withdraw(),
                    kind == 35 && (value.len() != 4 || flags == 0x80)
                );
            }
        }
    }
}

/// NLRI of families that are labelled or flow specifications, and prefixes with impossible lengths.
#[test]
fn foreign_and_impossible_nlri() {
    for (afi, safi) in [
        ("0001", "04"),
        ("0001", "80"),
        ("0001", "85"),
        ("0019", "46"),
        ("4004", "47"),
        ("0002", "02"),
    ] {
        for rest in ["", "00", "ff", "04c0000201 00 ff", "00 00 f0 01 03 ffffff"] {
            for (kind, attributes) in [(14, NO_NEXT_HOP), (15, "")] {
                let value = hex(&format!("{afi} {safi} {rest}"));
                let attributes = [hex(attributes), attribute(0x80, kind, &value)].concat();
                let update = read(&update_of(&[], &attributes, &[]), &params());
                assert_eq!((update.reach.len(), update.unreach.len()), (0, 0));
                assert_eq!(update.verdicts[0].disposition, Disposition::Discard);
            }
        }
    }
    for len in 33..=255 {
        let nlri = [&[len][..], &[0; 32]].concat();
        assert_eq!(
            told(&update_of(&[], &hex(MANDATORY), &nlri), &params()).1,
            10,
            "{len}"
        );
        assert_eq!(told(&update_of(&nlri, &[], &[]), &params()).1, 10, "{len}");
    }
}

/// Texts and data of NOTIFICATIONs that claim more than is there, in both directions.
#[test]
fn shutdown_text_and_notification_data() {
    for (data, text) in [
        ("", None),
        ("00", None),
        ("ff", None),
        ("8061", None),
        ("026869", Some("hi")),
        ("026869ffff", Some("hi")),
    ] {
        let bytes = message(3, &hex(&format!("0602{data}")));
        let Ok(Message::Notification(notification)) = decode(&bytes, &params()) else {
            panic!("{data}")
        };
        assert_eq!(notification.text().as_deref(), text, "{data}");
    }
    // What goes back to the peer is what came from it, and no octet more.
    let attributes = [hex(NO_NEXT_HOP), attribute(0x80, 14, &[0xaa; 10])].concat();
    let params = Params {
        families: vec![bgp_wire::FamilyParams::plain(bgp_wire::Family::new(
            0xaaaa, 0xaa,
        ))],
        ..params()
    };
    let update = read(&update_of(&[], &attributes, &[]), &params);
    assert_eq!(update.verdicts[0].data, attribute(0x80, 14, &[0xaa; 10]));
    let long = Notification {
        code: 3,
        subcode: 9,
        data: vec![0; 70_000],
    };
    for (extended_message, len) in [(false, 4096), (true, 65_535)] {
        let params = Params {
            extended_message,
            ..Params::default()
        };
        let mut out = bytes::BytesMut::new();
        Message::Notification(long.clone())
            .encode(&params, &mut out)
            .unwrap();
        assert_eq!(out.len(), len);
    }
}

/// Paths of 16,000 AS numbers, as extended messages make possible.
#[test]
fn long_as_paths() {
    let params = Params {
        extended_message: true,
        ..params()
    };
    let builder = AttributesBuilder {
        as_path: AsPath::sequence(&vec![64497; 16_000]),
        ..AttributesBuilder::default()
    };
    let attributes = [builder.build().unwrap().wire(), &hex("400304c0000201")].concat();
    let set = read(&update_of(&[], &attributes, &hex(ROUTE)), &params)
        .attributes
        .unwrap();
    assert_eq!(set.hops(), 16_000);
    assert!(!set.as_path().contains(64496));
    assert_eq!(set.as_path().to_string().len(), 16_000 * 6 - 1);
    // One AS number per segment.
    let path = [2, 1, 0, 0, 0xfb, 0xf1].repeat(10_000);
    let attributes = [hex("40010100 400304c0000201"), attribute(0x40, 2, &path)].concat();
    let set = read(&update_of(&[], &attributes, &hex(ROUTE)), &params)
        .attributes
        .unwrap();
    assert_eq!(set.hops(), 10_000);
}

/// Messages of types that are not negotiated, dynamic capability among them.
#[test]
fn messages_nobody_asked_for() {
    for kind in [0, 6, 7, 127, 255] {
        assert_eq!(told(&message(kind, &[0; 8]), &params()), (1, 3, vec![kind]));
    }
}

/// Messages made to grow in memory: one octet per route, three octets per attribute.
#[test]
fn small_on_the_wire_stays_small() {
    let params = Params {
        extended_message: true,
        ..params()
    };
    let update = read(&update_of(&[], &hex(MANDATORY), &[0; 65_000]), &params);
    assert_eq!(update.reach[0].nlri.len(), 65_000);
    assert!(update.reach[0].nlri.capacity() < 140_000);
    let attributes = [[0xc0, 8, 0], [0xc0, 99, 0]].concat().repeat(10_000);
    let update = read(&update_of(&[], &attributes, &hex(ROUTE)), &params);
    assert!(update.verdicts.len() <= bgp_wire::MAX_VERDICTS);
}

/// Outbound route filters, and the other capability codes of old drafts, nested and cut.
#[test]
fn outbound_route_filter_capabilities() {
    let orf = hex("0001 00 01 02 40 03 80 01");
    for code in [3, 130] {
        for len in 0..=orf.len() {
            for count in [0, 1, 2, 255] {
                let mut value = orf[..len].to_vec();
                if let Some(entries) = value.get_mut(4) {
                    *entries = count;
                }
                let len = u8::try_from(value.len()).unwrap();
                let parameter = [&[len + 4, 2, len + 2, code, len][..], &value].concat();
                let open = message(1, &[hex(FIXED), parameter].concat());
                let decoded = decode(&open, &Params::default()).unwrap();
                let Message::Open(open) = decoded else {
                    panic!("{decoded:?}");
                };
                // Kept as it came, for people, and offered to nobody.
                assert_eq!(open.capabilities.len(), 1);
            }
        }
    }
}

/// Segments of 255 AS numbers, which have no room for one more.
#[test]
fn full_as_path_segments() {
    let params = Params {
        extended_message: true,
        ..params()
    };
    let segment = [&[2, 255][..], &hex("0000fbf1").repeat(255)].concat();
    for segments in [1, 2, 60] {
        let path = segment.repeat(segments);
        let attributes = [hex("40010100 400304c0000201"), attribute(0x40, 2, &path)].concat();
        let update = read(&update_of(&[], &attributes, &hex(ROUTE)), &params);
        let set = update.attributes.unwrap();
        assert_eq!(set.hops(), 255 * segments as u32);
        let mut longer = set.to_builder();
        longer.as_path.prepend(64496, 3);
        let longer = longer.build().unwrap();
        assert_eq!(longer.hops(), 255 * segments as u32 + 3);
        let text = longer.as_path().to_string();
        assert!(text.starts_with("64496 64496 64496 64497 64497"), "{text}");
    }
    // A segment that claims one more than there is.
    let mut cut = segment;
    cut.truncate(2 + 254 * 4);
    let attributes = [hex("40010100 400304c0000201"), attribute(0x40, 2, &cut)].concat();
    let update = read(&update_of(&[], &attributes, &hex(ROUTE)), &params);
    assert_eq!(update.verdicts[0].disposition, Disposition::Withdraw);
}

/// Attributes nobody here reads travel on as they came, marked Partial (RFC 4271 §5).
#[test]
fn unknown_transitive_attributes_travel_on() {
    let value: Vec<u8> = (0..=255).cycle().take(600).collect();
    let attributes = [hex(MANDATORY), attribute(0xc0, 99, &value)].concat();
    let update = read(&update_of(&[], &attributes, &hex(ROUTE)), &params());
    assert_eq!(update.verdicts, []);
    let wire = update.attributes.unwrap().to_builder().build().unwrap();
    let expected = [&[0xf0, 99, 2, 88][..], &value].concat();
    let found = wire.wire().windows(expected.len()).any(|w| w == expected);
    assert!(found, "{:?}", wire.wire());
}

/// The longest messages there are, and those one octet longer than negotiated.
#[test]
fn messages_of_every_length_to_the_longest() {
    let extended = Params {
        extended_message: true,
        ..params()
    };
    // 19 octets of header, 4 of lengths, 20 of attributes.
    let routes = |octets: usize| {
        let nlri = hex(ROUTE).repeat((octets - 43) / 4);
        let rest = vec![0; (octets - 43) % 4];
        update_of(&[], &hex(MANDATORY), &[nlri, rest].concat())
    };
    let longest = routes(65_535);
    assert_eq!(longest.len(), 65_535);
    assert_eq!(read(&longest, &extended).reach[0].nlri.len(), 16_373);
    assert_eq!(told(&routes(4097), &params()), (1, 2, vec![0x10, 0x01]));
    assert_eq!(read(&routes(4096), &params()).reach.len(), 1);
    assert_eq!(told(&longest, &params()).0, 1);
    // RFC 8654 §4: OPEN and KEEPALIVE stay short.
    let open = message(1, &[hex(FIXED), vec![0xff; 4096]].concat());
    assert_eq!(told(&open, &extended), (1, 2, vec![0x10, 0x1c]));
}
