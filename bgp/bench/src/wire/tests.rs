use super::*;

#[test]
fn an_open_says_its_as_number_and_length() {
    let open = open(4_200_000_001, Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(length(&open).unwrap(), Some(open.len()));
    assert_eq!(open[18..22], [OPEN, 4, 0x5b, 0xa0]);
    assert!(open.ends_with(&4_200_000_001_u32.to_be_bytes()));
}

#[test]
fn a_header_that_is_cut_off_or_none_is_told_apart() {
    assert_eq!(length(&KEEPALIVE_MESSAGE).unwrap(), Some(19));
    assert_eq!(length(&KEEPALIVE_MESSAGE[..18]).unwrap(), None);
    assert!(length(&[0; 19]).is_err());
}

#[test]
fn an_update_is_taken_apart_wherever_the_routes_are() {
    let classic = [0, 2, 8, 10, 0, 7, 0x40, 3, 4, 192, 0, 2, 9, 16, 198, 51];
    let found = update(&classic).unwrap();
    assert_eq!(found.withdrawn[0], [8, 10]);
    assert_eq!(found.announced[0], [16, 198, 51]);
    assert_eq!(found.next_hop, Some(0xc000_0209));
    let multiprotocol = [
        0, 0, 0, 20, 0x80, 14, 11, 0, 1, 1, 4, 192, 0, 2, 9, 0, 8, 10, 0x90, 15, 0, 2, 0, 1,
    ];
    assert!(update(&multiprotocol[..22]).is_err(), "lengths do not fit");
    let found = update(&multiprotocol).unwrap();
    assert_eq!(found.announced[1], [8, 10]);
    assert_eq!(found.next_hop, Some(0xc000_0209));
}

#[test]
fn malformed_prefixes_are_refused() {
    let mut seen = Vec::new();
    prefixes(&[0, 24, 192, 0, 2, 26, 10, 0, 0, 64], |address, bits| {
        seen.push((address, bits));
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, [(0, 0), (0xc000_0200, 24), (0x0a00_0040, 26)]);
    assert!(prefixes(&[33, 1, 2, 3, 4, 5], |_, _| Ok(())).is_err());
    assert!(prefixes(&[24, 1, 2], |_, _| Ok(())).is_err());
}
