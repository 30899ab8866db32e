//! OPEN and capabilities.

use bgp_wire::capability::{AddPathMode, GracefulRestart, LongLivedFamily, Role};
use bgp_wire::{Afi, Capability, EncodeError, Family, Message, Open, Params, decode};
use bytes::BytesMut;

use crate::build::{hex, message, told};
use crate::{both_ways, written};

/// Version 4, AS 64496, hold time 240 s, 192.0.2.1.
const FIXED: &str = "04 fbf0 00f0 c0000201";

fn open(asn: u32, capabilities: Vec<Capability>) -> Message {
    Message::Open(Open {
        asn,
        hold_time: 240,
        router_id: [192, 0, 2, 1].into(),
        capabilities,
    })
}

fn bytes(rest: &str) -> Vec<u8> {
    message(1, &hex(&format!("{FIXED} {rest}")))
}

#[test]
fn without_capabilities() {
    both_ways(&bytes("00"), &open(64496, vec![]), &Params::default());
}

#[test]
fn every_capability() {
    let capabilities = vec![
        Capability::MultiProtocol(Family::IPV4_UNICAST),
        Capability::MultiProtocol(Family::IPV6_UNICAST),
        Capability::RouteRefresh,
        Capability::ExtendedNextHop(vec![(Family::IPV4_UNICAST, Afi::IPV6)]),
        Capability::ExtendedMessage,
        Capability::Role(Role::Customer),
        Capability::GracefulRestart(GracefulRestart {
            restarting: true,
            notification: true,
            time_secs: 120,
            families: vec![(Family::IPV4_UNICAST, true), (Family::IPV6_UNICAST, false)],
        }),
        Capability::FourOctetAs(64496),
        Capability::AddPath(vec![
            (Family::IPV4_UNICAST, AddPathMode::Both),
            (Family::IPV6_UNICAST, AddPathMode::Receive),
        ]),
        Capability::EnhancedRouteRefresh,
        Capability::LongLivedGracefulRestart(vec![LongLivedFamily {
            family: Family::IPV4_UNICAST,
            forwarding: true,
            stale_secs: 3600,
        }]),
        Capability::Unknown {
            code: 73,
            data: b"\x04node\0".to_vec(),
        },
    ];
    let expected = bytes(
        "4c 02 4a
         0104 00010001  0104 00020001  0200  0506 0001 0001 0002  0600  0901 03
         400a c078 00010180 00020100  4104 0000fbf0  4508 00010103 00020101  4600
         4707 000101 80 000e10  4906 046e6f646500",
    );
    both_ways(&expected, &open(64496, capabilities), &Params::default());
}

#[test]
fn capabilities_in_several_parameters() {
    let message = bytes("0c 0206 0104 00010001 0202 0200");
    let capabilities = vec![
        Capability::MultiProtocol(Family::IPV4_UNICAST),
        Capability::RouteRefresh,
    ];
    assert_eq!(
        decode(&message, &Params::default()),
        Ok(open(64496, capabilities))
    );
}

#[test]
fn four_octet_as_stands_behind_as_trans() {
    let message = message(1, &hex("04 5ba0 00f0 c0000201 08 02 06 4104 fa56ea00"));
    let capabilities = vec![Capability::FourOctetAs(4_200_000_000)];
    both_ways(
        &message,
        &open(4_200_000_000, capabilities),
        &Params::default(),
    );
}

#[test]
fn extended_optional_parameters() {
    let long = |octet| Capability::Unknown {
        code: 200,
        data: vec![octet; 200],
    };
    let message = open(64496, vec![long(1), long(2)]);
    let bytes = written(&message, &Params::default());
    // RFC 9072: 255, 255, length of all parameters; parameter 2, its length.
    assert_eq!(bytes[28..35], hex("ff ff 0197 02 0194")[..]);
    assert_eq!(decode(&bytes, &Params::default()), Ok(message));
}

#[test]
fn extended_optional_parameters_need_not_be_long() {
    let message = bytes("ff ff 0005 02 0002 0200");
    let expected = open(64496, vec![Capability::RouteRefresh]);
    assert_eq!(decode(&message, &Params::default()), Ok(expected.clone()));
    // The first length is to be ignored, whatever it says.
    let message = bytes("09 ff 0005 02 0002 0200");
    assert_eq!(decode(&message, &Params::default()), Ok(expected));
}

#[test]
fn capabilities_of_the_wrong_shape_are_offers_not_taken() {
    for text in [
        "0103 000100",
        "0201 00",
        "0505 0001000100",
        "0506 0001 ff01 0002",
        "0601 00",
        "0900",
        "0901 05",
        "4001 00",
        "4003 007800",
        "4503 000101",
        "4504 00010100",
        "4504 00010104",
        "4601 00",
        "4706 000101800000",
    ] {
        let capability = hex(text);
        let len = capability.len();
        let message = bytes(&format!("{:02x} 02 {len:02x} {text}", len + 2));
        let unknown = Capability::Unknown {
            code: capability[0],
            data: capability[2..].to_vec(),
        };
        both_ways(&message, &open(64496, vec![unknown]), &Params::default());
    }
}

#[test]
fn foreign_families_never_kill_an_open() {
    let message = bytes("0c 02 0a 0104 00190046 4002 c078");
    let capabilities = vec![
        Capability::MultiProtocol(Family::new(25, 70)),
        Capability::GracefulRestart(GracefulRestart {
            restarting: true,
            notification: true,
            time_secs: 120,
            families: vec![],
        }),
    ];
    both_ways(&message, &open(64496, capabilities), &Params::default());
}

#[test]
fn faults_and_their_notifications() {
    for (text, expected) in [
        ("03 fbf0 00f0 c0000201 00", (2, 1, vec![0, 4])),
        ("04 0000 00f0 c0000201 00", (2, 2, vec![])),
        ("04 fbf0 0001 c0000201 00", (2, 6, vec![])),
        ("04 fbf0 0002 c0000201 00", (2, 6, vec![])),
        ("04 fbf0 00f0 00000000 00", (2, 3, vec![])),
        ("04 fbf0 00f0 c0000201 02 01 00", (2, 4, vec![])),
        // AS 0 in the capability, and a capability that cannot hold an AS number.
        (
            "04 5ba0 00f0 c0000201 08 02 06 4104 00000000",
            (2, 2, vec![]),
        ),
        ("04 fbf0 00f0 c0000201 07 02 05 4103 000001", (2, 0, vec![])),
        // Lengths that contradict each other.
        ("04 fbf0 00f0 c0000201 02", (2, 0, vec![])),
        ("04 fbf0 00f0 c0000201 00 0200", (2, 0, vec![])),
        ("04 fbf0 00f0 c0000201 01 02", (2, 0, vec![])),
        ("04 fbf0 00f0 c0000201 03 02 02 02", (2, 0, vec![])),
        ("04 fbf0 00f0 c0000201 04 02 02 02 01", (2, 0, vec![])),
        ("04 fbf0 00f0 c0000201 03 02 01 02", (2, 0, vec![])),
        ("04 fbf0 00f0 c0000201 ff ff", (2, 0, vec![])),
        ("04 fbf0 00f0 c0000201 ff ff 00", (2, 0, vec![])),
        (
            "04 fbf0 00f0 c0000201 ff ff 0004 02 0002 02",
            (2, 0, vec![]),
        ),
        ("04 fbf0 00f0 c0000201 ff ff 0002 02 00", (2, 0, vec![])),
    ] {
        assert_eq!(
            told(&message(1, &hex(text)), &Params::default()),
            expected,
            "{text}"
        );
    }
}

#[test]
fn hold_times_of_zero_and_three_are_fine() {
    for secs in ["0000", "0003", "ffff"] {
        let message = message(1, &hex(&format!("04 fbf0 {secs} c0000201 00")));
        assert!(decode(&message, &Params::default()).is_ok());
    }
}

#[test]
fn capabilities_that_do_not_fit_are_refused() {
    let long = Capability::Unknown {
        code: 200,
        data: vec![0; 256],
    };
    let many = vec![
        Capability::Unknown {
            code: 200,
            data: vec![0; 255]
        };
        16
    ];
    for capabilities in [vec![long], many] {
        let result = open(64496, capabilities).encode(&Params::default(), &mut BytesMut::new());
        assert_eq!(result, Err(EncodeError::CapabilitiesTooLong));
    }
}
