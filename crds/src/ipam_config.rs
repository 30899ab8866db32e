//! `IPAMConfig`: address management settings of the cluster.

#![allow(
    unreachable_pub,
    reason = "`KubeSchema` derives through a second struct inside a function"
)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::FieldError;
use crate::resource::custom_resource;

/// Longest time an address can rest before reuse.
const MAX_COOLDOWN_SECS: u32 = 1200;

/// Address management settings of the cluster. Only the object named `default` counts.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "crd.projectcalico.org",
    version = "v1",
    kind = "IPAMConfig",
    root = "IpamConfig",
    plural = "ipamconfigs",
    singular = "ipamconfig",
    category = "tortie",
    derive = "PartialEq",
    doc = "Address management settings of the cluster. Only the object named default counts.",
    printcolumn = r#"{"name": "Strict", "type": "boolean", "jsonPath": ".spec.strictAffinity"}"#,
    printcolumn = r#"{"name": "Auto", "type": "boolean", "jsonPath": ".spec.autoAllocateBlocks"}"#,
    printcolumn = r#"{"name": "Max blocks", "type": "integer", "jsonPath": ".spec.maxBlocksPerHost"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.strictAffinity || self.autoAllocateBlocks")
        .message("without strictAffinity blocks must be claimed automatically; set autoAllocateBlocks or strictAffinity to true")
)]
pub struct IpamConfigSpec {
    /// Whether a node takes addresses only from its own blocks. With false it borrows when its blocks are full.
    pub strict_affinity: bool,

    /// Whether nodes claim blocks when they need addresses.
    pub auto_allocate_blocks: bool,

    /// Most blocks one node may claim; 0 means 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_blocks_per_host: Option<u32>,

    /// Seconds an address rests after its release before it is given out again, 0 to 1200. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1200))]
    pub ip_cooldown_seconds: Option<u32>,

    /// Whether the address of a KubeVirt virtual machine outlives its pod.
    #[serde(
        default,
        rename = "kubeVirtVMAddressPersistence",
        skip_serializing_if = "Option::is_none"
    )]
    pub kube_virt_vm_address_persistence: Option<Persistence>,
}

/// Whether something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum Persistence {
    /// Kept.
    Enabled,
    /// Not kept.
    Disabled,
}

impl Default for IpamConfigSpec {
    /// What holds when the object does not exist.
    fn default() -> Self {
        IpamConfigSpec {
            strict_affinity: false,
            auto_allocate_blocks: true,
            max_blocks_per_host: None,
            ip_cooldown_seconds: None,
            kube_virt_vm_address_persistence: None,
        }
    }
}

impl IpamConfigSpec {
    /// Most blocks one node may claim: 20 when unset or 0.
    pub fn max_blocks_per_host(&self) -> u32 {
        self.max_blocks_per_host.filter(|n| *n > 0).unwrap_or(20)
    }

    fn check(&self, errors: &mut Vec<FieldError>) {
        if !self.strict_affinity && !self.auto_allocate_blocks {
            let problem = "false together with spec.strictAffinity false: nodes could only borrow from each other";
            errors.push(FieldError::new(
                "spec.autoAllocateBlocks",
                problem,
                "set one of them to true",
            ));
        }
        if let Some(secs) = self.ip_cooldown_seconds.filter(|s| *s > MAX_COOLDOWN_SECS) {
            let problem = format!("{secs} is above {MAX_COOLDOWN_SECS}");
            errors.push(FieldError::new(
                "spec.ipCooldownSeconds",
                problem,
                "choose 0 to 1200",
            ));
        }
    }
}

custom_resource!(IpamConfig);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resource;

    #[test]
    fn neither_owning_nor_claiming_is_refused() {
        let spec = IpamConfigSpec {
            auto_allocate_blocks: false,
            ip_cooldown_seconds: Some(1201),
            ..Default::default()
        };
        let errors = IpamConfig::new("default", spec).validate().unwrap_err();
        let fields: Vec<_> = errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(
            fields,
            ["spec.autoAllocateBlocks", "spec.ipCooldownSeconds"]
        );
    }

    #[test]
    fn zero_blocks_per_host_means_twenty() {
        let spec = IpamConfigSpec {
            max_blocks_per_host: Some(0),
            ..Default::default()
        };
        assert_eq!(spec.max_blocks_per_host(), 20);
    }
}
