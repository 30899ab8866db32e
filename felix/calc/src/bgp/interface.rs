//! Which next hops are behind an interface.

use ipnet::IpNet;

use crate::HostFacts;
use crate::desired::policy::Range;

/// Addresses that the host reaches through an interface whose name matches the pattern: what its
/// routes cover, without what a longer route sends elsewhere.
pub(super) fn behind(host: Option<&HostFacts>, pattern: &str) -> Vec<Range> {
    let Some(host) = host else { return Vec::new() };
    let (through, elsewhere): (Vec<_>, Vec<_>) = host
        .routes
        .iter()
        .partition(|route| matches(pattern, &route.interface));
    let elsewhere: Vec<IpNet> = elsewhere.iter().map(|route| route.destination).collect();
    let mut ranges = Vec::new();
    for route in &through {
        let longer = |net: &&IpNet| route.destination.contains(*net) && **net != route.destination;
        let holes: Vec<IpNet> = elsewhere.iter().filter(longer).copied().collect();
        cut(route.destination, &holes, &mut ranges);
    }
    // What comes back through the interface inside such a hole is in the list as a route itself.
    ranges.sort();
    ranges.dedup();
    ranges.into_iter().map(Range::within).collect()
}

/// A prefix without the holes in it.
fn cut(prefix: IpNet, holes: &[IpNet], rest: &mut Vec<IpNet>) {
    if holes.contains(&prefix) {
        return;
    }
    let inside: Vec<IpNet> = holes
        .iter()
        .filter(|hole| prefix.contains(*hole))
        .copied()
        .collect();
    if inside.is_empty() {
        rest.push(prefix);
        return;
    }
    for half in prefix
        .subnets(prefix.prefix_len() + 1)
        .into_iter()
        .flatten()
    {
        cut(half, &inside, rest);
    }
}

/// `*` stands for any text, `?` for one character (BIRD's pattern).
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let Some(first) = pattern.chars().next() else {
        return name.is_empty();
    };
    let rest = &pattern[first.len_utf8()..];
    match first {
        '*' => name
            .char_indices()
            .map(|(at, _)| at)
            .chain([name.len()])
            .any(|at| matches(rest, &name[at..])),
        _ => name
            .chars()
            .next()
            .filter(|c| first == '?' || *c == first)
            .is_some_and(|c| matches(rest, &name[c.len_utf8()..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostRoute;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("eth0", "eth0", true),
            ("eth", "eth0", false),
            ("eth*", "eth0", true),
            ("*.cali", "bpfin.cali", true),
            ("e*h?", "eth0", true),
            ("e?", "eth0", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_longer_route_through_another_interface_is_left_out() {
        let route = |destination: &str, interface: &str| HostRoute {
            destination: destination.parse().unwrap(),
            via: None,
            interface: interface.into(),
            metric: 0,
        };
        let host = HostFacts {
            interfaces: Vec::new(),
            routes: vec![
                route("10.0.0.0/8", "eth0"),
                route("10.128.0.0/10", "eth1"),
                route("10.129.0.0/16", "eth0"),
                route("192.0.2.0/24", "eth1"),
            ],
        };
        let found: Vec<String> = behind(Some(&host), "eth0")
            .iter()
            .map(|range| range.prefix.to_string())
            .collect();
        assert_eq!(found, ["10.0.0.0/9", "10.129.0.0/16", "10.192.0.0/10"]);
    }
}
