//! Leads the agents to reflectors that run as pods, by a BGPPeer for each.

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use crds::core::{ObjectMeta, Pod};
use crds::node_status::{PeerState, PeerType};
use crds::{BgpConfiguration, BgpPeer, BgpPeerSpec, Kind, NodeStatus, Resource, names};
use datastore::kubernetes::{KubernetesStore, PodSelection};
use datastore::{
    Datastore, Error, Event, Typed, Watch, create_typed, delete_typed, get_typed, list_typed,
    update_typed,
};

use crate::place;
use plan::{Action, Facts, MadePeer, ReflectorPod, Sessions};

/// Label of the BGPPeers that are made here.
pub(crate) const LABEL: &str = "tortie.dev/made-for";
const MADE_FOR: &str = "reflector";
/// Changes that come within this time are looked at together.
const TOGETHER: Duration = Duration::from_millis(500);
/// How soon to look again while something is to be done, and when nothing is.
const SOON: Duration = Duration::from_secs(5);
/// For how long a reflector must be gone.
const PATIENCE: Duration = Duration::from_secs(30);
const REFRESH: Duration = Duration::from_secs(60);

/// Which pods are reflectors, and where they listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) pods: PodSelection,
    pub(crate) port: u16,
}

/// Keeps the BGPPeers.
pub(crate) struct Keeper {
    store: Arc<dyn Datastore>,
    /// Knows the pods that are reflectors, and no others.
    pods: KubernetesStore,
    port: u16,
    dry_run: bool,
}

impl Keeper {
    /// # Errors
    /// When the API server cannot be asked at all.
    pub(crate) async fn connect(
        store: Arc<dyn Datastore>,
        kubeconfig: Option<std::path::PathBuf>,
        manager: &str,
        settings: &Settings,
        dry_run: bool,
    ) -> Result<Keeper> {
        let of_pods = datastore::kubernetes::Settings {
            pods_selected: Some(settings.pods.clone()),
            ..place::settings(kubeconfig, manager)
        };
        Ok(Keeper {
            store,
            pods: KubernetesStore::connect(of_pods).await?,
            port: settings.port,
            dry_run,
        })
    }

    /// Works until it is dropped. It may be cut off anywhere.
    pub(crate) async fn run(&self) {
        let mut watch = None;
        let mut gone = BTreeMap::new();
        loop {
            let pause = match self.look(&mut gone).await {
                Ok(true) => REFRESH,
                Ok(false) => SOON,
                Err(error) => {
                    tracing::warn!(%error, "cannot look after the BGPPeers of reflectors, trying again");
                    SOON
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.changed(&mut watch) => tokio::time::sleep(TOGETHER).await,
            }
        }
    }

    async fn changed(&self, watch: &mut Option<Watch>) {
        if watch.is_none() {
            match self.pods.watch(Kind::Pod).await {
                Ok(new) => *watch = Some(new),
                // It is looked at by time.
                Err(_) => return std::future::pending().await,
            }
        }
        while let Some(events) = watch {
            match events.next().await {
                Some(Event::Upsert(_) | Event::Delete(_)) => return,
                Some(Event::InSync | Event::Broken(_) | Event::Mended { .. }) => {}
                None => *watch = None,
            }
        }
    }

    /// Looks and acts; `false` when it is to look again soon. `gone` says since when reflectors are.
    async fn look(&self, gone: &mut BTreeMap<String, Instant>) -> Result<bool, Error> {
        let mut facts = self.facts().await?;
        let now = Instant::now();
        let stale = facts.stale().into_iter();
        *gone = stale
            .map(|name| (name.to_owned(), gone.get(name).copied().unwrap_or(now)))
            .collect();
        let forsaken = gone
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= PATIENCE);
        facts.forsaken = forsaken.map(|(name, _)| name.clone()).collect();
        let nodes = match facts.stale().is_empty() {
            true => BTreeMap::new(),
            false => self.sessions().await?,
        };
        for action in facts.plan(&nodes) {
            if self.dry_run {
                tracing::info!(?action, "would be done");
                continue;
            }
            match self.act(&facts, &action).await {
                Ok(()) => tracing::info!(?action, "BGPPeer of a reflector"),
                // Somebody else was quicker; the next look says what is left to do.
                Err(
                    Error::Conflict { .. } | Error::NotFound { .. } | Error::AlreadyExists { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(facts.stale().is_empty())
    }

    async fn facts(&self) -> Result<Facts, Error> {
        let pods = list_typed::<Pod>(&self.pods).await?;
        let settings = match get_typed::<BgpConfiguration>(&*self.store, names::DEFAULT).await {
            Ok(settings) => settings.resource.spec,
            Err(error) if error.is_not_found() => Default::default(),
            Err(error) => return Err(error),
        };
        let made = self.made().await?.into_iter().map(|(name, peer)| {
            let spec = &peer.resource.spec;
            let made = MadePeer {
                to: spec.peer_ip.as_deref().and_then(|to| to.parse().ok()),
                asn: spec.as_number,
            };
            (name, made)
        });
        Ok(Facts {
            port: self.port,
            asn: settings.as_number(),
            pods: pods
                .iter()
                .filter_map(|pod| reflector(&pod.resource))
                .collect(),
            peers: made.collect(),
            forsaken: BTreeSet::new(),
        })
    }

    async fn made(&self) -> Result<BTreeMap<String, Typed<BgpPeer>>, Error> {
        let peers = list_typed::<BgpPeer>(&*self.store).await?.into_iter();
        let is_made = |peer: &Typed<BgpPeer>| {
            let labels = peer.resource.metadata.labels.as_ref();
            labels.is_some_and(|labels| labels.get(LABEL).is_some_and(|value| value == MADE_FOR))
        };
        let named = |peer: Typed<BgpPeer>| (peer.resource.name().to_owned(), peer);
        Ok(peers.filter(is_made).map(named).collect())
    }

    /// Sessions of every node that is there and whose agent has reported.
    async fn sessions(&self) -> Result<BTreeMap<String, Sessions>, Error> {
        let nodes = self.store.list(Kind::Node).await?.into_iter();
        let nodes: BTreeSet<String> = nodes.map(|node| node.key.name).collect();
        let statuses = list_typed::<NodeStatus>(&*self.store).await?.into_iter();
        let statuses = statuses.filter(|status| nodes.contains(status.resource.name()));
        let sessions = statuses.filter_map(|status| {
            let name = status.resource.name().to_owned();
            let mut sessions = Sessions::default();
            for peer in status.resource.status?.peers {
                let is_up = peer.state == PeerState::Established;
                match peer.type_ {
                    PeerType::NodeMesh if is_up => sessions.mesh.0 += 1,
                    PeerType::NodeMesh => sessions.mesh.1 += 1,
                    PeerType::NodePeer | PeerType::GlobalPeer => {
                        sessions.peers.extend(
                            peer.peer_ip
                                .parse::<std::net::IpAddr>()
                                .ok()
                                .filter(|_| is_up),
                        );
                    }
                }
            }
            Some((name, sessions))
        });
        Ok(sessions.collect())
    }

    async fn act(&self, facts: &Facts, action: &Action) -> Result<(), Error> {
        match action {
            Action::Create(to) => {
                let peer = BgpPeer {
                    metadata: ObjectMeta {
                        name: Some(Facts::name(*to)),
                        labels: Some([(LABEL.to_owned(), MADE_FOR.to_owned())].into()),
                        ..ObjectMeta::default()
                    },
                    spec: leading_to(BgpPeerSpec::default(), *to, facts),
                    status: None,
                };
                create_typed(&*self.store, &peer).await.map(drop)
            }
            Action::Correct(name, to) => {
                let Some(mut peer) = self.made().await?.remove(name) else {
                    return Ok(());
                };
                peer.resource.spec = leading_to(peer.resource.spec, *to, facts);
                update_typed(&*self.store, &peer).await.map(drop)
            }
            Action::Delete(name) => match self.made().await?.remove(name) {
                Some(peer) => delete_typed(&*self.store, &peer).await,
                None => Ok(()),
            },
        }
    }
}

fn leading_to(before: BgpPeerSpec, to: SocketAddr, facts: &Facts) -> BgpPeerSpec {
    BgpPeerSpec {
        node_selector: Some("all()".to_owned()),
        peer_ip: Some(to.to_string()),
        as_number: Some(facts.asn),
        ..before
    }
}

/// A pod that is or will be a reflector; it is on the network of its node.
fn reflector(pod: &Pod) -> Option<ReflectorPod> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let is_ready = |conditions: &[_]| {
        let is_true = |condition: &crds::core::PodCondition| {
            condition.type_ == "Ready" && condition.status == "True"
        };
        conditions.iter().any(is_true)
    };
    Some(ReflectorPod {
        address: status.host_ip.as_deref()?.parse().ok()?,
        is_ready: status.conditions.as_deref().is_some_and(is_ready),
    })
}
