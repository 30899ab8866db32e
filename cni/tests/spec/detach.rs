//! DEL.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use felix_api::cni::{Del, code};
use serde_json::{Value, json};

use crate::agent::{Fault, Verb};
use crate::lab::{VERSIONS, lab};

#[test]
fn nothing_is_left_however_often_it_is_called() {
    let Some(lab) = lab() else { return };
    for version in VERSIONS {
        let pod = lab.pod();
        lab.add(&pod);
        let conf = lab.conf(version, json!({}));
        for _ in 0..2 {
            assert_eq!(lab.pod_call("DEL", &pod, &conf).succeed(), Value::Null);
            lab.assert_detached(&pod);
        }
        assert_eq!(lab.host.veths(), Vec::<Value>::new());
    }
}

#[test]
fn a_pod_that_was_never_attached_is_deleted() {
    let Some(lab) = lab() else { return };
    lab.del(&lab.pod());
}

#[test]
fn the_namespace_may_be_missing_gone_or_a_leftover_file() {
    let Some(lab) = lab() else { return };
    let leftover = lab.directory.path().join("leftover");
    fs::write(&leftover, "").unwrap();
    let conf = lab.conf("1.0.0", json!({}));
    for netns in [None, Some("/run/netns/gone"), leftover.to_str()] {
        let pod = lab.pod();
        lab.add(&pod);
        let call = lab.pod_call("DEL", &pod, &conf);
        match netns {
            None => call.unset("CNI_NETNS").succeed(),
            Some(path) => call.set("CNI_NETNS", path).succeed(),
        };
        lab.assert_detached(&pod);
    }
}

#[test]
fn nothing_is_removed_from_the_host_itself() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    lab.host.ip(&[
        "link", "add", "eth0", "type", "veth", "peer", "name", "uplink",
    ]);
    let conf = lab.conf("1.0.0", json!({}));
    lab.pod_call("DEL", &pod, &conf)
        .set("CNI_NETNS", &lab.host.path())
        .succeed();
    assert_eq!(lab.host.veths().len(), 2);
}

#[test]
fn an_unmarked_pair_is_removed_from_inside() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    // As Calico makes it.
    let netns = pod.namespace.path();
    let pid = netns.split('/').nth(2).unwrap();
    lab.host.ip(&[
        "link", "add", "cali1", "type", "veth", "peer", "name", "eth0", "netns", pid,
    ]);
    assert_eq!(pod.namespace.veths().len(), 1);
    lab.del(&pod);
    assert_eq!(lab.host.veths(), Vec::<Value>::new());
}

#[test]
fn a_pair_of_another_container_stays() {
    let Some(lab) = lab() else { return };
    let (pod, late) = (lab.pod_named("front"), lab.pod_named("front"));
    lab.add(&pod);
    // A runtime that uses a namespace's path again deletes the container it was before.
    let conf = lab.conf("1.0.0", json!({}));
    lab.pod_call("DEL", &late, &conf)
        .set("CNI_NETNS", &pod.namespace.path())
        .succeed();
    lab.assert_attached(&pod);
}

#[test]
fn a_deletion_waits_for_an_agent_that_is_away() {
    let Some(mut lab) = lab() else { return };
    let pod = lab.pod();
    lab.add(&pod);
    lab.stop_agent();
    for _ in 0..2 {
        lab.del(&pod);
        assert_eq!(lab.host.veths(), Vec::<Value>::new());
        let path = lab.tombstone(&pod);
        let deletion: Del = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(deletion.network, "pods");
        assert_eq!(deletion.container_id, pod.container_id);
        assert_eq!(deletion.ifname, "eth0");
        assert_eq!(deletion.pod.as_deref(), Some(pod.name.as_str()));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
    // The runtime repeats it when the agent is back.
    lab.start_agent();
    lab.del(&pod);
    lab.assert_detached(&pod);
    assert!(!lab.tombstone(&pod).exists());
}

#[test]
fn what_the_agent_has_written_down_is_left_to_it() {
    let Some(mut lab) = lab() else { return };
    let pod = lab.pod();
    lab.add(&pod);
    lab.stop_agent();
    lab.del(&pod);
    lab.start_agent();
    lab.agent().memory.lock().unwrap().postpones = true;
    lab.del(&pod);
    assert!(lab.tombstone(&pod).exists(), "its addresses would leak");
}

#[test]
fn a_waiting_deletion_is_settled_before_the_same_attachment_is_made_again() {
    let Some(mut lab) = lab() else { return };
    let pod = lab.pod();
    lab.add(&pod);
    lab.stop_agent();
    lab.del(&pod);
    lab.start_agent();
    lab.agent().memory.lock().unwrap().served.clear();
    lab.add(&pod);
    lab.assert_attached(&pod);
    assert!(!lab.tombstone(&pod).exists());
    let served = &lab.agent().memory.lock().unwrap().served;
    assert_eq!(*served, [Verb::Del, Verb::Add, Verb::Activate]);
}

#[test]
fn an_agent_that_fails_does_not_keep_a_pod_from_going() {
    let Some(lab) = lab() else { return };
    for fault in [
        Fault::Refuse(code::INTERNAL, "defect"),
        Fault::HangUp,
        Fault::Say("what?\n"),
    ] {
        let pod = lab.pod();
        lab.add(&pod);
        lab.agent().order(Verb::Del, fault);
        lab.del(&pod);
        assert!(lab.tombstone(&pod).exists());
        assert_eq!(lab.host.veths(), Vec::<Value>::new());
    }
}

#[test]
fn a_deletion_nobody_takes_is_an_error() {
    let Some(mut lab) = lab() else { return };
    let pod = lab.pod();
    lab.add(&pod);
    lab.stop_agent();
    let conf = lab.conf("1.0.0", json!({"state_dir": "/proc/nowhere"}));
    lab.pod_call("DEL", &pod, &conf).fail(code::IO);
}
