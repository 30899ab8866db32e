//! Pods on one node of a real cluster: how long they take to start, and how much of that is CNI;
//! with our plugin, and with `ptp` and `host-local` in its place.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::apiserver::bulk::{Bulk, Request};
use e2e::command::binary;
use e2e::kubernetes::machine::Daemon;
use e2e::kubernetes::{Kubernetes, diagnostics};
use e2e::wait;
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::objects::PODS;

/// For a hundred pods to start, or to go.
const LIMIT: Duration = Duration::from_secs(240);
/// Where the runtime finds the timer, under the name of each plugin.
const TIMED: &str = "/opt/cni/timed";
const PLUGINS: [&str; 5] = ["bandwidth", "loopback", "portmap", "ptp", "tortie-cni"];
/// Of Debian, for the comparison.
const REFERENCE: [&str; 2] = ["ptp", "host-local"];
/// Pods that are not measured, before those that are.
const WARM: usize = 3;

/// A way to plug pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Ours,
    Reference,
}

impl Way {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Ours => "tortie-cni",
            Self::Reference => "ptp + host-local",
        }
    }

    fn plugin(self) -> &'static str {
        match self {
            Self::Ours => "tortie-cni",
            Self::Reference => "ptp",
        }
    }
}

/// What one pod took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pod {
    /// From scheduled to Running, as a watch tells it.
    pub(super) start: Duration,
    /// ADD of all plugins, retries included.
    pub(super) network: Duration,
    /// Of that, our plugin or the one in its place.
    pub(super) plugin: Duration,
}

impl Pod {
    pub(super) fn share(&self) -> f64 {
        100.0 * self.network.as_secs_f64() / self.start.as_secs_f64()
    }
}

/// Pods of one way that were started together, or one after the other.
pub(super) struct Crowd {
    pub(super) way: Way,
    pub(super) together: bool,
    pub(super) pods: Vec<Pod>,
}

/// Starts `alone` pods one after the other and `together` at once, each way.
pub(super) fn measure(alone: usize, together: usize) -> Result<Vec<Crowd>> {
    let mut cluster = Kubernetes::start_with("k8s-bench", 1)?;
    let crowds = in_cluster(&mut cluster, alone, together);
    crowds.map_err(|error| error.context(diagnostics::collect(&cluster)))
}

fn in_cluster(cluster: &mut Kubernetes, alone: usize, together: usize) -> Result<Vec<Crowd>> {
    cluster.deploy("install", "--set controller.replicas=1")?;
    cluster.kubectl("wait --for=condition=Ready nodes --all --timeout=60s")?;
    time_plugins(cluster)?;
    let bulk = Bulk::start(&cluster.api)?;
    let mut crowds = Vec::new();
    for way in [Way::Ours, Way::Reference] {
        let bench = Bench {
            cluster,
            bulk: &bulk,
            way,
        };
        bench.choose()?;
        bench.run("warm", WARM, true)?;
        for (name, count, together) in [("alone", alone, false), ("crowd", together, true)] {
            let pods = bench.run(name, count, together)?;
            println!(
                "  {}, {count} pods {}: {:.1} ms of {:.2} s in the middle",
                way.text(),
                if together { "at once" } else { "one by one" },
                middle(&pods, |pod| pod.network).as_secs_f64() * 1000.0,
                middle(&pods, |pod| pod.start).as_secs_f64()
            );
            crowds.push(Crowd {
                way,
                together,
                pods,
            });
        }
    }
    Ok(crowds)
}

pub(super) fn middle(pods: &[Pod], figure: impl Fn(&Pod) -> Duration) -> Duration {
    let mut figures: Vec<_> = pods.iter().map(figure).collect();
    figures.sort();
    crate::percentile(&figures, 0.5)
}

/// Puts the timer between the runtime and its plugins.
fn time_plugins(cluster: &mut Kubernetes) -> Result<()> {
    let machine = cluster.machines.first_mut().context("a node")?;
    for name in REFERENCE {
        let to = machine.path("/opt/cni/bin").join(name);
        fs::copy(format!("/usr/lib/cni/{name}"), to)
            .context("plugins are Debian's package containernetworking-plugins")?;
    }
    let folder = machine.path(TIMED);
    fs::create_dir_all(&folder)?;
    for name in PLUGINS {
        let to = folder.join(name);
        fs::copy(binary("cni-timer")?, &to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    machine.use_plugins_of(TIMED)?;
    machine.stop_daemon(Daemon::Containerd, Signal::SIGTERM)?;
    machine.start_daemon(Daemon::Containerd)
}

struct Bench<'a> {
    cluster: &'a Kubernetes,
    bulk: &'a Bulk,
    way: Way,
}

/// A call of a plugin, as the timer writes it down.
#[derive(Debug, Deserialize)]
struct Call {
    plugin: String,
    verb: String,
    pod: String,
    failed: bool,
    micros: u64,
}

impl Bench<'_> {
    /// The runtime takes the first configuration by name.
    fn choose(&self) -> Result<()> {
        let machine = self.cluster.machines.first().context("a node")?;
        let first = machine.path("/etc/cni/net.d/00-reference.conflist");
        if self.way == Way::Reference {
            let configuration = json!({
                "cniVersion": "1.0.0", "name": "reference",
                "plugins": [
                    {"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.99.0.0/22", "dataDir": "/run/host-local"}},
                    {"type": "portmap", "capabilities": {"portMappings": true}},
                    {"type": "bandwidth", "capabilities": {"bandwidth": true}},
                ],
            });
            fs::write(first, configuration.to_string())?;
        }
        let what = format!("the runtime to call {}", self.way.plugin());
        // It reads them anew a moment after they change.
        wait::until(&what, LIMIT, || self.run("first", 1, true).map(Some)).map(drop)
    }

    /// Starts pods, deletes them again, and says what each took.
    fn run(&self, name: &str, count: usize, together: bool) -> Result<Vec<Pod>> {
        let begin = self.calls()?.len();
        let watch = Watch::start(self.bulk, name)?;
        let names: Vec<String> = (0..count)
            .map(|number| format!("{name}-{number}"))
            .collect();
        let requests: Vec<Request> = names.iter().map(|pod| create(name, pod)).collect();
        let mut seen = BTreeMap::new();
        if together {
            self.bulk.send(&requests)?;
            watch.wait_for(&names, &mut seen)?;
        } else {
            for (pod, request) in names.iter().zip(&requests) {
                self.bulk.send(std::slice::from_ref(request))?;
                watch.wait_for(std::slice::from_ref(pod), &mut seen)?;
            }
        }
        let deletions: Vec<Request> = names.iter().map(|pod| delete(pod)).collect();
        self.bulk.send(&deletions)?;
        wait::until_true("pods to be gone", LIMIT, || {
            let mut connection = self.bulk.connect()?;
            Ok(Bulk::count(&mut connection, PODS)? == 0)
        })?;
        let calls = self.calls()?;
        let mut pods = Vec::new();
        for pod in &names {
            let times = seen.get(pod).context("a pod was seen")?;
            let calls = calls.iter().skip(begin).filter(|call| call.pod == *pod);
            pods.push(took(times, calls, self.way.plugin())?);
        }
        Ok(pods)
    }

    fn calls(&self) -> Result<Vec<Call>> {
        let machine = self.cluster.machines.first().context("a node")?;
        let log = machine.path(TIMED).join("log");
        if !log.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(log)?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }
}

/// Puts together what was seen of a pod.
fn took<'a>(times: &Times, calls: impl Iterator<Item = &'a Call>, plugin: &str) -> Result<Pod> {
    let (scheduled, running) = times.scheduled.zip(times.running).context("it runs")?;
    let mut pod = Pod {
        start: running - scheduled,
        network: Duration::ZERO,
        plugin: Duration::ZERO,
    };
    let mut succeeded = false;
    for call in calls.filter(|call| call.verb == "ADD") {
        let time = Duration::from_micros(call.micros);
        pod.network += time;
        if call.plugin == plugin {
            pod.plugin += time;
            succeeded |= !call.failed;
        }
    }
    ensure!(succeeded, "a pod runs without {plugin}");
    Ok(pod)
}

fn create(app: &str, name: &str) -> Request {
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}},
        "spec": {
            "automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "c", "image": "localhost/busybox:1", "imagePullPolicy": "Never",
                "command": ["/bin/sleep", "1000000"],
            }],
        },
    });
    Request::create(PODS, object)
}

/// The kubelet ends it, and then its object goes.
fn delete(name: &str) -> Request {
    Request {
        method: "DELETE",
        path: format!("{PODS}/{name}"),
        body: Value::Null,
    }
}

/// When something was first seen of a pod.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    scheduled: Option<Instant>,
    running: Option<Instant>,
}

/// A watch of pods, whose events have a time as soon as they come.
struct Watch {
    events: Receiver<(Instant, Value)>,
    closer: std::os::unix::net::UnixStream,
}

impl Watch {
    fn start(bulk: &Bulk, app: &str) -> Result<Self> {
        // From what is cached: an API server with an old etcd keeps others waiting.
        let path = format!("{PODS}?watch=1&resourceVersion=0&labelSelector=app%3D{app}");
        let events = bulk.connect()?.watch(&path)?;
        let closer = events.closer()?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for event in events {
                if sender.send((Instant::now(), event)).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            events: receiver,
            closer,
        })
    }

    /// Takes events until all of these pods run.
    fn wait_for(&self, names: &[String], seen: &mut BTreeMap<String, Times>) -> Result<()> {
        let runs = |seen: &BTreeMap<String, Times>, name| {
            let times: Option<&Times> = seen.get(name);
            times.is_some_and(|times| times.running.is_some())
        };
        while !names.iter().all(|name| runs(seen, name)) {
            let event = self.events.recv_timeout(LIMIT);
            let (at, event) = event.context("pods do not run")?;
            note(&event["object"], at, seen)?;
        }
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.closer.shutdown(std::net::Shutdown::Both);
    }
}

fn note(pod: &Value, at: Instant, seen: &mut BTreeMap<String, Times>) -> Result<()> {
    let name = pod["metadata"]["name"].as_str().context("a name")?;
    let times = seen.entry(name.to_owned()).or_default();
    if pod["spec"]["nodeName"].is_string() {
        times.scheduled.get_or_insert(at);
    }
    match pod["status"]["phase"].as_str() {
        Some("Running") => {
            times.running.get_or_insert(at);
        }
        Some("Failed" | "Succeeded") => bail!("pod {name}: {}", pod["status"]),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(plugin: &str, verb: &str, failed: bool, micros: u64) -> Call {
        let (plugin, verb, pod) = (plugin.to_owned(), verb.to_owned(), "p".to_owned());
        Call {
            plugin,
            verb,
            pod,
            failed,
            micros,
        }
    }

    #[test]
    fn all_additions_of_a_pod_count() {
        let now = Instant::now();
        let times = Times {
            scheduled: Some(now),
            running: Some(now + Duration::from_millis(100)),
        };
        let calls = [
            call("loopback", "ADD", false, 1_000),
            call("ours", "ADD", true, 2_000),
            call("ours", "DEL", false, 90_000),
            call("ours", "ADD", false, 7_000),
        ];
        let pod = took(&times, calls.iter(), "ours").unwrap();
        assert_eq!(pod.network, Duration::from_millis(10));
        assert_eq!(pod.plugin, Duration::from_millis(9));
        assert!((pod.share() - 10.0).abs() < 1e-9);
        assert!(took(&times, calls.iter().take(3), "ours").is_err());
    }

    #[test]
    fn the_first_time_counts() {
        let mut seen = BTreeMap::new();
        let now = Instant::now();
        let later = |secs| now + Duration::from_secs(secs);
        let pod = |phase: &str| json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": phase}});
        let unscheduled =
            json!({"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Pending"}});
        note(&unscheduled, now, &mut seen).unwrap();
        note(&pod("Pending"), later(1), &mut seen).unwrap();
        note(&pod("Running"), later(2), &mut seen).unwrap();
        note(&pod("Running"), later(3), &mut seen).unwrap();
        let times = seen["p"];
        assert_eq!(
            (times.scheduled, times.running),
            (Some(later(1)), Some(later(2)))
        );
        assert!(note(&pod("Failed"), now, &mut seen).is_err());
    }
}
