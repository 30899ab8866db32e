//! The tunnels in user space beside the one that one would write first, in the same run.
//!
//! ```text
//! cargo build --release -p ipip --examples && target/release/examples/bench_tunnels [ROUNDS]
//! ```
//!
//! Two nodes on a wire and a pod behind each, all in network namespaces of this machine. In turn
//! each tunnel carries one TCP stream of iperf3 and as many UDP packets of 64 octets as it takes,
//! from pod to pod. Printed are medians of the rounds, and what a tunnel's two processes spent.
//! Needs root, iproute2, iperf3 and the examples `user_tunnel` and `naive_tunnel` beside it.

#![allow(clippy::print_stdout, reason = "this program exists to print figures")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Seconds of one run of iperf3.
const SECONDS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(20);

/// A way from pod to pod.
struct Way {
    name: &'static str,
    /// Name of the device; nothing for routes without a tunnel.
    device: Option<&'static str>,
    mtu: u32,
    /// The example that serves it; nothing for the kernel's own.
    program: Option<&'static str>,
    /// Arguments of the example after DEVICE, for a node (1 or 2) and the other.
    arguments: fn(u8, u8) -> String,
}

fn ways() -> Vec<Way> {
    let vxlan = |node, other| {
        format!(
            "vxlan:4096:4789:66:00:00:00:00:0{node} 192.0.2.{node} 66:00:00:00:00:0{other}=192.0.2.{other}"
        )
    };
    let way = |name, device, mtu, program, arguments| Way {
        name,
        device,
        mtu,
        program,
        arguments,
    };
    let none = |_, _| String::new();
    vec![
        way("direct", None, 1500, None, none),
        way(
            "VXLAN of the kernel",
            Some("vxlan.calico"),
            1450,
            None,
            none,
        ),
        way(
            "VXLAN in user space",
            Some("vxlan.calico"),
            1450,
            Some("user_tunnel"),
            vxlan,
        ),
        way(
            "naive in UDP",
            Some("naive0"),
            1472,
            Some("naive_tunnel"),
            |node, other| format!("192.0.2.{node} 192.0.2.{other} 8285"),
        ),
        way(
            "IPIP in user space",
            Some("usertun0"),
            1480,
            Some("user_tunnel"),
            |node, other| format!("ipip 192.0.2.{node} 192.0.2.{other}"),
        ),
        way(
            "naive with protocol 4",
            Some("naive0"),
            1480,
            Some("naive_tunnel"),
            |node, other| format!("192.0.2.{node} 192.0.2.{other} ipip"),
        ),
    ]
}

/// What one run gave.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    megabits: f64,
    /// Processor seconds of both ends of the tunnel for a gigabyte.
    cost: f64,
    packets: f64,
}

fn main() -> Result<()> {
    let rounds = match std::env::args().nth(1) {
        Some(text) => text.parse().context("ROUNDS is a number")?,
        None => 5,
    };
    let ways = ways();
    let mut runs: Vec<Vec<Figures>> = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for (way, runs) in ways.iter().zip(&mut runs) {
            runs.push(measure(way).with_context(|| way.name)?);
        }
    }
    println!("| way | Mbit/s | processor seconds a gigabyte | small packets a second |");
    println!("|---|---|---|---|");
    for (way, runs) in ways.iter().zip(&runs) {
        let median = |of: fn(&Figures) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let (megabits, packets) = (median(|run| run.megabits), median(|run| run.packets));
        let cost = match way.program {
            Some(_) => format!("{:.2}", median(|run| run.cost)),
            None => "in the kernel".to_owned(),
        };
        println!("| {} | {megabits:.0} | {cost} | {packets:.0} |", way.name);
    }
    Ok(())
}

fn measure(way: &Way) -> Result<Figures> {
    let lab = Lab::new()?;
    let tunnels = lab.carry(way)?;
    let _server = lab.spawn("pod2", "iperf3 -s")?;
    let stream = lab.iperf("")?;
    let bits = stream["end"]["sum_received"]["bits_per_second"].as_f64();
    let bytes = stream["end"]["sum_received"]["bytes"].as_f64();
    let (bits, bytes) = bits.zip(bytes).context("iperf3 counted nothing")?;
    let spent: f64 = tunnels
        .iter()
        .map(|child| processor_seconds(child.0.id()))
        .sum();
    let packets = lab.iperf("-u -b 0 -l 64")?;
    let sum = &packets["end"]["sum"];
    let number = |field: &str| sum[field].as_f64().with_context(|| format!("no {field}"));
    Ok(Figures {
        megabits: bits / 1e6,
        cost: spent / (bytes / 1e9),
        packets: (number("packets")? - number("lost_packets")?) / number("seconds")?,
    })
}

/// User and system time of a process; 0 when it is gone.
fn processor_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    // The kernel counts in hundredths for programs (USER_HZ).
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// Namespaces, gone when dropped.
struct Lab(String);

impl Lab {
    fn new() -> Result<Lab> {
        let lab = Lab(format!("bt{}", std::process::id()));
        for place in ["node1", "node2", "pod1", "pod2"] {
            run("ip", &format!("netns add {}-{place}", lab.0))?;
        }
        lab.ip(
            "node1",
            &format!(
                "link add eth0 type veth peer name eth0 netns {}-node2",
                lab.0
            ),
        )?;
        for node in [1, 2] {
            let (place, pod) = (format!("node{node}"), format!("pod{node}"));
            lab.ip(&place, &format!("addr add 192.0.2.{node}/24 dev eth0"))?;
            lab.ip(&place, "link set eth0 up")?;
            lab.ip(
                &place,
                &format!(
                    "link add cali0 type veth peer name eth0 netns {}-{pod}",
                    lab.0
                ),
            )?;
            lab.ip(&place, "link set cali0 up")?;
            lab.ip(&place, &format!("addr add 10.{node}.0.17/28 dev cali0"))?;
            lab.ip(&pod, &format!("addr add 10.{node}.0.18/28 dev eth0"))?;
            lab.ip(&pod, "link set eth0 up")?;
            lab.ip(&pod, &format!("route add default via 10.{node}.0.17"))?;
            lab.exec(&place, "sysctl -qw net.ipv4.ip_forward=1")?;
        }
        Ok(lab)
    }

    /// Makes a way and waits until the pods reach each other.
    fn carry(&self, way: &Way) -> Result<Vec<Running>> {
        let mut programs = Vec::new();
        for (node, other) in [(1, 2), (2, 1)] {
            let place = format!("node{node}");
            let Some(device) = way.device else {
                self.ip(
                    &place,
                    &format!("route add 10.{other}.0.0/24 via 192.0.2.{other}"),
                )?;
                continue;
            };
            match way.program {
                Some(program) => {
                    let program = beside(program)?;
                    let arguments = (way.arguments)(node, other);
                    let line = format!("{} {device} {arguments}", program.display());
                    programs.push(self.spawn(&place, &line)?);
                    eventually("the device", || {
                        self.ip(&place, &format!("link show {device}"))
                    })?;
                }
                None => {
                    self.ip(&place, &format!("link add {device} address 66:00:00:00:00:0{node} type vxlan id 4096 dstport 4789 local 192.0.2.{node} dev eth0 nolearning"))?;
                    self.exec(&place, &format!("bridge fdb add 66:00:00:00:00:0{other} dst 192.0.2.{other} dev {device} self permanent"))?;
                }
            }
            self.ip(&place, &format!("link set {device} mtu {} up", way.mtu))?;
            self.ip(&place, &format!("addr add 10.{node}.0.1/32 dev {device}"))?;
            let via = match device {
                "vxlan.calico" => {
                    self.ip(&place, &format!("neigh replace 10.{other}.0.1 lladdr 66:00:00:00:00:0{other} dev {device} nud permanent"))?;
                    format!("via 10.{other}.0.1 dev {device} onlink")
                }
                "naive0" => format!("dev {device}"),
                _ => format!("via 192.0.2.{other} dev {device} onlink"),
            };
            self.ip(&place, &format!("route add 10.{other}.0.0/24 {via}"))?;
        }
        eventually("a ping between the pods", || {
            self.exec("pod1", "ping -n -c 1 -W 1 10.2.0.18")
        })?;
        Ok(programs)
    }

    fn iperf(&self, how: &str) -> Result<Value> {
        // A server that is still busy with the last run says so.
        let line = format!("iperf3 -J -t {SECONDS} -c 10.2.0.18 {how}");
        let text = eventually("iperf3 to run", || {
            let text = self.exec("pod1", &line)?;
            ensure!(!text.contains("\"error\":"), "{text}");
            Ok(text)
        })?;
        serde_json::from_str(&text).context("iperf3 printed no JSON")
    }

    fn ip(&self, place: &str, arguments: &str) -> Result<String> {
        run("ip", &format!("-n {}-{place} {arguments}", self.0))
    }

    fn exec(&self, place: &str, line: &str) -> Result<String> {
        run("ip", &format!("netns exec {}-{place} {line}", self.0))
    }

    fn spawn(&self, place: &str, line: &str) -> Result<Running> {
        let child = Command::new("ip")
            .args(["netns", "exec", &format!("{}-{place}", self.0)])
            .args(line.split_whitespace())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| line.to_owned())?;
        Ok(Running(child))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for place in ["node1", "node2", "pod1", "pod2"] {
            // What never came to be need not go.
            let _ = run("ip", &format!("netns del {}-{place}", self.0));
        }
    }
}

/// A program that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Another example.
fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(
        path.exists(),
        "{} is not built: cargo build --release -p ipip --examples",
        path.display()
    );
    Ok(path)
}

fn eventually(what: &str, mut attempt: impl FnMut() -> Result<String>) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(text) => return Ok(text),
            Err(error) if Instant::now() > deadline => return Err(error.context(what.to_owned())),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn run(program: &str, arguments: &str) -> Result<String> {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {arguments}: {}", said.trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
