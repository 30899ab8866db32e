//! Calls of the plugin that cannot be served: an error of the specification, nothing left behind.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, scenario};
use e2e::lab::Lab;
use e2e::node::Node;
use e2e::pod::{Pod, configuration};
use serde_json::{Value, json};

use crate::lab::{two_pods, well_again, works};

/// Makes a sandbox and calls ADD for it, which must fail; returns the plugin's JSON error.
/// `environment` replaces variables; an empty value removes one.
pub(crate) fn refused(
    lab: &Lab,
    node: &Node,
    name: &str,
    environment: &[(&str, &str)],
) -> Result<Value> {
    let namespace = lab.namespace(name)?;
    let pod = Pod {
        name: name.to_owned(),
        node: node.name.clone(),
        namespace,
        container_id: format!("{name}-sandbox"),
        addresses: Vec::new(),
    };
    error_of(
        &pod,
        node,
        "ADD",
        environment,
        &configuration(node).to_string(),
    )
}

/// Calls a verb with this text on standard input; it must fail with JSON.
pub(crate) fn error_of(
    pod: &Pod,
    node: &Node,
    verb: &str,
    environment: &[(&str, &str)],
    input: &str,
) -> Result<Value> {
    use std::io::Write;
    use std::process::Stdio;
    let mut command = pod.command(node, verb)?.0;
    for (name, value) in environment {
        match *value {
            "" => command.env_remove(name),
            value => command.env(name, value),
        };
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("no input")?
        .write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(!output.status.success(), "{verb} succeeded: {text}");
    let error: Value = serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))?;
    for field in ["cniVersion", "code", "msg"] {
        ensure!(!error[field].is_null(), "no {field} in {error}");
    }
    Ok(error)
}

struct Case {
    what: &'static str,
    environment: Vec<(&'static str, &'static str)>,
    input: String,
    code: u64,
    words: &'static [&'static str],
}

#[test]
fn calls_that_cannot_be_served_are_refused_and_leave_nothing() -> Result<()> {
    scenario("badcni", 2, |cluster| {
        two_pods(cluster)?;
        let sandbox = Pod {
            name: "bad".to_owned(),
            node: "node1".to_owned(),
            namespace: cluster.lab.namespace("bad")?,
            container_id: "bad-sandbox".to_owned(),
            addresses: Vec::new(),
        };
        for case in cases(&cluster.nodes[0]) {
            println!("{}", case.what);
            let node = &cluster.nodes[0];
            let error = error_of(&sandbox, node, "ADD", &case.environment, &case.input)?;
            ensure!(error["code"] == case.code, "{}: {error}", case.what);
            let text = format!(
                "{} {}",
                error["msg"].as_str().unwrap_or_default(),
                error["details"].as_str().unwrap_or_default()
            );
            for word in case.words {
                ensure!(text.contains(word), "{}: no {word:?} in {error}", case.what);
            }
            nothing_is_left(cluster)?;
        }
        works(cluster)?;
        a_container_that_is_gone_can_be_deleted(cluster, &sandbox)?;
        // The same sandbox with what it needs.
        let result = sandbox
            .cni(&cluster.nodes[0], "ADD")?
            .context("no result")?;
        ensure!(
            result["ips"].as_array().is_some_and(|ips| ips.len() == 2),
            "{result}"
        );
        sandbox.cni(&cluster.nodes[0], "DEL")?;
        nothing_is_left(cluster)?;
        well_again(cluster)
    })
}

fn cases(node: &Node) -> Vec<Case> {
    let good = configuration(node);
    let with = |key: &str, value: Value| {
        let mut configuration = good.clone();
        configuration[key] = value;
        configuration.to_string()
    };
    let case = |what, input: String, code, words| Case {
        what,
        environment: Vec::new(),
        input,
        code,
        words,
    };
    let variable = |what, environment, code, words| Case {
        what,
        environment,
        input: good.to_string(),
        code,
        words,
    };
    vec![
        case(
            "not JSON",
            "name: net".to_owned(),
            6,
            &["stdin", "JSON", "line 1"],
        ),
        case(
            "half of it",
            good.to_string()[..40].to_owned(),
            6,
            &["stdin", "JSON"],
        ),
        case("no object", "[]".to_owned(), 6, &["stdin", "JSON object"]),
        case("nothing", String::new(), 6, &["stdin", "JSON"]),
        case(
            "unknown version",
            with("cniVersion", json!("9.9.9")),
            1,
            &["cniVersion", "9.9.9", "one of 0.3.1, 0.4.0, 1.0.0, 1.1.0"],
        ),
        case(
            "no version",
            with("cniVersion", Value::Null),
            1,
            &["cniVersion", "one of"],
        ),
        case(
            "no name",
            with("name", json!("")),
            7,
            &["name", "network name"],
        ),
        case(
            "a key of another type",
            with("mtu", json!("big")),
            7,
            &["mtu", "wrong form"],
        ),
        case(
            "an MTU out of range",
            with("mtu", json!(7)),
            7,
            &["mtu 7", "1280 to 65535"],
        ),
        case(
            "another address manager",
            with("ipam", json!({"type": "host-local"})),
            2,
            &["ipam.type", "host-local", "leave it out"],
        ),
        variable("no netns", vec![("CNI_NETNS", "")], 4, &["CNI_NETNS"]),
        variable(
            "a netns that is gone",
            vec![("CNI_NETNS", "/var/run/netns/badcni-gone")],
            3,
            &["CNI_NETNS", "/var/run/netns/badcni-gone", "gone"],
        ),
        variable(
            "a netns that is something else",
            vec![("CNI_NETNS", "/etc/passwd")],
            4,
            &["CNI_NETNS", "/etc/passwd", "not a network namespace"],
        ),
        variable(
            "no container",
            vec![("CNI_CONTAINERID", "")],
            4,
            &["CNI_CONTAINERID"],
        ),
        variable(
            "an interface name that cannot be",
            vec![("CNI_IFNAME", "a/b")],
            4,
            &["CNI_IFNAME", "1 to 15 characters"],
        ),
        variable(
            "an unknown verb",
            vec![("CNI_COMMAND", "MOVE")],
            4,
            &["CNI_COMMAND", "ADD, DEL"],
        ),
    ]
}

fn a_container_that_is_gone_can_be_deleted(cluster: &Cluster, sandbox: &Pod) -> Result<()> {
    let node = &cluster.nodes[0];
    let mut pod = sandbox.clone();
    pod.container_id = "gone-sandbox".to_owned();
    pod.cni(node, "ADD")?;
    for netns in ["/var/run/netns/badcni-gone", ""] {
        let mut plugin = pod.command(node, "DEL")?;
        match netns {
            "" => plugin.0.env_remove("CNI_NETNS"),
            netns => plugin.0.env("CNI_NETNS", netns),
        };
        let output = plugin.spawn_with(&configuration(node))?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
    nothing_is_left(cluster)
}

/// Only what belongs to the two pods of the beginning.
fn nothing_is_left(cluster: &Cluster) -> Result<()> {
    let node = &cluster.nodes[0];
    let interfaces = node.pod_interfaces()?;
    ensure!(interfaces.len() == 1, "interfaces {interfaces:?}");
    let handles = cluster.objects("ipamhandles")?;
    ensure!(handles.len() == 2, "handles {handles:?}");
    let records = std::fs::read_dir(node.state_dir().join("endpoints"))?.count();
    ensure!(records == 1, "{records} endpoint records");
    Ok(())
}
