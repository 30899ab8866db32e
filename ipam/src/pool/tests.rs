use serde_json::{Value, json};

use super::*;

fn pool(name: &str, cidr: &str, more: Value) -> Pool {
    let mut spec = more;
    spec["cidr"] = json!(cidr);
    let object = json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "metadata": { "name": name }, "spec": spec,
    });
    Pool::decode(&crds::decode(&object).unwrap())
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// The names of the pools chosen, or the error.
fn chosen(
    pools: &[Pool],
    requested: &[&str],
    change: impl FnOnce(&mut Query<'_>),
) -> Result<Vec<String>, String> {
    let requested: Vec<String> = requested.iter().map(|text| (*text).to_owned()).collect();
    let (node_labels, namespace_labels) = (labels(&[("zone", "a")]), labels(&[("team", "x")]));
    let mut query = Query {
        family: Family::V4,
        requested: &requested,
        intended_use: IntendedUse::Workload,
        node_labels: &node_labels,
        namespace_labels: &namespace_labels,
    };
    change(&mut query);
    let selection = select(pools, &query).map_err(|error| error.to_string())?;
    Ok(selection
        .pools
        .into_iter()
        .map(|pool| pool.name.clone())
        .collect())
}

#[test]
fn pools_serve_who_they_select() {
    let pools = [
        pool("all", "10.0.0.0/24", json!({})),
        pool("disabled", "10.0.1.0/24", json!({ "disabled": true })),
        pool(
            "manual",
            "10.0.2.0/24",
            json!({ "assignmentMode": "Manual" }),
        ),
        pool(
            "here",
            "10.0.3.0/24",
            json!({ "nodeSelector": "zone == 'a'" }),
        ),
        pool(
            "there",
            "10.0.4.0/24",
            json!({ "nodeSelector": "zone == 'b'" }),
        ),
        pool(
            "ours",
            "10.0.5.0/24",
            json!({ "namespaceSelector": "team == 'x'", "allowedUses": ["Workload"] }),
        ),
        pool(
            "theirs",
            "10.0.6.0/24",
            json!({ "namespaceSelector": "team == 'y'", "allowedUses": ["Workload"] }),
        ),
        pool(
            "tunnels",
            "10.0.7.0/24",
            json!({ "allowedUses": ["Tunnel"] }),
        ),
        pool("v6", "fd00::/64", json!({})),
    ];
    assert_eq!(
        chosen(&pools, &[], |_| {}).unwrap(),
        ["all", "here", "ours"]
    );
    let tunnel = |query: &mut Query<'_>| query.intended_use = IntendedUse::Tunnel;
    assert_eq!(
        chosen(&pools, &[], tunnel).unwrap(),
        ["all", "here", "tunnels"]
    );
    assert_eq!(
        chosen(&pools, &[], |query| query.family = Family::V6).unwrap(),
        ["v6"]
    );
}

#[test]
fn requested_pools_are_used_in_order_whatever_they_select() {
    let pools = [
        pool(
            "a",
            "10.0.0.0/24",
            json!({ "nodeSelector": "zone == 'b'", "assignmentMode": "Manual" }),
        ),
        pool("b", "10.0.1.0/24", json!({})),
    ];
    assert_eq!(
        chosen(&pools, &["b", "10.0.0.0/24", "a"], |_| {}).unwrap(),
        ["b", "a"]
    );
}

#[test]
fn requested_pools_that_cannot_serve_are_named() {
    let pools = [
        pool("off", "10.0.0.0/24", json!({ "disabled": true })),
        pool(
            "tunnels",
            "10.0.1.0/24",
            json!({ "allowedUses": ["Tunnel"] }),
        ),
        pool("v6", "fd00::/64", json!({})),
    ];
    for (requested, expected) in [
        (
            "none",
            "requested pool \"none\" does not exist: name an IPPool or write its spec.cidr",
        ),
        (
            "10.9.0.0/24",
            "requested pool \"10.9.0.0/24\" does not exist: name an IPPool or write its spec.cidr",
        ),
        (
            "off",
            "requested pool \"off\" cannot be used: spec.disabled is true: change the IPPool or name another",
        ),
        (
            "tunnels",
            "requested pool \"tunnels\" cannot be used: spec.allowedUses lacks Workload: change the IPPool or name another",
        ),
        (
            "v6",
            "requested pool \"v6\" is fd00::/64, not IPv4: name it in the list of its own address family",
        ),
    ] {
        assert_eq!(chosen(&pools, &[requested], |_| {}).unwrap_err(), expected);
    }
}

#[test]
fn a_pool_with_a_broken_selector_serves_nobody() {
    let pools = [pool(
        "odd",
        "10.0.0.0/24",
        json!({ "nodeSelector": "zone ==" }),
    )];
    assert_eq!(chosen(&pools, &[], |_| {}).unwrap(), [""; 0]);
    assert!(!pools[0].usable());
}

#[test]
fn the_most_specific_pool_contains_an_address() {
    let pools = [
        pool("wide", "10.0.0.0/16", json!({})),
        pool("narrow", "10.0.1.0/24", json!({})),
    ];
    let name =
        |text: &str| containing(&pools, text.parse().unwrap()).map(|pool| pool.name.as_str());
    assert_eq!(
        (
            name("10.0.1.7/32"),
            name("10.0.2.7/32"),
            name("10.1.0.0/32")
        ),
        (Some("narrow"), Some("wide"), None)
    );
}
