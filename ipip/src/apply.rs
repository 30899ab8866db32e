//! Observes devices and carries operations out.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink::{
    AddressFilter, AddressOptions, Error, Forwarding, LinkChange, NeighbourFilter, Offload, Socket,
    ignore_not_found,
};

use crate::plan::{MARK, Observed, Op};
use crate::{Carrier, Encapsulation, Problem, Tunnel, mtu, plan, vxlan};

/// The first kernel that makes the checksums of tunnelled packets right on all cards.
const GOOD_CHECKSUMS: (u32, u32) = (5, 7);

/// What came of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Operations that the kernel carried out.
    pub written: u64,
    /// What stands in the way.
    pub problems: Vec<Problem>,
    /// What there was at the end.
    pub observed: Observed,
}

/// Reads what there is of a tunnel.
pub(crate) fn observe(
    socket: &mut Socket,
    tunnel: &Tunnel,
    carrier: Carrier,
) -> Result<Observed, Error> {
    let mut observed = observe_device(socket, &tunnel.name)?;
    let Some(link) = &observed.link else {
        observed.parent = parent(socket, tunnel)?;
        return Ok(observed);
    };
    if !plan::is_of_kind(tunnel, carrier, link) {
        return Ok(observed);
    }
    if let Encapsulation::Vxlan(_) = tunnel.encapsulation {
        observed.neighbours = socket.neighbours(&NeighbourFilter {
            index: Some(link.index),
            ..NeighbourFilter::default()
        })?;
    }
    if carrier == Carrier::User {
        return Ok(observed);
    }
    observed.bad_checksums = kernel_gets_checksums_wrong()
        && Offload::TransmitChecksum
            .is_on(&tunnel.name)
            .unwrap_or(false);
    if let Encapsulation::Vxlan(_) = tunnel.encapsulation {
        observed.forwarding = socket.forwarding(link.index)?;
    }
    observed.parent = parent(socket, tunnel)?;
    Ok(observed)
}

/// Reads the device of a name and its addresses.
pub(crate) fn observe_device(socket: &mut Socket, name: &str) -> Result<Observed, Error> {
    let mut observed = Observed {
        link: socket.link(name)?,
        ..Observed::default()
    };
    if let Some(link) = &observed.link {
        let filter = AddressFilter {
            index: Some(link.index),
            ..AddressFilter::default()
        };
        let addresses = socket.addresses(&filter)?.into_iter();
        observed.addresses = addresses
            .map(|address| address.net)
            .filter(|net| !is_link_local(net))
            .collect();
    }
    Ok(observed)
}

fn parent(socket: &mut Socket, tunnel: &Tunnel) -> Result<Option<netlink::Link>, Error> {
    match &tunnel.encapsulation {
        Encapsulation::Ipip => Ok(None),
        Encapsulation::Vxlan(wanted) => socket.link(&wanted.parent),
    }
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net.addr(), IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Whether the running kernel is one of those.
fn kernel_gets_checksums_wrong() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    is_older(&release, GOOD_CHECKSUMS)
}

fn is_older(release: &str, than: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse().ok());
    match (next(), next()) {
        (Some(major), Some(minor)) => (major, minor) < than,
        _ => false,
    }
}

/// One device, while operations on it are carried out.
pub(crate) struct Target<'a> {
    pub(crate) socket: &'a mut Socket,
    pub(crate) name: &'a str,
    /// Index of the device, while it is there.
    pub(crate) index: Option<u32>,
}

impl Target<'_> {
    /// Carries out one operation; `wanted` and what was observed, for those that make or change
    /// the device.
    pub(crate) fn apply(
        &mut self,
        op: &Op,
        wanted: Option<(&Tunnel, &Observed)>,
    ) -> Result<(), Error> {
        let index = self.index.unwrap_or(0);
        let socket = &mut *self.socket;
        match op {
            Op::Create => self.create(wanted),
            Op::ChangeVxlan => self.change_vxlan(wanted),
            Op::Delete => {
                ignore_not_found(socket.delete_link(index))?;
                self.index = None;
                Ok(())
            }
            Op::SetMac(mac) => socket.set_link(
                index,
                &LinkChange {
                    mac: Some(*mac),
                    ..LinkChange::default()
                },
            ),
            Op::SetMtu(mtu) => socket.set_link(
                index,
                &LinkChange {
                    mtu: Some(*mtu),
                    ..LinkChange::default()
                },
            ),
            Op::Mark(ours) => socket.set_link(
                index,
                &LinkChange {
                    alias: Some(if *ours { MARK } else { "" }.to_owned()),
                    ..LinkChange::default()
                },
            ),
            Op::SetUp(up) => socket.set_link(
                index,
                &LinkChange {
                    up: Some(*up),
                    ..LinkChange::default()
                },
            ),
            Op::ChecksumsBySoftware => Offload::TransmitChecksum.set(self.name, false),
            Op::AddAddress(net) => {
                let options = AddressOptions {
                    no_dad: true,
                    no_prefix_route: false,
                    replace: true,
                };
                socket.add_address(index, *net, options)
            }
            Op::RemoveAddress(net) => ignore_not_found(socket.delete_address(index, *net)),
            Op::SetForwarding(mac, node) => socket.set_forwarding(&Forwarding {
                index,
                mac: *mac,
                node: Some(*node),
                permanent: true,
            }),
            Op::RemoveForwarding(entry) => ignore_not_found(socket.delete_forwarding(entry)),
            Op::SetNeighbour(address, mac) => socket.set_neighbour(index, *address, *mac),
            Op::RemoveNeighbour(address) => {
                ignore_not_found(socket.delete_neighbour(index, *address))
            }
        }
    }

    fn create(&mut self, wanted: Option<(&Tunnel, &Observed)>) -> Result<(), Error> {
        let Some((tunnel, observed)) = wanted else {
            return Ok(());
        };
        match (&tunnel.encapsulation, &observed.parent) {
            (Encapsulation::Ipip, _) => match self.socket.create_ipip(self.name) {
                // Loading the module has made it meanwhile.
                Err(Error::Exists(_)) | Ok(()) => {}
                Err(error) => return Err(error),
            },
            (Encapsulation::Vxlan(wanted), Some(parent)) => {
                let settings = vxlan::settings(tunnel, wanted, parent.index);
                self.socket.create_vxlan(self.name, wanted.mac, &settings)?;
            }
            (Encapsulation::Vxlan(_), None) => return Ok(()),
        }
        self.index = self.socket.link(self.name)?.map(|link| link.index);
        Ok(())
    }

    fn change_vxlan(&mut self, wanted: Option<(&Tunnel, &Observed)>) -> Result<(), Error> {
        let Some((tunnel, observed)) = wanted else {
            return Ok(());
        };
        let (Encapsulation::Vxlan(vxlan), Some(parent), Some(index)) =
            (&tunnel.encapsulation, &observed.parent, self.index)
        else {
            return Ok(());
        };
        let settings = vxlan::settings(tunnel, vxlan, parent.index);
        match self.socket.change_vxlan(index, &settings) {
            Err(Error::Unsupported(_) | Error::Kernel(_)) => {
                self.apply(&Op::Delete, wanted)?;
                self.create(wanted)
            }
            other => other,
        }
    }
}

/// What a refusal means for the tunnel.
pub(crate) fn problem(op: &Op, error: &Error, tunnel: &Tunnel, observed: &Observed) -> Problem {
    if let (Op::Create, Error::Unsupported(_)) = (op, error) {
        return Problem::Unsupported {
            kind: tunnel.kind(),
        };
    }
    if let (Op::SetMtu(wanted), Some(parent)) = (op, &observed.parent) {
        let largest = mtu::largest(tunnel, parent.mtu);
        if *wanted > largest {
            return Problem::Refused(format!(
                "{error}: its MTU {wanted} is too large for interface {} with {}, at most {largest}",
                parent.name, parent.mtu,
            ));
        }
    }
    Problem::Refused(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        for (release, older) in [
            ("5.6.19-300.fc32.x86_64\n", true),
            ("4.18.0-553.el8", true),
            ("5.7.0", false),
            ("5.10.0-33-amd64", false),
            ("6.1.0", false),
            ("10.0", false),
            ("unknown", false),
            ("", false),
        ] {
            assert_eq!(is_older(release, GOOD_CHECKSUMS), older, "{release}");
        }
    }
}
