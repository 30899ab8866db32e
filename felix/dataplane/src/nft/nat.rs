//! Translation of what leaves: pods to the world, and this host through tunnels.

use felix_calc::{Firewall, NatOptions};
use netlink::Family;
use netlink::nft::{Base, ChainKind, Hook, NatPorts};

use super::model::{Chain, Condition, Interface, Protocol, Rule, Verdict};
use super::sets::names;

/// Just before `srcnat`, where other tables translate: a flow is translated once, and a pod's by
/// what its pool says (Calico behaviour: first in its chain).
const PRIORITY: i32 = 99;

/// Name of the chain that translates sources.
pub(super) const CHAIN: &str = "postrouting";

/// Whether there is anything to translate.
pub(super) fn is_needed(firewall: &Firewall) -> bool {
    !firewall.masq_pools.is_empty() || !firewall.tunnels.is_empty()
}

/// The chain that translates sources.
pub(super) fn postrouting(firewall: &Firewall) -> Chain {
    let outgoing = [Family::V4, Family::V6]
        .into_iter()
        .flat_map(|family| outgoing(&firewall.nat, family));
    let mut devices: Vec<&str> = firewall.tunnels.iter().map(|(device, _)| *device).collect();
    devices.sort_unstable();
    devices.dedup();
    let tunnels = devices.into_iter().map(tunnel_source);
    Chain {
        name: CHAIN,
        base: Some(Base {
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            priority: PRIORITY,
        }),
        rules: outgoing.chain(tunnels).collect(),
    }
}

/// What comes from a pool with natOutgoing and leaves for no pool.
fn outgoing(options: &NatOptions, family: Family) -> Vec<Rule> {
    let names = names(family);
    let mut conditions = vec![
        Condition::from(family, names.masq_pools),
        Condition::not_to(family, names.all_pools),
    ];
    if options.exclude_hosts {
        conditions.push(Condition::not_to(family, names.hosts));
    }
    let interface = options.out_interface.as_deref().and_then(Interface::parse);
    conditions.extend(interface.map(Condition::Out));
    let address = options.address.filter(|a| Family::of(*a) == family);
    let translate = |ports| match address {
        Some(address) => Verdict::SourceNat(address, ports),
        None => Verdict::Masquerade(ports),
    };
    let mut rules = Vec::new();
    if let Some((first, last)) = options.ports {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut conditions = conditions.clone();
            conditions.push(Condition::Protocol(protocol));
            let ports = Some(NatPorts { first, last });
            rules.push(Rule::new(conditions, translate(ports)));
        }
    }
    rules.push(Rule::new(conditions, translate(None)));
    rules
}

/// What this host sends through a tunnel with an address of another interface: the other end has
/// no way back to that one, or another way.
fn tunnel_source(device: &str) -> Rule {
    let conditions = vec![
        Condition::Out(Interface::Named(device.to_owned())),
        Condition::NotFromOut,
        Condition::FromHost,
    ];
    Rule::new(conditions, Verdict::Masquerade(None))
}
