//! Objects of nodes that are simulated, as kubelets and agents write them.

use std::net::Ipv4Addr;

use e2e::apiserver::bulk::Request;
use serde_json::{Map, Value, json};

pub(super) const NODES: &str = "/api/v1/nodes";
pub(super) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(super) const BLOCKS: &str = "/apis/crd.projectcalico.org/v1/ipamblocks";
pub(super) const AFFINITIES: &str = "/apis/crd.projectcalico.org/v1/blockaffinities";
pub(super) const HANDLES: &str = "/apis/crd.projectcalico.org/v1/ipamhandles";

/// The range of all blocks.
pub(super) const POOL: &str = "10.64.0.0/10";
/// Addresses of a block.
pub(super) const BLOCK: usize = 64;
/// Of its Node, a kubelet tells so many images (its default is 50).
const IMAGES: usize = 50;

/// A pool with this mode of VXLAN.
pub(super) fn pool(vxlan: &str) -> String {
    format!(
        "{{apiVersion: crd.projectcalico.org/v1, kind: IPPool, metadata: {{name: pods}}, \
         spec: {{cidr: {POOL}, blockSize: 26, vxlanMode: {vxlan}, ipipMode: Never}}}}"
    )
}

/// The name of a simulated node.
pub(super) fn node_name(number: usize) -> String {
    format!("worker-{number:04}")
}

/// A Node with what a kubelet says of it, and the annotations of an agent.
pub(super) fn node(number: usize) -> Value {
    let name = node_name(number);
    let offset = u32::try_from(number).unwrap_or_default();
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + offset);
    let images: Vec<Value> = (0..IMAGES).map(image).collect();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "kubernetes.io/hostname": name,
                "node.kubernetes.io/instance-type": "m5.xlarge",
                "topology.kubernetes.io/region": "region-1", "topology.kubernetes.io/zone": format!("zone-{}", number % 3),
            },
            "annotations": {
                "node.alpha.kubernetes.io/ttl": "0",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
                "projectcalico.org/IPv4Address": format!("{address}/15"),
                "projectcalico.org/IPv4VXLANTunnelAddr": first(number * 10).to_string(),
            },
        },
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "capacity": {"cpu": "4", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi"},
            "allocatable": {"cpu": "3920m", "memory": "15Gi", "pods": "110", "ephemeral-storage": "90Gi"},
            "conditions": conditions("2026-01-02T03:04:05Z"),
            "nodeInfo": {
                "machineID": "ec2a1b0c", "systemUUID": "ec2a1b0c-0000-4000-8000-000000000000", "bootID": "b0070000",
                "kernelVersion": "6.12.0", "osImage": "Debian GNU/Linux 13", "containerRuntimeVersion": "containerd://2.0.0",
                "kubeletVersion": "v1.34.4", "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64",
            },
            "images": images,
        },
    })
}

fn image(number: usize) -> Value {
    let digest = format!("{number:064x}");
    let name = format!("registry.example.com/team-{}/service-{number}", number % 7);
    json!({"names": [format!("{name}@sha256:{digest}"), format!("{name}:v1.{number}.0")], "sizeBytes": 50_000_000 + number})
}

fn conditions(heartbeat: &str) -> Value {
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": format!("kubelet says {reason}"),
            "lastHeartbeatTime": heartbeat, "lastTransitionTime": "2026-01-02T03:04:05Z",
        })
    };
    json!([
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID"),
        condition("Ready", "True", "KubeletReady"),
    ])
}

/// What a kubelet writes every five minutes when nothing changes. With another `beat` it is a change.
pub(super) fn heartbeat(number: usize, beat: usize) -> Request {
    let (hours, minutes, seconds) = (beat / 3600 % 24, beat / 60 % 60, beat % 60);
    let time = format!("2026-01-03T{hours:02}:{minutes:02}:{seconds:02}Z");
    let path = format!("{NODES}/{}/status", node_name(number));
    Request::merge(path, json!({"status": {"conditions": conditions(&time)}}))
}

/// First address of a block.
pub(super) fn first(block: usize) -> Ipv4Addr {
    let offset = u32::try_from(block * BLOCK).unwrap_or_default();
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 0)) + offset)
}

/// A block as text.
pub(super) fn cidr(block: usize) -> String {
    format!("{}/26", first(block))
}

/// Its name.
pub(super) fn block_name(block: usize) -> String {
    format!("{}-26", first(block).to_string().replace('.', "-"))
}

/// The pod that has an address of a block.
pub(super) fn pod_name(block: usize, ordinal: usize) -> String {
    format!("app-{block}-7d4b9c6f5-{ordinal:02}")
}

/// The handle of such a pod, as a runtime's container id makes it.
fn handle_id(block: usize, ordinal: usize) -> String {
    format!("k8s-pod-network.{block:032x}{ordinal:032x}")
}

/// What an IPAMBlock says with its first `used` addresses in use.
pub(super) fn block_spec(block: usize, node: &str, used: usize) -> Value {
    let allocations: Vec<Option<usize>> = (0..BLOCK)
        .map(|ordinal| (ordinal < used).then_some(ordinal))
        .collect();
    let attributes: Vec<Value> = (0..used)
        .map(|ordinal| {
            json!({
                "handle_id": handle_id(block, ordinal),
                "secondary": {
                    "namespace": "default", "node": node, "pod": pod_name(block, ordinal),
                    "timestamp": "2026-01-02 03:04:05.123456789 +0000 UTC",
                },
            })
        })
        .collect();
    let unallocated: Vec<usize> = (used..BLOCK).collect();
    let numbers: Map<String, Value> = (0..used)
        .map(|ordinal| {
            (
                ordinal.to_string(),
                json!(1_767_323_045_123_456_700_u64 + ordinal as u64),
            )
        })
        .collect();
    json!({
        "cidr": cidr(block), "affinity": format!("host:{node}"), "deleted": false, "strictAffinity": false,
        "allocations": allocations, "attributes": attributes, "unallocated": unallocated,
        "sequenceNumber": 1_767_323_045_123_456_789_u64 + used as u64,
        "sequenceNumberForAllocation": numbers,
    })
}

/// Makes an IPAMBlock and its BlockAffinity.
pub(super) fn claim(block: usize, node: &str, used: usize) -> [Request; 2] {
    let object = json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "IPAMBlock",
        "metadata": {"name": block_name(block)}, "spec": block_spec(block, node, used),
    });
    [Request::create(BLOCKS, object), affinity(block, node)]
}

/// Makes a BlockAffinity.
pub(super) fn affinity(block: usize, node: &str) -> Request {
    let object = json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "BlockAffinity",
        "metadata": {"name": affinity_name(block, node)},
        "spec": {"cidr": cidr(block), "node": node, "state": "confirmed", "deleted": "false"},
    });
    Request::create(AFFINITIES, object)
}

/// Its name.
pub(super) fn affinity_name(block: usize, node: &str) -> String {
    format!("{node}-{}", block_name(block))
}

/// Makes the IPAMHandles of the first `used` addresses.
pub(super) fn handles(block: usize, used: usize) -> impl Iterator<Item = Request> {
    (0..used).map(move |ordinal| {
        let id = handle_id(block, ordinal);
        let object = json!({
            "apiVersion": "crd.projectcalico.org/v1", "kind": "IPAMHandle", "metadata": {"name": id},
            "spec": {"handleID": id, "deleted": false, "block": {cidr(block): 1}},
        });
        Request::create(HANDLES, object)
    })
}

/// Makes a Pod that runs on a node.
pub(super) fn pod(block: usize, ordinal: usize, node: &str) -> Request {
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod_name(block, ordinal)},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none"}]},
    });
    Request::create(PODS, object)
}

/// Tells the address of such a Pod.
pub(super) fn pod_status(block: usize, ordinal: usize) -> Request {
    let offset = u32::try_from(ordinal).unwrap_or_default();
    let address = Ipv4Addr::from(u32::from(first(block)) + offset).to_string();
    let path = format!("{PODS}/{}/status", pod_name(block, ordinal));
    let status =
        json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
    Request::merge(path, status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_an_entry_for_each_address() {
        let spec = block_spec(3, "n", 11);
        let length = |field: &str| spec[field].as_array().unwrap().len();
        assert_eq!(spec["cidr"], "10.64.0.192/26");
        assert_eq!(length("allocations"), 64);
        assert_eq!(length("attributes"), 11);
        assert_eq!(length("unallocated"), 53);
        assert_eq!(spec["allocations"][10], 10);
        assert_eq!(spec["allocations"][11], Value::Null);
    }

    #[test]
    fn names_are_those_of_address_management() {
        assert_eq!(block_name(4), "10-64-1-0-26");
        assert_eq!(affinity_name(4, "n"), "n-10-64-1-0-26");
    }
}
