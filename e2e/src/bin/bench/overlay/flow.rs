//! iperf3 from pod to pod: ours, by hand, by hand with a filter, and by hand once more, in turn.

use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use e2e::hand::{self, Pair};
use e2e::lab::Namespace;
use e2e::overlay::{Overlay, POOL, Pool, Setup};
use e2e::wait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Seconds of one run.
const SECONDS: u32 = 1;

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

    /// What nftables calls the packets of the tunnel.
    fn packets(self) -> Option<&'static str> {
        match self {
            Mode::Direct => None,
            Mode::Vxlan => Some(hand::VXLAN_PACKETS),
            Mode::Ipip => Some(hand::IPIP_PACKETS),
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

/// What one round brought.
struct Round {
    ours: f64,
    /// By hand, and nothing but the tunnel and NAT.
    bare: f64,
    /// By hand, with rules that protect as ours do.
    guarded: f64,
    /// As `bare`, on hosts of its own.
    again: f64,
}

/// Medians of the rounds, and ratios within them.
#[derive(Serialize, Deserialize)]
pub(crate) struct Beside {
    pub(crate) ours: f64,
    pub(crate) bare: f64,
    pub(crate) guarded: f64,
    /// Ours to by hand.
    pub(crate) to_bare: Ratio,
    /// Ours to by hand with rules that protect.
    pub(crate) to_guarded: Ratio,
    /// By hand to by hand: what the machine does by itself.
    pub(crate) noise: Ratio,
}

/// A quarter of the ratios is below `low`, half below `median`, three quarters below `high`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ratio {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Ratio {
    fn of(ratios: impl Iterator<Item = f64>) -> Self {
        let mut ratios: Vec<_> = ratios.collect();
        ratios.sort_by(f64::total_cmp);
        let [low, median, high] = [0.25, 0.5, 0.75].map(|share| crate::percentile(&ratios, share));
        Self { low, median, high }
    }
}

impl Beside {
    fn of(rounds: &[Round]) -> Self {
        let rounds = || rounds.iter();
        Self {
            ours: median(rounds().map(|round| round.ours)),
            bare: median(rounds().map(|round| round.bare)),
            guarded: median(rounds().map(|round| round.guarded)),
            to_bare: Ratio::of(rounds().map(|round| round.ours / round.bare)),
            to_guarded: Ratio::of(rounds().map(|round| round.ours / round.guarded)),
            noise: Ratio::of(rounds().map(|round| round.again / round.bare)),
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
        _server: Server::start(&overlay.pod("to")?.namespace)?,
        target: target.to_string(),
    };
    let mut rows = Vec::new();
    for mode in modes {
        overlay.pools(&[mode.pool()])?;
        overlay.wait_device(0, target, mode.device())?;
        overlay.wait_device(1, overlay.pod("from")?.address(false)?, mode.device())?;
        overlay.wait_all_reach(false)?;
        let pairs = ByHand::new(&overlay, *mode)?;
        let all = [&ours, &pairs.bare, &pairs.guarded, &pairs.again];
        let (mut throughput, mut packets) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            throughput.push(in_turn(round, &all, Ends::throughput)?);
            packets.push(in_turn(round, &all, Ends::packets)?);
        }
        rows.push(Row {
            mode: mode.name().to_owned(),
            throughput: Beside::of(&throughput),
            packets: Beside::of(&packets),
        });
        pairs.remove(&overlay)?;
    }
    Ok(rows)
}

/// Each once; another one begins each time, and every other four rounds they go backwards, since
/// who comes first, or after whom, may count.
fn in_turn(
    round: usize,
    [ours, bare, guarded, again]: &[&Ends; 4],
    measure: impl Fn(&Ends) -> Result<f64>,
) -> Result<Round> {
    let ends = [ours, bare, guarded, again];
    let mut figures = [f64::NAN; 4];
    for step in 0..4 {
        let step = if (round / 4).is_multiple_of(2) {
            step
        } else {
            3 - step
        };
        let turn = (round + step) % 4;
        figures[turn] = measure(ends[turn])?;
    }
    let [ours, bare, guarded, again] = figures;
    Ok(Round {
        ours,
        bare,
        guarded,
        again,
    })
}

/// Pairs of hosts made by hand.
struct ByHand {
    bare: Ends,
    guarded: Ends,
    again: Ends,
}

impl ByHand {
    const PAIRS: usize = 3;

    fn new(overlay: &Overlay, mode: Mode) -> Result<Self> {
        let (bare, guarded, again) = (
            Pair::new(&overlay.lab, &overlay.fabric, 0)?,
            Pair::new(&overlay.lab, &overlay.fabric, 1)?,
            Pair::new(&overlay.lab, &overlay.fabric, 2)?,
        );
        guarded.guard(mode.packets())?;
        Ok(Self {
            bare: joined(overlay, mode, bare)?,
            guarded: joined(overlay, mode, guarded)?,
            again: joined(overlay, mode, again)?,
        })
    }

    fn remove(self, overlay: &Overlay) -> Result<()> {
        drop(self);
        for number in 1..=2 * Self::PAIRS {
            for kind in ["hand", "handpod"] {
                let namespace = Namespace {
                    name: format!("bench-{kind}{number}"),
                };
                overlay.lab.remove_namespace(&namespace)?;
            }
        }
        Ok(())
    }
}

/// Makes the way between the pods of a pair.
fn joined(overlay: &Overlay, mode: Mode, pair: Pair) -> Result<Ends> {
    pair.nat()?;
    match mode {
        Mode::Direct => {
            for end in &pair.ends {
                overlay.fabric.route(&end.block, &end.node)?;
            }
        }
        Mode::Vxlan => pair.vxlan()?,
        Mode::Ipip => pair.ipip()?,
    }
    let [from, to] = pair.pods;
    let [_, target] = pair.addresses;
    wait::until("the tunnel by hand", e2e::overlay::LIMIT, || {
        from.run(&format!("ping -n -q -c 1 -W 2 {target}"))
            .map(Some)
    })?;
    Ok(Ends {
        from,
        _server: Server::start(&to)?,
        target,
    })
}

/// Where iperf3 runs.
struct Ends {
    from: Namespace,
    /// Lives as long as somebody measures.
    _server: Server,
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
