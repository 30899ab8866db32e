//! iperf3 from pod to pod, ours and by hand in turn.

use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use e2e::fabric::Fabric;
use e2e::hand::{PODS, Pair};
use e2e::lab::Namespace;
use e2e::overlay::{Overlay, POOL, Pool, Setup};
use e2e::wait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Seconds of one run.
const SECONDS: u32 = 2;

/// A way from pod to pod.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// No tunnel; the router knows the pods.
    Direct,
    Vxlan,
    Ipip,
}

/// What every kernel has.
pub(crate) const NATIVE: [Mode; 2] = [Mode::Direct, Mode::Vxlan];
/// Where there is IPIP: with the others beside it, to compare.
pub(crate) const IPIP: [Mode; 3] = [Mode::Direct, Mode::Ipip, Mode::Vxlan];

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Direct => "direct",
            Mode::Vxlan => "VXLAN",
            Mode::Ipip => "IPIP",
        }
    }

    fn pool(self) -> Pool {
        let pool = Pool::new("pool", POOL).nat();
        match self {
            Mode::Direct => pool,
            Mode::Vxlan => pool.vxlan("Always"),
            Mode::Ipip => pool.ipip("Always"),
        }
    }

    fn device(self) -> &'static str {
        match self {
            Mode::Direct => "eth0",
            Mode::Vxlan => "vxlan.calico",
            Mode::Ipip => "tunl0",
        }
    }
}

/// One mode.
#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) mode: String,
    /// TCP, in megabits a second.
    pub(crate) throughput: Beside,
    /// UDP of 64 octets, received a second.
    pub(crate) packets: Beside,
}

/// Medians of ours and of what was made by hand, and of the ratios of neighbouring runs.
#[derive(Serialize, Deserialize)]
pub(crate) struct Beside {
    pub(crate) ours: f64,
    pub(crate) hand: f64,
    pub(crate) ratio: f64,
}

impl Beside {
    fn of(runs: &[(f64, f64)]) -> Self {
        Self {
            ours: median(runs.iter().map(|(ours, _)| *ours)),
            hand: median(runs.iter().map(|(_, hand)| *hand)),
            ratio: median(runs.iter().map(|(ours, hand)| ours / hand)),
        }
    }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Measures these modes, `rounds` runs each.
pub(crate) fn measure(modes: &[Mode], rounds: usize) -> Result<Vec<Row>> {
    let mut overlay = Overlay::prepare("bench", &Setup::new(&[0, 1], Mode::Direct.pool()))?;
    overlay.start()?;
    overlay.plug(0, "from")?;
    overlay.plug(1, "to")?;
    overlay.route_blocks()?;
    let target = overlay.pod("to")?.address(false)?;
    let ours = Ends {
        from: overlay.pod("from")?.namespace.clone(),
        server: Server::start(&overlay.pod("to")?.namespace)?,
        target: target.to_string(),
    };
    let mut rows = Vec::new();
    for mode in modes {
        overlay.pools(&[mode.pool()])?;
        overlay.wait_device(0, target, mode.device())?;
        overlay.wait_device(1, overlay.pod("from")?.address(false)?, mode.device())?;
        overlay.wait_all_reach(false)?;
        let hand = by_hand(&overlay, *mode)?;
        let (mut throughput, mut packets) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            throughput.push(both(round, || ours.throughput(), || hand.throughput())?);
            packets.push(both(round, || ours.packets(), || hand.packets())?);
        }
        rows.push(Row {
            mode: mode.name().to_owned(),
            throughput: Beside::of(&throughput),
            packets: Beside::of(&packets),
        });
        drop(hand.server);
        for name in ["hand1", "hand2", "handpod1", "handpod2"] {
            let namespace = Namespace {
                name: format!("bench-{name}"),
            };
            overlay.lab.remove_namespace(&namespace)?;
        }
    }
    Ok(rows)
}

/// Ours and the other, each first in every second round: what comes first may be favoured.
fn both(
    round: usize,
    ours: impl Fn() -> Result<f64>,
    hand: impl Fn() -> Result<f64>,
) -> Result<(f64, f64)> {
    if round.is_multiple_of(2) {
        Ok((ours()?, hand()?))
    } else {
        let hand = hand()?;
        Ok((ours()?, hand))
    }
}

fn by_hand(overlay: &Overlay, mode: Mode) -> Result<Ends> {
    let fabric: &Fabric = &overlay.fabric;
    let pair = Pair::new(&overlay.lab, fabric)?;
    pair.nat()?;
    match mode {
        Mode::Direct => {
            for end in &pair.ends {
                fabric.route(&end.block, &end.node)?;
            }
        }
        Mode::Vxlan => pair.vxlan()?,
        Mode::Ipip => pair.ipip()?,
    }
    let [from, to] = pair.pods;
    wait::until("the tunnel by hand", e2e::overlay::LIMIT, || {
        from.run(&format!("ping -n -q -c 1 -W 2 {}", PODS[1]))
            .map(Some)
    })?;
    Ok(Ends {
        from,
        server: Server::start(&to)?,
        target: PODS[1].to_owned(),
    })
}

/// Where iperf3 runs.
struct Ends {
    from: Namespace,
    server: Server,
    target: String,
}

impl Ends {
    /// Megabits a second that arrive over one TCP connection.
    fn throughput(&self) -> Result<f64> {
        let answer = self.iperf("")?;
        let bits = answer["end"]["sum_received"]["bits_per_second"].as_f64();
        Ok(bits.context("iperf3 counted nothing")? / 1e6)
    }

    /// Small UDP packets a second that arrive.
    fn packets(&self) -> Result<f64> {
        let answer = self.iperf("-u -b 0 -l 64")?;
        let sum = &answer["end"]["sum"];
        let number = |field: &str| sum[field].as_f64().with_context(|| format!("no {field}"));
        Ok((number("packets")? - number("lost_packets")?) / number("seconds")?)
    }

    fn iperf(&self, how: &str) -> Result<Value> {
        let line = format!("iperf3 -J -t {SECONDS} -c {} {how}", self.target);
        // A server that is busy with the end of the last run says so.
        let (text, _) = wait::until("iperf3 to run", e2e::overlay::LIMIT, || {
            self.from.run(&line).map(Some)
        })?;
        serde_json::from_str(&text).context("iperf3 printed no JSON")
    }
}

/// A waiting iperf3.
struct Server(Child);

impl Server {
    fn start(namespace: &Namespace) -> Result<Self> {
        let child = namespace
            .command("iperf3")
            .arg("-s")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start iperf3")?;
        Ok(Self(child))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
