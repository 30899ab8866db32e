use super::*;

fn flags(arguments: &[&str]) -> Flags {
    Flags::parse_from([&["tortie-felix"], arguments].concat())
}

fn no_variables(_: &str) -> Option<String> {
    None
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("felix.yaml");
    std::fs::write(
        &file,
        "nodeName: from-file\nmtu: 1400\nallowDefaultRoute: true\nlog: debug\n",
    )
    .unwrap();
    let variable = |name: &str| match name {
        "TORTIE_MTU" => Some("1300".to_owned()),
        "FELIX_LOGSEVERITYSCREEN" => Some("Warning".to_owned()),
        "TORTIE_LOG" => Some("trace".to_owned()),
        _ => None,
    };
    let path = file.to_str().unwrap();
    let config = Config::load(flags(&["--config", path, "--mtu", "1200"]), variable).unwrap();
    assert_eq!(config.node_name, "from-file");
    assert_eq!((config.mtu, config.allow_default_route), (1200, true));
    assert_eq!(config.log, "trace");
    assert_eq!(config.state_dir, PathBuf::from("/var/lib/tortie"));
    assert_eq!(config.sysctl_root, PathBuf::from("/proc/sys"));
    assert_eq!(config.restart_time_secs, 120);
    assert!(config.bgp);
}

#[test]
fn bgp_is_switched_off_by_our_name_or_by_calicos() {
    for (name, value, bgp) in [
        ("TORTIE_BGP", "false", false),
        ("CALICO_NETWORKING_BACKEND", "vxlan", false),
        ("CALICO_NETWORKING_BACKEND", "bird", true),
    ] {
        let variable = |asked: &str| (asked == name).then(|| value.to_owned());
        let config = Config::load(flags(&[]), variable).unwrap();
        assert_eq!(config.bgp, bgp, "{name}={value}");
    }
}

#[test]
fn the_datastore_is_a_directory_or_an_api_server() {
    let kubernetes = |kubeconfig: Option<&str>| DatastoreKind::Kubernetes {
        kubeconfig: kubeconfig.map(PathBuf::from),
    };
    let chosen = |arguments: &[&str], variable: &dyn Fn(&str) -> Option<String>| {
        Config::load(flags(arguments), variable).unwrap().datastore
    };
    let calicos = |name: &str| match name {
        "FELIX_DATASTORETYPE" => Some("kubernetes".to_owned()),
        "KUBECONFIG" => Some("/k".to_owned()),
        _ => None,
    };
    let default = DatastoreKind::File("/etc/tortie/manifests".into());
    assert_eq!(chosen(&[], &no_variables), default);
    assert_eq!(
        chosen(&["--datastore", "kubernetes"], &no_variables),
        kubernetes(None)
    );
    assert_eq!(chosen(&[], &calicos), kubernetes(Some("/k")));
    assert_eq!(
        chosen(&["--kubeconfig", "/mine"], &calicos),
        kubernetes(Some("/mine"))
    );
    let file = DatastoreKind::File("/d".into());
    assert_eq!(chosen(&["--datastore", "file:/d"], &calicos), file);
}

#[test]
fn addresses_are_found_as_asked_for_by_our_names_or_calicos() {
    use crate::node_address::detect::Method;

    let load = |arguments: &[&str], variables: &[(&str, &str)]| {
        let variable = |asked: &str| {
            let found = variables.iter().find(|(name, _)| *name == asked);
            found.map(|(_, value)| (*value).to_owned())
        };
        let config = Config::load(flags(arguments), variable).unwrap();
        (config.ipv4, config.ipv6)
    };
    let unasked = |heal, first_found| Wish::Unasked(Unasked { heal, first_found });
    let on_files = (unasked(false, false), unasked(false, false));
    assert_eq!(load(&[], &[]), on_files);
    let on_kubernetes = (unasked(true, true), unasked(true, false));
    assert_eq!(load(&["--datastore", "kubernetes"], &[]), on_kubernetes);
    let calicos = [
        ("IP", "autodetect"),
        ("IP_AUTODETECTION_METHOD", "first-found"),
        ("IP6", "none"),
    ];
    let expected = (Wish::Detected(Method::FirstFound), Wish::None);
    assert_eq!(load(&[], &calicos), expected);
    let ours = ["--ip-autodetection-method", "kubernetes-internal-ip"];
    assert_eq!(load(&ours, &calicos).0, Wish::Detected(Method::InternalIp));
}

#[test]
fn a_wrong_value_is_refused_by_name() {
    for (arguments, word) in [
        (["--admin", "localhost"], "admin"),
        (["--metrics", "9091"], "metrics"),
        (["--datastore", "etcd"], "datastore"),
        (["--restart-time", "5000"], "restartTime"),
        (["--interface-prefix", "longer"], "interfacePrefix"),
        (["--router-id", "seven"], "routerId"),
        (["--bgp", "perhaps"], "bgp"),
        (["--user-tunnels", "yes"], "userTunnels"),
        (["--ip", "192.0.2"], "settings ip "),
        (
            ["--ip6-autodetection-method", "magic"],
            "ip6AutodetectionMethod",
        ),
    ] {
        let error = Config::load(flags(&arguments), no_variables).unwrap_err();
        assert!(format!("{error:#}").contains(word), "{error:#}");
    }
}

#[test]
fn an_unknown_key_of_the_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("felix.yaml");
    std::fs::write(&file, "statedir: /tmp\n").unwrap();
    let error = Config::load(flags(&["--config", file.to_str().unwrap()]), no_variables);
    assert!(format!("{:#}", error.unwrap_err()).contains("statedir"));
}
