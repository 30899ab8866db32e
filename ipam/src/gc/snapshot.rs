//! The cluster as lists of objects say it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crds::block_affinity::{AffinityState, AffinityType};
use crds::core::{Pod, parse_time};
use crds::ipam_block::attribute;
use crds::{
    BlockAffinity, Cidr, IpamBlock, IpamConfig, IpamConfigSpec, IpamHandle, Kind, NodeStatus,
    Resource, names,
};
use datastore::{Broken, Datastore, Error, Object, Typed};

use super::Presence;
use super::pools::PoolFacts;
use crate::block::Block;
use crate::range::Ranges;
use crate::request::Held;

/// Everything that is listed for a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    /// All `IPAMBlock`.
    pub blocks: Vec<Object>,
    /// All `BlockAffinity`.
    pub affinities: Vec<Object>,
    /// All `IPAMHandle`.
    pub handles: Vec<Object>,
    /// All `IPAMConfig`.
    pub configs: Vec<Object>,
    /// All `Node`.
    pub nodes: Vec<Object>,
    /// All `Pod`.
    pub pods: Vec<Object>,
    /// All `IPPool`.
    pub pools: Vec<Object>,
    /// All `NodeStatus`.
    pub statuses: Vec<Object>,
    /// What the datastore cannot read.
    pub broken: Vec<Broken>,
}

impl Lists {
    /// Lists everything. Addresses come first: whatever an address was given to existed before, so it is in the later
    /// lists unless it is gone.
    ///
    /// # Errors
    /// The datastore.
    pub async fn read(store: &dyn Datastore) -> Result<Lists, Error> {
        Ok(Lists {
            handles: store.list(Kind::IpamHandle).await?,
            blocks: store.list(Kind::IpamBlock).await?,
            affinities: store.list(Kind::BlockAffinity).await?,
            configs: store.list(Kind::IpamConfig).await?,
            nodes: store.list(Kind::Node).await?,
            pods: store.list(Kind::Pod).await?,
            pools: store.list(Kind::IpPool).await?,
            statuses: store.list(Kind::NodeStatus).await?,
            broken: store.problems().await?,
        })
    }
}

/// The cluster at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) nodes: BTreeSet<String>,
    /// By namespace and name.
    pub(super) pods: BTreeMap<(String, String), PodFacts>,
    pub(super) blocks: Vec<BlockFacts>,
    /// Also those of blocks that cannot be read.
    pub(super) cidrs: BTreeSet<Cidr>,
    pub(super) affinities: Vec<AffinityFacts>,
    pub(super) handles: Vec<HandleFacts>,
    pub(super) pools: Vec<PoolFacts>,
    /// When the agent of a node reported last.
    pub(super) reports: BTreeMap<String, SystemTime>,
    /// Objects marked as deleted: kind and name, version.
    pub(super) deleted: Vec<(String, String)>,
    /// What may be a node, a pod or a block and cannot be read.
    pub(super) unreadable: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PodFacts {
    pub(super) node: Option<String>,
    pub(super) finished: bool,
    /// The kubelet has told addresses.
    pub(super) has_status: bool,
    pub(super) addresses: BTreeSet<IpAddr>,
}

#[derive(Clone, Debug)]
pub(super) struct BlockFacts {
    pub(super) cidr: Cidr,
    /// As written: `host:<node>`, `virtual:<name>`.
    pub(super) affinity: Option<String>,
    pub(super) held: Vec<Held>,
    pub(super) is_empty: bool,
    /// Addresses that can be given out now.
    pub(super) free: u32,
    pub(super) version: String,
}

impl BlockFacts {
    pub(super) fn host(&self) -> Option<&str> {
        self.affinity.as_deref()?.strip_prefix("host:")
    }
}

#[derive(Clone, Debug)]
pub(super) struct AffinityFacts {
    pub(super) node: String,
    pub(super) cidr: Cidr,
    pub(super) state: AffinityState,
    pub(super) version: String,
}

#[derive(Clone, Debug)]
pub(super) struct HandleFacts {
    pub(super) id: String,
    pub(super) counts: BTreeMap<Cidr, u32>,
    pub(super) version: String,
}

impl Snapshot {
    /// Reads the lists. What cannot be read is noted and makes the snapshot suspicious.
    pub fn new(lists: Lists, now: SystemTime) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for broken in lists.broken {
            let kind = broken.key.as_ref().map(|key| key.kind);
            if matches!(kind, None | Some(Kind::Node | Kind::Pod | Kind::IpamBlock)) {
                snapshot
                    .unreadable
                    .push(format!("{}: {}", broken.place, broken.problem));
            }
        }
        snapshot.nodes = lists.nodes.into_iter().map(|node| node.key.name).collect();
        for object in lists.pods {
            let key = (
                object.key.namespace.clone().unwrap_or_default(),
                object.key.name.clone(),
            );
            if let Some(pod) = snapshot.typed::<Pod>(object) {
                snapshot.pods.insert(key, PodFacts::of(&pod.resource));
            }
        }
        let configs = lists.configs.into_iter();
        let config = configs
            .filter(|object| object.key.name == names::DEFAULT)
            .find_map(|object| Typed::<IpamConfig>::from_object(object).ok())
            .map_or_else(IpamConfigSpec::default, |config| config.resource.spec);
        let cooldown = Duration::from_secs(config.ip_cooldown_seconds.unwrap_or(0).into());
        for object in lists.blocks {
            snapshot.add_block(object, now, cooldown);
        }
        for object in lists.affinities {
            snapshot.add_affinity(object);
        }
        for object in lists.handles {
            snapshot.add_handle(object);
        }
        snapshot.pools = lists.pools.into_iter().filter_map(PoolFacts::of).collect();
        for object in lists.statuses {
            snapshot.add_report(object, now);
        }
        snapshot
    }

    fn typed<T: Resource>(&mut self, object: Object) -> Option<Typed<T>> {
        let key = object.key.clone();
        match Typed::from_object(object) {
            Ok(typed) => Some(typed),
            Err(error) => {
                self.unreadable.push(format!("{key}: {error}"));
                None
            }
        }
    }

    fn add_block(&mut self, object: Object, now: SystemTime, cooldown: Duration) {
        let Some(typed) = self.typed::<IpamBlock>(object) else {
            return;
        };
        if typed.resource.spec.deleted {
            self.deleted
                .push((typed.key().to_string(), typed.resource_version().to_owned()));
            return;
        }
        self.cidrs.insert(typed.resource.spec.cidr);
        let mut block = match Block::decode(&typed.resource) {
            Ok(block) => block,
            Err(broken) => {
                self.unreadable.push(broken.to_string());
                return;
            }
        };
        block.thaw(now, cooldown);
        let held = block.allocations().map(|allocation| Held {
            addr: allocation.addr,
            block: block.cidr(),
            handle: allocation.attribute.handle_id.clone(),
            attributes: allocation.attribute.secondary.clone(),
            sequence: allocation.stamp,
        });
        self.blocks.push(BlockFacts {
            cidr: block.cidr(),
            affinity: block.affinity().map(str::to_owned),
            held: held.collect(),
            is_empty: block.is_empty(),
            free: block.usage(&Ranges::default()).free,
            version: typed.resource_version().to_owned(),
        });
    }

    fn add_affinity(&mut self, object: Object) {
        // One that cannot be read is nobody's claim: its block says who owns it.
        let Ok(typed) = Typed::<BlockAffinity>::from_object(object) else {
            return;
        };
        let version = typed.resource_version().to_owned();
        let spec = &typed.resource.spec;
        if spec.deleted {
            self.deleted.push((typed.key().to_string(), version));
        } else if spec.type_ != Some(AffinityType::Virtual) {
            self.affinities.push(AffinityFacts {
                node: spec.node.clone(),
                cidr: spec.cidr,
                state: spec.state,
                version,
            });
        }
    }

    fn add_handle(&mut self, object: Object) {
        // One that cannot be read guards nothing: blocks say who holds what.
        let Ok(typed) = Typed::<IpamHandle>::from_object(object) else {
            return;
        };
        let version = typed.resource_version().to_owned();
        if typed.resource.spec.deleted {
            self.deleted.push((typed.key().to_string(), version));
            return;
        }
        self.handles.push(HandleFacts {
            id: typed.resource.spec.handle_id.to_lowercase(),
            counts: typed.resource.spec.block,
            version,
        });
    }

    /// A status without a legible time counts as written now: its writer may be there.
    fn add_report(&mut self, object: Object, now: SystemTime) {
        let node = object.key.name.clone();
        let observed = reported(object);
        self.reports.insert(node, observed.unwrap_or(now));
    }

    /// Everything allocated.
    pub(super) fn held(&self) -> impl Iterator<Item = &Held> {
        self.blocks.iter().flat_map(|block| &block.held)
    }

    /// Nodes that have addresses or blocks, with repetitions.
    pub(super) fn users(&self) -> impl Iterator<Item = &str> {
        let holders = self.held().filter_map(node_of);
        let claims = self
            .affinities
            .iter()
            .map(|affinity| affinity.node.as_str());
        let owners = self.blocks.iter().filter_map(BlockFacts::host);
        holders.chain(claims).chain(owners)
    }

    /// Which of all nodes that anything mentions are there.
    pub(super) fn presence(
        &self,
        now: SystemTime,
        silence: Duration,
    ) -> BTreeMap<String, Presence> {
        let names = self.users().chain(self.reports.keys().map(String::as_str));
        let presence = names.map(|node| {
            let reported = self.reports.get(node).map(|at| *at + silence);
            let presence = match reported {
                _ if self.nodes.contains(node) => Presence::Here,
                Some(until) if until > now => Presence::Reporting(until),
                Some(_) | None => Presence::Gone,
            };
            (node.to_owned(), presence)
        });
        presence.collect()
    }

    /// Blocks a node owns or claims.
    pub(super) fn blocks_of(&self, node: &str) -> BTreeSet<Cidr> {
        let claims = self
            .affinities
            .iter()
            .filter(|affinity| affinity.node == node);
        let owned = self
            .blocks
            .iter()
            .filter(|block| block.host() == Some(node));
        claims
            .map(|affinity| affinity.cidr)
            .chain(owned.map(|block| block.cidr))
            .collect()
    }
}

/// The node an address is for.
pub(super) fn node_of(held: &Held) -> Option<&str> {
    held.attributes.get(attribute::NODE).map(String::as_str)
}

/// When an agent wrote its status.
pub(crate) fn reported(status: Object) -> Option<SystemTime> {
    let status = Typed::<NodeStatus>::from_object(status).ok()?;
    parse_time(&status.resource.status?.observed_at?)
}
