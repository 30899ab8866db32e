use super::*;

fn header(length: u16, kind: u8) -> Vec<u8> {
    let mut bytes = MARKER.to_vec();
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes
}

fn told(bytes: &[u8], max_len: usize) -> (u8, u8, Vec<u8>) {
    let notification = frame(bytes, max_len).unwrap_err().notification();
    (notification.code, notification.subcode, notification.data)
}

#[test]
fn incomplete_headers_wait_for_more() {
    for len in 0..LEN {
        assert_eq!(frame(&KEEPALIVE[..len], MAX_LEN), Ok(None));
    }
    assert_eq!(frame(&KEEPALIVE, MAX_LEN), Ok(Some(19)));
}

#[test]
fn a_wrong_marker_is_not_synchronized() {
    let mut bytes = KEEPALIVE;
    bytes[15] = 0xfe;
    assert_eq!(told(&bytes, MAX_LEN), (1, 1, vec![]));
}

#[test]
fn lengths_are_checked_by_type_and_returned_as_data() {
    for (length, kind) in [
        (0_u16, 4),
        (18, 4),
        (20, 4),
        (28, 1),
        (4097, 1),
        (22, 2),
        (4097, 2),
        (20, 3),
        (22, 5),
        (65_535, 2),
    ] {
        let expected = (1, 2, length.to_be_bytes().to_vec());
        assert_eq!(
            told(&header(length, kind), MAX_LEN),
            expected,
            "{length} {kind}"
        );
    }
}

#[test]
fn extended_messages_raise_the_limit_except_for_open_and_keepalive() {
    assert_eq!(
        frame(&header(65_535, 2), MAX_EXTENDED_LEN),
        Ok(Some(65_535))
    );
    assert_eq!(
        frame(&header(65_535, 3), MAX_EXTENDED_LEN),
        Ok(Some(65_535))
    );
    assert_eq!(
        told(&header(4097, 1), MAX_EXTENDED_LEN),
        (1, 2, vec![0x10, 0x01])
    );
    assert_eq!(told(&header(20, 4), MAX_EXTENDED_LEN), (1, 2, vec![0, 20]));
}

#[test]
fn unknown_types_are_returned_as_data() {
    for kind in [0, 6, 255] {
        assert_eq!(told(&header(19, kind), MAX_LEN), (1, 3, vec![kind]));
    }
}
