//! From what is wanted and what was observed to operations in their order. Pure.
//!
//! What something else refers to comes first: the device, then its address, then where a hardware
//! address is, then which hardware address a gateway has; routes, which others write, come between
//! [`prepare`] and [`sweep`], which takes away what no route needs any more.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink::{Forwarding, Link, Neighbour};

use crate::{Carrier, Encapsulation, Problem, Tunnel, ipip, vxlan};

#[cfg(test)]
pub(crate) mod tests;

/// Marks a device as ours (`ip link show` prints it as alias). It matters for `tunl0`, a name that
/// others use as well: without the mark it is not taken down when it is not wanted.
pub const MARK: &str = "tortie";

/// The kernel's word for the kind of devices whose other side is a program.
pub(crate) const STAND_IN: &str = "tun";

/// What there is of a tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The device of the tunnel's name.
    pub link: Option<Link>,
    /// Its addresses but for IPv6 link-local ones.
    pub addresses: Vec<IpNet>,
    /// Its neighbours.
    pub neighbours: Vec<Neighbour>,
    /// Its forwarding table.
    pub forwarding: Vec<Forwarding>,
    /// The interface that it should send by.
    pub parent: Option<Link>,
    /// It leaves checksums to the card, on a kernel that gets them wrong.
    pub bad_checksums: bool,
}

/// Something to do about a device. Hardware addresses are those of other ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Make the device; the kernel chooses its MTU. It is up but for a `tunl0` that was there.
    Create,
    /// Remove the device and all that is on it.
    Delete,
    /// Change the settings of a VXLAN device; where the kernel refuses, make it anew.
    ChangeVxlan,
    /// Set the hardware address of the device.
    SetMac([u8; 6]),
    /// Set the MTU in bytes.
    SetMtu(u32),
    /// Mark the device as ours, or not any more.
    Mark(bool),
    /// Set it up or down.
    SetUp(bool),
    /// Let the kernel make the checksums of what is sent.
    ChecksumsBySoftware,
    /// Give the device an address.
    AddAddress(IpNet),
    /// Take an address from it.
    RemoveAddress(IpNet),
    /// Say behind which node a hardware address is.
    SetForwarding([u8; 6], IpAddr),
    /// Remove a forwarding entry.
    RemoveForwarding(Forwarding),
    /// Say which hardware address a tunnel address has.
    SetNeighbour(IpAddr, [u8; 6]),
    /// Remove a neighbour.
    RemoveNeighbour(IpAddr),
}

/// Operations in their order, and what stands in the way of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do.
    pub ops: Vec<Op>,
    /// What cannot be done.
    pub problems: Vec<Problem>,
}

/// What must be before routes lead through the tunnel. Nothing when all is in place.
pub fn prepare(tunnel: &Tunnel, carrier: Carrier, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let fresh = match device(tunnel, carrier, observed, &mut plan) {
        Some(fresh) => fresh,
        None => return plan,
    };
    // A new device has nothing yet.
    let nothing = Observed::default();
    let observed = if fresh { &nothing } else { observed };
    let link = observed.link.as_ref();
    let differs = |is: Option<bool>| is != Some(true);
    // First of all: events about other changes then show a device that is up.
    if differs(link.map(|link| link.admin_up)) {
        plan.ops.push(Op::SetUp(true));
    }
    if differs(link.map(|link| link.alias.as_deref() == Some(MARK))) {
        plan.ops.push(Op::Mark(true));
    }
    if differs(link.map(|link| link.mtu == tunnel.mtu)) {
        plan.ops.push(Op::SetMtu(tunnel.mtu));
    }
    if observed.bad_checksums {
        plan.ops.push(Op::ChecksumsBySoftware);
    }
    let address = tunnel.address.map(IpNet::from);
    plan.ops.extend(
        address
            .filter(|address| !observed.addresses.contains(address))
            .map(Op::AddAddress),
    );
    if let Encapsulation::Vxlan(wanted) = &tunnel.encapsulation {
        vxlan::other_ends(wanted, carrier, observed, &mut plan);
    }
    plan
}

/// What to take away once no route needs it. Nothing when there is nothing left over.
pub fn sweep(tunnel: &Tunnel, carrier: Carrier, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    if observed
        .link
        .as_ref()
        .is_none_or(|link| !is_of_kind(tunnel, carrier, link))
    {
        return plan;
    }
    if let Encapsulation::Vxlan(wanted) = &tunnel.encapsulation {
        plan.ops.extend(vxlan::strangers(wanted, observed));
    }
    // While ours is missing, the device shall not be without any.
    let address = tunnel.address.map(IpNet::from);
    if address.is_some_and(|address| observed.addresses.contains(&address)) {
        let others = observed.addresses.iter().copied();
        let others = others.filter(|other| Some(*other) != address);
        plan.ops.extend(others.map(Op::RemoveAddress));
    }
    plan
}

/// How a device ends that is not wanted any more.
///
/// The `tunl0` of the kernel's module cannot be removed; what is left of it is down and empty.
pub fn retire(observed: &Observed) -> Vec<Op> {
    let Some(link) = &observed.link else {
        return Vec::new();
    };
    match link.kind.as_deref() {
        Some("vxlan") => vec![Op::Delete],
        Some(STAND_IN) if link.alias.as_deref() == Some(MARK) => vec![Op::Delete],
        Some("ipip") if link.alias.as_deref() == Some(MARK) => {
            let addresses = observed.addresses.iter().copied();
            let mut ops: Vec<Op> = addresses.map(Op::RemoveAddress).collect();
            if link.admin_up {
                ops.push(Op::SetUp(false));
            }
            ops.push(Op::Mark(false));
            ops
        }
        Some(_) | None => Vec::new(),
    }
}

/// Plans the device itself: whether it is a new one, or nothing when there will be none.
fn device(tunnel: &Tunnel, carrier: Carrier, observed: &Observed, plan: &mut Plan) -> Option<bool> {
    let Some(link) = &observed.link else {
        if carrier == Carrier::User {
            plan.problems
                .push(Problem::User("its device is gone".to_owned()));
            return None;
        }
        return create(tunnel, observed, plan);
    };
    if !is_of_kind(tunnel, carrier, link) {
        let found = link.kind.clone().unwrap_or_else(|| "hardware".to_owned());
        plan.problems.push(Problem::OtherKind { found });
        return None;
    }
    if carrier == Carrier::User {
        return Some(false);
    }
    let must_be_new = match &tunnel.encapsulation {
        Encapsulation::Ipip => ipip::must_be_new(link),
        Encapsulation::Vxlan(wanted) => vxlan::must_be_new(tunnel, wanted, link),
    };
    if must_be_new {
        plan.ops.push(Op::Delete);
        let made = create(tunnel, observed, plan);
        if made.is_none() {
            // Better the old one than none.
            plan.ops.clear();
        }
        return made;
    }
    if let Encapsulation::Vxlan(wanted) = &tunnel.encapsulation {
        vxlan::change(tunnel, wanted, observed, link, plan)?;
    }
    Some(false)
}

fn create(tunnel: &Tunnel, observed: &Observed, plan: &mut Plan) -> Option<bool> {
    if let Encapsulation::Vxlan(wanted) = &tunnel.encapsulation
        && observed.parent.is_none()
    {
        let parent = wanted.parent.clone();
        plan.problems.push(Problem::NoParent { parent });
        return None;
    }
    plan.ops.push(Op::Create);
    Some(true)
}

/// Whether the device is of the kind that carries this tunnel.
pub(crate) fn is_of_kind(tunnel: &Tunnel, carrier: Carrier, link: &Link) -> bool {
    let kind = match carrier {
        Carrier::Kernel => tunnel.kind().to_string(),
        Carrier::User => STAND_IN.to_owned(),
    };
    link.kind.as_deref() == Some(kind.as_str())
}
