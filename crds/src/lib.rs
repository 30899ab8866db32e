//! Kubernetes API types of Tortie.
//!
//! Everything Calico has keeps its group `crd.projectcalico.org/v1`, its field names and its JSON shape, so the manifests
//! people have apply as they are; `NodeStatus` is our own, in `tortie.dev/v1alpha1`.
//! The Rust types are the only source of the manifests: `cargo run -p crds` writes `crds/*.yaml`, a test compares them.
//!
//! Two checks guard the same rules: the schema with its CEL rules in the API server, and [`Resource::validate`] in code,
//! which also covers manifests read from disk and says in [`FieldError`] which field is wrong and what to write instead.
//! Values that have a form are parsed types ([`Cidr`], [`Asn`], [`GoDuration`]), so a resource that was decoded can be
//! computed with. Defaults that may ever change are methods on the spec, never in the schema.
//!
//! An enum that stands in an optional field has an empty schema description, so that the one of the field is shown.
//!
//! Unknown fields are ignored when reading; `datastore` keeps them when writing.
//! This package never talks to a server, a disk or a clock; its binary only writes the manifests.

pub mod any;
pub mod bgp_configuration;
pub mod bgp_filter;
pub mod bgp_peer;
pub mod block_affinity;
pub mod cluster_information;
pub mod core;
pub mod felix_configuration;
pub mod ip_pool;
pub mod ip_reservation;
pub mod ipam_block;
pub mod ipam_config;
pub mod ipam_handle;
pub mod kind;
pub mod manifest;
pub mod names;
pub mod node_status;
pub mod resource;
pub mod secret;
pub mod selector;
pub mod types;
mod unknown;

pub use any::AnyResource;
pub use bgp_configuration::{BgpConfiguration, BgpConfigurationSpec};
pub use bgp_filter::{BgpFilter, BgpFilterSpec};
pub use bgp_peer::{BgpPeer, BgpPeerSpec};
pub use block_affinity::{AffinityState, BlockAffinity, BlockAffinitySpec};
pub use cluster_information::{ClusterInformation, ClusterInformationSpec};
pub use felix_configuration::{FelixConfiguration, FelixConfigurationSpec};
pub use ip_pool::{IpPool, IpPoolSpec};
pub use ip_reservation::{IpReservation, IpReservationSpec};
pub use ipam_block::{IpamBlock, IpamBlockSpec};
pub use ipam_config::{IpamConfig, IpamConfigSpec};
pub use ipam_handle::{IpamHandle, IpamHandleSpec};
pub use kind::Kind;
pub use node_status::{NodeStatus, NodeStatusSpec, NodeStatusStatus};
pub use resource::{FieldError, Resource, decode};
pub use secret::Secret;
pub use types::{Asn, Cidr, Condition, GoDuration};
pub use unknown::unknown_fields;
