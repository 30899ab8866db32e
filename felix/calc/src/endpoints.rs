//! Local workloads: which interface and which address belongs to whom.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::{EndpointId, EndpointInterface, Endpoints, Problem, WorkloadEndpoint};

/// The endpoints section and what follows from it.
#[derive(Debug, Default)]
pub(crate) struct Local {
    pub(crate) endpoints: Endpoints,
    /// Interface of each pod address.
    pub(crate) owners: BTreeMap<IpAddr, Arc<str>>,
    pub(crate) problems: Vec<Problem>,
}

/// Of two endpoints that claim one interface or one address the lower id wins and the other is
/// shadowed until the first goes (Calico behaviour for interfaces).
pub(crate) fn local(inputs: &BTreeMap<EndpointId, WorkloadEndpoint>) -> Local {
    let mut result = Local::default();
    let mut address_ids: BTreeMap<IpAddr, &EndpointId> = BTreeMap::new();
    for (id, endpoint) in inputs {
        if let Some(winner) = result.endpoints.interfaces.get(&endpoint.interface) {
            result.problems.push(shadowed(
                id,
                &format!("interface {}", endpoint.interface),
                &winner.id,
            ));
            continue;
        }
        let mut addresses = Vec::new();
        for address in &endpoint.addresses {
            match address_ids.get(address) {
                Some(winner) if *winner == id => {}
                Some(winner) => {
                    result
                        .problems
                        .push(shadowed(id, &format!("address {address}"), winner));
                }
                None => {
                    address_ids.insert(*address, id);
                    result.owners.insert(*address, endpoint.interface.clone());
                    addresses.push(*address);
                }
            }
        }
        addresses.sort();
        result.endpoints.interfaces.insert(
            endpoint.interface.clone(),
            EndpointInterface {
                id: id.clone(),
                container_id: endpoint.container_id.clone(),
                addresses,
                pod_mac: endpoint.pod_mac,
            },
        );
    }
    result
}

fn shadowed(loser: &EndpointId, what: &str, winner: &EndpointId) -> Problem {
    Problem {
        object: format!("WorkloadEndpoint/{loser}"),
        field: String::new(),
        problem: format!("{what} belongs to {winner} already, so it is not set up for {loser}"),
        remedy: "delete the workload that should not have it".to_owned(),
    }
}
