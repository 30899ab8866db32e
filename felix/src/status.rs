//! Writes what the agent observes into its NodeStatus object.
//!
//! At most once per five seconds; sooner, but spaced, when a session or a condition changed sides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use crds::core::{ObjectMeta, time_text};
use crds::node_status::{
    AddressCounts, BlockStatus, Encapsulation, PeerState, PeerStatus, PeerType, RouteCounts,
    TunnelCarrier, TunnelCounters, TunnelStatus,
};
use crds::types::ConditionStatus;
use crds::{Asn, Cidr, Condition, Kind, NodeStatus, NodeStatusSpec, NodeStatusStatus};
use datastore::{Datastore, Key, Outage, create_typed, get_typed};
use felix_calc::{PeerKind, Problem};
use felix_dataplane::{Carrier, TunnelDrop};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::board::Board;
use crate::drain::Stage;

/// Between two writes.
const INTERVAL: Duration = Duration::from_secs(5);
/// Between two writes when something changed sides.
const EDGE_INTERVAL: Duration = Duration::from_secs(1);
/// A write without news, so that an old status tells that the agent is gone.
const SIGN_OF_LIFE: Duration = Duration::from_secs(300);
/// How long the last write may take.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Writes until told to stop, then once more.
///
/// # Errors
/// None: a status that cannot be written is tried again.
pub async fn run(
    store: Arc<dyn Datastore>,
    node: String,
    board: Arc<Board>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let mut writer = Writer {
        store,
        node,
        written: None,
    };
    writer.read().await;
    let mut views = Views::of(&board);
    loop {
        let status = observe(&board, writer.written.as_ref());
        let last = Instant::now();
        writer.write(status).await;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            () = due(last, &mut views, &board, writer.written.as_ref()) => {}
        }
    }
    let last = observe(&board, writer.written.as_ref());
    let _too_late = timeout(LAST_WRITE, writer.write(last)).await;
    Ok(())
}

/// Waits until the status is worth another write.
async fn due(last: Instant, views: &mut Views, board: &Board, written: Option<&NodeStatusStatus>) {
    let mut news = false;
    let mut looked = last;
    loop {
        let limit = if news { INTERVAL } else { SIGN_OF_LIFE };
        tokio::select! {
            () = views.changed() => {}
            () = sleep_until(last + limit) => return,
        }
        sleep_until(looked + EDGE_INTERVAL).await;
        looked = Instant::now();
        let Some(written) = written else { return };
        let now = observe(board, Some(written));
        if edges(written) != edges(&now) {
            return;
        }
        let mut undated = NodeStatusStatus {
            observed_at: written.observed_at.clone(),
            ..now
        };
        let mut written = written.clone();
        // They change with every packet.
        for tunnel in undated.tunnels.iter_mut().chain(&mut written.tunnels) {
            tunnel.counters = None;
        }
        news = undated != written;
    }
}

/// What wakes the writer.
struct Views {
    calc: watch::Receiver<crate::board::CalcView>,
    dataplane: watch::Receiver<crate::board::DataplaneView>,
    speaker: watch::Receiver<crate::board::SpeakerView>,
    node: watch::Receiver<crate::board::NodeView>,
    cni: watch::Receiver<crate::board::CniView>,
    stored: watch::Receiver<BTreeMap<(Kind, String), Problem>>,
    unknown: watch::Receiver<BTreeMap<Key, Problem>>,
    tunnels: watch::Receiver<Vec<Problem>>,
    outage: watch::Receiver<Option<Outage>>,
    drain: watch::Receiver<Stage>,
}

impl Views {
    fn of(board: &Board) -> Views {
        Views {
            calc: board.calc.subscribe(),
            dataplane: board.dataplane.subscribe(),
            speaker: board.speaker.subscribe(),
            node: board.node.subscribe(),
            cni: board.cni.subscribe(),
            stored: board.stored.subscribe(),
            unknown: board.unknown.subscribe(),
            tunnels: board.tunnels.subscribe(),
            outage: board.outage.subscribe(),
            drain: board.drain.subscribe(),
        }
    }

    async fn changed(&mut self) {
        // The board outlives the task, so nothing here can end.
        let _ended = tokio::select! {
            ended = self.calc.changed() => ended,
            ended = self.dataplane.changed() => ended,
            ended = self.speaker.changed() => ended,
            ended = self.node.changed() => ended,
            ended = self.cni.changed() => ended,
            ended = self.stored.changed() => ended,
            ended = self.unknown.changed() => ended,
            ended = self.tunnels.changed() => ended,
            ended = self.outage.changed() => ended,
            ended = self.drain.changed() => ended,
        };
    }
}

struct Writer {
    store: Arc<dyn Datastore>,
    node: String,
    /// What stands in the datastore.
    written: Option<NodeStatusStatus>,
}

impl Writer {
    /// The times at which conditions changed are kept over a restart.
    async fn read(&mut self) {
        let stored = get_typed::<NodeStatus>(&*self.store, &self.node).await;
        self.written = stored.ok().and_then(|stored| stored.resource.status);
    }

    async fn write(&mut self, status: NodeStatusStatus) {
        if let Err(error) = self.try_write(&status).await {
            tracing::info!(%error, "status is not written");
            return;
        }
        self.written = Some(status);
    }

    async fn try_write(&self, status: &NodeStatusStatus) -> Result<()> {
        let key = Key::cluster(Kind::NodeStatus, &self.node);
        let value = serde_json::to_value(status)?;
        match self.store.patch_status(&key, value.clone()).await {
            Err(error) if error.is_not_found() => {}
            other => return Ok(other.map(drop)?),
        }
        let object = NodeStatus {
            metadata: ObjectMeta {
                name: Some(self.node.clone()),
                ..ObjectMeta::default()
            },
            spec: NodeStatusSpec {
                node: Some(self.node.clone()),
            },
            status: None,
        };
        create_typed(&*self.store, &object).await?;
        self.store.patch_status(&key, value).await?;
        Ok(())
    }
}

/// What makes a write urgent.
fn edges(status: &NodeStatusStatus) -> (Vec<(&str, ConditionStatus)>, u32) {
    let conditions = status
        .conditions
        .iter()
        .map(|c| (c.type_.as_str(), c.status));
    (conditions.collect(), status.peers_established)
}

fn observe(board: &Board, before: Option<&NodeStatusStatus>) -> NodeStatusStatus {
    let now = time_text(SystemTime::now());
    let calc = board.calc.borrow().clone();
    let counters = board.dataplane.borrow().counters;
    let routes = counters.in_place;
    let peers = peers(board);
    let established = peers
        .iter()
        .filter(|peer| peer.state == PeerState::Established)
        .count();
    NodeStatusStatus {
        observed_at: Some(now.clone()),
        agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        as_number: calc.bgp.as_ref().map(|bgp| Asn(bgp.local.asn)),
        router_id: calc.bgp.as_ref().map(|bgp| bgp.local.router_id.to_string()),
        peers_established: count32(established),
        peers_configured: count32(peers.len()),
        peers,
        addresses: AddressCounts {
            used: calc.blocks.iter().map(|block| block.used).sum(),
            free: calc.blocks.iter().map(|block| block.free).sum(),
        },
        blocks: calc
            .blocks
            .iter()
            .map(|block| BlockStatus {
                cidr: Cidr::masking(block.cidr),
                state: block.state,
                used: block.used,
                free: block.free,
            })
            .collect(),
        tunnels: crate::tunnels::all(board).into_iter().map(tunnel).collect(),
        routes: RouteCounts {
            programmed: count64(routes.workloads + routes.blocks + routes.learned),
            workloads: count64(routes.workloads),
            blocks: count64(routes.blocks),
            learned: count64(routes.learned),
            failed: count64(counters.refused),
        },
        conditions: conditions(board, before, &now),
    }
}

fn tunnel(tunnel: crate::tunnels::Tunnel) -> TunnelStatus {
    TunnelStatus {
        device: tunnel.device.to_owned(),
        encapsulation: match tunnel.is_ipip {
            true => Encapsulation::Ipip,
            false => Encapsulation::Vxlan,
        },
        carrier: tunnel.carrier.map(|carrier| match carrier {
            Carrier::Kernel => TunnelCarrier::Kernel,
            Carrier::User => TunnelCarrier::UserSpace,
        }),
        address: tunnel.address.map(|address| address.to_string()),
        mtu: tunnel.mtu,
        remotes: tunnel.remotes.map(count32),
        counters: tunnel.counters.map(|counters| {
            let drops = TunnelDrop::ALL.into_iter();
            let drops = drops.map(|reason| (reason.name().to_owned(), counters.dropped(reason)));
            TunnelCounters {
                sent_packets: counters.sent_packets,
                sent_octets: counters.sent_bytes,
                received_packets: counters.received_packets,
                received_octets: counters.received_bytes,
                dropped: drops.filter(|(_, count)| *count > 0).collect(),
            }
        }),
        problem: Some(tunnel.problems.join("; ")).filter(|text| !text.is_empty()),
    }
}

fn count32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn count64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn peers(board: &Board) -> Vec<PeerStatus> {
    let section = board.calc.borrow().bgp.clone();
    let speaker = board.speaker.borrow();
    let Some(section) = section else {
        return Vec::new();
    };
    let mut peers: Vec<PeerStatus> = section
        .refused
        .iter()
        .map(|(name, refused)| PeerStatus {
            name: name.clone(),
            object: refused.object.clone(),
            peer_ip: refused.address.to_string(),
            as_number: refused.remote_as.map(Asn),
            type_: peer_type(refused.kind),
            state: PeerState::Idle,
            last_error: Some(refused.reason.clone()),
            ..PeerStatus::default()
        })
        .collect();
    peers.extend(section.peers.iter().map(|(name, spec)| {
        let info = speaker.peers.get(&crate::speaker::key(spec));
        let counts = info.map(bgp::PeerInfo::total).unwrap_or_default();
        PeerStatus {
            name: name.clone(),
            object: spec.object.clone(),
            peer_ip: spec.address.to_string(),
            as_number: Some(Asn(spec.remote_as)),
            type_: peer_type(spec.kind),
            state: info.map_or(PeerState::Idle, |info| state(info.state)),
            since: info.map(|info| time_text(info.since)),
            received: count64(counts.received),
            accepted: count64(counts.accepted),
            best: count64(counts.best),
            advertised: count64(counts.advertised),
            last_error: info.and_then(|info| info.last_error.clone()),
        }
    }));
    peers.sort_by(|one, other| one.name.cmp(&other.name));
    peers
}

fn peer_type(kind: PeerKind) -> PeerType {
    match kind {
        PeerKind::NodeMesh => PeerType::NodeMesh,
        PeerKind::NodePeer => PeerType::NodePeer,
        PeerKind::GlobalPeer => PeerType::GlobalPeer,
    }
}

fn state(state: bgp::State) -> PeerState {
    match state {
        bgp::State::Idle => PeerState::Idle,
        bgp::State::Connect => PeerState::Connect,
        bgp::State::Active => PeerState::Active,
        bgp::State::OpenSent => PeerState::OpenSent,
        bgp::State::OpenConfirm => PeerState::OpenConfirm,
        bgp::State::Established => PeerState::Established,
    }
}

fn conditions(board: &Board, before: Option<&NodeStatusStatus>, now: &str) -> Vec<Condition> {
    let problems: Vec<String> = board
        .configuration_problems()
        .iter()
        .map(ToString::to_string)
        .collect();
    let (programmed, failures) = {
        let dataplane = board.dataplane.borrow();
        let mut failures: Vec<String> =
            dataplane.failures.iter().map(ToString::to_string).collect();
        if dataplane.generation == 0 {
            failures.push("nothing is in the kernel yet".to_owned());
        }
        (failures.is_empty(), failures)
    };
    let (off, started, converged) = {
        let speaker = board.speaker.borrow();
        (speaker.off, speaker.started, speaker.converged)
    };
    let outage = board.outage.borrow().clone();
    let headless = outage.as_ref().map(|outage| {
        let since = time_text(outage.since);
        format!("headless since {since}: {}", outage.problem)
    });
    let not_ready = board.not_ready();
    let node = board.node.borrow().clone();
    let stage = board.drain.borrow().clone();
    let tunnels = crate::tunnels::all(board).into_iter();
    let in_user_space = tunnels.filter(|tunnel| tunnel.carrier == Some(Carrier::User));
    let in_user_space: Vec<&str> = in_user_space.map(|tunnel| tunnel.device).collect();
    let facts = [
        (
            "Ready",
            not_ready.is_empty(),
            "Ready",
            "NotReady",
            not_ready.join("; "),
        ),
        (
            "DataplaneProgrammed",
            programmed,
            "Programmed",
            "NotProgrammed",
            failures.join("; "),
        ),
        (
            "BGPConverged",
            converged,
            "Converged",
            if off {
                "Off"
            } else if started {
                "WaitingForPeers"
            } else {
                "NotStarted"
            },
            String::new(),
        ),
        (
            "TunnelsInKernel",
            in_user_space.is_empty(),
            "Kernel",
            "UserSpace",
            match in_user_space.is_empty() {
                true => String::new(),
                false => format!(
                    "the agent itself carries the packets of {}, which costs more than the kernel's tunnels and stops while the agent does",
                    in_user_space.join(" and ")
                ),
            },
        ),
        (
            "ConfigurationValid",
            problems.is_empty(),
            "Valid",
            "Problems",
            problems.join("; "),
        ),
        (
            "InService",
            stage == Stage::Stays,
            "Stays",
            match stage {
                Stage::Stays | Stage::Leaving(_) => "Leaving",
                Stage::Left(_) => "Left",
            },
            match &stage {
                Stage::Stays => String::new(),
                Stage::Leaving(cause) | Stage::Left(cause) => cause.clone(),
            },
        ),
        (
            "NodeAddressKnown",
            node.reason == "Known",
            "Known",
            match node.reason {
                "" => "Unknown",
                reason => reason,
            },
            node.problem
                .map(|problem| problem.to_string())
                .unwrap_or_default(),
        ),
        (
            // Only those who ask the agent itself see this fail; the time of the last change stays.
            "DatastoreReachable",
            headless.is_none(),
            "Reachable",
            "Headless",
            headless.unwrap_or_default(),
        ),
    ];
    let condition = |(type_, holds, yes, no, message): (&str, bool, &str, &str, String)| {
        let status = if holds {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        };
        let mut earlier = before.into_iter().flat_map(|before| &before.conditions);
        let same = earlier.find(|c| c.type_ == type_ && c.status == status);
        Condition {
            type_: type_.to_owned(),
            status,
            reason: if holds { yes } else { no }.to_owned(),
            message: message.chars().take(32_000).collect(),
            last_transition_time: same
                .and_then(|c| c.last_transition_time.clone())
                .or_else(|| Some(now.to_owned())),
            observed_generation: None,
        }
    };
    facts.into_iter().map(condition).collect()
}
