//! The rules in the schema and the rules in code are the same rules.

use crds::{AnyResource, Kind};
use kube_cel::Validator;
use serde_json::{Value, json};

fn schema(kind: Kind) -> Value {
    let crd = crds::manifest::crd(kind).unwrap_or_default();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn manifest(kind: Kind, spec: &Value) -> Value {
    json!({ "apiVersion": kind.api_version(), "kind": kind.name(), "metadata": { "name": "a" }, "spec": spec })
}

/// What the rules of the schema say, and what the code says.
fn verdicts(kind: Kind, spec: &Value) -> (Vec<String>, Vec<String>) {
    let object = manifest(kind, spec);
    let rules = Validator::new().validate(&schema(kind), &object, None);
    let rules = rules.err().map_or_else(Vec::new, |errors| {
        errors.iter().map(ToString::to_string).collect()
    });
    let code = AnyResource::parse(kind, &object).err().unwrap_or_default();
    (rules, code.iter().map(ToString::to_string).collect())
}

fn both_accept(kind: Kind, specs: &[Value]) {
    for spec in specs {
        assert_eq!(verdicts(kind, spec), (vec![], vec![]), "{kind} {spec}");
    }
}

/// Each is broken in one way, which both must find.
fn both_refuse(kind: Kind, specs: &[Value]) {
    for spec in specs {
        let (rules, code) = verdicts(kind, spec);
        assert_eq!(
            (rules.len(), code.len()),
            (1, 1),
            "{kind} {spec}: rules {rules:?}, code {code:?}"
        );
    }
}

#[test]
fn ip_pool() {
    both_accept(
        Kind::IpPool,
        &[
            json!({ "cidr": "10.0.0.0/16" }),
            json!({ "cidr": "10.0.0.0/26" }),
            json!({ "cidr": "10.0.0.0/27", "disabled": true }),
            json!({ "cidr": "fd00::/122", "vxlanMode": "Always" }),
            json!({ "cidr": "10.0.0.0/16", "blockSize": 32, "ipipMode": "CrossSubnet", "vxlanMode": "Never" }),
            json!({ "cidr": "10.0.0.0/16", "allowedUses": ["LoadBalancer"], "nodeSelector": "all()" }),
            json!({ "cidr": "10.0.0.0/16", "allowedUses": ["Workload"], "namespaceSelector": "has(team)" }),
        ],
    );
    both_refuse(
        Kind::IpPool,
        &[
            json!({ "cidr": "10.0.0.1/16" }),
            json!({ "cidr": "pods" }),
            json!({ "cidr": "10.0.0.0/27" }),
            json!({ "cidr": "10.0.0.0/16", "blockSize": 19 }),
            json!({ "cidr": "10.0.0.0/16", "blockSize": 33 }),
            json!({ "cidr": "fd00::/48", "blockSize": 115 }),
            json!({ "cidr": "10.0.0.0/16", "ipipMode": "Always", "vxlanMode": "Always" }),
            json!({ "cidr": "fd00::/48", "ipipMode": "CrossSubnet" }),
            json!({ "cidr": "169.254.128.0/17" }),
            json!({ "cidr": "168.0.0.0/7" }),
            json!({ "cidr": "fe80::/64" }),
            json!({ "cidr": "10.0.0.0/16", "allowedUses": ["LoadBalancer", "Tunnel"] }),
            json!({ "cidr": "10.0.0.0/16", "allowedUses": ["LoadBalancer"], "vxlanMode": "Always" }),
            json!({ "cidr": "10.0.0.0/16", "allowedUses": ["LoadBalancer"], "nodeSelector": "has(a)" }),
            json!({ "cidr": "10.0.0.0/16", "allowedUses": ["LoadBalancer"], "disableBGPExport": true }),
            json!({ "cidr": "10.0.0.0/16", "namespaceSelector": "has(team)" }),
        ],
    );
}

#[test]
fn bgp_peer() {
    both_accept(
        Kind::BgpPeer,
        &[
            json!({ "peerIP": "192.0.2.1", "asNumber": 64512, "reachableBy": "198.51.100.1" }),
            json!({ "nodeSelector": "all()", "peerSelector": "has(rr)", "node": "", "reachableBy": "", "peerIP": "" }),
            json!({ "peerIP": "192.0.2.1:1790" }),
            json!({ "peerIP": "2001:db8::1" }),
            json!({ "peerIP": "[2001:db8::1]:65535" }),
            json!({ "localWorkloadSelector": "has(bgp)", "asNumber": "65000.1", "keepOriginalNextHop": true }),
            json!({ "peerIP": "192.0.2.1", "failureDetectionMode": "BFDIfDirectlyConnected", "bfd": { "multiplier": 5 }, "roleStrict": false }),
            json!({ "peerIP": "192.0.2.1", "role": "Customer", "roleStrict": true, "maxPrefixes": { "limit": 9, "restartAfter": "5m" } }),
            json!({ "peerIP": "192.0.2.1", "maxPrefixes": { "limit": 9, "action": "Close", "restartAfter": "5m" } }),
        ],
    );
    both_refuse(
        Kind::BgpPeer,
        &[
            json!({}),
            json!({ "peerIP": "192.0.2.1", "node": "a", "nodeSelector": "all()" }),
            json!({ "peerIP": "192.0.2.1", "peerSelector": "all()" }),
            json!({ "peerSelector": "all()", "asNumber": 64512 }),
            json!({ "localWorkloadSelector": "all()" }),
            json!({ "localWorkloadSelector": "all()", "peerIP": "192.0.2.1", "asNumber": 64512 }),
            json!({ "peerSelector": "all()", "reachableBy": "192.0.2.9" }),
            json!({ "peerIP": "192.0.2.1", "keepOriginalNextHop": true, "nextHopMode": "Self" }),
            json!({ "peerIP": "192.0.2.1", "bfd": {} }),
            json!({ "peerIP": "192.0.2.1", "failureDetectionMode": "None", "bfd": {} }),
            json!({ "peerIP": "192.0.2.1", "roleStrict": true }),
            json!({ "peerIP": "router-1" }),
            json!({ "peerIP": "192.0.2.1:" }),
            json!({ "peerIP": "192.0.2.1:0" }),
            json!({ "peerIP": "192.0.2.1:65536" }),
            json!({ "peerIP": "192.0.2:1790" }),
            json!({ "peerIP": "2001:db8::1]:1790" }),
            json!({ "peerIP": "[2001:db8::1]" }),
            json!({ "peerIP": "192.0.2.1", "reachableBy": "192.0.2.0/24" }),
            json!({ "peerIP": "192.0.2.1", "maxPrefixes": { "limit": 9, "action": "Discard", "restartAfter": "5m" } }),
        ],
    );
}

#[test]
fn bgp_filter() {
    both_accept(
        Kind::BgpFilter,
        &[
            json!({}),
            json!({ "exportV4": [{ "action": "Accept", "matchOperator": "In", "cidr": "10.0.0.0/8", "prefixLength": { "min": 16 } }] }),
            json!({ "importV6": [{ "action": "Reject", "matchOperator": "NotEqual", "cidr": "fd00::/48", "source": "RemotePeers" }] }),
            json!({ "importV4": [
                { "action": "Accept", "interface": "eth*", "peerType": "eBGP", "priority": 512,
                  "communities": { "values": ["65000:1:2"] }, "asPathPrefix": [65000, "65000.1"],
                  "operations": [{ "addCommunity": { "value": "65000:1" } }, { "prependASPath": { "prefix": [65000] } }, { "setPriority": { "value": 1 } }] },
                { "action": "Reject" },
            ] }),
        ],
    );
    let rule = |rule: Value| json!({ "importV4": [{ "action": "Accept" }, rule] });
    both_refuse(
        Kind::BgpFilter,
        &[
            rule(json!({ "action": "Accept", "matchOperator": "In", "cidr": "fd00::/48" })),
            json!({ "exportV6": [{ "action": "Accept", "matchOperator": "In", "cidr": "10.0.0.0/8" }] }),
            rule(json!({ "action": "Accept", "cidr": "10.0.0.0/8" })),
            rule(json!({ "action": "Accept", "matchOperator": "In" })),
            rule(json!({ "action": "Accept", "prefixLength": { "max": 24 } })),
            rule(json!({ "action": "Reject", "operations": [{ "setPriority": { "value": 1 } }] })),
            rule(json!({ "action": "Accept", "operations": [{}] })),
            rule(
                json!({ "action": "Accept", "operations": [{ "setPriority": { "value": 1 }, "addCommunity": { "value": "1:1" } }] }),
            ),
        ],
    );
}

#[test]
fn a_filter_with_a_value_out_of_range_names_its_field() {
    for (rule, field) in [
        (json!({ "action": "Accept", "priority": 0 }), "priority"),
        (
            json!({ "action": "Accept", "communities": { "values": ["65536:1"] } }),
            "communities.values[0]",
        ),
        (
            json!({ "action": "Accept", "communities": { "values": [] } }),
            "communities.values",
        ),
        (
            json!({ "action": "Accept", "operations": [{ "addCommunity": { "value": "blue" } }] }),
            "operations[0].addCommunity.value",
        ),
        (
            json!({ "action": "Accept", "operations": [{ "setPriority": { "value": 0 } }] }),
            "operations[0].setPriority.value",
        ),
    ] {
        let object = manifest(Kind::BgpFilter, &json!({ "exportV4": [rule] }));
        let errors = AnyResource::parse(Kind::BgpFilter, &object).unwrap_err();
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, [format!("spec.exportV4[0].{field}")]);
    }
}

#[test]
fn bgp_configuration() {
    let advertisement = json!([{ "cidr": "10.0.0.0/16", "communities": ["blue"] }]);
    let blue = json!([{ "name": "blue", "value": "65000:1" }]);
    both_accept(
        Kind::BgpConfiguration,
        &[
            json!({}),
            json!({ "nodeToNodeMeshEnabled": false }),
            json!({ "nodeMeshMaxRestartTime": "90s", "communities": blue, "prefixAdvertisements": advertisement }),
        ],
    );
    both_refuse(
        Kind::BgpConfiguration,
        &[
            json!({ "nodeToNodeMeshEnabled": false, "nodeMeshMaxRestartTime": "90s" }),
            json!({ "communities": blue }),
        ],
    );
}

#[test]
fn ipam_config() {
    both_accept(
        Kind::IpamConfig,
        &[
            json!({ "strictAffinity": true, "autoAllocateBlocks": false }),
            json!({ "strictAffinity": false, "autoAllocateBlocks": true }),
        ],
    );
    both_refuse(
        Kind::IpamConfig,
        &[json!({ "strictAffinity": false, "autoAllocateBlocks": false })],
    );
}

#[test]
fn what_cannot_change_is_refused_with_what_to_do() {
    let change = |kind: Kind, before: Value, after: Value| {
        let result = Validator::new().validate(
            &schema(kind),
            &manifest(kind, &after),
            Some(&manifest(kind, &before)),
        );
        result
            .err()
            .map_or_else(String::new, |errors| errors.to_string())
    };
    let pool = json!({ "cidr": "10.0.0.0/16" });
    let cidr = change(Kind::IpPool, pool.clone(), json!({ "cidr": "10.1.0.0/16" }));
    assert!(
        cidr.contains("create a new pool, disable this one"),
        "{cidr}"
    );
    let size = change(
        Kind::IpPool,
        pool.clone(),
        json!({ "cidr": "10.0.0.0/16", "blockSize": 28 }),
    );
    assert!(size.contains("blockSize cannot change"), "{size}");
    assert_eq!(
        change(
            Kind::IpPool,
            pool,
            json!({ "cidr": "10.0.0.0/16", "blockSize": 26, "disabled": true })
        ),
        ""
    );
}
