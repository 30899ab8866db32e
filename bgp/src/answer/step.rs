//! The step of the decision process that decided about a path, with the values it compared.

use bgp_rib::{Compared, ExplainedPath, Outcome, Reason};

/// Why the best path is the best.
pub(crate) fn best_words(step: Reason) -> String {
    match step {
        Reason::OnlyPath => "best: the only usable path".to_owned(),
        Reason::Local => "best: originated here".to_owned(),
        step => format!("best: decided by {step}"),
    }
}

/// What a path lost by, next to a path that went on beyond the step.
pub(crate) fn lost_words(step: Reason, lost: &ExplainedPath, all: &[ExplainedPath]) -> String {
    let compared = lost.compared.as_ref();
    let Some((lost, won)) = compared.and_then(|lost| Some((lost, winner(step, lost, all)?))) else {
        return format!("lost at {step}");
    };
    let (name, lost, won) = values(step, lost, won);
    if lost.is_empty() {
        return name;
    }
    format!("{name} {lost}, {won} is better")
}

/// The path that stood against one at the step that took it out. MED compares paths of one AS
/// only, at all other steps it is the best path.
fn winner<'a>(step: Reason, lost: &Compared, all: &'a [ExplainedPath]) -> Option<&'a Compared> {
    if step == Reason::Med {
        let rivals = all.iter().filter_map(|path| path.compared.as_ref());
        return rivals
            .filter(|rival| rival.neighbour_as == lost.neighbour_as && rival.med < lost.med)
            .min_by_key(|rival| rival.med);
    }
    let is_best = |path: &&ExplainedPath| matches!(path.outcome, Outcome::Best(_));
    all.iter().find(is_best)?.compared.as_ref()
}

/// What is compared, and its two values.
fn values(step: Reason, lost: &Compared, won: &Compared) -> (String, String, String) {
    let both = |name: &str, value: &dyn Fn(&Compared) -> String| {
        (name.to_owned(), value(lost), value(won))
    };
    let told = |text: &str| (text.to_owned(), String::new(), String::new());
    match step {
        Reason::OnlyPath => told("only path"),
        Reason::LongLived => told("long-lived stale, any other is better"),
        Reason::Local => told("learned from a peer, the best is originated here"),
        Reason::LocalPref => both("local preference", &|c| c.local_pref.to_string()),
        Reason::AsPathLength => both("AS path length", &|c| c.as_path_length.to_string()),
        Reason::Origin => both("origin", &|c| c.origin.to_string()),
        Reason::Med => {
            let asn = lost.neighbour_as.map(|asn| format!(" from AS {asn}"));
            let name = format!("MED{}", asn.unwrap_or_default());
            both(&name, &|c| c.med.to_string())
        }
        Reason::ExternalPeer => told("from an internal peer, the best is from an external one"),
        Reason::IgpMetric => both("IGP metric to the next hop", &|c| c.igp_metric.to_string()),
        Reason::RouterId => both("router id", &|c| c.router_id.to_string()),
        Reason::ClusterListLength => both("cluster list length", &|c| {
            c.cluster_list_length.to_string()
        }),
        Reason::PeerAddress => both("peer address", &|c| {
            c.peer_address
                .map_or_else(|| "none".to_owned(), |a| a.to_string())
        }),
        Reason::PathId => both("path id", &|c| c.path_id.to_string()),
    }
}
