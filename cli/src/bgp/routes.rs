//! Routes in tables, in the shape of `show bgp`.

use bgp_api::{Advertised, Attributes, Outcome, Page, Path, Route, RouteAnswer, Why};

use crate::failure::Failure;
use crate::output::Printed;
use crate::table::Table;

const LEGEND: &str = "Status: * usable, > best, = shares the traffic, s stale. Origin: i IGP, e EGP, ? incomplete.\n";

fn more(next: Option<u64>) -> Option<String> {
    next.map(|_| "this is not all; --limit N shows more, --all everything".to_owned())
}

/// What a path is, as routers mark it.
fn mark(path: &Path) -> String {
    let usable = match path.outcome {
        Outcome::Best => "*>",
        Outcome::Shares => "*=",
        Outcome::Lost => "*",
        Outcome::Unusable => "",
    };
    let stale = if path.stale { "s" } else { "" };
    format!("{stale}{usable}")
}

/// AS path and origin in one, as routers have it.
fn way(attributes: &Attributes) -> String {
    let origin = match attributes.origin.as_str() {
        "IGP" => "i",
        "EGP" => "e",
        _ => "?",
    };
    let path = &attributes.as_path;
    if path.is_empty() {
        origin.to_owned()
    } else {
        format!("{path} {origin}")
    }
}

fn number(value: Option<u32>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn communities(attributes: &Attributes) -> String {
    let all = [
        &attributes.communities,
        &attributes.large_communities,
        &attributes.extended_communities,
    ];
    let all: Vec<&str> = all.into_iter().flatten().map(String::as_str).collect();
    all.join(" ")
}

fn columns<'a>(first: &[&'a str], wide: &[&'a str], is_wide: bool) -> Vec<&'a str> {
    let wide = wide.iter().filter(|_| is_wide);
    first.iter().chain(wide).copied().collect()
}

pub(super) fn routes(mut page: Page<Route>, wide: bool) -> Printed {
    page.items.sort_by_key(|route| route.prefix);
    let names = ["", "Network", "Next hop", ">LocPrf", ">MED", "Path", "From"];
    let mut table = Table::new(&columns(&names, &["Communities", "Why"], wide));
    for route in &page.items {
        for (index, path) in route.paths.iter().enumerate() {
            let prefix = if index == 0 {
                route.prefix.to_string()
            } else {
                String::new()
            };
            let mut row = vec![
                mark(path),
                prefix,
                next_hop(path),
                number(path.attributes.local_pref),
                number(path.attributes.med),
                way(&path.attributes),
                path.peer.clone().unwrap_or_else(|| "local".to_owned()),
            ];
            if wide {
                row.extend([communities(&path.attributes), path.reason.clone()]);
            }
            table.row(row);
        }
    }
    let text = if table.is_empty() {
        "No routes.\n".to_owned()
    } else {
        format!("{LEGEND}{}", table.text())
    };
    Printed {
        text,
        note: more(page.next),
    }
}

fn next_hop(path: &Path) -> String {
    path.next_hop
        .map_or_else(|| "self".to_owned(), |hop| hop.to_string())
}

pub(super) fn received(mut page: Page<Path>, wide: bool) -> Printed {
    page.items.sort_by_key(|path| (path.prefix, path.path_id));
    let names = [
        "",
        "Network",
        "Next hop",
        ">LocPrf",
        ">MED",
        "Path",
        "What became of it",
    ];
    let mut table = Table::new(&columns(&names, &["Communities", "Rule"], wide));
    for path in &page.items {
        let mut row = vec![
            mark(path),
            path.prefix.to_string(),
            next_hop(path),
            number(path.attributes.local_pref),
            number(path.attributes.med),
            way(&path.attributes),
            path.reason.clone(),
        ];
        if wide {
            row.extend([
                communities(&path.attributes),
                path.rule.clone().unwrap_or_default(),
            ]);
        }
        table.row(row);
    }
    let text = if table.is_empty() {
        "Nothing is held from this peer.\n".to_owned()
    } else {
        format!("{LEGEND}{}", table.text())
    };
    Printed {
        text,
        note: more(page.next),
    }
}

pub(super) fn advertised(mut page: Page<Advertised>, wide: bool) -> Printed {
    page.items.sort_by_key(|told| (told.prefix, told.path_id));
    let names = ["Network", "Next hop", ">LocPrf", ">MED", "Path", "From"];
    let mut table = Table::new(&columns(
        &names,
        &["Communities", "Originator", "Clusters"],
        wide,
    ));
    for told in &page.items {
        let mut row = vec![
            told.prefix.to_string(),
            told.next_hop.to_string(),
            number(told.attributes.local_pref),
            number(told.attributes.med),
            way(&told.attributes),
            told.from.clone().unwrap_or_else(|| "local".to_owned()),
        ];
        if wide {
            let clusters = told.attributes.cluster_list.iter().map(ToString::to_string);
            let originator = told.attributes.originator_id;
            row.extend([
                communities(&told.attributes),
                originator.map_or_else(String::new, |id| id.to_string()),
                clusters.collect::<Vec<_>>().join(" "),
            ]);
        }
        table.row(row);
    }
    let text = if table.is_empty() {
        "This peer is told nothing.\n".to_owned()
    } else {
        table.text()
    };
    Printed {
        text,
        note: more(page.next),
    }
}

pub(super) fn route(answer: &RouteAnswer) -> Result<Printed, Failure> {
    let mut text = String::new();
    if let Some(route) = &answer.exact {
        text.push_str(&block(route));
    }
    for route in &answer.covering {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("Covers {}:\n{}", answer.asked, block(route)));
    }
    if text.is_empty() {
        let asked = &answer.asked;
        return Err(Failure::NoSuchThing(format!(
            "there is no path to {asked} or to a prefix that covers it; `tortie bgp routes` lists all"
        )));
    }
    Ok(Printed { text, note: None })
}

/// A prefix and all that is known of its paths.
fn block(route: &Route) -> String {
    let mut text = format!("{}, {} paths\n", route.prefix, route.paths.len());
    if route.paths.len() == 1 {
        text = format!("{}, 1 path\n", route.prefix);
    }
    for path in &route.paths {
        let from = path.peer.clone().map_or_else(
            || "originated here".to_owned(),
            |peer| format!("from {peer}"),
        );
        text.push_str(&format!(
            "  {:<3}{} via {}\n",
            mark(path),
            from,
            next_hop(path)
        ));
        for (name, value) in facts(path) {
            text.push_str(&format!("       {name:<20} {value}\n"));
        }
    }
    text
}

fn facts(path: &Path) -> Vec<(&'static str, String)> {
    let attributes = &path.attributes;
    let list = |words: &[String]| words.join(" ");
    let clusters: Vec<String> = attributes
        .cluster_list
        .iter()
        .map(ToString::to_string)
        .collect();
    let unknown: Vec<String> = attributes.unknown.iter().map(ToString::to_string).collect();
    let optional = |value: Option<u32>| value.map_or_else(String::new, |value| value.to_string());
    let facts = [
        ("Why", path.reason.clone()),
        ("Rule", path.rule.clone().unwrap_or_default()),
        (
            "Path id",
            if path.path_id == 0 {
                String::new()
            } else {
                path.path_id.to_string()
            },
        ),
        (
            "Link-local next hop",
            path.link_local.map_or_else(String::new, |a| a.to_string()),
        ),
        ("Origin", attributes.origin.clone()),
        ("AS path", attributes.as_path.clone()),
        ("Local preference", optional(attributes.local_pref)),
        ("MED", optional(attributes.med)),
        ("Communities", list(&attributes.communities)),
        ("Large communities", list(&attributes.large_communities)),
        (
            "Extended communities",
            list(&attributes.extended_communities),
        ),
        (
            "Originator",
            attributes
                .originator_id
                .map_or_else(String::new, |id| id.to_string()),
        ),
        ("Clusters", list(&clusters)),
        (
            "Aggregator",
            attributes.aggregator.clone().unwrap_or_default(),
        ),
        (
            "Only to customers of",
            optional(attributes.only_to_customer),
        ),
        ("Other attributes", list(&unknown)),
    ];
    facts
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

pub(super) fn why(why: &Why) -> Result<Printed, Failure> {
    if why.prefix.is_none() {
        return Err(Failure::NoSuchThing(why.text.join(" ")));
    }
    let mut text = why.text.join("\n");
    text.push('\n');
    Ok(Printed { text, note: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(prefix: &str, outcome: Outcome) -> Path {
        Path {
            prefix: prefix.parse().unwrap(),
            peer: Some("tor".to_owned()),
            path_id: 0,
            next_hop: Some("192.0.2.1".parse().unwrap()),
            link_local: None,
            attributes: Attributes {
                origin: "IGP".to_owned(),
                as_path: "64501 64502".to_owned(),
                communities: vec!["64500:7".to_owned()],
                ..Attributes::default()
            },
            outcome,
            step: None,
            reason: "best: the only usable path".to_owned(),
            rule: None,
            stale: false,
        }
    }

    fn route(prefix: &str, outcomes: &[Outcome]) -> Route {
        Route {
            prefix: prefix.parse().unwrap(),
            paths: outcomes
                .iter()
                .map(|outcome| path(prefix, *outcome))
                .collect(),
        }
    }

    #[test]
    fn routes_are_in_order_with_the_marks_of_routers() {
        let items = vec![
            route("10.10.0.0/16", &[Outcome::Unusable]),
            route("10.2.0.0/16", &[Outcome::Best, Outcome::Lost]),
        ];
        let page = Page {
            items,
            next: Some(3),
        };
        let printed = routes(page, false);
        let lines: Vec<&str> = printed.text.lines().skip(2).collect();
        assert!(lines[0].starts_with("*>  10.2.0.0/16"), "{}", printed.text);
        assert!(
            lines[1].starts_with("*                 192.0.2.1"),
            "{}",
            printed.text
        );
        assert!(lines[2].starts_with("    10.10.0.0/16"), "{}", printed.text);
        assert!(lines[0].ends_with("64501 64502 i  tor"), "{}", printed.text);
        assert!(printed.note.unwrap().contains("--all"));
    }

    #[test]
    fn wide_tables_have_communities() {
        let page = Page {
            items: vec![route("10.2.0.0/16", &[Outcome::Best])],
            next: None,
        };
        let printed = routes(page, true);
        assert!(
            printed.text.contains("64500:7") && printed.note.is_none(),
            "{}",
            printed.text
        );
    }

    #[test]
    fn a_prefix_without_paths_is_a_finding() {
        let answer = RouteAnswer {
            asked: "10.0.0.0/8".to_owned(),
            exact: None,
            covering: Vec::new(),
        };
        assert!(matches!(
            super::route(&answer),
            Err(Failure::NoSuchThing(_))
        ));
        let answer = RouteAnswer {
            exact: Some(route("10.0.0.0/8", &[Outcome::Best])),
            ..answer
        };
        let text = super::route(&answer).unwrap().text;
        assert!(
            text.starts_with("10.0.0.0/8, 1 path\n  *> from tor via 192.0.2.1\n"),
            "{text}"
        );
    }
}
