//! Who may send what: pods only from their own addresses, tunnel packets only from nodes.
//!
//! Our chains only drop. What they let pass another table may still drop, and what another table
//! accepts they still drop: the verdict accept ends one chain, drop ends the packet.
//!
//! Every packet passes the rules of a chain with a hook, so those are few: what is particular to
//! packets from pods and to VXLAN is in chains of its own.

use netlink::Family;
use netlink::nft::{Base, ChainKind, Hook};

use super::Facts;
use super::model::{Chain, Condition, Interface, Protocol, Rule, Verdict};
use super::sets::names;

/// `raw`: before connection tracking.
const RAW: i32 = -300;
/// Where VXLAN is when nobody uses it here (RFC 7348 §5).
const DEFAULT_VXLAN_PORT: u16 = 4789;
const PODS: &str = "pods";
/// `nft` takes `vxlan` alone for a word of its own.
const VXLAN_IN: &str = "vxlan-in";

/// Everything that comes in.
pub(super) fn prerouting(facts: &Facts<'_>) -> Chain {
    let prefixes = facts.workload_prefixes.iter().cloned();
    let from_pods = prefixes.map(|prefix| {
        let condition = Condition::In(Interface::Prefix(prefix));
        Rule::new(vec![condition], Verdict::GoTo(PODS))
    });
    let mut rules: Vec<Rule> = from_pods.collect();
    rules.extend(facts.ipip().then(ipip_of_strangers));
    rules.extend(facts.vxlan_ports().into_iter().map(to_vxlan_in));
    hooked("prerouting", Hook::Prerouting, rules)
}

/// What comes from a pod.
pub(super) fn pods(facts: &Facts<'_>) -> Chain {
    let mut rules = vec![
        Rule::new(vec![Condition::NoWayBack], Verdict::Drop).because("not an address of this pod"),
    ];
    // What pods may send to others still may not come out of a tunnel here.
    if !facts.firewall.workload_ipip {
        let ipip = vec![Condition::Protocol(Protocol::Ipip)];
        rules.push(Rule::new(ipip, Verdict::Drop).because("allowIPIPPacketsFromWorkloads"));
    } else if facts.ipip() {
        rules.push(ipip_of_strangers());
    }
    let ports = facts.vxlan_ports();
    if facts.firewall.workload_vxlan {
        rules.extend(ports.into_iter().map(to_vxlan_in));
    } else {
        let unused = ports.is_empty().then_some(DEFAULT_VXLAN_PORT);
        for port in ports.into_iter().chain(unused) {
            let vxlan = vec![Condition::UdpPort(port)];
            rules.push(Rule::new(vxlan, Verdict::Drop).because("allowVXLANPacketsFromWorkloads"));
        }
    }
    Chain {
        name: PODS,
        base: None,
        rules,
    }
}

/// VXLAN that comes in, whoever it is for.
/// Source ports differ between the two ways, so that each would be a flow without an answer.
pub(super) fn vxlan_in(facts: &Facts<'_>) -> Chain {
    let mut rules = Vec::new();
    if !facts.vxlan_ports().is_empty() {
        // The usual case first, without a look-up of whose address it is.
        for local in &facts.firewall.vxlan_ends {
            let family = Family::of(*local);
            let conditions = vec![
                Condition::To(*local),
                Condition::from(family, names(family).hosts),
            ];
            rules.push(Rule::new(conditions, Verdict::NoTrack));
        }
        // Another address of this host may be that of before, or that of soon.
        rules.extend([Family::V4, Family::V6].map(|family| of_strangers(Vec::new(), family)));
        rules.push(Rule::new(vec![Condition::ToHost], Verdict::NoTrack));
    }
    Chain {
        name: VXLAN_IN,
        base: None,
        rules,
    }
}

fn to_vxlan_in(port: u16) -> Rule {
    Rule::new(vec![Condition::UdpPort(port)], Verdict::GoTo(VXLAN_IN))
}

fn ipip_of_strangers() -> Rule {
    of_strangers(vec![Condition::Protocol(Protocol::Ipip)], Family::V4)
}

/// Tunnel packets for this host that no node sent. Those that a group or all on the link get are
/// taken out of the tunnel as well.
fn of_strangers(mut conditions: Vec<Condition>, family: Family) -> Rule {
    conditions.push(Condition::not_from(family, names(family).hosts));
    conditions.push(Condition::NotForwarded);
    Rule::new(conditions, Verdict::Drop).because("not a node, nor in externalNodesList")
}

/// What this host sends.
pub(super) fn output(facts: &Facts<'_>) -> Chain {
    let mut rules = Vec::new();
    for port in facts.vxlan_ports() {
        for family in [Family::V4, Family::V6] {
            let to_node = Condition::to(family, names(family).hosts);
            let conditions = vec![Condition::UdpPort(port), to_node];
            rules.push(Rule::new(conditions, Verdict::NoTrack));
        }
    }
    hooked("output", Hook::Output, rules)
}

fn hooked(name: &'static str, hook: Hook, rules: Vec<Rule>) -> Chain {
    Chain {
        name,
        base: Some(Base {
            kind: ChainKind::Filter,
            hook,
            priority: RAW,
        }),
        rules,
    }
}
