//! What the cluster says about addresses: settings, pools, reservations, labels of the node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crds::core::Node;
use crds::{IpPool, IpReservation, IpamConfig, IpamConfigSpec, Kind, names};
use datastore::{Object, Typed};

use crate::error::Error;
use crate::pool::Pool;
use crate::range::Ranges;

use super::Ipam;

/// IPAMConfig `default`, or what holds without it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) strict_affinity: bool,
    pub(super) claim_blocks: bool,
    pub(super) max_blocks: u32,
    pub(super) cooldown: Duration,
}

/// Everything a decision about new addresses depends on besides blocks.
pub(super) struct Context {
    pub(super) settings: Settings,
    pub(super) pools: Vec<Pool>,
    /// Pools that cannot be read: name and problem.
    pub(super) unreadable: Vec<(String, String)>,
    pub(super) reserved: Arc<Ranges>,
    pub(super) node_labels: BTreeMap<String, String>,
}

impl Ipam {
    pub(super) async fn settings(&self) -> Result<Settings, Error> {
        let spec =
            match datastore::get_typed::<IpamConfig>(self.store.as_ref(), names::DEFAULT).await {
                Ok(config) => config.resource.spec,
                Err(datastore::Error::NotFound { .. }) => IpamConfigSpec::default(),
                Err(error) => return Err(error.into()),
            };
        Ok(Settings {
            strict_affinity: spec.strict_affinity,
            claim_blocks: spec.auto_allocate_blocks,
            max_blocks: spec.max_blocks_per_host(),
            cooldown: Duration::from_secs(u64::from(spec.ip_cooldown_seconds.unwrap_or(0))),
        })
    }

    /// All pools by name, and those that cannot be read with the problem.
    pub(super) async fn pools(&self) -> Result<(Vec<Pool>, Vec<(String, String)>), Error> {
        let (mut pools, mut unreadable) = (Vec::new(), Vec::new());
        for object in self.store.list(Kind::IpPool).await? {
            let name = object.key.name.clone();
            match Typed::<IpPool>::from_object(object) {
                Ok(pool) => pools.push(Pool::decode(&pool.resource)),
                Err(problem) => unreadable.push((name, problem.to_string())),
            }
        }
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((pools, unreadable))
    }

    /// Reservations. One that cannot be read stops assignment: what it protects must not be given out.
    async fn reservations(&self) -> Result<Ranges, Error> {
        let mut reserved = Ranges::default();
        for object in self.store.list(Kind::IpReservation).await? {
            let name = object.key.name.clone();
            let reservation = read_reservation(object).map_err(|problem| Error::BrokenObject {
                kind: "IPReservation",
                name,
                problem,
            })?;
            reserved.extend(reservation.spec.reserved_cidrs);
        }
        Ok(reserved)
    }

    /// Everything for a request of `node`.
    pub(super) async fn context(&self, node: &str) -> Result<Context, Error> {
        let (settings, pools, reserved) =
            tokio::try_join!(self.settings(), self.pools(), self.reservations())?;
        let (pools, unreadable) = pools;
        let node_labels = self.node_labels(node, &pools).await?;
        Ok(Context {
            settings,
            pools,
            unreadable,
            reserved: Arc::new(reserved),
            node_labels,
        })
    }

    /// The labels of a node; not read when no pool asks for them.
    async fn node_labels(
        &self,
        node: &str,
        pools: &[Pool],
    ) -> Result<BTreeMap<String, String>, Error> {
        let Some(pool) = pools
            .iter()
            .find(|pool| pool.usable() && pool.selects_nodes())
        else {
            return Ok(BTreeMap::new());
        };
        match datastore::get_typed::<Node>(self.store.as_ref(), node).await {
            Ok(object) => Ok(object.resource.metadata.labels.unwrap_or_default()),
            Err(datastore::Error::NotFound { .. }) => Err(Error::UnknownNode {
                node: node.to_owned(),
                pool: pool.name.clone(),
            }),
            Err(error) => Err(error.into()),
        }
    }
}

fn read_reservation(object: Object) -> Result<IpReservation, String> {
    Typed::<IpReservation>::from_object(object)
        .map(|typed| typed.resource)
        .map_err(|error| error.to_string())
}
