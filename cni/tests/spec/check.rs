//! CHECK.

use felix_api::cni::code;
use serde_json::{Value, json};

use crate::lab::{Lab, Pod, lab};

/// CHECK with the result of ADD, as a runtime calls it.
fn check<'a>(lab: &'a Lab, pod: &Pod, result: &Value) -> crate::lab::Call<'a> {
    let conf = lab.conf("1.1.0", json!({"prevResult": result}));
    lab.pod_call("CHECK", pod, &conf)
}

#[test]
fn a_sound_attachment_passes_in_every_version_that_has_the_verb() {
    let Some(lab) = lab() else { return };
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let pod = lab.pod();
        let result = lab
            .pod_call("ADD", &pod, &lab.conf(version, json!({})))
            .succeed();
        let conf = lab.conf(version, json!({"prevResult": result}));
        assert_eq!(lab.pod_call("CHECK", &pod, &conf).succeed(), Value::Null);
    }
}

#[test]
fn every_damage_is_named() {
    let Some(lab) = lab() else { return };
    // Where, what `ip` is told, and what CHECK has to say.
    let damages: [(&str, &[&str], &str); 11] = [
        (
            "pod",
            &["address", "del", "10.65.0.1/32", "dev", "eth0"],
            "lacks address 10.65.0.1/32",
        ),
        (
            "pod",
            &["address", "del", "fd00:65::1/128", "dev", "eth0"],
            "address fd00:65::1/128",
        ),
        (
            "pod",
            &["route", "del", "default"],
            "route 0.0.0.0/0 via 169.254.1.1 dev eth0",
        ),
        (
            "pod",
            &["-6", "route", "del", "default"],
            "route ::/0 via fe80::ecee:eeff:feee:eeee",
        ),
        (
            "pod",
            &["link", "set", "eth0", "mtu", "1300"],
            "eth0 has MTU 1300 instead of 1480",
        ),
        (
            "pod",
            &["link", "set", "eth0", "address", "02:00:00:00:00:01"],
            "02:00:00:00:00:01",
        ),
        ("pod", &["link", "del", "eth0"], "does not exist"),
        ("host", &["link", "set", "HOST", "down"], "HOST is down"),
        (
            "host",
            &["link", "set", "HOST", "alias", "mine"],
            "alias \"mine\" instead of",
        ),
        (
            "host",
            &["link", "set", "HOST", "address", "02:00:00:00:00:01"],
            "HOST has MAC 02",
        ),
        (
            "host",
            &["address", "flush", "dev", "HOST", "scope", "link"],
            "lacks the pod's gateway",
        ),
    ];
    for (place, damage, expected) in damages {
        let pod = lab.pod();
        let result = lab.add(&pod);
        let host = result["interfaces"][0]["name"].as_str().unwrap();
        let damage: Vec<String> = damage
            .iter()
            .map(|word| word.replace("HOST", host))
            .collect();
        let words: Vec<&str> = damage.iter().map(String::as_str).collect();
        if place == "pod" {
            pod.namespace.ip(&words)
        } else {
            lab.host.ip(&words)
        };
        let error = check(&lab, &pod, &result).fail(code::CHECK_FAILED);
        let expected = expected.replace("HOST", host);
        assert!(
            error["msg"].as_str().unwrap().contains(&expected),
            "{damage:?}: {error}"
        );
        lab.del(&pod);
    }
}

#[test]
fn what_the_agent_finds_is_told() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    let result = lab.add(&pod);
    let problem = "no route to 10.65.0.1/32".to_owned();
    lab.agent().memory.lock().unwrap().problems = vec![problem.clone()];
    assert_eq!(
        check(&lab, &pod, &result).fail(code::CHECK_FAILED)["msg"],
        problem
    );
}

#[test]
fn an_attachment_the_agent_does_not_know_is_unknown() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    let result = lab.add(&pod);
    lab.agent().memory.lock().unwrap().records.clear();
    check(&lab, &pod, &result).fail(code::UNKNOWN_CONTAINER);
}

#[test]
fn a_result_that_does_not_fit_the_record_is_told() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    let result = lab.add(&pod);
    let changed = |pointer: &str, value: Value| {
        let mut changed = result.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let cases = [
        (
            changed("/ips/0/address", json!("10.65.0.9/32")),
            "10.65.0.9/32 unknown to the agent",
        ),
        (changed("/ips", json!([])), "lacks address 10.65.0.1/32"),
        (
            changed("/interfaces/1/name", json!("eth9")),
            "no interface eth0 of the pod",
        ),
        (
            changed("/interfaces/0/name", json!("cali9")),
            "no host interface cali",
        ),
    ];
    for (result, expected) in cases {
        let error = check(&lab, &pod, &result).fail(code::CHECK_FAILED);
        assert!(error["msg"].as_str().unwrap().contains(expected), "{error}");
    }
    let without = lab.conf("1.1.0", json!({}));
    lab.pod_call("CHECK", &pod, &without)
        .fail(code::INVALID_CONFIG);
}

#[test]
fn what_a_later_plugin_changed_and_reported_is_accepted() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    let mut result = lab.add(&pod);
    // As plugin `tuning` does.
    pod.namespace
        .ip(&["link", "set", "eth0", "address", "02:00:00:00:00:01"]);
    result["interfaces"][1]["mac"] = json!("02:00:00:00:00:01");
    check(&lab, &pod, &result).succeed();
}
