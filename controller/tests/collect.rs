//! The program over a directory of manifests: a node dies, its addresses come back, and nothing alive is touched.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use datastore::file::FileStore;
use ipam::{AutoAssign, Ipam};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tortie-controller");
const DEADLINE: Duration = Duration::from_secs(120);

/// A cluster of three nodes in a directory; a pod of each has the addresses.
struct Cluster {
    directory: tempfile::TempDir,
}

impl Cluster {
    async fn new(addresses_per_node: u32) -> Cluster {
        let cluster = Cluster {
            directory: tempfile::tempdir().unwrap(),
        };
        cluster.write(
            "pool.yaml",
            "apiVersion: crd.projectcalico.org/v1\nkind: IPPool\nmetadata: {name: pool}\nspec: {cidr: 10.244.0.0/16, blockSize: 28}\n",
        );
        for node in 1..=3 {
            cluster.add_node(&format!("node{node}"));
        }
        let ipam = cluster.ipam();
        for node in 1..=3 {
            for pod in 0..addresses_per_node {
                let attributes = [
                    ("namespace", "default".to_owned()),
                    ("pod", format!("web-{node}-{pod}")),
                ];
                let request = AutoAssign {
                    node: format!("node{node}"),
                    handle: format!("net.c{node}-{pod}"),
                    attributes: attributes
                        .map(|(key, value)| (key.to_owned(), value))
                        .into(),
                    v4: 1,
                    ..AutoAssign::default()
                };
                assert_eq!(ipam.auto_assign(&request).await.unwrap().shortfall, None);
            }
        }
        cluster
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path().join(file), text).unwrap();
    }

    fn add_node(&self, name: &str) {
        self.write(
            &format!("{name}.yaml"),
            &format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n"),
        );
    }

    fn delete_node(&self, name: &str) {
        std::fs::remove_file(self.path().join(format!("{name}.yaml"))).unwrap();
    }

    fn report(&self, name: &str, observed_at: &str) {
        let text = format!(
            "apiVersion: tortie.dev/v1alpha1\nkind: NodeStatus\nmetadata: {{name: {name}}}\nspec: {{node: {name}}}\n\
             status: {{observedAt: \"{observed_at}\"}}\n"
        );
        self.write(&format!("status-{name}.yaml"), &text);
    }

    /// Another process as far as the datastore can tell.
    fn ipam(&self) -> Ipam {
        Ipam::new(Arc::new(FileStore::open(self.path()).unwrap()))
    }

    async fn addresses(&self, node: &str) -> Vec<IpAddr> {
        let held = self.ipam().allocations_of_node(node).await.unwrap();
        held.into_iter().map(|held| held.addr).collect()
    }

    /// Names of the manifests in a folder, as `ls` shows them.
    fn files(&self, folder: &str) -> Vec<String> {
        let listing = std::fs::read_dir(self.path().join(folder))
            .into_iter()
            .flatten();
        let mut names: Vec<String> = listing
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg(format!("--datastore=file:{}", self.path().display()))
            .args(arguments)
            .env_remove("TORTIE_DATASTORE");
        command
    }

    fn once(&self, arguments: &[&str]) -> Output {
        self.program(&["--once", "--agent-silence=6m"])
            .args(arguments)
            .output()
            .unwrap()
    }
}

/// A controller that runs until the test kills it.
struct Service {
    child: Child,
    admin: String,
}

impl Service {
    fn start(cluster: &Cluster, arguments: &[&str]) -> Service {
        let admin = free_address();
        let child = cluster
            .program(&[
                "--interval=1s",
                "--settle-after=1s",
                &format!("--admin={admin}"),
            ])
            .args(arguments)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Service { child, admin }
    }

    /// A page; nothing while the controller does not answer.
    fn get(&self, page: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.admin).ok()?;
        write!(stream, "GET {page} HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _dead_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// An address of its own for each program that a test starts: a port that is free now need not be later.
fn free_address() -> String {
    static LAST: AtomicU8 = AtomicU8::new(1);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    format!("127.0.79.{number}:9099")
}

async fn wait_until<F: AsyncFnMut() -> bool>(what: &str, mut holds: F) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Every file below a directory with its content.
fn everything(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                files.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_freed_and_writes_nothing() {
    let cluster = Cluster::new(2).await;
    cluster.delete_node("node2");
    cluster.report("node2", "2026-01-01T00:00:00Z");
    let before = everything(cluster.path());
    let output = cluster.once(&["--dry-run"]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", text(&output.stderr));
    let lost = cluster.addresses("node2").await;
    for address in &lost {
        assert!(
            shown.contains(&format!("would free address {address}\n")),
            "{shown}"
        );
    }
    assert!(shown.contains("NODE   ADDRESS"), "{shown}");
    assert!(shown.contains("default/web-2-0"), "{shown}");
    assert!(shown.contains("would give back blocks 10.244."), "{shown}");
    assert!(shown.contains("would delete NodeStatus node2"), "{shown}");
    assert_eq!(everything(cluster.path()), before);

    let output = cluster.once(&["--dry-run", "-o", "json"]);
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let free = shown["addresses"].as_array().unwrap().iter();
    let free: Vec<&str> = free
        .filter(|row| row["state"] == "free" && row["reason"] == "its pod does not exist")
        .map(|row| row["address"].as_str().unwrap())
        .collect();
    let lost: Vec<String> = lost.iter().map(ToString::to_string).collect();
    assert_eq!(free, lost);
    assert_eq!(
        (&shown["dryRun"], &shown["refused"]),
        (&true.into(), &Value::Null)
    );
}

#[tokio::test]
async fn addresses_of_a_dead_node_come_back_and_the_others_stay() {
    let cluster = Cluster::new(2).await;
    let (first, third) = (
        cluster.addresses("node1").await,
        cluster.addresses("node3").await,
    );
    cluster.delete_node("node2");
    // Its agent has just reported: not yet.
    let now = crds::core::time_text(std::time::SystemTime::now());
    cluster.report("node2", &now);
    let output = cluster.once(&[]);
    assert!(text(&output.stdout).contains("node node2 has no Node object, but its agent reports"));
    assert_eq!(cluster.addresses("node2").await.len(), 2);

    cluster.report("node2", "2026-01-01T00:00:00Z");
    let output = cluster.once(&[]);
    let shown = text(&output.stdout);
    assert!(
        shown.contains(
            "done: 2 addresses freed, 0 in use again, 1 nodes and 0 empty blocks given back"
        ),
        "{shown}"
    );
    assert_eq!(cluster.addresses("node2").await.len(), 0);
    assert_eq!(
        (
            cluster.addresses("node1").await,
            cluster.addresses("node3").await
        ),
        (first, third)
    );
    assert_eq!(cluster.files("ipamblocks").len(), 2);
    let affinities = cluster.files("blockaffinities");
    assert!(
        affinities.len() == 2 && affinities.iter().all(|name| !name.starts_with("node2")),
        "{affinities:?}"
    );
    assert_eq!(
        cluster.files("ipamhandles"),
        [
            "net.c1-0.yaml",
            "net.c1-1.yaml",
            "net.c3-0.yaml",
            "net.c3-1.yaml"
        ]
    );
    let remains = std::fs::read_to_string(cluster.path().join("status-node2.yaml"));
    assert!(remains.is_err() || !remains.unwrap().contains("NodeStatus"));
    assert!(text(&cluster.once(&[]).stdout).contains("nothing to do"));
}

#[tokio::test]
async fn a_directory_that_lost_its_nodes_frees_nothing() {
    let cluster = Cluster::new(1).await;
    for node in ["node1", "node2"] {
        cluster.delete_node(node);
    }
    let output = cluster.once(&[]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{shown}");
    assert!(
        shown.contains("2 of 3 nodes with addresses are gone at once"),
        "{shown}"
    );
    cluster.delete_node("node3");
    assert!(text(&cluster.once(&[]).stdout).contains("there is no Node object at all"));
    for node in ["node1", "node2", "node3"] {
        assert_eq!(cluster.addresses(node).await.len(), 1);
    }
    let output = Command::new(PROGRAM)
        .args(["--once", "--datastore=file:/nowhere"])
        .output()
        .unwrap();
    assert_eq!(
        text(&output.stderr),
        "tortie-controller: --datastore: /nowhere is not a directory\n"
    );
}

#[tokio::test]
async fn one_controller_works_and_the_next_takes_over_when_it_is_killed() {
    let cluster = Cluster::new(3).await;
    let mut first = Service::start(&cluster, &[]);
    let leads = |service: &Service| {
        service.get("/metrics").is_some_and(|page| {
            page.lines()
                .any(|line| line == "tortie_controller_leader 1")
        })
    };
    wait_until("the first leads", async || leads(&first)).await;
    let second = Service::start(&cluster, &[]);
    wait_until("the second answers", async || {
        second
            .get("/readyz")
            .is_some_and(|page| page.contains("200 OK"))
    })
    .await;
    assert!(!leads(&second));
    let output = cluster.once(&[]);
    assert!(text(&output.stderr).contains("another controller leads"));

    cluster.delete_node("node3");
    wait_until("node3 has no address", async || {
        cluster.addresses("node3").await.is_empty()
    })
    .await;
    wait_until("it is counted", async || {
        let page = first.get("/metrics").unwrap_or_default();
        page.contains("tortie_ipam_gc_collected_total{kind=\"address\"} 3")
            && page.contains("tortie_ipam_allocated_addresses 6")
    })
    .await;

    first.kill();
    wait_until("the second leads", async || leads(&second)).await;
    assert_eq!(cluster.addresses("node1").await.len(), 3);
    cluster.delete_node("node2");
    wait_until("node2 has no address", async || {
        cluster.addresses("node2").await.is_empty()
    })
    .await;
    wait_until("the look is shown", async || {
        second
            .get("/sweep")
            .is_some_and(|page| page.contains("\"allocated\":3"))
    })
    .await;
    assert_eq!(cluster.addresses("node1").await.len(), 3);
}

/// Killed again and again in the middle of its work, it ends where one that was never killed ends.
#[tokio::test]
async fn a_controller_that_is_killed_in_the_middle_converges() {
    let cluster = Cluster::new(60).await;
    let alive = (
        cluster.addresses("node1").await,
        cluster.addresses("node3").await,
    );
    cluster.delete_node("node2");
    let of_node2 = || {
        let handles = cluster.files("ipamhandles");
        handles
            .iter()
            .filter(|name| name.starts_with("net.c2-"))
            .count()
    };
    let mut kills = 0;
    for delay_ms in 0..10 {
        let start = of_node2();
        let mut service = Service::start(&cluster, &[]);
        wait_until("something is freed", async || {
            start == 0 || of_node2() < start
        })
        .await;
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        service.kill();
        kills += usize::from(of_node2() > 0);
        assert_eq!(
            (
                cluster.addresses("node1").await,
                cluster.addresses("node3").await
            ),
            alive
        );
    }
    assert!(kills > 0, "no kill came in the middle");
    let _service = Service::start(&cluster, &[]);
    let expected_handles = alive.0.len() + alive.1.len();
    wait_until("everything of node2 is gone", async || {
        let claims = cluster.files("blockaffinities");
        cluster.addresses("node2").await.is_empty()
            && !claims.iter().any(|name| name.starts_with("node2"))
            && cluster.files("ipamhandles").len() == expected_handles
            && cluster.files("ipamblocks").len() == claims.len()
    })
    .await;
    assert_eq!(
        (
            cluster.addresses("node1").await,
            cluster.addresses("node3").await
        ),
        alive
    );
}
