//! A plugin that is killed: whatever it had done, the next call finds its way.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::agent::{Fault, Verb, gate};
use crate::lab::{Lab, Pod, lab};

/// What the runtime does after the plugin was killed during ADD.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The same ADD again.
    Add,
    /// DEL, as kubelet's runtimes do.
    Del,
}

/// Kills the plugin when the agent has `verb` in hand, before or after serving it.
fn kill_at(lab: &Lab, pod: &Pod, command: &str, verb: Verb, after: bool) {
    let (gate, hold) = gate();
    lab.agent().order(
        verb,
        if after {
            Fault::HoldAfter(gate)
        } else {
            Fault::HoldBefore(gate)
        },
    );
    let mut plugin = lab
        .pod_call(command, pod, &lab.conf("1.1.0", json!({})))
        .spawn();
    hold.wait();
    plugin.kill().unwrap();
    plugin.wait().unwrap();
    hold.release();
}

fn recover(lab: &Lab, pod: &Pod, then: Then) {
    if matches!(then, Then::Add) {
        lab.add(pod);
        lab.assert_attached(pod);
        assert!(lab.host.reaches("10.65.0.1"), "the one address in use");
    }
    lab.del(pod);
    lab.assert_detached(pod);
    assert_eq!(lab.host.veths(), Vec::<Value>::new());
    assert_eq!(lab.agent().records(), []);
}

#[test]
fn killed_at_each_request_of_add() {
    let Some(lab) = lab() else { return };
    for verb in [Verb::Add, Verb::Activate] {
        for after in [false, true] {
            for then in [Then::Add, Then::Del] {
                let pod = lab.pod();
                kill_at(&lab, &pod, "ADD", verb, after);
                recover(&lab, &pod, then);
            }
        }
    }
}

#[test]
fn killed_at_the_request_of_del() {
    let Some(lab) = lab() else { return };
    for after in [false, true] {
        for then in [Then::Add, Then::Del] {
            let pod = lab.pod();
            lab.add(&pod);
            kill_at(&lab, &pod, "DEL", Verb::Del, after);
            recover(&lab, &pod, then);
        }
    }
}

#[test]
fn killed_while_a_new_container_replaces_the_old() {
    let Some(lab) = lab() else { return };
    for after in [false, true] {
        let (old, new) = (lab.pod_named("front"), lab.pod_named("front"));
        lab.add(&old);
        kill_at(&lab, &new, "ADD", Verb::Activate, after);
        lab.del(&new);
        lab.assert_detached(&new);
        lab.del(&old);
        lab.assert_detached(&old);
        assert_eq!(lab.host.veths(), Vec::<Value>::new());
        assert_eq!(lab.agent().records(), []);
    }
}

#[test]
fn collected_after_a_kill_without_any_further_call_for_the_pod() {
    let Some(lab) = lab() else { return };
    for after in [false, true] {
        let pod = lab.pod();
        kill_at(&lab, &pod, "ADD", Verb::Activate, after);
        let conf = lab.conf("1.1.0", json!({"cni.dev/valid-attachments": []}));
        lab.call("GC", &conf).succeed();
        lab.assert_detached(&pod);
        assert_eq!(lab.agent().records(), []);
    }
}

/// Kills at times spread evenly over the duration of a whole call.
fn killed_in_between(command: &str, rounds: u32, prepare: impl Fn(&Lab, &Pod)) {
    let Some(mut lab) = lab() else { return };
    let conf = lab.conf("1.1.0", json!({}));
    let whole = (0..5)
        .map(|_| duration(&lab, command, &prepare))
        .min()
        .unwrap();
    let mut killed = 0;
    for round in 0..rounds {
        let pod = lab.pod();
        prepare(&lab, &pod);
        let mut plugin = lab.pod_call(command, &pod, &conf).spawn();
        // The moment of the kill is what is varied here.
        sleep(whole * round / rounds);
        plugin.kill().unwrap();
        killed += u32::from(!plugin.wait().unwrap().success());
        lab.settle();
        recover(
            &lab,
            &pod,
            if round % 2 == 0 { Then::Add } else { Then::Del },
        );
    }
    assert!(
        killed >= rounds / 4,
        "only {killed} of {rounds} calls were killed"
    );
}

/// How long a whole call takes.
fn duration(lab: &Lab, command: &str, prepare: impl Fn(&Lab, &Pod)) -> Duration {
    let pod = lab.pod();
    prepare(lab, &pod);
    let started = Instant::now();
    lab.pod_call(command, &pod, &lab.conf("1.1.0", json!({})))
        .succeed();
    let taken = started.elapsed();
    lab.del(&pod);
    taken
}

#[test]
fn killed_at_any_time_during_add() {
    killed_in_between("ADD", 60, |_, _| {});
}

#[test]
fn killed_at_any_time_during_del() {
    killed_in_between("DEL", 30, |lab, pod| drop(lab.add(pod)));
}
