use super::*;

fn attachment(container_id: &str, ifname: &str) -> Attachment {
    Attachment {
        container_id: container_id.to_owned(),
        ifname: ifname.to_owned(),
    }
}

#[test]
fn an_alias_names_its_attachment() {
    let text = alias("0af3", "eth0");
    assert_eq!(text, "tortie:0af3/eth0");
    assert_eq!(parse_alias(&text), Some(attachment("0af3", "eth0")));
}

#[test]
fn a_foreign_alias_is_nobodys() {
    for text in ["", "uplink", "tortie:", "tortie:0af3", "other:0af3/eth0"] {
        assert_eq!(parse_alias(text), None, "{text:?}");
    }
}

#[test]
fn requests_have_the_documented_form() {
    let del = Del {
        network: "pods".to_owned(),
        container_id: "0af3".to_owned(),
        ifname: "eth0".to_owned(),
        namespace: None,
        pod: None,
    };
    let line = to_line(&Request::new(Op::Del(del.clone()))).unwrap();
    assert_eq!(
        String::from_utf8(line.clone()).unwrap(),
        concat!(
            r#"{"version":1,"op":{"del":{"network":"pods","container_id":"0af3","#,
            r#""ifname":"eth0","namespace":null,"pod":null}}}"#,
            "\n"
        )
    );
    assert_eq!(
        serde_json::from_slice::<Request>(&line).unwrap().op,
        Op::Del(del)
    );
    assert_eq!(
        String::from_utf8(to_line(&Request::new(Op::Status)).unwrap()).unwrap(),
        "{\"version\":1,\"op\":\"status\"}\n"
    );
}

#[test]
fn optional_fields_may_be_absent() {
    let add: Request = serde_json::from_str(
        r#"{"version":1,"op":{"add":{"network":"pods","container_id":"0af3","ifname":"eth0",
            "netns":"/run/netns/a","ipv4":true,"ipv6":false,"from_a_later_version":1}}}"#,
    )
    .unwrap();
    let Op::Add(add) = add.op else {
        panic!("{add:?}")
    };
    assert_eq!((add.mtu, add.pod, add.addresses), (0, None, vec![]));
    let error: Reply = serde_json::from_str(r#"{"error":{"code":11,"message":"busy"}}"#).unwrap();
    assert_eq!(
        error,
        Reply::Error(Error {
            code: 11,
            message: "busy".to_owned(),
            details: String::new()
        })
    );
}

#[test]
fn replies_survive_the_wire() {
    let reply = Reply::Checked(Checked {
        record: Added {
            host_interface: "cali0123456789a".to_owned(),
            host_mac: "ee:ee:ee:ee:ee:ee".to_owned(),
            pod_mac: None,
            addresses: vec![
                "10.0.1.5/32".parse().unwrap(),
                "fd00::5/128".parse().unwrap(),
            ],
            mtu: 1480,
            alias: alias("0af3", "eth0"),
        },
        problems: vec!["no route to 10.0.1.5/32".to_owned()],
    });
    let line = to_line(&reply).unwrap();
    assert_eq!(serde_json::from_slice::<Reply>(&line).unwrap(), reply);
}

#[test]
fn an_oversized_message_is_refused_before_it_is_sent() {
    let gc = Gc {
        network: "pods".to_owned(),
        valid: vec![attachment("c", "eth0"); 50_000],
    };
    assert!(to_line(&Request::new(Op::Gc(gc))).is_err());
}

#[test]
fn the_ipv6_gateway_belongs_to_the_host_mac() {
    let mac = HOST_MAC;
    let expected = [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        mac[0] ^ 2,
        mac[1],
        mac[2],
        0xff,
        0xfe,
        mac[3],
        mac[4],
        mac[5],
    ];
    assert_eq!(GATEWAY_V6.octets(), expected);
}

#[test]
fn a_tombstone_is_found_by_its_attachment() {
    let path = tombstone::path(std::path::Path::new("/var/lib/tortie"), "0af3", "eth0");
    assert_eq!(
        path,
        std::path::Path::new("/var/lib/tortie/cni/deleted/0af3.eth0.json")
    );
}
