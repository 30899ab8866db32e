//! GC and STATUS.

use felix_api::cni::code;
use serde_json::{Value, json};

use crate::agent::{Fault, Verb};
use crate::lab::{Lab, Pod, lab};

fn collect(lab: &Lab, valid: &[&Pod]) {
    let valid: Vec<Value> = valid
        .iter()
        .map(|pod| json!({"containerID": pod.container_id, "ifname": "eth0"}))
        .collect();
    let conf = lab.conf("1.1.0", json!({"cni.dev/valid-attachments": valid}));
    assert_eq!(lab.call("GC", &conf).succeed(), Value::Null);
}

#[test]
fn only_what_the_runtime_does_not_know_is_collected() {
    let Some(lab) = lab() else { return };
    let (valid, stale, unrecorded, elsewhere) = (lab.pod(), lab.pod(), lab.pod(), lab.pod());
    for pod in [&valid, &stale, &unrecorded] {
        lab.add(pod);
    }
    let other_network = lab.conf("1.1.0", json!({"name": "storage"}));
    lab.pod_call("ADD", &elsewhere, &other_network).succeed();
    lab.agent()
        .memory
        .lock()
        .unwrap()
        .records
        .retain(|key, _| key.container_id != unrecorded.container_id);
    lab.host.ip(&[
        "link", "add", "cali7", "type", "veth", "peer", "name", "foreign",
    ]);

    collect(&lab, &[&valid]);
    lab.assert_attached(&valid);
    lab.assert_attached(&elsewhere);
    lab.assert_detached(&stale);
    lab.assert_detached(&unrecorded);
    let names: Vec<Value> = lab
        .host
        .veths()
        .iter()
        .map(|link| link["ifname"].clone())
        .collect();
    assert!(names.contains(&json!("cali7")), "{names:?}");
    assert_eq!(names.len(), 4, "{names:?}");

    collect(&lab, &[]);
    lab.assert_detached(&valid);
    lab.assert_attached(&elsewhere);
}

#[test]
fn nothing_is_collected_without_a_list_or_an_agent() {
    let Some(mut lab) = lab() else { return };
    let pod = lab.pod();
    lab.add(&pod);
    lab.call("GC", &lab.conf("1.1.0", json!({})))
        .fail(code::INVALID_CONFIG);
    lab.stop_agent();
    let conf = lab.conf("1.1.0", json!({"cni.dev/valid-attachments": []}));
    lab.call("GC", &conf).fail(code::TRY_AGAIN);
    lab.start_agent();
    lab.assert_attached(&pod);
}

#[test]
fn status_tells_whether_an_add_would_be_served() {
    let Some(mut lab) = lab() else { return };
    let conf = lab.conf("1.1.0", json!({}));
    assert_eq!(lab.call("STATUS", &conf).succeed(), Value::Null);
    let faults = [
        (
            Fault::Refuse(code::NOT_AVAILABLE, "not in sync"),
            code::NOT_AVAILABLE,
        ),
        (
            Fault::Refuse(code::LIMITED_CONNECTIVITY, "no routes"),
            code::LIMITED_CONNECTIVITY,
        ),
        (Fault::Refuse(code::INTERNAL, "defect"), code::NOT_AVAILABLE),
        (Fault::HangUp, code::NOT_AVAILABLE),
        (Fault::Say("what?\n"), code::NOT_AVAILABLE),
    ];
    for (fault, expected) in faults {
        lab.agent().order(Verb::Status, fault);
        lab.call("STATUS", &conf).fail(expected);
    }
    lab.stop_agent();
    lab.call("STATUS", &conf).fail(code::NOT_AVAILABLE);
}
