//! KEEPALIVE, NOTIFICATION and ROUTE-REFRESH.

use bgp_wire::{Family, Message, Notification, Params, RefreshSubtype, RouteRefresh, decode};

use crate::both_ways;
use crate::build::{hex, message, params, told};

#[test]
fn keepalive() {
    both_ways(&message(4, &[]), &Message::Keepalive, &Params::default());
}

#[test]
fn notification() {
    let bytes = message(3, &hex("0302 c8ff00"));
    let notification = Notification {
        code: 3,
        subcode: 2,
        data: hex("c8ff00"),
    };
    both_ways(
        &bytes,
        &Message::Notification(notification),
        &Params::default(),
    );
}

#[test]
fn shutdown_communication() {
    let bytes = message(3, &[&hex("0602 07")[..], b"drained"].concat());
    let notification = Notification::administrative_shutdown("drained");
    both_ways(
        &bytes,
        &Message::Notification(notification),
        &Params::default(),
    );
}

#[test]
fn route_refresh_with_and_without_demarcation() {
    let enhanced = Params {
        enhanced_route_refresh: true,
        ..params()
    };
    let subtypes = [
        ("00", RefreshSubtype::Request),
        ("01", RefreshSubtype::BeginningOfRib),
        ("02", RefreshSubtype::EndOfRib),
        ("ff", RefreshSubtype::Unknown(255)),
    ];
    for (octet, subtype) in subtypes {
        let bytes = message(5, &hex(&format!("0002 {octet} 01")));
        let family = Family::IPV6_UNICAST;
        both_ways(
            &bytes,
            &Message::RouteRefresh(RouteRefresh { family, subtype }),
            &enhanced,
        );
        // Without RFC 7313 the octet is reserved and says nothing.
        let subtype = RefreshSubtype::Request;
        let plain = Message::RouteRefresh(RouteRefresh { family, subtype });
        assert_eq!(decode(&bytes, &params()), Ok(plain));
    }
}

#[test]
fn demarcation_of_the_wrong_length_is_sent_back() {
    let enhanced = Params {
        enhanced_route_refresh: true,
        ..params()
    };
    let bytes = message(5, &hex("0001 01 01 00"));
    assert_eq!(told(&bytes, &enhanced), (7, 1, bytes.clone()));
}

#[test]
fn outbound_filters_behind_a_request_are_read_over() {
    let bytes = message(5, &hex("0001 00 01 01 40 0001 80"));
    let (family, subtype) = (Family::IPV4_UNICAST, RefreshSubtype::Request);
    let refresh = Message::RouteRefresh(RouteRefresh { family, subtype });
    assert_eq!(decode(&bytes, &params()), Ok(refresh));
}
