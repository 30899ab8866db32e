//! Who may send what: pods only from their own addresses, tunnel packets only from nodes.
//!
//! Our chains only drop. What they let pass another table may still drop, and what another table
//! accepts they still drop: the verdict accept ends one chain, drop ends the packet.

use netlink::Family;
use netlink::nft::{Base, ChainKind, Hook};

use super::Facts;
use super::model::{Chain, Condition, Interface, Protocol, Rule, Verdict};
use super::sets::names;

/// `raw`: before connection tracking.
const RAW: i32 = -300;
/// `filter`.
const FILTER: i32 = 0;
/// Where VXLAN is when nobody uses it here (RFC 7348 §5).
const DEFAULT_VXLAN_PORT: u16 = 4789;

/// Everything that comes in.
pub(super) fn prerouting(facts: &Facts<'_>) -> Chain {
    let mut rules = Vec::new();
    for prefix in facts.workload_prefixes {
        rules.extend(from_pods(facts, prefix));
    }
    // Source ports of VXLAN differ between the two ways, so that each would be a flow without an
    // answer.
    for port in facts.vxlan_ports() {
        let conditions = vec![Condition::UdpPort(port), Condition::ToHost];
        rules.push(Rule::new(conditions, Verdict::NoTrack));
    }
    chain("prerouting", Hook::Prerouting, RAW, rules)
}

fn from_pods(facts: &Facts<'_>, prefix: &str) -> Vec<Rule> {
    let from_pod = || Condition::In(Interface::Prefix(prefix.to_owned()));
    let mut rules = vec![
        Rule::new(vec![from_pod(), Condition::NoWayBack], Verdict::Drop)
            .because("not an address of this pod"),
    ];
    if !facts.firewall.workload_ipip {
        let ipip = vec![from_pod(), Condition::Protocol(Protocol::Ipip)];
        rules.push(Rule::new(ipip, Verdict::Drop).because("allowIPIPPacketsFromWorkloads"));
    }
    if !facts.firewall.workload_vxlan {
        let mut ports = facts.vxlan_ports();
        if ports.is_empty() {
            ports.push(DEFAULT_VXLAN_PORT);
        }
        for port in ports {
            let vxlan = vec![from_pod(), Condition::UdpPort(port)];
            rules.push(Rule::new(vxlan, Verdict::Drop).because("allowVXLANPacketsFromWorkloads"));
        }
    }
    rules
}

/// What is for this host: tunnel packets of strangers.
pub(super) fn input(facts: &Facts<'_>) -> Chain {
    let mut rules = Vec::new();
    let mut only_from_nodes = |condition, family| {
        let stranger = Condition::not_from(family, names(family).hosts);
        let rule = Rule::new(vec![condition, stranger], Verdict::Drop);
        rules.push(rule.because("not a node, nor in externalNodesList"));
    };
    if facts.ipip() {
        only_from_nodes(Condition::Protocol(Protocol::Ipip), Family::V4);
    }
    for port in facts.vxlan_ports() {
        only_from_nodes(Condition::UdpPort(port), Family::V4);
        only_from_nodes(Condition::UdpPort(port), Family::V6);
    }
    chain("input", Hook::Input, FILTER, rules)
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
    chain("output", Hook::Output, RAW, rules)
}

fn chain(name: &'static str, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        name,
        base: Base {
            kind: ChainKind::Filter,
            hook,
            priority,
        },
        rules,
    }
}
