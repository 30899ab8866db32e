//! How memory and time grow with prefixes and with peers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::daemon::Kind;
use crate::figures::{median, megabytes};
use crate::scenario;
use crate::svg::{Chart, Series};

const PREFIXES: [u32; 4] = [125_000, 250_000, 500_000, 1_000_000];
const PEERS: [u32; 4] = [125, 250, 500, 1000];

/// One curve after the other, by daemon: size, seconds, megabytes.
#[derive(Debug, Default)]
pub struct Growth {
    prefixes: BTreeMap<Kind, Vec<[f64; 3]>>,
    peers: BTreeMap<Kind, Vec<[f64; 3]>>,
}

/// Measures every size `rounds` times.
///
/// # Errors
/// A daemon does not start, ends, or breaks the protocol.
pub fn measure(kinds: &[Kind], rounds: usize, limit: Duration) -> Result<Growth> {
    let mut growth = Growth::default();
    for kind in kinds {
        for size in PREFIXES {
            let once = || scenario::full_table(*kind, size as usize, limit);
            growth.add(Axis::Prefixes, *kind, size, rounds, once)?;
        }
        for size in PEERS {
            let once = || scenario::reflector(*kind, size as usize, limit);
            growth.add(Axis::Peers, *kind, size, rounds, once)?;
        }
    }
    Ok(growth)
}

#[derive(Debug, Clone, Copy)]
enum Axis {
    Prefixes,
    Peers,
}

impl Growth {
    fn add(
        &mut self,
        axis: Axis,
        kind: Kind,
        size: u32,
        rounds: usize,
        once: impl Fn() -> Result<crate::run::Measured>,
    ) -> Result<()> {
        let (mut walls, mut memories) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let measured = once()?;
            let wall = measured.phases.first().and_then(|phase| phase.wall);
            walls.extend(wall.as_ref().map(Duration::as_secs_f64));
            memories.push(megabytes(measured.memory));
        }
        let curves = match axis {
            Axis::Prefixes => &mut self.prefixes,
            Axis::Peers => &mut self.peers,
        };
        if let (Some(wall), Some(memory)) = (median(walls), median(memories)) {
            let point = [f64::from(size), wall, memory];
            curves.entry(kind).or_default().push(point);
        }
        Ok(())
    }

    /// File name and content of every plot.
    pub fn plots(&self) -> Vec<(&'static str, String)> {
        let plot = |curves: &BTreeMap<Kind, Vec<[f64; 3]>>, title, x, y, value: usize| {
            let series = curves.iter().map(|(kind, points)| Series {
                name: kind.name(),
                points: points
                    .iter()
                    .map(|point| (point[0], point[value]))
                    .collect(),
            });
            let chart = Chart {
                title,
                x,
                y,
                series: series.collect(),
            };
            chart.draw()
        };
        let (prefixes, peers) = (&self.prefixes, &self.peers);
        let x = "prefixes, 1 sender to 1 receiver";
        let clients = "clients, 4 blocks each; announcements grow with the square";
        vec![
            (
                "performance-memory-prefixes.svg",
                plot(prefixes, "Peak memory over prefixes", x, "MB", 2),
            ),
            (
                "performance-time-prefixes.svg",
                plot(prefixes, "Time over prefixes", x, "s", 1),
            ),
            (
                "performance-memory-peers.svg",
                plot(peers, "Peak memory over peers", clients, "MB", 2),
            ),
            (
                "performance-time-peers.svg",
                plot(peers, "Time over peers", clients, "s", 1),
            ),
        ]
    }

    /// The figures below the plots, as a table of Markdown.
    pub fn table(&self) -> Vec<Vec<String>> {
        let mut rows = vec![
            ["speaker", "size", "time (s)", "memory (MB)"]
                .map(str::to_owned)
                .to_vec(),
        ];
        for (curves, unit) in [(&self.prefixes, "prefixes"), (&self.peers, "clients")] {
            for (kind, points) in curves {
                rows.extend(points.iter().map(|[size, wall, memory]| {
                    vec![
                        kind.name().to_owned(),
                        format!("{size} {unit}"),
                        format!("{wall:.3}"),
                        format!("{memory:.1}"),
                    ]
                }));
            }
        }
        rows
    }
}
