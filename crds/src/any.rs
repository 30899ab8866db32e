//! A resource of any kind.

use serde_json::Value;

use crate::core::{Namespace, Node, ObjectMeta, Pod};
use crate::{
    BgpConfiguration, BgpFilter, BgpPeer, BlockAffinity, ClusterInformation, FelixConfiguration,
    FieldError, IpPool, IpReservation, IpamBlock, IpamConfig, IpamHandle, Kind, NodeStatus,
    Resource, Secret, decode,
};

macro_rules! any_resource {
    ($($kind:ident),* $(,)?) => {
        /// A resource of any kind, as the calculation takes it.
        #[derive(Clone, Debug)]
        pub enum AnyResource {
            $(#[doc = concat!("See [`", stringify!($kind), "`].")] $kind(Box<$kind>),)*
        }

        impl AnyResource {
            /// Reads a manifest as the given kind and validates it.
            pub fn parse(kind: Kind, value: &Value) -> Result<AnyResource, Vec<FieldError>> {
                match kind {
                    $(Kind::$kind => {
                        let resource: $kind = decode(value).map_err(|e| vec![e])?;
                        resource.validate()?;
                        Ok(AnyResource::$kind(Box::new(resource)))
                    })*
                }
            }

            /// The kind it is.
            pub fn kind(&self) -> Kind {
                match self {
                    $(AnyResource::$kind(_) => Kind::$kind,)*
                }
            }

            /// Name, labels, annotations, resource version.
            pub fn metadata(&self) -> &ObjectMeta {
                match self {
                    $(AnyResource::$kind(r) => &r.metadata,)*
                }
            }

            /// `metadata.name`, empty when there is none.
            pub fn name(&self) -> &str {
                self.metadata().name.as_deref().unwrap_or_default()
            }

            /// `metadata.namespace` of namespaced kinds.
            pub fn namespace(&self) -> Option<&str> {
                self.metadata().namespace.as_deref()
            }
        }

        $(impl From<$kind> for AnyResource {
            fn from(resource: $kind) -> Self {
                AnyResource::$kind(Box::new(resource))
            }
        })*
    };
}

any_resource!(
    Node,
    Pod,
    Namespace,
    Secret,
    IpPool,
    BlockAffinity,
    IpamBlock,
    IpamHandle,
    IpamConfig,
    IpReservation,
    BgpConfiguration,
    BgpPeer,
    BgpFilter,
    FelixConfiguration,
    ClusterInformation,
    NodeStatus,
);
