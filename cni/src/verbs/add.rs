//! ADD: address from the agent, veth, pod side, then routes by the agent.

use felix_api::cni::tombstone;
use netlink::netns::NetNs;

use super::Attachment;
use super::del::settle;
use crate::conf::Conf;
use crate::environment::Environment;
use crate::error::Error;
use crate::plan::{Mac, Plan, mac_text};
use crate::result::{AddResult, Interface, Ip, Route};
use crate::{host, pod};

/// Attaches the container and describes what was made.
///
/// # Errors
/// After an error nothing is left of the attachment, unless it was complete before.
pub(crate) fn add(conf: &Conf, environment: &Environment) -> Result<AddResult, Error> {
    conf.check_for_add()?;
    let netns = pod::open(&environment.netns)?;
    let attachment = Attachment { conf, environment };
    settle_earlier_deletion(&attachment)?;
    match attach(&attachment, &netns) {
        Ok(result) => Ok(AddResult::after(conf.keys.previous.clone(), result).shaped(conf.version)),
        Err(Failed { error, kept: true }) => Err(error),
        Err(Failed { error, kept: false }) => Err(undo(&attachment, error)),
    }
}

/// Why an attachment did not come about, and whether an older one was kept.
struct Failed {
    error: Error,
    kept: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed { error, kept: false }
    }
}

fn attach(attachment: &Attachment<'_>, netns: &NetNs) -> Result<AddResult, Failed> {
    let added = attachment.add()?;
    let plan = Plan::new(attachment.conf, attachment.environment, &added)?;
    let mut socket = host::socket()?;
    let existing = host::keep_or_clear(&mut socket, netns, &plan)?;
    let kept = existing.is_some();
    let failed = |error| Failed { error, kept };
    let pod_mac = if kept {
        pod::mac(netns, &plan)
    } else {
        host::create(&mut socket, netns, &plan).and_then(|_| pod::configure(netns, &plan))
    }
    .map_err(failed)?;
    attachment
        .activate(&plan.host_interface, mac_text(pod_mac))
        .map_err(failed)?;
    Ok(describe(attachment, &plan, pod_mac))
}

/// A deletion that waits for the agent would release the address of the new attachment.
fn settle_earlier_deletion(attachment: &Attachment<'_>) -> Result<(), Error> {
    let keys = &attachment.conf.keys;
    let environment = attachment.environment;
    let waiting = tombstone::path(
        &keys.state_dir,
        &environment.container_id,
        &environment.ifname,
    );
    if !waiting.exists() {
        return Ok(());
    }
    attachment
        .forget()
        .map_err(|failure| failure.into_error(&keys.socket))
}

/// Removes what an attempt made, so that `error` is all that remains of it.
fn undo(attachment: &Attachment<'_>, mut error: Error) -> Error {
    let environment = attachment.environment;
    let alias = felix_api::cni::alias(&environment.container_id, &environment.ifname);
    let undone = host::socket()
        .and_then(|mut socket| host::remove_marked(&mut socket, &alias))
        .and_then(|()| settle(attachment));
    if let Err(problem) = undone {
        let separator = if error.details.is_empty() { "" } else { "; " };
        error
            .details
            .push_str(&format!("{separator}undoing it failed: {problem}"));
    }
    error
}

fn describe(attachment: &Attachment<'_>, plan: &Plan, pod_mac: Mac) -> AddResult {
    let host = Interface {
        name: plan.host_interface.clone(),
        mac: Some(mac_text(plan.host_mac)),
        mtu: Some(plan.mtu),
        ..Interface::default()
    };
    let pod = Interface {
        name: plan.ifname.clone(),
        mac: Some(mac_text(pod_mac)),
        mtu: Some(plan.mtu),
        sandbox: Some(attachment.environment.netns.to_string_lossy().into_owned()),
        ..Interface::default()
    };
    AddResult {
        interfaces: vec![host, pod],
        ips: plan.addresses.iter().map(|net| Ip::of(*net, 1)).collect(),
        routes: plan
            .destinations
            .iter()
            .map(|destination| Route::through(pod::gateway(destination), *destination))
            .collect(),
        dns: attachment.conf.keys.dns.clone().unwrap_or_default(),
        ..AddResult::default()
    }
}
