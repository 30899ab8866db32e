//! BGPPeer.

use std::num::NonZeroU8;
use std::time::Duration;

use crds::bgp_peer::{self, FailureDetectionMode, RestartMode, ReversePeering, SourceAddress};
use crds::selector::Selector;
use crds::{BgpPeer, BgpPeerSpec};

use super::Problems;
use super::configuration::secret_key;
use crate::facts::{Peer, Remote, Scope};
use crate::{Bfd, NextHopMode, Problem, SessionOptions};

/// A BGPPeer; an error when it must be left out.
pub(crate) fn peer(name: &str, peer: &BgpPeer) -> Result<Peer, Vec<Problem>> {
    let spec = &peer.spec;
    let mut problems = Problems::of("BGPPeer", name);
    if spec
        .local_workload_selector
        .as_deref()
        .is_some_and(|text| !text.is_empty())
    {
        let consequence = "there is no session, because the labels of pods are not known here";
        problems.unsupported("spec.localWorkloadSelector", consequence);
    }
    let remote = remote(spec, &mut problems);
    let scope = scope(spec, &mut problems);
    let (Some(remote), Some(scope), true) = (remote, scope, problems.list.is_empty()) else {
        return Err(problems.list);
    };
    let mode = spec.next_hop_mode;
    let reachable_by = spec.reachable_by.as_deref();
    Ok(Peer {
        scope,
        remote,
        asn: spec.as_number.map(u32::from),
        local_as: spec.local_as_number.map(u32::from),
        use_node_address: match spec.source_address.unwrap_or_default() {
            SourceAddress::UseNodeIP => true,
            SourceAddress::None => false,
        },
        keepalive: spec.keepalive_time.map(Duration::from),
        restart_time: spec
            .max_restart_time
            .filter(|_| !is_long_lived(spec))
            .map(Duration::from),
        ttl_security: spec.ttl_security.filter(|hops| *hops > 0),
        allow_own_as: u8::try_from(spec.num_allowed_local_as_numbers.unwrap_or(0))
            .unwrap_or(u8::MAX),
        next_hop: match mode.unwrap_or_default() {
            bgp_peer::NextHopMode::Auto => NextHopMode::Auto,
            bgp_peer::NextHopMode::OwnAddress => NextHopMode::OwnAddress,
            bgp_peer::NextHopMode::Keep => NextHopMode::Keep,
        },
        keep_towards_others: mode.is_none() && spec.keep_original_next_hop.unwrap_or(false),
        password: spec.password.as_ref().map(secret_key),
        filters: spec.filters.clone(),
        reachable_by: reachable_by.and_then(|gateway| gateway.parse().ok()),
        reverse: match spec.reverse_peering.unwrap_or_default() {
            ReversePeering::Auto => true,
            ReversePeering::Manual => false,
        },
        options: options(spec),
        problems: problems.list,
    })
}

/// How long routes stay as a last resort where nothing says so (Calico Enterprise's default).
const LONG_LIVED: Duration = Duration::from_secs(3600);

/// Interval of BFD where nothing says so.
const INTERVAL: Duration = Duration::from_millis(300);

fn is_long_lived(spec: &BgpPeerSpec) -> bool {
    match spec.restart_mode.unwrap_or_default() {
        RestartMode::GracefulRestart => false,
        RestartMode::LongLivedGracefulRestart => true,
    }
}

fn options(spec: &BgpPeerSpec) -> SessionOptions {
    let long = spec.max_restart_time.map_or(LONG_LIVED, Duration::from);
    let watched = match spec.failure_detection_mode() {
        FailureDetectionMode::None => false,
        FailureDetectionMode::BfdIfDirectlyConnected => true,
    };
    let pace = spec.bfd.unwrap_or_default();
    SessionOptions {
        add_path: false,
        long_lived: is_long_lived(spec).then_some(long),
        bfd: watched.then(|| Bfd {
            send: pace.minimum_send_interval.map_or(INTERVAL, Duration::from),
            receive: pace.minimum_recv_interval.map_or(INTERVAL, Duration::from),
            multiplier: pace
                .multiplier
                .and_then(NonZeroU8::new)
                .unwrap_or(NonZeroU8::MIN.saturating_add(2)),
        }),
        max_prefixes: spec.max_prefixes,
        role: spec.role,
        role_strict: spec.role_strict.unwrap_or(false),
    }
}

fn remote(spec: &BgpPeerSpec, problems: &mut Problems) -> Option<Remote> {
    match spec.peer_address() {
        Some(Ok((address, port))) => return Some(Remote::Address(address, port)),
        Some(Err(error)) => problems.push(&error.field, error.problem, &error.remedy),
        None => {}
    }
    let selector = given(&spec.peer_selector)?;
    selector_in("spec.peerSelector", &selector, problems).map(Remote::Nodes)
}

fn scope(spec: &BgpPeerSpec, problems: &mut Problems) -> Option<Scope> {
    match (given(&spec.node), given(&spec.node_selector)) {
        (Some(node), _) => Some(Scope::Node(node)),
        (None, None) => Some(Scope::Global),
        (None, Some(selector)) => {
            selector_in("spec.nodeSelector", &selector, problems).map(Scope::Selector)
        }
    }
}

fn given(field: &Option<String>) -> Option<String> {
    field.clone().filter(|text| !text.is_empty())
}

fn selector_in(field: &str, text: &str, problems: &mut Problems) -> Option<Selector> {
    let parsed = Selector::parse(text);
    parsed
        .map_err(|error| problems.push(field, error.to_string(), "write it like rack == 'r1'"))
        .ok()
}
