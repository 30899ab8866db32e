//! A pool that cannot be used as it is written: what can be read of it.
//!
//! What is not understood counts as what does least harm: no route, no announcement, no translation.

use crds::ip_pool::EncapMode;
use ipnet::IpNet;
use serde_json::Value;

use super::encap_of;
use crate::UnreadPool;
use crate::facts::{Encap, Pool, Tunnel, Unread};

/// What is known of it.
pub(crate) fn unread(unread: UnreadPool) -> Unread {
    Unread {
        pool: unread.manifest.as_ref().and_then(pool),
        name: unread.name,
    }
}

/// A pool, when its range can be read.
fn pool(manifest: &Value) -> Option<Pool> {
    let spec = manifest.get("spec")?;
    let cidr: IpNet = spec.get("cidr")?.as_str()?.trim().parse().ok()?;
    let cidr = cidr.trunc();
    let v4 = cidr.addr().is_ipv4();
    let (encap, tunnel) = match (mode(spec, "ipipMode"), mode(spec, "vxlanMode")) {
        (Some(EncapMode::Never), Some(vxlan)) => (encap_of(vxlan), Tunnel::Vxlan),
        (Some(ipip), Some(EncapMode::Never)) if v4 => (encap_of(ipip), Tunnel::Ipip),
        _ => (Encap::Unknown, Tunnel::Vxlan),
    };
    let size = spec.get("blockSize").and_then(Value::as_u64);
    let size = size.and_then(|size| u8::try_from(size).ok());
    let size = size.filter(|size| (cidr.prefix_len()..=cidr.max_prefix_len()).contains(size));
    let hidden = flag(spec, "disableBGPExport").unwrap_or(true);
    Some(Pool {
        cidr,
        block_size: size.unwrap_or(if v4 { 26 } else { 122 }),
        encap,
        tunnel,
        disabled: flag(spec, "disabled").unwrap_or(false),
        nat: flag(spec, "natOutgoing").unwrap_or(false),
        export: !hidden,
    })
}

/// A mode, Never when there is none.
fn mode(spec: &Value, field: &str) -> Option<EncapMode> {
    match spec.get(field) {
        None | Some(Value::Null) => Some(EncapMode::Never),
        Some(value) => match value.as_str()? {
            "" | "Never" => Some(EncapMode::Never),
            "Always" => Some(EncapMode::Always),
            "CrossSubnet" => Some(EncapMode::CrossSubnet),
            _ => None,
        },
    }
}

/// A switch, off when there is none.
fn flag(spec: &Value, field: &str) -> Option<bool> {
    match spec.get(field) {
        None | Some(Value::Null) => Some(false),
        Some(value) => value.as_bool(),
    }
}
