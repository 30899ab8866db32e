use super::*;

fn parse(text: &str) -> Result<Desired> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("bgp.yaml");
    fs::write(&path, text)?;
    load(&path)
}

const LOCAL: &str = "local: {asn: 64500, router_id: 192.0.2.1}\n";

#[test]
fn example_file_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tortie-bgp.yaml");
    let desired = load(&path).unwrap();
    assert_eq!(2, desired.peers.len());
    assert!(!desired.originate.is_empty());
}

#[test]
fn errors_name_file_and_field() {
    let peer = |fields: &str| format!("{LOCAL}peers: [{{address: 192.0.2.2, asn: 64501{fields}}}]");
    let cases = [
        (
            "local: {asn: 0, router_id: 192.0.2.1}".to_owned(),
            "local.asn",
        ),
        (
            "local: {asn: 1, router_id: 192.0.2.1, asnn: 2}".to_owned(),
            "unknown field `asnn`",
        ),
        (format!("{LOCAL}colour: blue"), "unknown field `colour`"),
        (peer(", hold_time: 2"), "peers[0]: hold_time"),
        (peer(", holdtime: 9"), "unknown field `holdtime`"),
        (peer(", multihop: 2, ttl_security: 1"), "ttl_security"),
        (peer(", reflector_client: true"), "reflector_client"),
        (peer(", families: [ipx]"), "unknown variant `ipx`"),
        (
            format!("{LOCAL}originate: [{{prefix: 10.0.0.1/26}}]"),
            "write 10.0.0.0/26",
        ),
        (
            format!("{LOCAL}originate: [{{prefix: 10.0.0.0/26, communities: ['1:2:3']}}]"),
            "1:2:3 is no community",
        ),
    ];
    for (text, expected) in cases {
        let error = format!("{:#}", parse(&text).unwrap_err());
        assert!(
            error.contains(expected) && error.contains("bgp.yaml"),
            "{text}: {error}"
        );
    }
}

#[test]
fn peers_must_differ() {
    let one = "{address: 192.0.2.2, asn: 64501}";
    let error = parse(&format!("{LOCAL}peers: [{one}, {one}]")).unwrap_err();
    assert!(
        format!("{error:#}").contains("another peer has address"),
        "{error:#}"
    );
    let ports = "{name: a, address: 192.0.2.2, asn: 64501}, {name: b, address: 192.0.2.2, asn: 64501, port: 1179}";
    assert_eq!(
        2,
        parse(&format!("{LOCAL}peers: [{ports}]"))
            .unwrap()
            .peers
            .len()
    );
}
