//! The verbs of the specification, one function each.
//!
//! Order is what makes a kill at any point harmless: the agent records an attachment before
//! anything is built, and an address is released only after the interface that has it is gone.

use felix_api::cni::{Activate, Add, Added, Check, Del, Op, Reply, code};

use crate::agent::{Failure, ask, unexpected};
use crate::conf::Conf;
use crate::environment::Environment;
use crate::error::Error;

mod add;
mod check;
mod del;
mod gc;

pub(crate) use add::add;
pub(crate) use check::check;
pub(crate) use del::del;
pub(crate) use gc::gc;

/// STATUS: whether an ADD would be served (CNI 1.1.0, "STATUS").
///
/// # Errors
/// Code 50 or 51 when it would not.
pub(crate) fn status(conf: &Conf) -> Result<(), Error> {
    conf.check_for_add()?;
    let socket = &conf.keys.socket;
    match ask(socket, Op::Status) {
        Ok(Reply::Done) => Ok(()),
        Ok(other) => Err(unexpected(&other).into_error(socket)),
        Err(failure) => {
            let mut error = failure.into_error(socket);
            if !matches!(error.code, code::NOT_AVAILABLE | code::LIMITED_CONNECTIVITY) {
                error.code = code::NOT_AVAILABLE;
            }
            Err(error)
        }
    }
}

/// One attachment of one network, and how to talk to the agent about it.
struct Attachment<'a> {
    conf: &'a Conf,
    environment: &'a Environment,
}

impl Attachment<'_> {
    fn add(&self) -> Result<Added, Error> {
        let (keys, environment) = (&self.conf.keys, self.environment);
        let mut addresses = environment.args.addresses.clone();
        addresses.extend(self.conf.requested_addresses()?);
        addresses.sort();
        addresses.dedup();
        let op = Op::Add(Add {
            network: keys.name.clone(),
            container_id: environment.container_id.clone(),
            ifname: environment.ifname.clone(),
            netns: environment.netns.to_string_lossy().into_owned(),
            namespace: environment.args.namespace.clone(),
            pod: environment.args.pod.clone(),
            uid: environment.args.uid.clone(),
            ipv4: keys.ipam.assign_ipv4,
            ipv6: keys.ipam.assign_ipv6,
            ipv4_pools: keys.ipam.ipv4_pools.clone(),
            ipv6_pools: keys.ipam.ipv6_pools.clone(),
            addresses,
            mtu: keys.mtu,
        });
        match self.ask(op)? {
            Reply::Added(added) => Ok(added),
            other => Err(self.unexpected(&other)),
        }
    }

    fn activate(&self, host_interface: &str, pod_mac: String) -> Result<(), Error> {
        let op = Op::Activate(Activate {
            network: self.conf.keys.name.clone(),
            container_id: self.environment.container_id.clone(),
            ifname: self.environment.ifname.clone(),
            host_interface: host_interface.to_owned(),
            pod_mac,
        });
        match self.ask(op)? {
            Reply::Done => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    fn check(&self) -> Result<felix_api::cni::Checked, Error> {
        let op = Op::Check(Check {
            network: self.conf.keys.name.clone(),
            container_id: self.environment.container_id.clone(),
            ifname: self.environment.ifname.clone(),
        });
        match self.ask(op)? {
            Reply::Checked(checked) => Ok(checked),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Tells the agent that the attachment is gone.
    fn forget(&self) -> Result<(), Failure> {
        match ask(&self.conf.keys.socket, Op::Del(self.deletion()))? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn deletion(&self) -> Del {
        Del {
            network: self.conf.keys.name.clone(),
            container_id: self.environment.container_id.clone(),
            ifname: self.environment.ifname.clone(),
            namespace: self.environment.args.namespace.clone(),
            pod: self.environment.args.pod.clone(),
        }
    }

    fn ask(&self, op: Op) -> Result<Reply, Error> {
        let socket = &self.conf.keys.socket;
        ask(socket, op).map_err(|failure| failure.into_error(socket))
    }

    fn unexpected(&self, reply: &Reply) -> Error {
        unexpected(reply).into_error(&self.conf.keys.socket)
    }
}
