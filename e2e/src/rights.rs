//! What the chart grants, held against what an API server was asked for.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::apiserver::ApiServer;
use crate::command::run;

/// A verb and a resource (`pods`, `pods/status`).
pub type Right = (String, String);

/// Kinds of objects that rights are made of.
const KINDS: [&str; 5] = [
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
];

/// What these templates of the chart grant, for a release `t` in this namespace: everything of them
/// but what runs.
pub fn of_chart(namespace: &str, templates: &[&str]) -> Result<String> {
    of_chart_with(namespace, &["reflectors.mode=deployment"], templates)
}

/// As [`of_chart`], with values like `a.b=c`.
pub fn of_chart_with(namespace: &str, values: &[&str], templates: &[&str]) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join("kubernetes/get-helm").display().to_string();
    let helm = run(&script, &["3"])?;
    let chart = root.join("../charts/tortie").display().to_string();
    let mut arguments = vec!["template", "t", &chart, "-n", namespace];
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    for template in templates {
        arguments.extend(["-s", template]);
    }
    let rendered = run(helm.trim(), &arguments)?;
    let is_right = |document: &&str| {
        let mut kinds = KINDS.iter();
        kinds.any(|kind| format!("\n{document}").contains(&format!("\nkind: {kind}\n")))
    };
    let rights = rendered.split("\n---\n").filter(is_right);
    Ok(rights.collect::<Vec<_>>().join("\n---\n"))
}

/// Every verb that the roles of an account grant was asked for, but for those that are spared, and
/// no other was.
pub fn are_used(
    api: &ApiServer,
    namespace: &str,
    account: &str,
    spared: &[(&str, &str)],
) -> Result<()> {
    let granted = granted(api, namespace, account)?;
    ensure!(!granted.is_empty(), "{account} has no rights");
    let asked = api.granted(namespace, account)?;
    let is_spared = |right: &&Right| {
        let mut spared = spared.iter();
        spared.any(|(verb, resource)| right.0 == *verb && right.1 == *resource)
    };
    let unused = granted.difference(&asked);
    let unused: Vec<_> = unused.filter(|right| !is_spared(right)).collect();
    ensure!(unused.is_empty(), "granted and never asked for: {unused:?}");
    let beyond: Vec<_> = asked.difference(&granted).collect();
    ensure!(
        beyond.is_empty(),
        "allowed by others than the chart: {beyond:?}"
    );
    Ok(())
}

/// What the roles of the name of an account grant.
fn granted(api: &ApiServer, namespace: &str, account: &str) -> Result<BTreeSet<Right>> {
    let mut granted = BTreeSet::new();
    for role in [
        format!("get clusterrole {account} --ignore-not-found"),
        format!("get role -n {namespace} {account} --ignore-not-found"),
    ] {
        let text = api.kubectl(&format!("{role} -o json"))?;
        // Not every account has rights in its namespace.
        let role: Value = serde_json::from_str(&text).unwrap_or_default();
        for rule in role["rules"].as_array().into_iter().flatten() {
            let words = |field: &str| -> Vec<String> {
                let words = rule[field].as_array().into_iter().flatten();
                words.filter_map(Value::as_str).map(str::to_owned).collect()
            };
            for resource in words("resources") {
                let rights = words("verbs").into_iter();
                granted.extend(rights.map(|verb| (verb, resource.clone())));
            }
        }
    }
    Ok(granted)
}
