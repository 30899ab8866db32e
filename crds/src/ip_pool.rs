//! `IPPool`: addresses pods may get.

#![allow(
    unreachable_pub,
    reason = "`KubeSchema` derives through a second struct inside a function"
)]

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::custom_resource;
use crate::selector::check_selector;
use crate::{Cidr, Condition, FieldError, IpamBlockSpec};

/// A range of addresses given to pods and tunnels, cut into blocks that nodes claim.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "crd.projectcalico.org",
    version = "v1",
    kind = "IPPool",
    root = "IpPool",
    plural = "ippools",
    singular = "ippool",
    shortname = "pool",
    category = "tortie",
    status = "IpPoolStatus",
    derive = "PartialEq",
    doc = "A range of addresses given to pods and tunnels, cut into blocks that nodes claim.",
    printcolumn = r#"{"name": "CIDR", "type": "string", "jsonPath": ".spec.cidr"}"#,
    printcolumn = r#"{"name": "IPIP", "type": "string", "jsonPath": ".spec.ipipMode"}"#,
    printcolumn = r#"{"name": "VXLAN", "type": "string", "jsonPath": ".spec.vxlanMode"}"#,
    printcolumn = r#"{"name": "NAT", "type": "boolean", "jsonPath": ".spec.natOutgoing"}"#,
    printcolumn = r#"{"name": "Used", "type": "integer", "jsonPath": ".status.used"}"#,
    printcolumn = r#"{"name": "Free", "type": "integer", "jsonPath": ".status.free"}"#,
    printcolumn = r#"{"name": "Disabled", "type": "boolean", "jsonPath": ".spec.disabled"}"#,
    printcolumn = r#"{"name": "Selector", "type": "string", "jsonPath": ".spec.nodeSelector"}"#,
    printcolumn = r#"{"name": "Block", "type": "integer", "jsonPath": ".spec.blockSize", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("isCIDR(self.cidr) && cidr(self.cidr) == cidr(self.cidr).masked()")
        .message("cidr must be a prefix without host bits; write it like 10.0.0.0/16 or fd00:1::/48"),
    validation = Rule::new("self.cidr == oldSelf.cidr")
        .message("cidr cannot change; create a new pool, disable this one, and delete it when its pods are gone"),
    validation = Rule::new(
        "(has(self.blockSize) ? self.blockSize : (self.cidr.contains(':') ? 122 : 26)) == (has(oldSelf.blockSize) ? oldSelf.blockSize : (oldSelf.cidr.contains(':') ? 122 : 26))"
    )
    .message("blockSize cannot change; create a new pool with the size you want and disable this one"),
    validation = Rule::new(
        "!has(self.blockSize) || (self.cidr.contains(':') ? self.blockSize >= 116 && self.blockSize <= 128 : self.blockSize >= 20 && self.blockSize <= 32)"
    )
    .message("blockSize must be 20 to 32 in an IPv4 pool and 116 to 128 in an IPv6 pool"),
    validation = Rule::new(
        "(has(self.disabled) && self.disabled) || !isCIDR(self.cidr) || cidr(self.cidr).prefixLength() <= (has(self.blockSize) ? self.blockSize : (self.cidr.contains(':') ? 122 : 26))"
    )
    .message("the pool is smaller than one block; enlarge cidr or choose a blockSize not below its prefix length"),
    validation = Rule::new(
        "!(has(self.ipipMode) && self.ipipMode != 'Never' && has(self.vxlanMode) && self.vxlanMode != 'Never')"
    )
    .message("ipipMode and vxlanMode are both on; set one of them to Never"),
    validation = Rule::new("!(self.cidr.contains(':') && has(self.ipipMode) && self.ipipMode != 'Never')")
        .message("IPIP carries IPv4 only; set ipipMode to Never and use vxlanMode in an IPv6 pool"),
    validation = Rule::new(
        "!isCIDR(self.cidr) || !(cidr(self.cidr).containsCIDR('169.254.0.0/16') || cidr('169.254.0.0/16').containsCIDR(self.cidr))"
    )
    .message("cidr overlaps the link-local range 169.254.0.0/16; choose another range"),
    validation = Rule::new(
        "!isCIDR(self.cidr) || !(cidr(self.cidr).containsCIDR('fe80::/10') || cidr('fe80::/10').containsCIDR(self.cidr))"
    )
    .message("cidr overlaps the link-local range fe80::/10; choose another range"),
    validation = Rule::new(
        "!has(self.allowedUses) || !('LoadBalancer' in self.allowedUses) || (self.allowedUses.size() == 1 && (!has(self.ipipMode) || self.ipipMode == 'Never') && (!has(self.vxlanMode) || self.vxlanMode == 'Never') && (!has(self.nodeSelector) || self.nodeSelector == '' || self.nodeSelector == 'all()') && !(has(self.disableBGPExport) && self.disableBGPExport))"
    )
    .message("a LoadBalancer pool has no other use, no encapsulation, nodeSelector all() and BGP export on; make a pool of its own for pods"),
    validation = Rule::new(
        "!has(self.namespaceSelector) || self.namespaceSelector == '' || (has(self.allowedUses) && !('Tunnel' in self.allowedUses))"
    )
    .message("tunnels have no namespace; with a namespaceSelector set allowedUses to [Workload]")
)]
pub struct IpPoolSpec {
    /// The range, for example 10.0.0.0/16 or fd00:1::/48, without host bits. Cannot change.
    pub cidr: Cidr,

    /// Prefix length of a block: 20 to 32 for IPv4 (default 26), 116 to 128 for IPv6 (default 122). Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u8>,

    /// When packets between nodes travel inside IPIP: Always, CrossSubnet (only between different subnets), Never (default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipip_mode: Option<EncapMode>,

    /// When packets between nodes travel inside VXLAN: Always, CrossSubnet (only between different subnets), Never (default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan_mode: Option<EncapMode>,

    /// Whether packets from this pool to addresses outside all pools leave with the node's address. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat_outgoing: Option<bool>,

    /// No new addresses are given out; those in use stay and keep their routes. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,

    /// No route of this pool is told to BGP peers. Default false.
    #[serde(
        default,
        rename = "disableBGPExport",
        skip_serializing_if = "Option::is_none"
    )]
    pub disable_bgp_export: Option<bool>,

    /// Nodes that may claim blocks, as a selector over node labels: `zone == 'a'`. Default all().
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub node_selector: Option<String>,

    /// Namespaces whose pods may get addresses, as a selector over namespace labels. Default: every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub namespace_selector: Option<String>,

    /// What addresses are for: Workload, Tunnel, LoadBalancer. Default Workload and Tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    pub allowed_uses: Option<Vec<AllowedUse>>,

    /// Automatic (default): pods get addresses on their own. Manual: only pods that name this pool do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment_mode: Option<AssignmentMode>,
}

/// When packets between nodes are encapsulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum EncapMode {
    /// Between any two nodes.
    Always,
    /// Between nodes of different subnets.
    CrossSubnet,
    /// Not at all.
    #[default]
    #[serde(alias = "")]
    Never,
}

/// What an address of a pool is for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum AllowedUse {
    /// Pods.
    Workload,
    /// Tunnel devices of nodes.
    Tunnel,
    /// Services of type LoadBalancer.
    LoadBalancer,
}

/// Whether a pool is used without being named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum AssignmentMode {
    /// For every pod it may serve.
    #[default]
    Automatic,
    /// Only for pods that name it.
    Manual,
}

/// What is known about the pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IpPoolStatus {
    /// Addresses given out, as the controller counted them last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// Addresses that are not; 9007199254740991 stands for that many and more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<u64>,
    /// `Allocatable`: whether addresses can be taken from it, and if not, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl IpPoolSpec {
    /// A pool with every setting at its default.
    pub fn new(cidr: Cidr) -> IpPoolSpec {
        IpPoolSpec {
            cidr,
            block_size: None,
            ipip_mode: None,
            vxlan_mode: None,
            nat_outgoing: None,
            disabled: None,
            disable_bgp_export: None,
            node_selector: None,
            namespace_selector: None,
            allowed_uses: None,
            assignment_mode: None,
        }
    }

    /// How many of its addresses are given out in these blocks; a block that is being deleted does not count.
    pub fn used<'a>(&self, blocks: impl Iterator<Item = &'a IpamBlockSpec>) -> u64 {
        let own = blocks.filter(|block| !block.deleted && self.cidr.contains(&block.cidr.net()));
        own.map(|block| u64::try_from(block.used()).unwrap_or(u64::MAX))
            .sum()
    }

    /// Prefix length of a block: 26 and 122 when not set.
    pub fn block_size(&self) -> u8 {
        self.block_size
            .unwrap_or(if self.cidr.is_ipv6() { 122 } else { 26 })
    }

    /// `ipipMode`, Never when not set.
    pub fn ipip_mode(&self) -> EncapMode {
        self.ipip_mode.unwrap_or_default()
    }

    /// `vxlanMode`, Never when not set.
    pub fn vxlan_mode(&self) -> EncapMode {
        self.vxlan_mode.unwrap_or_default()
    }

    /// `natOutgoing`, false when not set.
    pub fn nat_outgoing(&self) -> bool {
        self.nat_outgoing.unwrap_or(false)
    }

    /// `disabled`, false when not set.
    pub fn disabled(&self) -> bool {
        self.disabled.unwrap_or(false)
    }

    /// `disableBGPExport`, false when not set.
    pub fn disable_bgp_export(&self) -> bool {
        self.disable_bgp_export.unwrap_or(false)
    }

    /// Whether the pool may be used for this: Workload and Tunnel when nothing is set.
    pub fn allows(&self, usage: AllowedUse) -> bool {
        match self.allowed_uses.as_deref() {
            None | Some([]) => usage != AllowedUse::LoadBalancer,
            Some(uses) => uses.contains(&usage),
        }
    }

    /// `assignmentMode`, Automatic when not set.
    pub fn assignment_mode(&self) -> AssignmentMode {
        self.assignment_mode.unwrap_or_default()
    }

    fn check(&self, errors: &mut Vec<FieldError>) {
        self.check_range(errors);
        self.check_encapsulation(errors);
        self.check_uses(errors);
        check_selector("spec.nodeSelector", self.node_selector.as_deref(), errors);
        check_selector(
            "spec.namespaceSelector",
            self.namespace_selector.as_deref(),
            errors,
        );
    }

    fn check_range(&self, errors: &mut Vec<FieldError>) {
        let (size, low, high) = match self.cidr.net() {
            IpNet::V4(_) => (self.block_size(), 20, 32),
            IpNet::V6(_) => (self.block_size(), 116, 128),
        };
        if !(low..=high).contains(&size) {
            let problem = format!("block size /{size} is not between /{low} and /{high}");
            errors.push(FieldError::new(
                "spec.blockSize",
                problem,
                format!("choose {low} to {high}"),
            ));
        } else if self.cidr.prefix_len() > size && !self.disabled() {
            let problem = format!("pool {} is smaller than one block of /{size}", self.cidr);
            let remedy = format!("enlarge the pool to at least /{size} or raise spec.blockSize");
            errors.push(FieldError::new("spec.cidr", problem, remedy));
        }
        for range in link_local_ranges() {
            if self.cidr.overlaps(&range) {
                let problem = format!("{} overlaps the link-local range {range}", self.cidr);
                errors.push(FieldError::new(
                    "spec.cidr",
                    problem,
                    "choose another range",
                ));
            }
        }
    }

    fn check_encapsulation(&self, errors: &mut Vec<FieldError>) {
        let (ipip, vxlan) = (self.ipip_mode(), self.vxlan_mode());
        if ipip != EncapMode::Never && vxlan != EncapMode::Never {
            let problem = format!("ipipMode {ipip:?} and vxlanMode {vxlan:?} are both on");
            errors.push(FieldError::new(
                "spec.ipipMode",
                problem,
                "set one of them to Never",
            ));
        }
        if self.cidr.is_ipv6() && ipip != EncapMode::Never {
            let problem = format!("IPIP carries IPv4 only and {} is IPv6", self.cidr);
            errors.push(FieldError::new(
                "spec.ipipMode",
                problem,
                "set it to Never and use spec.vxlanMode",
            ));
        }
    }

    fn check_uses(&self, errors: &mut Vec<FieldError>) {
        let field = "spec.allowedUses";
        if self.allows(AllowedUse::LoadBalancer) {
            let plain =
                self.ipip_mode() == EncapMode::Never && self.vxlan_mode() == EncapMode::Never;
            let all_nodes = matches!(self.node_selector.as_deref(), None | Some("" | "all()"));
            let exclusive = !self.allows(AllowedUse::Workload) && !self.allows(AllowedUse::Tunnel);
            if !(plain && all_nodes && exclusive && !self.disable_bgp_export()) {
                let problem = "a LoadBalancer pool has no other use, no encapsulation, nodeSelector all() and BGP export on";
                errors.push(FieldError::new(
                    field,
                    problem,
                    "make a pool of its own for pods",
                ));
            }
        }
        let namespaces = self
            .namespace_selector
            .as_deref()
            .is_some_and(|s| !s.is_empty());
        if namespaces && self.allows(AllowedUse::Tunnel) {
            let problem = "tunnels have no namespace, but spec.namespaceSelector is set";
            errors.push(FieldError::new(field, problem, "set it to [Workload]"));
        }
    }
}

custom_resource!(IpPool);

fn link_local_ranges() -> [Cidr; 2] {
    [
        Cidr::masking(IpNet::V4(Ipv4Net::new_assert(
            Ipv4Addr::new(169, 254, 0, 0),
            16,
        ))),
        Cidr::masking(IpNet::V6(Ipv6Net::new_assert(
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
            10,
        ))),
    ]
}

/// Two pools that share addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Name of the larger pool.
    pub outer: String,
    /// Name of the pool inside it.
    pub inner: String,
    /// What to tell the owner of the inner pool.
    pub error: FieldError,
}

/// Finds pools that share addresses; each pool is reported once, against the smallest pool that contains it.
///
/// The API server cannot see this: every object is judged alone there.
pub fn overlaps(pools: &[IpPool]) -> Vec<Overlap> {
    let mut sorted: Vec<&IpPool> = pools.iter().collect();
    let name = |pool: &IpPool| pool.metadata.name.clone().unwrap_or_default();
    // A prefix sorts right before what it contains, so the open ones form a stack.
    sorted.sort_by_key(|pool| {
        (
            pool.spec.cidr.is_ipv6(),
            pool.spec.cidr.network(),
            pool.spec.cidr.prefix_len(),
            name(pool),
        )
    });
    let mut open: Vec<&IpPool> = Vec::new();
    let mut found = Vec::new();
    for pool in sorted {
        while open
            .last()
            .is_some_and(|outer| !outer.spec.cidr.overlaps(&pool.spec.cidr))
        {
            open.pop();
        }
        if let Some(outer) = open.last() {
            let problem = format!(
                "{} overlaps {} of pool {}",
                pool.spec.cidr,
                outer.spec.cidr,
                name(outer)
            );
            let error = FieldError::new(
                "spec.cidr",
                problem,
                "delete one of the two pools or choose another range",
            );
            found.push(Overlap {
                outer: name(outer),
                inner: name(pool),
                error,
            });
        }
        open.push(pool);
    }
    found
}

#[cfg(test)]
mod tests;
