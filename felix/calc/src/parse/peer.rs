//! BGPPeer.

use std::time::Duration;

use crds::bgp_peer::{self, ReversePeering, SourceAddress};
use crds::selector::Selector;
use crds::{BgpPeer, BgpPeerSpec};

use super::Problems;
use super::configuration::secret_key;
use crate::facts::{Peer, Remote, Scope};
use crate::{NextHopMode, Problem};

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
        restart_time: spec.max_restart_time.map(Duration::from),
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
        problems: problems.list,
    })
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
