use super::*;

fn record(container_id: &str, created: u64) -> Record {
    Record {
        network: "net".to_owned(),
        container_id: container_id.to_owned(),
        ifname: "eth0".to_owned(),
        netns: "/run/netns/x".to_owned(),
        namespace: Some("default".to_owned()),
        pod: Some("web".to_owned()),
        host_interface: "cali1".to_owned(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        mtu: 1500,
        pod_mac: None,
        active: true,
        boot: "boot".to_owned(),
        created,
    }
}

fn load(state_dir: &Path) -> Records {
    Records::load(state_dir, Workbench::open(state_dir).unwrap()).unwrap()
}

#[test]
fn records_survive_the_agent_and_a_broken_one_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let mut records = load(directory.path());
    records.put(record("a", 1)).unwrap();
    records.put(record("b", 2)).unwrap();
    records.remove(&record("b", 2).attachment()).unwrap();
    std::fs::write(directory.path().join("endpoints/c.eth0.json"), "").unwrap();
    let again = load(directory.path());
    assert_eq!(again.iter().collect::<Vec<_>>(), [&record("a", 1)]);
    assert!(directory.path().join("endpoints/c.eth0.broken").exists());
}

#[test]
fn the_youngest_container_of_a_pod_is_its_endpoint() {
    let directory = tempfile::tempdir().unwrap();
    let mut records = load(directory.path());
    records.put(record("young", 2)).unwrap();
    records.put(record("old", 1)).unwrap();
    let id = record("old", 1).endpoint_id();
    assert_eq!(records.current(&id).unwrap().container_id, "young");
    records.remove(&record("young", 2).attachment()).unwrap();
    assert_eq!(records.current(&id).unwrap().container_id, "old");
    let allocated = Record {
        active: false,
        ..record("new", 3)
    };
    records.put(allocated).unwrap();
    assert_eq!(
        records.current(&id).unwrap().container_id,
        "old",
        "a veth must be there first"
    );
}

#[test]
fn names_that_could_leave_the_directory_are_refused() {
    for name in [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        ".hidden",
        "a b",
        &"x".repeat(201),
    ] {
        assert!(check_name(name).is_err(), "{name:?}");
    }
    for name in ["0af3", "eth0", "cri-containerd_1.2"] {
        assert!(check_name(name).is_ok(), "{name:?}");
    }
}

#[test]
fn mac_addresses_have_six_bytes() {
    assert_eq!(parse_mac("ee:ee:ee:ee:ee:ee"), Some([0xee; 6]));
    for text in [
        "",
        "ee:ee",
        "ee:ee:ee:ee:ee:ee:ee",
        "e:ee:ee:ee:ee:eee",
        "gg:ee:ee:ee:ee:ee",
    ] {
        assert_eq!(parse_mac(text), None, "{text:?}");
    }
}
