use super::*;

fn conf(text: &str) -> Result<Conf, Error> {
    Conf::from(Document::parse(text.as_bytes())?)
}

/// A configuration with `keys` added, each followed by a comma.
fn with(keys: &str) -> Result<Conf, Error> {
    conf(&format!(
        r#"{{{keys} "cniVersion": "1.1.0", "name": "pods", "type": "tortie-cni"}}"#
    ))
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_minimal_configuration_has_the_documented_defaults() {
    let conf = with("").unwrap();
    conf.check_for_add().unwrap();
    assert_eq!(conf.version, Version::V1_1_0);
    assert_eq!(conf.keys.socket, PathBuf::from("/run/tortie/cni.sock"));
    assert_eq!(conf.keys.state_dir, PathBuf::from("/var/lib/tortie"));
    assert_eq!(conf.keys.mtu, 0);
    assert!(conf.keys.ipam.assign_ipv4);
    assert!(!conf.keys.ipam.assign_ipv6);
    assert!(!conf.keys.container_settings.allow_ip_forwarding);
}

#[test]
fn a_calico_configuration_is_understood() {
    let conf = with(
        r#""log_level": "info", "datastore_type": "kubernetes", "nodename": "n1", "mtu": 1440,
           "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true",
                    "ipv4_pools": ["10.0.0.0/24", "default-ipv4-ippool"]},
           "container_settings": {"allow_ip_forwarding": true}, "policy": {"type": "k8s"},
           "kubernetes": {"kubeconfig": "/etc/cni/net.d/kubeconfig"},"#,
    )
    .unwrap();
    conf.check_for_add().unwrap();
    assert_eq!(conf.keys.mtu, 1440);
    assert!(conf.keys.ipam.assign_ipv6);
    assert_eq!(
        conf.keys.ipam.ipv4_pools,
        ["10.0.0.0/24", "default-ipv4-ippool"]
    );
    assert!(conf.keys.container_settings.allow_ip_forwarding);
}

#[test]
fn what_is_not_a_json_object_is_a_decode_error() {
    for text in ["", "name: pods", "[]", "null", "{\"cniVersion\": "] {
        assert_eq!(conf(text).unwrap_err().code, code::DECODE, "{text:?}");
    }
}

#[test]
fn wrong_keys_are_named() {
    let cases = [
        (r#""mtu": "big","#, "string \"big\""),
        (r#""mtu": 20,"#, "mtu 20"),
        (r#""mtu": 1000, "ipam": {"assign_ipv6": true},"#, "mtu 1000"),
        (
            r#""ipam": {"assign_ipv4": "yes"},"#,
            "\"yes\" is neither true nor false",
        ),
        (r#""ipam": {"assign_ipv4": false},"#, "ipam.assign_ipv4"),
        (
            r#""ipam": {"routes": [{"dst": "ten"}]},"#,
            "invalid IP address",
        ),
        (r#""runtimeConfig": {"ips": ["ten"]},"#, "runtimeConfig.ips"),
    ];
    for (keys, expected) in cases {
        let error = with(keys)
            .and_then(|conf| conf.check_for_add())
            .unwrap_err();
        assert_eq!(error.code, code::INVALID_CONFIG, "{keys}");
        assert!(error.to_string().contains(expected), "{keys}: {error}");
    }
}

#[test]
fn another_address_manager_is_unsupported_but_does_not_block_deletion() {
    let conf = with(r#""ipam": {"type": "host-local"},"#).unwrap();
    assert_eq!(
        conf.check_for_add().unwrap_err().code,
        code::UNSUPPORTED_FIELD
    );
}

#[test]
fn a_network_needs_a_name_that_is_safe_in_paths() {
    for name in ["", "../etc", "a b"] {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "{name}"}}"#);
        assert_eq!(
            conf(&text).unwrap_err().code,
            code::INVALID_CONFIG,
            "{name:?}"
        );
    }
}

#[test]
fn a_missing_version_is_incompatible() {
    assert_eq!(
        conf(r#"{"name": "pods"}"#).unwrap_err().code,
        code::INCOMPATIBLE_VERSION
    );
}

#[test]
fn default_routes_follow_the_families_of_the_pod() {
    let conf = with("").unwrap();
    assert_eq!(
        conf.destinations(&nets(&["10.0.1.5/32"])),
        nets(&["0.0.0.0/0"])
    );
    assert_eq!(
        conf.destinations(&nets(&["10.0.1.5/32", "fd00::5/128"])),
        nets(&["0.0.0.0/0", "::/0"])
    );
}

#[test]
fn routes_of_the_configuration_replace_the_defaults_unless_told_otherwise() {
    let ipam = r#""ipam": {"routes": [{"dst": "10.0.0.0/8"}, {"dst": "fd00::/8"}]},"#;
    let addresses = nets(&["10.0.1.5/32"]);
    assert_eq!(
        with(ipam).unwrap().destinations(&addresses),
        nets(&["10.0.0.0/8"])
    );
    let both = format!(r#"{ipam} "include_default_routes": true,"#);
    assert_eq!(
        with(&both).unwrap().destinations(&addresses),
        nets(&["0.0.0.0/0", "10.0.0.0/8"])
    );
}

#[test]
fn collection_needs_an_explicit_list() {
    assert_eq!(
        with("").unwrap().valid_attachments().unwrap_err().code,
        code::INVALID_CONFIG
    );
    let conf = with(r#""cni.dev/valid-attachments": [{"containerID": "0af3", "ifname": "eth0"}],"#)
        .unwrap();
    assert_eq!(
        conf.valid_attachments().unwrap(),
        [Attachment {
            container_id: "0af3".to_owned(),
            ifname: "eth0".to_owned()
        }]
    );
}
