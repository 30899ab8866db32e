//! The table as text, and the plan.

use super::*;
use ipnet::IpNet;
use netlink::nft::{Change, Range};

#[path = "../../tests/golden/firewalls.rs"]
mod firewalls;

fn table(firewall: &Firewall, lingering: Lingering) -> model::Table {
    Facts {
        firewall,
        workload_prefixes: &["cali".to_owned()],
        lingering,
        translated: false,
    }
    .table()
}

fn ruleset(firewall: &Firewall) -> Ruleset {
    table(firewall, Lingering::default()).ruleset()
}

#[test]
fn the_table_is_that_of_the_golden_file() {
    let mut different = String::new();
    for (name, firewall) in firewalls::all() {
        let path = format!("{}/tests/golden/{name}.nft", env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        let text = table(&firewall, Lingering::default()).to_string();
        if text != golden {
            different += &format!("{path} should be:\n{text}");
        }
    }
    assert!(different.is_empty(), "{different}");
}

#[test]
fn what_is_right_is_left_alone_and_what_is_missing_is_built() {
    let wanted = ruleset(&firewalls::tunnels());
    assert_eq!(plan::plan(&wanted, Some(&Shown::after(&wanted))), []);
    let all = [Change::Rebuild(&wanted)];
    assert_eq!(plan::plan(&wanted, None), all);
    assert_eq!(plan::plan(&wanted, Some(&Shown::default())), all);
}

#[test]
fn a_new_node_is_one_element_of_one_set() {
    let before = Shown::after(&ruleset(&firewalls::tunnels()));
    let mut firewall = firewalls::tunnels();
    firewall.hosts.insert("192.0.2.200/32".parse().unwrap());
    let wanted = ruleset(&firewall);
    let node: IpNet = "192.0.2.200/32".parse().unwrap();
    let added = Range::merge([&node].into_iter(), netlink::Family::V4);
    let plan = plan::plan(&wanted, Some(&before));
    let [
        Change::Ranges {
            set, remove, add, ..
        },
    ] = plan.as_slice()
    else {
        panic!("{plan:?}");
    };
    assert_eq!((*set, remove.as_slice()), ("cali40all-hosts-net", &[][..]));
    assert_eq!(*add, added);
}

#[test]
fn an_option_changes_the_rules_of_its_chain_only() {
    let before = Shown::after(&ruleset(&firewalls::pools()));
    let mut firewall = firewalls::pools();
    firewall.nat.ports = Some((1000, 2000));
    let wanted = ruleset(&firewall);
    let plan = plan::plan(&wanted, Some(&before));
    let [Change::Rules { chain, .. }] = plan.as_slice() else {
        panic!("{plan:?}");
    };
    assert_eq!(chain.name, "postrouting");
}

#[test]
fn a_new_address_of_the_node_changes_the_rules_about_vxlan_only() {
    let before = Shown::after(&ruleset(&firewalls::tunnels()));
    let mut firewall = firewalls::tunnels();
    firewall.vxlan_ends = ["192.0.2.3".parse().unwrap()].into();
    let wanted = ruleset(&firewall);
    let plan = plan::plan(&wanted, Some(&before));
    let [Change::Rules { chain, .. }] = plan.as_slice() else {
        panic!("{plan:?}");
    };
    assert_eq!(chain.name, "vxlan-in");
}

#[test]
fn tunnels_that_linger_are_filtered_as_those_in_use() {
    let unused = firewalls::pools();
    let lingering = Lingering {
        ipip: true,
        vxlan: Some(4790),
    };
    let mut used = firewalls::tunnels();
    used.tunnels.clear();
    // Whose they are is looked up.
    used.vxlan_ends.clear();
    used.hosts.clone_from(&unused.hosts);
    assert_eq!(
        table(&unused, lingering),
        table(&used, Lingering::default())
    );
}

#[test]
fn a_kernel_without_nftables_is_named_as_such() {
    let missing = std::io::Error::from_raw_os_error(nix::errno::Errno::EPROTONOSUPPORT as i32);
    let error = Error::System {
        call: "open a netlink socket".to_owned(),
        source: missing,
    };
    let text = problem(&error);
    assert!(text.contains("the kernel has no nftables"), "{text}");
    assert!(text.contains("load the modules nf_tables"), "{text}");
    let refused = Error::Permission(netlink::Refusal {
        operation: "delete nftables table",
        object: TABLE.to_owned(),
        errno: nix::errno::Errno::EPERM as i32,
        detail: None,
    });
    let text = problem(&refused);
    assert!(text.starts_with("delete nftables table tortie: "), "{text}");
    assert!(!text.contains("modules"), "{text}");
}
