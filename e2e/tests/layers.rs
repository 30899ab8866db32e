//! The table of `ARCHITECTURE.md` that says which package may use which, held
//! against the manifests.

use std::collections::BTreeMap;

use serde_json::Value;

/// Package, and every package of ours that it may depend on.
const ALLOWED: [(&str, &[&str]); 21] = [
    ("bfd", &[]),
    ("bgp-api", &[]),
    ("bgp-bench", &[]),
    ("bgp-wire", &[]),
    ("bgp-wire-oracle", &["bgp-wire"]),
    ("bgp-fsm", &["bgp-wire"]),
    ("bgp-rib", &["bgp-wire"]),
    ("bgp", &["bfd", "bgp-api", "bgp-fsm", "bgp-rib", "bgp-wire"]),
    ("crds", &[]),
    ("datastore", &["crds"]),
    ("felix-api", &[]),
    ("felix-calc", &["crds"]),
    ("netlink", &[]),
    ("ipip", &["netlink"]),
    ("felix-dataplane", &["felix-calc", "ipip", "netlink"]),
    ("ipam", &["crds", "datastore"]),
    (
        "felix",
        &[
            "bgp",
            "bgp-api",
            "bgp-wire",
            "crds",
            "datastore",
            "felix-api",
            "felix-calc",
            "felix-dataplane",
            "ipam",
            "ipip",
            "netlink",
        ],
    ),
    ("cli", &["bgp-api", "felix-api", "felix-dataplane"]),
    ("controller", &["crds", "datastore", "ipam"]),
    ("cni", &["felix-api", "netlink"]),
    ("e2e", &[]),
];

#[test]
fn no_package_reaches_above_its_layer() {
    let text = e2e::command::run(
        env!("CARGO"),
        &[
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ],
    )
    .unwrap();
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(
        packages.len(),
        allowed.len(),
        "a package is missing in the table"
    );
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let may = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in the table"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let dependency = dependency["name"].as_str().unwrap();
            assert!(
                !allowed.contains_key(dependency) || may.contains(&dependency),
                "{name} must not depend on {dependency}"
            );
        }
    }
}
