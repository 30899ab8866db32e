//! The valid messages that mutation starts from.

use crate::build::{
    MANDATORY, MP_REACH, NO_NEXT_HOP, ROUTE, attribute, hex, message, update, update_of,
};

pub(crate) fn all() -> Vec<Vec<u8>> {
    let mut seeds = updates();
    seeds.extend(opens());
    seeds.extend([
        message(4, &[]),
        message(3, &hex("0602 07647261696e6564")),
        message(3, &hex("0609 0602 026869")),
        message(3, &hex("0309 800e00")),
        message(5, &hex("0001 00 01")),
        message(5, &hex("0002 01 01")),
    ]);
    seeds
}

fn opens() -> Vec<Vec<u8>> {
    let capabilities = "0104 00010001 0104 00020001 0200 0506 0001 0001 0002 0600 0901 03
        400a c078 00010180 00020100 4104 0000fbf0 4508 00010103 00020101 4600 4707 000101 80 000e10 4906 046e6f646500";
    let value = hex(capabilities);
    let len = value.len() as u8;
    let short = [
        &hex("04 fbf0 00f0 c0000201")[..],
        &[len + 2, 2, len],
        &value,
    ]
    .concat();
    let long = [
        &hex("04 fbf0 00f0 c0000201 ff ff")[..],
        &[0, len + 3, 2, 0, len],
        &value,
    ]
    .concat();
    vec![
        message(1, &short),
        message(1, &long),
        message(
            1,
            &hex("04 fbf0 00f0 c0000201 0c 0206 0104 00010001 0202 0200"),
        ),
        message(1, &hex("04 5ba0 0000 c0000201 08 02 06 4104 fa56ea00")),
        message(1, &hex("04 fbf0 0003 c0000201 00")),
    ]
}

fn updates() -> Vec<Vec<u8>> {
    let every = "40010102 400210 0202 0000fbf1 0000fbf2 0101 0000fbf3 400304 c0000201 800404 00000064 400504 000000c8
        400600 c00708 0000fbf1 c0000201 c00808 fbf00064 ffffff01 800904 c0000202 800a08 c0000203 c0000204
        c01008 0002fbf000000064 c01914 0707070707070707070707070707070707070707
        c02018 0000fbf0 00000001 00000002 0000fbf0 00000001 00000003 c02304 0000fbf1 e06303 010203";
    let two_octet = "40010100 400210 0202 fbf1 5ba0 0102 5ba0 fbf2 0201 5ba0 400304c0000201 c00706 5ba0 c0000209
        c0111a 0202 0000fbf1 fa56ea01 0102 fa56ea02 0000fbf2 0201 fa56ea03 c01208 fa56ea01 c0000209";
    let long_path = [
        &[2, 255][..],
        &[0, 0, 0xfb, 0xf1].repeat(255),
        &[2, 1, 0, 0, 0xfb, 0xf2],
    ]
    .concat();
    let long = [
        hex("40010100 400304c0000201"),
        attribute(0x40, 2, &long_path),
        attribute(0xc0, 200, &[7; 300]),
    ]
    .concat();
    let link_local = "900e0026 0002 01 20 20010db8000000000000000000000001 fe800000000000000000000000000001 00 00 40010100 40020602010000fbf1";
    vec![
        update("", "", ""),
        update("", "800f03 0002 01", ""),
        update("18c63364 20c0000207 00", "", ""),
        update("", "900f000a 0002 01 3020010db80001", ""),
        update("", "800f13 0002 01 00000001 3020010db80001 00000002 00", ""),
        update("", MANDATORY, "00 080a 0cac10 18c63364 20c0000207"),
        update(
            "00000001 080a",
            MANDATORY,
            "00000007 18c63364 00000008 18c63364",
        ),
        update("", &format!("{MP_REACH} {NO_NEXT_HOP}"), ""),
        update("", &format!("{NO_NEXT_HOP} {MP_REACH}"), ""),
        update("", link_local, ""),
        update(
            "",
            &format!(
                "900e0019 0001 01 10 20010db8000000000000000000000001 00 18c63364 {NO_NEXT_HOP}"
            ),
            "",
        ),
        update(
            "080a",
            &format!("{MANDATORY} {MP_REACH} 800f0a 0002 01 3020010db80001"),
            ROUTE,
        ),
        update("", every, ROUTE),
        update("", two_octet, ROUTE),
        update(
            "",
            "40010100 400212 0301 0000ff01 0401 0000ff02 0201 0000fbf1 400304c0000201",
            ROUTE,
        ),
        update_of(&[], &long, &hex(ROUTE)),
        update_of(&[], &hex(MANDATORY), &hex(ROUTE).repeat(300)),
        update_of(&[0; 2000], &[], &[]),
    ]
}
