//! ADD.

use felix_api::cni::code;
use serde_json::{Value, json};

use crate::agent::{Fault, Verb};
use crate::lab::{VERSIONS, global_addresses, lab};

#[test]
fn pods_reach_each_other_and_their_host() {
    let Some(lab) = lab() else { return };
    let (a, b) = (lab.pod(), lab.pod());
    lab.add(&a);
    let result = lab.add(&b);
    lab.assert_attached(&a);
    lab.assert_attached(&b);
    for ip in result["ips"].as_array().unwrap() {
        let (address, _) = ip["address"].as_str().unwrap().split_once('/').unwrap();
        assert!(a.namespace.reaches(address), "pod to pod {address}");
        assert!(lab.host.reaches(address), "host to pod {address}");
    }
    assert!(
        a.namespace.reaches("fe80::ecee:eeff:feee:eeee%eth0"),
        "pod to its gateway"
    );
}

#[test]
fn both_ends_look_like_calicos() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    let result = lab.add(&pod);
    let host = &lab.host.veths()[0];
    assert_eq!(host["address"], "ee:ee:ee:ee:ee:ee");
    assert_eq!(host["mtu"], 1480);
    assert_eq!(host["operstate"], "UP");
    assert_eq!(host["ifalias"], format!("tortie:{}/eth0", pod.container_id));
    let gateway = host["addr_info"].as_array().unwrap();
    assert_eq!(
        gateway[0]["local"], "fe80::ecee:eeff:feee:eeee",
        "{gateway:?}"
    );
    assert_eq!(gateway.len(), 1, "{gateway:?}");
    for link in [host, &pod.namespace.veths()[0]] {
        let addresses = link["addr_info"].to_string();
        assert!(!addresses.contains("tentative"), "{addresses}");
    }

    let inside = &pod.namespace.veths()[0];
    assert_eq!(inside["ifname"], "eth0");
    assert_eq!(inside["mtu"], 1480);
    assert_eq!(inside["address"], result["interfaces"][1]["mac"]);
    assert_eq!(global_addresses(inside), ["10.65.0.1/32", "fd00:65::1/128"]);

    let v4 = pod.namespace.ip(&["-4", "route", "show"]);
    assert_eq!(v4[0]["dst"], "default");
    assert_eq!(v4[0]["gateway"], "169.254.1.1");
    assert_eq!(v4[1]["dst"], "169.254.1.1");
    assert_eq!(v4[1]["scope"], "link");
    assert_eq!(v4.as_array().unwrap().len(), 2);
    let v6 = pod.namespace.ip(&["-6", "route", "show", "default"]);
    assert_eq!(v6[0]["gateway"], "fe80::ecee:eeff:feee:eeee");
    assert_eq!(pod.namespace.read_sysctl("ipv4/ip_forward"), "0");
}

#[test]
fn the_result_has_the_form_of_each_version() {
    let Some(lab) = lab() else { return };
    for version in VERSIONS {
        let pod = lab.pod();
        let conf = lab.conf(version, json!({"ipam": {"assign_ipv6": "true"}}));
        let mut got = lab.pod_call("ADD", &pod, &conf).succeed();
        let interfaces = got["interfaces"].take();
        assert_eq!(interfaces[0]["name"], lab.host.veths()[0]["ifname"]);
        assert_eq!(interfaces[0]["sandbox"], Value::Null);
        assert_eq!(interfaces[1]["name"], "eth0");
        assert_eq!(interfaces[1]["sandbox"], pod.namespace.path());
        let mtu = if version == "1.1.0" {
            json!(1480)
        } else {
            Value::Null
        };
        assert_eq!(interfaces[0]["mtu"], mtu, "{version}");
        let mut ips = [
            json!({"address": "10.65.0.1/32", "interface": 1}),
            json!({"address": "fd00:65::1/128", "interface": 1}),
        ];
        if version < "1.0.0" {
            ips[0]["version"] = json!("4");
            ips[1]["version"] = json!("6");
        }
        let expected = json!({
            "cniVersion": version,
            "interfaces": null,
            "ips": ips,
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
                {"dst": "::/0", "gw": "fe80::ecee:eeff:feee:eeee"},
            ],
            "dns": {},
        });
        assert_eq!(got, expected);
        lab.del(&pod);
    }
}

#[test]
fn what_the_runtime_knows_reaches_the_agent() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    let conf = lab.conf(
        "1.0.0",
        json!({
            "mtu": 1400,
            "ipam": {"assign_ipv6": false, "ipv4_pools": ["10.65.0.0/16"]},
            "runtimeConfig": {"ips": ["10.65.0.77/24"]},
        }),
    );
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=front;K8S_POD_UID=6f1c";
    lab.pod_call("ADD", &pod, &conf)
        .set("CNI_ARGS", args)
        .succeed();
    let memory = lab.agent().memory.lock().unwrap();
    let (add, _) = memory.records.values().next().unwrap();
    assert_eq!(add.network, "pods");
    assert_eq!(add.netns, pod.namespace.path());
    assert_eq!(add.namespace.as_deref(), Some("web"));
    assert_eq!(add.pod.as_deref(), Some("front"));
    assert_eq!(add.uid.as_deref(), Some("6f1c"));
    assert_eq!((add.ipv4, add.ipv6, add.mtu), (true, false, 1400));
    assert_eq!(add.ipv4_pools, ["10.65.0.0/16"]);
    assert_eq!(
        global_addresses(&pod.namespace.veths()[0]),
        ["10.65.0.77/32"]
    );
    assert_eq!(pod.namespace.veths()[0]["mtu"], 1400);
}

#[test]
fn the_configuration_shapes_the_pod_side() {
    let Some(lab) = lab() else { return };
    lab.agent().memory.lock().unwrap().pod_mac = Some("02:00:00:00:00:07".to_owned());
    let pod = lab.pod();
    // As on a node that turns IPv6 off for new namespaces.
    pod.namespace.sysctl("ipv6/conf/all/disable_ipv6", "1");
    pod.namespace.sysctl("ipv6/conf/default/disable_ipv6", "1");
    let conf = lab.conf(
        "1.0.0",
        json!({
            "container_settings": {"allow_ip_forwarding": true},
            "ipam": {"assign_ipv4": false, "assign_ipv6": true, "routes": [{"dst": "fd00::/8"}]},
            "dns": {"nameservers": ["fd00::53"]},
        }),
    );
    let result = lab.pod_call("ADD", &pod, &conf).succeed();
    assert_eq!(result["dns"], json!({"nameservers": ["fd00::53"]}));
    assert_eq!(result["interfaces"][1]["mac"], "02:00:00:00:00:07");
    let inside = &pod.namespace.veths()[0];
    assert_eq!(inside["address"], "02:00:00:00:00:07");
    assert_eq!(global_addresses(inside), ["fd00:65::1/128"]);
    assert_eq!(
        pod.namespace.ip(&["-6", "route", "show", "default"]),
        json!([])
    );
    assert_eq!(pod.namespace.ip(&["-4", "route", "show"]), json!([]));
    let route = pod.namespace.ip(&["-6", "route", "show", "fd00::/8"]);
    assert_eq!(route[0]["gateway"], "fe80::ecee:eeff:feee:eeee");
    assert_eq!(pod.namespace.read_sysctl("ipv6/conf/all/forwarding"), "1");
    assert!(lab.host.reaches("fd00:65::1"));
}

#[test]
fn a_repeated_add_keeps_what_is_there() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    let first = lab.add(&pod);
    let before = lab.host.veths();
    assert_eq!(lab.add(&pod), first);
    assert_eq!(lab.host.veths()[0]["ifindex"], before[0]["ifindex"]);
    lab.assert_attached(&pod);
}

#[test]
fn a_repeated_add_that_fails_does_not_cut_off_a_running_pod() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    lab.add(&pod);
    lab.agent().order(
        Verb::Activate,
        Fault::Refuse(code::KERNEL, "no route today"),
    );
    lab.pod_call("ADD", &pod, &lab.conf("1.0.0", json!({})))
        .fail(code::KERNEL);
    lab.assert_attached(&pod);
    assert!(lab.host.reaches("10.65.0.1"));
}

#[test]
fn an_incomplete_attachment_is_made_anew() {
    let Some(lab) = lab() else { return };
    let damages: [&[&str]; 4] = [
        &["address", "del", "10.65.0.1/32", "dev", "eth0"],
        &["route", "del", "default"],
        &["link", "set", "eth0", "mtu", "1300"],
        &["link", "set", "eth0", "name", "eth7"],
    ];
    for damage in damages {
        let pod = lab.pod();
        lab.add(&pod);
        if damage.contains(&"name") {
            pod.namespace.ip(&["link", "set", "eth0", "down"]);
        }
        pod.namespace.ip(damage);
        lab.add(&pod);
        lab.assert_attached(&pod);
        assert!(lab.host.reaches("10.65.0.1"), "after {damage:?}");
        lab.del(&pod);
    }
}

#[test]
fn a_new_container_of_the_same_pod_takes_over_its_host_interface() {
    let Some(lab) = lab() else { return };
    let (old, new) = (lab.pod_named("front"), lab.pod_named("front"));
    let before = lab.add(&old);
    let after = lab.add(&new);
    assert_eq!(
        before["interfaces"][0]["name"],
        after["interfaces"][0]["name"]
    );
    assert_ne!(before["ips"], after["ips"]);
    lab.assert_attached(&new);
    // The runtime deletes the old one late.
    lab.del(&old);
    lab.assert_detached(&old);
    lab.assert_attached(&new);
    assert!(lab.host.reaches("10.65.0.2"));
}

#[test]
fn a_second_interface_for_a_pod_is_refused_and_the_first_stays() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    lab.add(&pod);
    let conf = lab.conf("1.0.0", json!({}));
    let call = lab.pod_call("ADD", &pod, &conf).set("CNI_IFNAME", "net1");
    let error = call.fail(code::UNSUPPORTED_FIELD);
    assert!(error["msg"].as_str().unwrap().contains("eth0"), "{error}");
    lab.assert_attached(&pod);
    assert_eq!(lab.agent().records().len(), 1);
}

#[test]
fn an_interface_of_another_plugin_is_left_alone() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    pod.namespace.ip(&["link", "add", "eth0", "type", "ifb"]);
    let error = lab
        .pod_call("ADD", &pod, &lab.conf("1.0.0", json!({})))
        .fail(code::KERNEL);
    assert!(
        error["details"].as_str().unwrap().contains("eth0"),
        "{error}"
    );
    lab.assert_detached(&pod);
    lab.del(&pod);
    assert_eq!(
        pod.namespace.ip(&["link", "show", "eth0"])[0]["ifname"],
        "eth0"
    );
}

#[test]
fn what_was_made_is_undone_when_the_agent_refuses() {
    let Some(lab) = lab() else { return };
    for (verb, code) in [
        (Verb::Add, code::NO_ADDRESS),
        (Verb::Activate, code::KERNEL),
    ] {
        let pod = lab.pod();
        lab.agent().order(verb, Fault::Refuse(code, "not today"));
        let error = lab
            .pod_call("ADD", &pod, &lab.conf("1.0.0", json!({})))
            .fail(code);
        assert_eq!(error["msg"], "not today");
        assert_eq!(error["details"], "ordered by the test");
        lab.assert_detached(&pod);
        assert_eq!(lab.host.veths(), Vec::<Value>::new());
    }
}

#[test]
fn an_unusable_answer_is_told_and_undone() {
    let Some(lab) = lab() else { return };
    let record = r#"{"added":{"host_interface":"cali1","host_mac":"MAC","addresses":[NETS],
        "mtu":1480,"alias":"tortie:c/eth0"}}"#
        .replace('\n', "");
    let bad_mac = record
        .replace("MAC", "02:00:00:00:00:01")
        .replace("NETS", "\"10.65.0.1/32\"");
    let no_address = record
        .replace("MAC", "ee:ee:ee:ee:ee:ee")
        .replace("NETS", "");
    let subnet = record
        .replace("MAC", "ee:ee:ee:ee:ee:ee")
        .replace("NETS", "\"10.65.0.1/24\"");
    for line in ["what?", "\"done\"", &bad_mac, &no_address, &subnet] {
        let pod = lab.pod();
        let line: &'static str = format!("{line}\n").leak();
        lab.agent().order(Verb::Add, Fault::Say(line));
        let conf = lab.conf("1.0.0", json!({}));
        lab.pod_call("ADD", &pod, &conf).fail(code::PROTOCOL);
        lab.assert_detached(&pod);
    }
}

#[test]
fn an_agent_that_is_away_is_worth_another_try() {
    let Some(mut lab) = lab() else { return };
    let pod = lab.pod();
    lab.stop_agent();
    let conf = lab.conf("1.0.0", json!({}));
    let error = lab.pod_call("ADD", &pod, &conf).fail(code::TRY_AGAIN);
    assert!(
        error["msg"].as_str().unwrap().contains("cni.sock"),
        "{error}"
    );
    lab.assert_detached(&pod);
    lab.start_agent();
    lab.add(&pod);
    lab.assert_attached(&pod);
}

#[test]
fn an_agent_that_goes_away_in_between_is_told_of_the_deletion_later() {
    let Some(lab) = lab() else { return };
    for verb in [Verb::Add, Verb::Activate] {
        let pod = lab.pod();
        lab.agent().order(verb, Fault::HangUp);
        let conf = lab.conf("1.0.0", json!({}));
        lab.pod_call("ADD", &pod, &conf).fail(code::TRY_AGAIN);
        assert_eq!(lab.host.veths(), Vec::<Value>::new());
        lab.assert_detached(&pod);
    }
}
