//! `BGPFilter`: rules for routes taken from a peer and told to it.

#![allow(
    unreachable_pub,
    reason = "`KubeSchema` derives through a second struct inside a function"
)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bgp_configuration::CommunityValue;
use crate::resource::custom_resource;
use crate::{Asn, Cidr};

mod check;

/// Rules for routes taken from a peer (import) and told to it (export), for use in `filters` of a BGPPeer.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema,
)]
#[kube(
    group = "crd.projectcalico.org",
    version = "v1",
    kind = "BGPFilter",
    root = "BgpFilter",
    plural = "bgpfilters",
    singular = "bgpfilter",
    category = "tortie",
    derive = "PartialEq",
    doc = "Rules for routes taken from a peer (import) and told to it (export), for use in filters of a BGPPeer.",
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(!has(self.importV4) || self.importV4.all(r, !has(r.cidr) || !r.cidr.contains(':'))) && (!has(self.exportV4) || self.exportV4.all(r, !has(r.cidr) || !r.cidr.contains(':')))")
        .message("importV4 and exportV4 hold rules for IPv4; move rules with an IPv6 cidr to importV6 or exportV6"),
    validation = Rule::new("(!has(self.importV6) || self.importV6.all(r, !has(r.cidr) || r.cidr.contains(':'))) && (!has(self.exportV6) || self.exportV6.all(r, !has(r.cidr) || r.cidr.contains(':')))")
        .message("importV6 and exportV6 hold rules for IPv6; move rules with an IPv4 cidr to importV4 or exportV4")
)]
pub struct BgpFilterSpec {
    /// For IPv4 routes told to the peer, asked in order before Calico's own rules. The first that matches decides.
    #[serde(default, rename = "exportV4", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub export_v4: Vec<FilterRule>,

    /// For IPv4 routes taken from the peer; what no rule matches is accepted.
    #[serde(default, rename = "importV4", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub import_v4: Vec<FilterRule>,

    /// For IPv6 routes told to the peer, asked in order before Calico's own rules. The first that matches decides.
    #[serde(default, rename = "exportV6", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub export_v6: Vec<FilterRule>,

    /// For IPv6 routes taken from the peer; what no rule matches is accepted.
    #[serde(default, rename = "importV6", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub import_v6: Vec<FilterRule>,
}

/// One rule. It speaks of the routes that everything set in it matches; of all routes when nothing is.
// The rules stand here and not over all lists at once: the API server could not tell how long the lists are, and refuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cidr) == has(self.matchOperator)")
        .message("cidr and matchOperator belong together; set both or none"),
    validation = Rule::new("!has(self.prefixLength) || has(self.cidr)")
        .message("prefixLength is about the prefixes in cidr; set cidr or remove it"),
    validation = Rule::new("!has(self.operations) || self.operations.size() == 0 || self.action == 'Accept'")
        .message("operations change what is accepted; set action to Accept or remove them")
)]
pub struct FilterRule {
    /// What happens to the route: Accept or Reject.
    pub action: FilterAction,

    /// Prefix the destination is compared with; needs matchOperator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,

    /// How: Equal, NotEqual, In (the prefix and everything inside it), NotIn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_operator: Option<MatchOperator>,

    /// Lengths of prefixes that cidr stands for, with In and NotIn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<PrefixLength>,

    /// RemotePeers: only what was learned from BGP peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<FilterSource>,

    /// Interface the route leaves by; `*` stands for anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub interface: Option<String>,

    /// Only for peers of another AS (eBGP) or of the same (iBGP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<FilterPeerType>,

    /// Community the route carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<CommunityMatch>,

    /// AS numbers the AS path begins with.
    #[serde(
        default,
        rename = "asPathPrefix",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(max = 64))]
    pub as_path_prefix: Vec<Asn>,

    /// Priority of the route: its metric, told inside the AS as LOCAL_PREF 2147483647 minus it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2147483646))]
    pub priority: Option<u32>,

    /// What is changed in a route that is accepted, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub operations: Vec<Operation>,
}

/// What happens to a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FilterAction {
    /// It is taken, or told.
    Accept,
    /// It is not.
    Reject,
}

/// How a destination is compared with a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum MatchOperator {
    /// It is the prefix.
    Equal,
    /// It is another.
    NotEqual,
    /// It is the prefix or inside it.
    In,
    /// It is neither.
    NotIn,
}

/// Lengths of prefixes, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub struct PrefixLength {
    /// Shortest; the length of cidr when not set or less than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 128))]
    pub min: Option<u8>,
    /// Longest; that of a single address when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 128))]
    pub max: Option<u8>,
}

/// Where routes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum FilterSource {
    /// From BGP peers.
    RemotePeers,
}

/// Which peers a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum FilterPeerType {
    /// Those of another AS.
    #[serde(rename = "eBGP")]
    External,
    /// Those of the same AS.
    #[serde(rename = "iBGP")]
    Internal,
}

/// Communities to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub struct CommunityMatch {
    /// One community: standard 65000:100 (RFC 1997) or large 65000:100:200 (RFC 8092).
    #[schemars(
        length(min = 1, max = 1),
        inner(length(max = 32), regex(pattern = r"^[0-9]+:[0-9]+(:[0-9]+)?$"))
    )]
    pub values: Vec<String>,
}

/// One change of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.addCommunity), has(self.prependASPath), has(self.setPriority)].filter(x, x).size() == 1")
        .message("an operation does one thing; set one of addCommunity, prependASPath and setPriority")
)]
pub struct Operation {
    /// Adds a community.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_community: Option<AddCommunity>,
    /// Puts AS numbers in front of the AS path.
    #[serde(
        default,
        rename = "prependASPath",
        skip_serializing_if = "Option::is_none"
    )]
    pub prepend_as_path: Option<PrependAsPath>,
    /// Sets the priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_priority: Option<SetPriority>,
}

/// A community to add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub struct AddCommunity {
    /// Standard 65000:100 or large 65000:100:200.
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+:[0-9]+(:[0-9]+)?$"))]
    pub value: String,
}

/// AS numbers to prepend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub struct PrependAsPath {
    /// The path begins with these afterwards.
    #[schemars(length(min = 1, max = 10))]
    pub prefix: Vec<Asn>,
}

/// A priority to set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub struct SetPriority {
    /// The metric; told inside the AS as LOCAL_PREF 2147483647 minus it.
    #[schemars(range(min = 1, max = 2147483646))]
    pub value: u32,
}

/// What an [`Operation`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds a community.
    AddCommunity(CommunityValue),
    /// The AS path begins with these afterwards.
    PrependAsPath(Vec<Asn>),
    /// Sets the priority.
    SetPriority(u32),
}

impl Operation {
    /// What it does; nothing when it does not say exactly one thing.
    pub fn change(&self) -> Option<Change> {
        match (
            &self.add_community,
            &self.prepend_as_path,
            &self.set_priority,
        ) {
            (Some(add), None, None) => CommunityValue::parse(&add.value).map(Change::AddCommunity),
            (None, Some(prepend), None) if !prepend.prefix.is_empty() => {
                Some(Change::PrependAsPath(prepend.prefix.clone()))
            }
            (None, None, Some(set)) => Some(Change::SetPriority(set.value)),
            _ => None,
        }
    }
}

custom_resource!(BgpFilter);
