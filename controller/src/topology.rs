//! Keeps the mesh up to a number of nodes, and above it makes some nodes route reflectors: follows, decides (`plan`), acts.
//!
//! Nothing of somebody else is touched: BGPPeers of ours have a label, marks an annotation of their own beside the cluster
//! id, and the mesh is switched off only where it stands in an annotation of BGPConfiguration that it was us.

mod choose;
mod facts;
mod known;
mod plan;
#[cfg(test)]
mod simulation;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use crds::core::{Node, ObjectMeta};
use crds::names::{self, annotation};
use crds::selector::Selector;
use crds::{BgpConfiguration, BgpConfigurationSpec, BgpPeer, BgpPeerSpec, Kind};
use datastore::{Datastore, Error, Key, create_typed, delete_typed, get_typed, update_typed};
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::reflectors;
use facts::{Facts, Target};
use known::{KINDS, Known};
use plan::{Action, Memory, Plan, plan};

pub(crate) use plan::{Settings as PlanSettings, State};

/// Value of the label of our BGPPeers.
const MADE_FOR: &str = "topology";
/// Annotation of Nodes that we made reflectors.
const MARK: &str = "tortie.dev/reflector";
const MARKED: &str = "auto";
/// Annotation of BGPConfiguration `default`: what there shall be.
const TARGET: &str = "tortie.dev/topology";
/// What a BGPPeer tells nodes by.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Changes that come within this time are looked at together.
const TOGETHER: Duration = Duration::from_secs(1);
/// Between two looks while something is waited for, and when nothing is.
const SOON: Duration = Duration::from_secs(2);
const REFRESH: Duration = Duration::from_secs(30);
/// How soon a datastore that cannot be followed or written is asked again.
const RETRY: Duration = Duration::from_secs(5);

/// What people ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) plan: PlanSettings,
    /// Nodes that may reflect.
    pub(crate) selector: Selector,
}

/// Keeps the topology.
pub(crate) struct Keeper {
    pub(crate) store: Arc<dyn Datastore>,
    pub(crate) settings: Settings,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) dry_run: bool,
}

/// Name of the BGPPeer that leads to a node.
fn peering_name(node: &str) -> String {
    format!("tortie-node-reflector-{node}")
}

/// The node that a BGPPeer leads to, by its name.
fn node_of(peering: &str) -> Option<&str> {
    peering.strip_prefix("tortie-node-reflector-")
}

impl Keeper {
    /// Works until it is dropped. It may be cut off anywhere.
    pub(crate) async fn run(&self) {
        let mut told = None;
        loop {
            if let Err(error) = self.follow(&mut told).await {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot look after the topology, trying again"
                );
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Looks again when something changes, and from time to time.
    async fn follow(&self, told: &mut Option<Plan>) -> Result<()> {
        let [mut nodes, mut statuses, mut peers, mut settings] = [
            self.store.watch(KINDS[0]).await?,
            self.store.watch(KINDS[1]).await?,
            self.store.watch(KINDS[2]).await?,
            self.store.watch(KINDS[3]).await?,
        ];
        let mut known = Known::default();
        let mut memory = Memory::default();
        let mut due = Instant::now();
        let mut last = due;
        loop {
            let event = tokio::select! {
                event = nodes.next() => event,
                event = statuses.next() => event,
                event = peers.next() => event,
                event = settings.next() => event,
                () = tokio::time::sleep_until(due), if known.is_whole() => {
                    let plan = self.look(&known, &mut memory).await?;
                    last = Instant::now();
                    due = last + match plan.state {
                        State::Changing => SOON,
                        State::Mesh | State::Reflectors | State::LeftAlone => REFRESH,
                    };
                    self.tell(plan, told);
                    continue;
                }
            };
            let Some(event) = event else {
                bail!("a watch has ended");
            };
            known.take(event);
            due = due.min(last + TOGETHER);
        }
    }

    async fn look(&self, known: &Known, memory: &mut Memory) -> Result<Plan, Error> {
        let mut facts = known.facts(&self.settings.selector, SystemTime::now());
        let plan = self.plan(&mut facts, memory).await?;
        for action in &plan.actions {
            if self.dry_run {
                tracing::info!(?action, "would be done");
                continue;
            }
            match self.act(known, action).await {
                Ok(()) => tracing::info!(?action, "topology"),
                // Somebody else was quicker; the next look says what is left to do. What follows here may need it.
                Err(
                    Error::Conflict { .. } | Error::NotFound { .. } | Error::AlreadyExists { .. },
                ) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(plan)
    }

    /// Plans; nodes that would be begun with are asked for first, because a watch may not show who is cordoned.
    async fn plan(&self, facts: &mut Facts, memory: &mut Memory) -> Result<Plan, Error> {
        let mut asked = BTreeSet::new();
        loop {
            let now = std::time::Instant::now();
            let plan = plan(facts, &self.settings.plan, memory, now);
            let mut is_better = false;
            for action in &plan.actions {
                let Action::CreatePeering(name) = action else {
                    continue;
                };
                if !asked.insert(name.clone()) {
                    continue;
                }
                let is_cordoned = match get_typed::<Node>(&*self.store, name).await {
                    Ok(node) => {
                        let spec = node.resource.spec;
                        spec.is_some_and(|spec| spec.unschedulable == Some(true))
                    }
                    Err(error) if error.is_not_found() => true,
                    Err(error) => return Err(error),
                };
                if let Some(node) = facts.nodes.get_mut(name).filter(|_| is_cordoned) {
                    node.is_cordoned = true;
                    is_better = true;
                }
            }
            if !is_better {
                return Ok(plan);
            }
        }
    }

    async fn act(&self, known: &Known, action: &Action) -> Result<(), Error> {
        match action {
            Action::Begin => self.aim(known, Target::Reflectors, None).await,
            Action::EndMesh => self.aim(known, Target::Reflectors, Some(false)).await,
            Action::BeginMesh => self.aim(known, Target::Mesh, Some(true)).await,
            Action::CreatePeering(node) => self.create_peering(known, node).await,
            Action::CorrectPeering(node) => {
                let (Some(peer), Some(hostname)) =
                    (known.peer(&peering_name(node)), known.hostname(node))
                else {
                    return Ok(());
                };
                let mut peer = peer.clone();
                peer.resource.spec = known::leading_to(peer.resource.spec, hostname);
                update_typed(&*self.store, &peer).await.map(drop)
            }
            Action::DeletePeering(node) => match known.peer(&peering_name(node)) {
                Some(peer) => delete_typed(&*self.store, peer).await,
                None => Ok(()),
            },
            Action::Mark(node) => {
                let id = self.settings.plan.cluster_id.clone();
                self.mark(node, Some(id)).await
            }
            Action::Unmark(node) => self.mark(node, None).await,
        }
    }

    async fn aim(&self, known: &Known, target: Target, mesh: Option<bool>) -> Result<(), Error> {
        let aimed = (TARGET.to_owned(), target.name().to_owned());
        let Some(settings) = known.settings() else {
            let settings = BgpConfiguration {
                metadata: ObjectMeta {
                    name: Some(names::DEFAULT.to_owned()),
                    annotations: Some([aimed].into()),
                    ..ObjectMeta::default()
                },
                spec: BgpConfigurationSpec {
                    node_to_node_mesh_enabled: mesh,
                    ..BgpConfigurationSpec::default()
                },
            };
            return create_typed(&*self.store, &settings).await.map(drop);
        };
        let mut settings = settings.clone();
        let annotations = settings
            .resource
            .metadata
            .annotations
            .get_or_insert_default();
        annotations.extend([aimed]);
        if mesh.is_some() {
            settings.resource.spec.node_to_node_mesh_enabled = mesh;
        }
        update_typed(&*self.store, &settings).await.map(drop)
    }

    async fn create_peering(&self, known: &Known, node: &str) -> Result<(), Error> {
        let Some(hostname) = known.hostname(node) else {
            return Ok(());
        };
        let label = (reflectors::LABEL.to_owned(), MADE_FOR.to_owned());
        let peer = BgpPeer {
            metadata: ObjectMeta {
                name: Some(peering_name(node)),
                labels: Some([label].into()),
                ..ObjectMeta::default()
            },
            spec: known::leading_to(BgpPeerSpec::default(), hostname),
            status: None,
        };
        create_typed(&*self.store, &peer).await.map(drop)
    }

    /// Cluster id and our mark come and go together.
    async fn mark(&self, node: &str, id: Option<String>) -> Result<(), Error> {
        let mark = id.as_ref().map(|_| MARKED.to_owned());
        let changes = [
            (annotation::NODE_ROUTE_REFLECTOR_CLUSTER_ID.to_owned(), id),
            (MARK.to_owned(), mark),
        ];
        let key = Key::cluster(Kind::Node, node);
        let patched = self.store.patch_annotations(&key, changes.into()).await;
        patched.map(drop)
    }

    /// Says what is new.
    fn tell(&self, plan: Plan, told: &mut Option<Plan>) {
        self.metrics.topology(plan.state, plan.reflectors);
        let is_new = told
            .as_ref()
            .is_none_or(|before| (before.state, &before.because) != (plan.state, &plan.because));
        if is_new {
            let because = plan.because.as_deref().unwrap_or_default();
            match plan.state {
                State::LeftAlone => tracing::warn!(because, "the topology is left alone"),
                State::Changing => tracing::info!(because, "the topology is changing"),
                State::Mesh => tracing::info!("every node peers with every other"),
                State::Reflectors => {
                    tracing::info!(count = plan.reflectors, "nodes peer with reflectors");
                }
            }
        }
        *told = Some(plan);
    }
}
