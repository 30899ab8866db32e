//! The kinds this project reads or writes.

use std::fmt;

/// Group of everything Calico defines.
pub const CALICO_GROUP: &str = "crd.projectcalico.org";
/// Group of our own kinds.
pub const TORTIE_GROUP: &str = "tortie.dev";

/// A kind of object, in the order in which a reader usually wants them: what others need comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Core `Node`: addresses, labels, pod CIDRs and Calico's annotations.
    Node,
    /// Core `Pod`: annotations that ask for an address, and liveness for address collection.
    Pod,
    /// Core `Namespace`: labels and annotations that choose pools.
    Namespace,
    /// Core `Secret`: passwords of BGP sessions.
    Secret,
    /// Addresses pods may get.
    IpPool,
    /// Claim of a node on a block.
    BlockAffinity,
    /// Addresses of a block and who has them.
    IpamBlock,
    /// All addresses of one owner.
    IpamHandle,
    /// Address management settings of the cluster.
    IpamConfig,
    /// Addresses never given out automatically.
    IpReservation,
    /// BGP settings of the cluster or of one node.
    BgpConfiguration,
    /// A BGP peering outside the mesh.
    BgpPeer,
    /// Rules for routes taken from peers and told to them.
    BgpFilter,
    /// Agent settings of the cluster or of one node.
    FelixConfiguration,
    /// What the cluster is.
    ClusterInformation,
    /// What a node's agent observes.
    NodeStatus,
}

/// Group, version, kind, plural, namespaced.
type Row = (&'static str, &'static str, &'static str, &'static str, bool);

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 16] = [
        Kind::Node,
        Kind::Pod,
        Kind::Namespace,
        Kind::Secret,
        Kind::IpPool,
        Kind::BlockAffinity,
        Kind::IpamBlock,
        Kind::IpamHandle,
        Kind::IpamConfig,
        Kind::IpReservation,
        Kind::BgpConfiguration,
        Kind::BgpPeer,
        Kind::BgpFilter,
        Kind::FelixConfiguration,
        Kind::ClusterInformation,
        Kind::NodeStatus,
    ];

    const fn row(self) -> Row {
        const CALICO: &str = CALICO_GROUP;
        match self {
            Kind::Node => ("", "v1", "Node", "nodes", false),
            Kind::Pod => ("", "v1", "Pod", "pods", true),
            Kind::Namespace => ("", "v1", "Namespace", "namespaces", false),
            Kind::Secret => ("", "v1", "Secret", "secrets", true),
            Kind::IpPool => (CALICO, "v1", "IPPool", "ippools", false),
            Kind::BlockAffinity => (CALICO, "v1", "BlockAffinity", "blockaffinities", false),
            Kind::IpamBlock => (CALICO, "v1", "IPAMBlock", "ipamblocks", false),
            Kind::IpamHandle => (CALICO, "v1", "IPAMHandle", "ipamhandles", false),
            Kind::IpamConfig => (CALICO, "v1", "IPAMConfig", "ipamconfigs", false),
            Kind::IpReservation => (CALICO, "v1", "IPReservation", "ipreservations", false),
            Kind::BgpConfiguration => {
                (CALICO, "v1", "BGPConfiguration", "bgpconfigurations", false)
            }
            Kind::BgpPeer => (CALICO, "v1", "BGPPeer", "bgppeers", false),
            Kind::BgpFilter => (CALICO, "v1", "BGPFilter", "bgpfilters", false),
            Kind::FelixConfiguration => (
                CALICO,
                "v1",
                "FelixConfiguration",
                "felixconfigurations",
                false,
            ),
            Kind::ClusterInformation => (
                CALICO,
                "v1",
                "ClusterInformation",
                "clusterinformations",
                false,
            ),
            Kind::NodeStatus => (
                TORTIE_GROUP,
                "v1alpha1",
                "NodeStatus",
                "nodestatuses",
                false,
            ),
        }
    }

    /// API group, empty for the core group.
    pub const fn group(self) -> &'static str {
        self.row().0
    }

    /// API version without the group.
    pub const fn version(self) -> &'static str {
        self.row().1
    }

    /// `apiVersion` of a manifest: `v1`, `crd.projectcalico.org/v1`.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }

    /// `kind` of a manifest: `IPPool`.
    pub const fn name(self) -> &'static str {
        self.row().2
    }

    /// Resource name in URLs and directory names: `ippools`.
    pub const fn plural(self) -> &'static str {
        self.row().3
    }

    /// Whether objects of this kind live in a namespace.
    pub const fn namespaced(self) -> bool {
        self.row().4
    }

    /// Whether this project defines the kind, that is, has a CRD for it.
    pub fn is_custom(self) -> bool {
        !self.group().is_empty()
    }

    /// The kind a manifest names, if we know it.
    pub fn from_api(api_version: &str, kind: &str) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|k| k.name() == kind && k.api_version() == api_version)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
