use super::*;

#[test]
fn shutdown_text_travels() {
    let notification = Notification::administrative_shutdown("node drained");
    assert_eq!(notification.data[0], 12);
    assert_eq!(notification.text().as_deref(), Some("node drained"));
    assert_eq!(
        notification.to_string(),
        "6/2 Cease, Administrative Shutdown: \"node drained\""
    );
}

#[test]
fn long_text_is_cut_between_characters() {
    let notification = Notification::administrative_reset(&"é".repeat(200));
    assert_eq!(notification.data.len(), 1 + 254);
    assert_eq!(notification.text().unwrap(), "é".repeat(127));
}

#[test]
fn text_that_lies_about_its_length_is_no_text() {
    for data in [vec![], vec![0], vec![5, b'a'], vec![255]] {
        let notification = Notification {
            code: code::CEASE,
            subcode: subcode::cease::ADMINISTRATIVE_SHUTDOWN,
            data,
        };
        assert_eq!(notification.text(), None, "{notification:?}");
    }
}

#[test]
fn hostile_text_reaches_no_terminal() {
    let notification = Notification {
        code: code::CEASE,
        subcode: subcode::cease::ADMINISTRATIVE_SHUTDOWN,
        data: vec![4, 0x1b, b'[', 0xff, b'x'],
    };
    assert_eq!(notification.text().unwrap(), "\u{fffd}[\u{fffd}x");
}

#[test]
fn hard_reset_carries_the_reason() {
    let reason = Notification::cease(subcode::cease::PEER_DECONFIGURED);
    let hard = reason.clone().into_hard_reset();
    assert_eq!(
        (hard.code, hard.subcode, hard.data.as_slice()),
        (6, 9, &[6, 3][..])
    );
    assert_eq!(hard.hard_reset(), Some(reason));
    assert_eq!(
        hard.to_string(),
        "6/9 Cease, Hard Reset (6/3 Cease, Peer De-configured)"
    );
    let shutdown = Notification::administrative_shutdown("moving racks").into_hard_reset();
    assert!(
        shutdown
            .to_string()
            .ends_with("Shutdown: \"moving racks\")")
    );
    assert_eq!(Notification::cease(9).hard_reset(), None);
}

#[test]
fn data_beyond_the_limit_is_cut() {
    let notification = Notification {
        code: 3,
        subcode: 1,
        data: vec![7; 5000],
    };
    let mut out = BytesMut::new();
    notification.encode(header::MAX_LEN, &mut out);
    assert_eq!(out.len(), header::MAX_LEN);
    assert_eq!(header::frame(&out, header::MAX_LEN), Ok(Some(4096)));
}
