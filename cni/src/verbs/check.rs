//! CHECK: whether the attachment still is what ADD made of it.

use felix_api::cni::{Added, code};

use super::Attachment;
use crate::conf::Conf;
use crate::environment::Environment;
use crate::error::Error;
use crate::plan::{Plan, parse_mac};
use crate::result::{AddResult, Interface};
use crate::{host, pod};

/// Compares agent's record, host end, pod end and the result that ADD printed.
///
/// # Errors
/// Code 103 with one sentence per deviation, 3 when the attachment is not known.
pub(crate) fn check(conf: &Conf, environment: &Environment) -> Result<(), Error> {
    let Some(previous) = &conf.keys.previous else {
        return Err(Error::new(code::INVALID_CONFIG, "prevResult is missing")
            .with_details("CHECK compares with the result of ADD, which the runtime passes"));
    };
    let netns = pod::open(&environment.netns)?;
    let checked = Attachment { conf, environment }.check()?;
    let mut plan = Plan::new(conf, environment, &checked.record)?;
    let mut found = checked.problems;
    match interface_in_pod(previous, &environment.ifname) {
        Some((index, interface)) => {
            found.extend(differences(previous, index, &checked.record));
            // Plugins behind this one, like `tuning`, may change these and say so.
            plan.pod_mac = interface
                .mac
                .as_deref()
                .and_then(parse_mac)
                .or(plan.pod_mac);
        }
        None => found.push(format!(
            "prevResult has no interface {} of the pod",
            environment.ifname
        )),
    }
    if !previous
        .interfaces
        .iter()
        .any(|interface| interface.name == plan.host_interface)
    {
        found.push(format!(
            "prevResult has no host interface {}",
            plan.host_interface
        ));
    }
    let mut socket = host::socket()?;
    let name = plan.host_interface.clone();
    match host::links(&mut socket)?
        .into_iter()
        .find(|link| link.name == name)
    {
        Some(link) => {
            found.extend(host::deviations(&mut socket, &plan, &link)?);
            found.extend(pod::deviations(&netns, &plan, link.index)?);
        }
        None => found.push(format!("host interface {name} does not exist")),
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::new(code::CHECK_FAILED, found.join("; "))
        .with_details("delete the pod to have it attached anew"))
}

fn interface_in_pod<'a>(result: &'a AddResult, ifname: &str) -> Option<(usize, &'a Interface)> {
    let in_pod = |interface: &Interface| interface.sandbox.as_ref().is_some_and(|s| !s.is_empty());
    result
        .interfaces
        .iter()
        .enumerate()
        .find(|(_, interface)| interface.name == ifname && in_pod(interface))
}

/// Addresses that only one of result and record gives to the pod's interface.
fn differences(result: &AddResult, index: usize, record: &Added) -> Vec<String> {
    let told: Vec<_> = result
        .ips
        .iter()
        .filter(|ip| ip.interface == Some(index))
        .map(|ip| ip.address)
        .collect();
    let missing = record.addresses.iter().filter(|net| !told.contains(net));
    let extra = told.iter().filter(|net| !record.addresses.contains(net));
    missing
        .map(|net| format!("prevResult lacks address {net} of the agent's record"))
        .chain(extra.map(|net| format!("prevResult has address {net} unknown to the agent")))
        .collect()
}
