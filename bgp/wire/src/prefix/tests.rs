use super::*;
use crate::Nlri;

#[test]
fn host_bits_are_cleared_at_construction() {
    let prefix = Prefix::new(Ipv4Addr::new(192, 0, 2, 200), 25).unwrap();
    assert_eq!(prefix.to_string(), "192.0.2.128/25");
    let prefix = Prefix6::new(0x2001_0db8_0000_0001_ffff_0000_0000_0000_u128, 64).unwrap();
    assert_eq!(prefix.to_string(), "2001:db8:0:1::/64");
}

#[test]
fn lengths_end_at_the_address() {
    assert_eq!(Prefix4::new(0_u32, 33), None);
    assert_eq!(Prefix6::new(0_u128, 129), None);
    assert_eq!(Prefix4::new(u32::MAX, 0).unwrap().bits(), 0);
    assert_eq!(Prefix4::new(u32::MAX, 32).unwrap().bits(), u32::MAX);
    assert_eq!(Prefix6::new(u128::MAX, 0).unwrap().bits(), 0);
    assert_eq!(Prefix6::new(u128::MAX, 128).unwrap().bits(), u128::MAX);
}

#[test]
fn text_is_read_strictly() {
    for text in ["0.0.0.0/0", "198.51.100.7/32", "2001:db8::/32", "::/0"] {
        assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "192.0.2.0",
        "192.0.2.0/33",
        "192.0.2.0/",
        "/8",
        "2001:db8::/129",
    ] {
        assert!(
            matches!(text.parse::<Prefix>(), Err(PrefixParseError::Syntax { .. })),
            "{text}"
        );
    }
    let error = "192.0.2.1/24".parse::<Prefix>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"192.0.2.1/24\" has host bits set; write 192.0.2.0/24"
    );
}

#[test]
fn containment_stays_within_the_family() {
    let default: Prefix = "0.0.0.0/0".parse().unwrap();
    assert!(default.contains("203.0.113.9".parse().unwrap()));
    assert!(!default.contains("2001:db8::1".parse().unwrap()));
    let subnet: Prefix = "2001:db8:7::/48".parse().unwrap();
    assert!(subnet.contains("2001:db8:7::1".parse().unwrap()));
    assert!(!subnet.contains("2001:db8:8::1".parse().unwrap()));
}

#[test]
fn order_is_by_address_then_length() {
    let mut prefixes: Vec<Prefix> = ["2001:db8::/32", "10.0.0.0/16", "10.0.0.0/8", "9.0.0.0/8"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    prefixes.sort();
    let sorted: Vec<String> = prefixes.iter().map(Prefix::to_string).collect();
    assert_eq!(
        sorted,
        ["9.0.0.0/8", "10.0.0.0/8", "10.0.0.0/16", "2001:db8::/32"]
    );
}

#[test]
fn sizes_stay_small() {
    assert_eq!(size_of::<Prefix4>(), 8);
    assert_eq!(size_of::<Prefix>(), 20);
    assert_eq!(size_of::<Nlri>(), 24);
}
