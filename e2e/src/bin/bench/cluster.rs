//! Kubernetes: what CNI costs a pod that starts, what an agent asks and is sent among a thousand
//! nodes, and how soon the controller frees what leaked. API server and etcd are real, and for the
//! first so are kubelet, containerd, scheduler and controller manager.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use e2e::command::require;

mod collecting;
mod monitor;
mod objects;
mod starting;
mod watching;

use starting::{Crowd, Pod, Way};
use watching::{Size, What, Window};

/// Page that a full run writes.
const PAGE: &str = "docs/performance-cluster.md";

/// Not that of the other parts.
const LAB: &str = "benchk8s";

/// How much is measured.
struct Plan {
    alone: usize,
    together: usize,
    sizes: &'static [usize],
    /// Seconds with the largest number of nodes.
    windows: [(What, u64); 3],
}

const FULL: Plan = Plan {
    alone: 10,
    together: 100,
    sizes: &[250, 500, 1000],
    windows: [
        (What::Nothing, 180),
        (What::Heartbeats, 60),
        (What::Changes, 60),
    ],
};

const QUICK: Plan = Plan {
    alone: 3,
    together: 20,
    sizes: &[50, 100],
    windows: [
        (What::Nothing, 30),
        (What::Heartbeats, 15),
        (What::Changes, 15),
    ],
};

/// Everything that was measured.
struct Figures {
    crowds: Vec<Crowd>,
    sizes: Vec<Size>,
    collecting: collecting::Figures,
    took: Duration,
}

/// Measures; writes the page unless `quick`.
pub(crate) fn bench(quick: bool) -> Result<()> {
    require(&[("etcd", "etcd-server"), ("openssl", "openssl")])?;
    ensure!(
        quick || Path::new("docs").is_dir(),
        "there is no folder docs here: run this in the root of the repository"
    );
    let plan = plan(quick);
    let start = Instant::now();
    let collecting = leaks()?;
    let sizes = watches(plan)?;
    let crowds = starts_of_pods(plan)?;
    let figures = Figures {
        crowds,
        sizes,
        collecting,
        took: start.elapsed(),
    };
    println!("\n{}", figures.tables());
    if !quick {
        std::fs::write(PAGE, figures.page()?)?;
        println!("\nwritten: {PAGE}");
    }
    Ok(())
}

/// Measures one of the three and prints it, for those who work on that.
pub(crate) fn one(name: &str, quick: bool) -> Result<()> {
    let plan = plan(quick);
    let text = match name {
        "pods" => pods(&starts_of_pods(plan)?),
        "agents" => of_agents(&watches(plan)?),
        "leaks" => leaks()?.table(),
        other => bail!("no part cluster-{other}: there are cluster-pods, -agents and -leaks"),
    };
    println!("\n{text}");
    Ok(())
}

fn plan(quick: bool) -> &'static Plan {
    if quick { &QUICK } else { &FULL }
}

fn leaks() -> Result<collecting::Figures> {
    println!("\nThe controller and addresses that leaked:");
    collecting::measure()
}

fn watches(plan: &Plan) -> Result<Vec<Size>> {
    println!("\nAn agent among simulated nodes:");
    let windows = plan
        .windows
        .map(|(what, secs)| (what, Duration::from_secs(secs)));
    watching::measure(plan.sizes, windows)
}

fn starts_of_pods(plan: &Plan) -> Result<Vec<Crowd>> {
    println!("\nPods on one node of a real cluster:");
    starting::measure(plan.alone, plan.together)
}

fn of_agents(sizes: &[Size]) -> String {
    [rest(sizes), starts(sizes), follows(sizes), requests(sizes)].join("\n")
}

impl Figures {
    fn tables(&self) -> String {
        let parts = [
            pods(&self.crowds),
            of_agents(&self.sizes),
            self.collecting.table(),
        ];
        parts.join("\n")
    }

    fn page(&self) -> Result<String> {
        let machine = crate::machine()?;
        let build = if cfg!(debug_assertions) {
            "**Our programs were built without optimisation: times, processor and memory are not those of a release.**\n"
        } else {
            ""
        };
        // The page says how to build what was measured.
        let lto = match option_env!("CARGO_PROFILE_RELEASE_LTO") {
            Some(lto) => format!("CARGO_PROFILE_RELEASE_LTO={lto} "),
            None => String::new(),
        };
        let heartbeat = watching::HEARTBEAT / 60;
        Ok(format!(
            "# Performance with Kubernetes

Written by `{lto}make bench BENCH=cluster`, which took {:.0} minutes; do not edit it, run that.
{build}Machine: {machine}.
kube-apiserver and the other programs of Kubernetes are those of 1.34, etcd and containerd Debian's; everything shares the cores.
Nothing here is extrapolated: each figure was measured with as many nodes, blocks and pods as it says.

## What CNI is of a pod's start

One node with containerd and kubelet; pods of a static busybox whose image is there.
A start is from the moment a watch shows the pod as scheduled until it shows it as Running.
CNI is the time of all ADD calls of the runtime for this pod, loopback, portmap and bandwidth included, by a timer that stands between the runtime and its plugins; the share is of each pod by itself.
The other plugin is Debian's `ptp` with `host-local`, in the same chain, on the same node, afterwards.
It keeps addresses in files of one node, and knows neither pools nor other nodes; ours asks the agent, which writes to the API server.

{}
## What an agent asks and is sent

One real agent in a namespace, without BGP: all routes come from BlockAffinities through one VXLAN device, so this is the setting that needs most of the API server.
The other nodes are simulated: a Node with 50 images, {} IPAMBlocks with {} addresses in use, and their BlockAffinities each; there are no agents and no kubelets, what these would write is written by the bench.
Bytes are those on the agent's connections, TLS included, both ways, counted by a relay; requests are those of the API server's audit log, a watch counts when it begins.
Of kubelets the bench writes the status of each Node once in {heartbeat} minutes, as kubelets do that have nothing new to say; of agents it writes {} changes of blocks a second, each of which gives or takes one address; an agent follows the blocks of its own node only, so these are not sent to it.

{}
The node is new: it has no block and no tunnel address, so all blocks are listed once to claim one; the kernel is empty; the routes are counted by `ip`.

{}
A new affinity of another node, from the request that makes it until `ip monitor` tells of the route.

{}
Requests of the longest time with the most nodes.

{}
## How soon leaked addresses are free

{} nodes with {} pods each, whose Node and Pod objects are there, and {} nodes with {} addresses in {} blocks that are not.
The controller runs as on a cluster, but for the grace period: {} s instead of 15 minutes.
Addresses of a node that is deleted are free at once; that agents report no more for six minutes is waited for on a real cluster, here none has ever reported.
On a node that is there the controller only lists leaks, and the node's agent frees them: {} s after its start, which are part of the figure, and every five minutes.

{}",
            self.took.as_secs_f64() / 60.0,
            pods(&self.crowds),
            watching::BLOCKS_PER_NODE,
            watching::USED,
            watching::CHANGES,
            rest(&self.sizes),
            starts(&self.sizes),
            follows(&self.sizes),
            requests(&self.sizes),
            collecting::STAY,
            collecting::PODS_PER_NODE,
            collecting::GO,
            collecting::LEAKED,
            2 * collecting::GO,
            collecting::GRACE.as_secs(),
            collecting::AGENT_WAITS.as_secs(),
            self.collecting.table()
        ))
    }
}

impl collecting::Figures {
    fn table(&self) -> String {
        let mut text = String::from("| what | s |\n|---|--:|\n");
        for (what, time) in [
            ("nodes deleted: first address free", self.gone_first),
            ("nodes deleted: all addresses free", self.gone_all),
            ("nodes deleted: their blocks given back", self.gone_blocks),
            ("node is there: controller lists all leaks", self.noticed),
            (
                "node is there: all confirmed, grace period included",
                self.confirmed,
            ),
            ("its agent starts: first address free", self.agent_first),
            ("its agent starts: all addresses free", self.agent_all),
        ] {
            row(
                &mut text,
                &format!("| {what} | {:.2} |", time.as_secs_f64()),
            );
        }
        text
    }
}

/// Writing to a string cannot fail.
fn row(text: &mut String, line: &str) {
    let _ = writeln!(text, "{line}");
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn pods(crowds: &[Crowd]) -> String {
    let mut text = String::from(
        "| pods | plugin | CNI p50 ms | p99 | of it the plugin p50 | p99 | start p50 s | p99 | share p50 % | p99 |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for crowd in crowds {
        let (middle, worst) = (figures(&crowd.pods, 0.5), figures(&crowd.pods, 0.99));
        let how = if crowd.together {
            "at once"
        } else {
            "one by one"
        };
        row(
            &mut text,
            &format!(
                "| {} {how} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} | {:.2} | {:.1} | {:.1} |",
                crowd.pods.len(),
                crowd.way.text(),
                middle[0],
                worst[0],
                middle[1],
                worst[1],
                middle[2] / 1000.0,
                worst[2] / 1000.0,
                middle[3],
                worst[3],
            ),
        );
    }
    for together in [false, true] {
        let of = |way| {
            let crowd = crowds
                .iter()
                .find(|crowd| crowd.way == way && crowd.together == together);
            crowd.map(|crowd| [0.5, 0.99].map(|share| figures(&crowd.pods, share)))
        };
        let Some((ours, theirs)) = of(Way::Ours).zip(of(Way::Reference)) else {
            continue;
        };
        let ratio = |figure: usize| {
            let ratios = [0, 1].map(|which| ours[which][figure] / theirs[which][figure]);
            format!("{:.2} | {:.2}", ratios[0], ratios[1])
        };
        let how = if together { "at once" } else { "one by one" };
        row(
            &mut text,
            &format!(
                "| {how} | ratio | {} | {} | {} | {} |",
                ratio(0),
                ratio(1),
                ratio(2),
                ratio(3)
            ),
        );
    }
    text
}

/// Milliseconds of CNI, of the plugin and of the start, and percent.
fn figures(pods: &[Pod], share: f64) -> [f64; 4] {
    let of = |figure: &dyn Fn(&Pod) -> f64| {
        let mut figures: Vec<f64> = pods.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        crate::percentile(&figures, share)
    };
    [
        of(&|pod| millis(pod.network)),
        of(&|pod| millis(pod.plugin)),
        of(&|pod| millis(pod.start)),
        of(&Pod::share),
    ]
}

fn rest(sizes: &[Size]) -> String {
    let mut text = String::from(
        "| nodes | blocks | what happens | changes of Nodes a minute | of blocks | requests a minute | kB a minute | kB for each change | processor % |\n\
         |--:|--:|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for size in sizes {
        for window in &size.windows {
            let changes = (window.nodes_changed + window.blocks_changed) as u64;
            let each = match changes {
                0 => "–".to_owned(),
                _ => format!(
                    "{:.2}",
                    window.kilobytes_a_minute() / window.a_minute(changes)
                ),
            };
            row(
                &mut text,
                &format!(
                    "| {} | {} | {} | {:.0} | {:.0} | {:.1} | {:.1} | {each} | {:.2} |",
                    size.nodes,
                    size.blocks,
                    window.what.text(),
                    window.a_minute(window.nodes_changed as u64),
                    window.a_minute(window.blocks_changed as u64),
                    window.requests_a_minute(),
                    window.kilobytes_a_minute(),
                    window.load(),
                ),
            );
        }
    }
    text
}

fn starts(sizes: &[Size]) -> String {
    let mut text = String::from(
        "| nodes | blocks | ready s | all routes s | processor s | requests | MB received | memory MB | peak MB | memory MB at the end |\n\
         |--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for size in sizes {
        let cold = &size.cold;
        row(
            &mut text,
            &format!(
                "| {} | {} | {:.2} | {:.2} | {:.2} | {} | {:.2} | {:.1} | {:.1} | {:.1} |",
                size.nodes,
                size.blocks,
                cold.ready.as_secs_f64(),
                cold.routes.as_secs_f64(),
                cold.processor,
                cold.requests.values().sum::<usize>(),
                watching::mega(cold.bytes.received),
                cold.memory,
                cold.peak,
                size.memory,
            ),
        );
    }
    text
}

fn follows(sizes: &[Size]) -> String {
    let mut text = String::from("| nodes | blocks | p50 ms | slowest |\n|--:|--:|--:|--:|\n");
    for size in sizes {
        let [middle, slowest] =
            [0.5, 1.0].map(|share| millis(crate::percentile(&size.follows, share)));
        row(
            &mut text,
            &format!(
                "| {} | {} | {middle:.1} | {slowest:.1} |",
                size.nodes, size.blocks
            ),
        );
    }
    text
}

/// By verb and resource: of the start and of the time without changes.
fn requests(sizes: &[Size]) -> String {
    let mut text = String::from("| request | at the start | a minute at rest |\n|---|--:|--:|\n");
    let Some(size) = sizes.last() else {
        return text;
    };
    let quiet = |window: &&Window| window.what == What::Nothing;
    let Some(window) = size.windows.iter().find(quiet) else {
        return text;
    };
    let mut names: Vec<&String> = size.cold.requests.keys().collect();
    names.extend(window.requests.keys());
    names.sort();
    names.dedup();
    for name in names {
        let count = |requests: &std::collections::BTreeMap<String, usize>| {
            requests.get(name).copied().unwrap_or(0)
        };
        row(
            &mut text,
            &format!(
                "| {name} | {} | {:.2} |",
                count(&size.cold.requests),
                window.a_minute(count(&window.requests) as u64)
            ),
        );
    }
    text
}
