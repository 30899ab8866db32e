//! The addresses that a node says it has borrowed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crds::core::Node;
use crds::names::annotation::NODE_BORROWED;

use crate::Problem;

/// More are not read: a node has some hundred pods.
const MOST: usize = 1000;

/// What the annotation of a Node says; what is wrong with it goes to `problems`.
pub(crate) fn borrowed(name: &str, node: &Node, problems: &mut Vec<Problem>) -> BTreeSet<IpAddr> {
    let annotations = node.metadata.annotations.as_ref();
    let text = annotations.and_then(|all| all.get(NODE_BORROWED));
    let text = text.map(String::as_str).unwrap_or_default();
    let parts = || {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
    };
    let mut problem = |problem: String| {
        problems.push(Problem {
            object: format!("Node/{name}"),
            field: format!("metadata.annotations[{NODE_BORROWED}]"),
            problem,
            remedy: "remove the annotation: the agent of that node writes what it has".to_owned(),
        });
    };
    if parts().nth(MOST).is_some() {
        problem(format!(
            "more than {MOST} addresses, so the rest is ignored"
        ));
    }
    let parts = parts().take(MOST);
    let (read, broken): (Vec<_>, Vec<_>) = parts
        .map(|part| part.parse::<IpAddr>().map_err(|_| part))
        .partition(Result::is_ok);
    if let Some(Err(first)) = broken.first() {
        let first: String = first.chars().take(50).collect();
        problem(format!("{first:?} is no address, so it is ignored"));
    }
    read.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (BTreeSet<IpAddr>, Vec<String>) {
        let mut node = Node::default();
        let annotation = (NODE_BORROWED.to_owned(), text.to_owned());
        node.metadata.annotations = Some([annotation].into());
        let mut problems = Vec::new();
        let read = borrowed("b", &node, &mut problems);
        (read, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn addresses_are_read_and_the_rest_is_told() {
        let both = ["10.0.1.5", "fd00::5"].map(|text| text.parse().unwrap());
        assert_eq!(read(" 10.0.1.5,,fd00::5 "), (both.into(), Vec::new()));
        assert_eq!(read(""), (BTreeSet::new(), Vec::new()));
        let (read, problems) = read("10.0.1.5/32,x,fd00::5");
        assert_eq!(read, [both[1]].into());
        assert_eq!(problems.len(), 1, "{problems:?}");
        let text = "Node/b metadata.annotations[tortie.dev/borrowed-addresses]: \"10.0.1.5/32\" is no address";
        assert!(problems[0].starts_with(text), "{problems:?}");
    }

    #[test]
    fn a_flood_is_cut() {
        let many: Vec<String> = (0..3000u32)
            .map(|number| std::net::Ipv4Addr::from(number).to_string())
            .collect();
        let (read, problems) = read(&many.join(","));
        assert_eq!((read.len(), problems.len()), (MOST, 1));
    }
}
