use serde_json::{Value, json};

use super::*;
use crate::{Resource, decode};

fn pool(name: &str, cidr: &str) -> IpPool {
    IpPool::new(name, IpPoolSpec::new(cidr.parse().unwrap()))
}

fn fields(spec: Value) -> Vec<String> {
    let manifest = json!({ "apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "metadata": {}, "spec": spec });
    let pool: IpPool = decode(&manifest).unwrap();
    pool.validate()
        .err()
        .unwrap_or_default()
        .into_iter()
        .map(|e| e.field)
        .collect()
}

#[test]
fn a_calico_manifest_reads_and_writes_unchanged() {
    let manifest = json!({
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "IPPool",
        "metadata": { "name": "default-ipv4-ippool" },
        "spec": {
            "cidr": "10.0.0.0/16", "blockSize": 26, "ipipMode": "CrossSubnet", "vxlanMode": "Never",
            "natOutgoing": true, "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"],
            "disableBGPExport": false, "assignmentMode": "Automatic",
        },
    });
    let pool: IpPool = decode(&manifest).unwrap();
    assert_eq!(pool.validate(), Ok(()));
    assert_eq!(pool.to_value().unwrap(), manifest);
}

#[test]
fn unset_fields_mean_calicos_defaults() {
    let spec = pool("p", "10.0.0.0/16").spec;
    assert_eq!(
        (spec.block_size(), spec.ipip_mode(), spec.nat_outgoing()),
        (26, EncapMode::Never, false)
    );
    assert!(spec.allows(AllowedUse::Workload) && spec.allows(AllowedUse::Tunnel));
    assert!(!spec.allows(AllowedUse::LoadBalancer));
    assert_eq!(pool("p", "fd00::/48").spec.block_size(), 122);
}

#[test]
fn each_broken_rule_names_its_field() {
    let cases = [
        (
            json!({ "cidr": "10.0.0.0/16", "blockSize": 19 }),
            "spec.blockSize",
        ),
        (
            json!({ "cidr": "10.0.0.0/16", "blockSize": 33 }),
            "spec.blockSize",
        ),
        (
            json!({ "cidr": "fd00::/48", "blockSize": 64 }),
            "spec.blockSize",
        ),
        (json!({ "cidr": "10.0.0.0/27" }), "spec.cidr"),
        (json!({ "cidr": "169.254.8.0/24" }), "spec.cidr"),
        (json!({ "cidr": "0.0.0.0/0" }), "spec.cidr"),
        (json!({ "cidr": "fe80::/64" }), "spec.cidr"),
        (
            json!({ "cidr": "10.0.0.0/16", "ipipMode": "Always", "vxlanMode": "CrossSubnet" }),
            "spec.ipipMode",
        ),
        (
            json!({ "cidr": "fd00::/48", "ipipMode": "Always" }),
            "spec.ipipMode",
        ),
        (
            json!({ "cidr": "10.0.0.0/16", "allowedUses": ["LoadBalancer", "Workload"] }),
            "spec.allowedUses",
        ),
        (
            json!({ "cidr": "10.0.0.0/16", "namespaceSelector": "has(team)" }),
            "spec.allowedUses",
        ),
        (
            json!({ "cidr": "10.0.0.0/16", "nodeSelector": "zone =" }),
            "spec.nodeSelector",
        ),
    ];
    for (spec, field) in cases {
        assert_eq!(fields(spec.clone()), [field], "{spec}");
    }
}

#[test]
fn a_disabled_pool_may_be_smaller_than_a_block() {
    assert!(fields(json!({ "cidr": "10.0.0.0/27", "disabled": true })).is_empty());
}

#[test]
fn host_bits_are_refused_with_the_masked_form() {
    let manifest = json!({ "metadata": {}, "spec": { "cidr": "10.0.0.5/16" } });
    let error = decode::<IpPool>(&manifest).unwrap_err();
    assert_eq!(error.field, "spec.cidr");
    assert!(error.problem.contains("write 10.0.0.0/16"), "{error}");
}

#[test]
fn overlapping_pools_are_found_once_each() {
    let pools = [
        pool("small", "10.0.64.0/20"),
        pool("big", "10.0.0.0/16"),
        pool("same", "10.0.0.0/16"),
        pool("other", "10.1.0.0/16"),
        pool("six", "fd00::/48"),
    ];
    let found: Vec<_> = overlaps(&pools)
        .into_iter()
        .map(|o| (o.outer, o.inner))
        .collect();
    assert_eq!(
        found,
        [
            ("big".into(), "same".into()),
            ("same".into(), "small".to_owned())
        ]
    );
    assert!(overlaps(&pools[3..]).is_empty());
}
