//! VERSION, bad input, and the log.

use felix_api::cni::code;
use serde_json::json;

use crate::lab::{VERSIONS, lab};

#[test]
fn version_lists_what_is_supported() {
    let Some(lab) = lab() else { return };
    for version in VERSIONS {
        let got = lab
            .call("VERSION", &json!({"cniVersion": version}))
            .succeed();
        assert_eq!(
            got,
            json!({"cniVersion": version, "supportedVersions": VERSIONS})
        );
    }
    let got = lab.call("VERSION", &json!({})).input("").succeed();
    assert_eq!(got["supportedVersions"], json!(VERSIONS));
}

#[test]
fn input_that_is_no_configuration_is_refused() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] {
        for text in ["not JSON", "[1]", "{\"cniVersion\": \"1.0.0\""] {
            let error = lab
                .pod_call(verb, &pod, &json!({}))
                .input(text)
                .fail(code::DECODE);
            assert_eq!(error["cniVersion"], "1.1.0");
        }
    }
    lab.pod_call("ADD", &pod, &json!({}))
        .input("")
        .fail(code::DECODE);
}

#[test]
fn unknown_versions_and_verbs_of_later_versions_are_refused() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    for (version, verb) in [
        ("0.2.0", "ADD"),
        ("2.0.0", "ADD"),
        ("2.0.0", "DEL"),
        ("0.3.1", "CHECK"),
        ("0.4.0", "GC"),
        ("1.0.0", "STATUS"),
    ] {
        let conf = lab.conf(version, json!({}));
        let error = lab
            .pod_call(verb, &pod, &conf)
            .fail(code::INCOMPATIBLE_VERSION);
        assert_eq!(error["cniVersion"], version);
    }
    let conf = lab.conf("1.0.0", json!({"cniVersion": null}));
    lab.pod_call("ADD", &pod, &conf)
        .fail(code::INCOMPATIBLE_VERSION);
}

#[test]
fn variables_that_are_missing_or_wrong_are_named() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    let conf = lab.conf("1.0.0", json!({}));
    let file = lab.directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let host = lab.host.path();
    let cases = [
        ("CNI_COMMAND", "", code::INVALID_ENVIRONMENT),
        ("CNI_COMMAND", "MOVE", code::INVALID_ENVIRONMENT),
        ("CNI_CONTAINERID", "", code::INVALID_ENVIRONMENT),
        ("CNI_CONTAINERID", "../0af3", code::INVALID_ENVIRONMENT),
        ("CNI_IFNAME", "", code::INVALID_ENVIRONMENT),
        (
            "CNI_IFNAME",
            "a-name-that-is-too-long",
            code::INVALID_ENVIRONMENT,
        ),
        ("CNI_ARGS", "WHAT", code::INVALID_ENVIRONMENT),
        ("CNI_NETNS", "", code::INVALID_ENVIRONMENT),
        ("CNI_NETNS", "/run/netns/gone", code::UNKNOWN_CONTAINER),
        ("CNI_NETNS", file, code::INVALID_ENVIRONMENT),
        ("CNI_NETNS", "/proc/self/ns/uts", code::INVALID_ENVIRONMENT),
        ("CNI_NETNS", &host, code::INVALID_ENVIRONMENT),
    ];
    for (name, value, code) in cases {
        let error = lab.pod_call("ADD", &pod, &conf).set(name, value).fail(code);
        assert!(
            error["msg"].as_str().unwrap().contains(name),
            "{name}={value}: {error}"
        );
    }
    assert!(
        lab.agent().memory.lock().unwrap().served.is_empty(),
        "the agent was asked"
    );
}

#[test]
fn a_configuration_that_cannot_be_served_is_refused_for_add_only() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    let cases = [
        (
            json!({"ipam": {"type": "host-local"}}),
            code::UNSUPPORTED_FIELD,
        ),
        (
            json!({"ipam": {"assign_ipv4": false}}),
            code::INVALID_CONFIG,
        ),
        (json!({"mtu": 9}), code::INVALID_CONFIG),
    ];
    for (keys, code) in cases {
        let conf = lab.conf("1.0.0", keys);
        lab.pod_call("ADD", &pod, &conf).fail(code);
        lab.pod_call("DEL", &pod, &conf).succeed();
    }
    lab.pod_call("ADD", &pod, &lab.conf("1.0.0", json!({"name": "a b"})))
        .fail(code::INVALID_CONFIG);
}

#[test]
fn keys_of_runtimes_and_of_calico_are_tolerated() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    let conf = lab.conf(
        "1.0.0",
        json!({
            "runtimeConfig": {"portMappings": [{"hostPort": 80}], "dns": {"searches": ["a"]}},
            "args": {"cni": {"labels": []}},
            "capabilities": {"ips": true},
            "log_level": "info",
            "datastore_type": "kubernetes",
            "nodename": "n1",
            "policy": {"type": "k8s"},
        }),
    );
    lab.pod_call("ADD", &pod, &conf).succeed();
}

#[test]
fn each_call_is_a_line_in_the_log() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    let log = lab.directory.path().join("cni.log");
    let conf = lab.conf("1.1.0", json!({"log_file": log}));
    lab.pod_call("ADD", &pod, &conf).succeed();
    lab.pod_call("CHECK", &pod, &conf)
        .fail(code::INVALID_CONFIG);
    lab.pod_call("DEL", &pod, &conf).succeed();
    let text = std::fs::read_to_string(log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[0].contains("ADD") && lines[0].contains("10.65.0.1/32"),
        "{text}"
    );
    assert!(
        lines[1].contains("CHECK") && lines[1].contains("failed: prevResult"),
        "{text}"
    );
    assert!(lines[2].contains(&format!(
        "DEL {}/eth0 pod web/{}",
        pod.container_id, pod.name
    )));
}
