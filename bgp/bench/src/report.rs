//! Tables as Markdown, which read well in a terminal too, and the page that holds them.

use std::fmt::Write;

use crate::daemon::Kind;
use crate::figures::Figures;
use crate::growth::Growth;

/// All that a run of the bench found.
#[derive(Debug, Default)]
pub struct Report {
    /// The speakers, in the order of the columns.
    pub kinds: Vec<Kind>,
    /// Scenario by scenario.
    pub figures: Vec<Figures>,
    /// Curves, when they were asked for.
    pub growth: Option<Growth>,
    /// Errors of the run that are not in the figures.
    pub failures: Vec<String>,
    /// Limit of a step in seconds.
    pub limit: u64,
    /// Runs of which the median is shown.
    pub rounds: usize,
    /// How the run was started.
    pub command: String,
}

impl Report {
    /// Seconds of wall time and ratios, step by step.
    pub fn wall(&self) -> String {
        self.steps(|figures, kind, step| {
            if !figures.scenario.is_timed() {
                return None;
            }
            let figure = figures.figure(kind, step)?;
            Some(figure.wall.unwrap_or(f64::INFINITY))
        })
    }

    /// Seconds of processor time and ratios, step by step.
    pub fn cpu(&self) -> String {
        self.steps(|figures, kind, step| Some(figures.figure(kind, step)?.cpu))
    }

    /// Megabytes and ratios, scenario by scenario.
    pub fn memory(&self) -> String {
        let mut rows = vec![self.head("scenario")];
        for figures in &self.figures {
            let values = self.kinds.iter().map(|kind| figures.memory(*kind));
            rows.push(self.row(
                figures.scenario.title().to_owned(),
                &values.collect::<Vec<_>>(),
                1,
            ));
        }
        table(&rows)
    }

    fn steps(&self, value: impl Fn(&Figures, Kind, &str) -> Option<f64>) -> String {
        let mut rows = vec![self.head("scenario and step")];
        for figures in &self.figures {
            for step in figures.steps() {
                let values = self.kinds.iter().map(|kind| value(figures, *kind, step));
                let values: Vec<_> = values.collect();
                if values.iter().all(Option::is_none) {
                    continue;
                }
                let name = format!("{}: {step}", figures.scenario.title());
                rows.push(self.row(name, &values, 3));
            }
        }
        table(&rows)
    }

    /// Speakers beside which ours is put.
    fn others(&self) -> impl Iterator<Item = Kind> + '_ {
        let ours = self.kinds.contains(&Kind::Tortie);
        let others = self.kinds.iter().copied();
        others.filter(move |kind| ours && !matches!(kind, Kind::Relay | Kind::Tortie))
    }

    fn head(&self, first: &str) -> Vec<String> {
        let mut head = vec![first.to_owned()];
        head.extend(self.kinds.iter().map(|kind| kind.name().to_owned()));
        head.extend(
            self.others()
                .map(|other| format!("tortie / {}", other.name())),
        );
        head
    }

    fn row(&self, name: String, values: &[Option<f64>], decimals: usize) -> Vec<String> {
        let of = |kind: Kind| {
            let place = self.kinds.iter().position(|one| *one == kind)?;
            values.get(place).copied().flatten()
        };
        let speakers = self.kinds.iter().filter(|kind| **kind != Kind::Relay);
        let best = speakers
            .filter_map(|kind| of(*kind))
            .fold(f64::INFINITY, f64::min);
        let mut row = vec![name];
        for kind in &self.kinds {
            row.push(match of(*kind) {
                None => "–".to_owned(),
                Some(value) if value.is_infinite() => format!("> {}", self.limit),
                Some(value) if *kind != Kind::Relay && value <= best => {
                    format!("**{value:.decimals$}**")
                }
                Some(value) => format!("{value:.decimals$}"),
            });
        }
        for other in self.others() {
            row.push(match of(Kind::Tortie).zip(of(other)) {
                Some((ours, theirs)) if theirs.is_infinite() && ours.is_finite() => {
                    format!(
                        "< {:.2}",
                        ours / f64::from(u32::try_from(self.limit).unwrap_or(u32::MAX))
                    )
                }
                Some((ours, theirs)) if ours.is_finite() && theirs > 0.0 => {
                    format!("{:.2}", ours / theirs)
                }
                _ => "–".to_owned(),
            });
        }
        row
    }

    /// What was not as it must be.
    pub fn errors(&self) -> Vec<String> {
        let problems = self.figures.iter().flat_map(Figures::problems);
        self.failures.iter().cloned().chain(problems).collect()
    }

    /// Steps that others than ours did not end in time.
    pub fn stuck(&self) -> Vec<String> {
        self.figures.iter().flat_map(Figures::stuck).collect()
    }

    /// The page `docs/performance.md`.
    pub fn page(&self, machine: &str, today: &str, versions: &[String]) -> String {
        let mut page = format!(
            "# Performance\n\nWritten by `{}` on {today}; do not edit it, run that.\n\n\
             - Machine: {machine}.\n",
            self.command
        );
        for version in versions {
            // Writing to a string cannot fail.
            let _ = writeln!(page, "- {version}.");
        }
        let _ = write!(page, "{METHOD}\n{}.\n", median_of(self.rounds));
        let _ = write!(page, "\n## Wall time (s)\n\n{}", self.wall());
        let _ = write!(
            page,
            "\n## Processor time of the daemon (s)\n\n{}",
            self.cpu()
        );
        let _ = write!(
            page,
            "\n## Greatest resident memory (MB)\n\n{}",
            self.memory()
        );
        if let Some(growth) = &self.growth {
            let _ = write!(page, "\n## Growth\n\n{GROWTH}\n");
            for (file, _) in growth.plots() {
                let _ = writeln!(page, "![]({file})");
            }
            let _ = write!(page, "\n{}", table(&growth.table()));
        }
        for (title, lines) in [("Did not end", self.stuck()), ("Errors", self.errors())] {
            // The rest of an entry is the end of a log, which the terminal shows.
            let firsts = lines.iter().filter_map(|line| line.lines().next());
            let lines: Vec<_> = firsts.collect();
            if !lines.is_empty() {
                let _ = write!(page, "\n## {title}\n\n- {}\n", lines.join("\n- "));
            }
        }
        page
    }
}

fn median_of(rounds: usize) -> &'static str {
    if rounds > 1 {
        "The figures are medians of three runs; GoBGP runs once"
    } else {
        "The figures are of single runs"
    }
}

const METHOD: &str = "
Every client is a BGP session of its own, from an address of its own; clients and speaker are in two network namespaces with a veth pair between them.
What each receiver is told is judged prefix by prefix, next hop included; a prefix that is missing, extra or by the wrong way is an error of the run.
Wall time is from the first octet of an UPDATE until the last receiver holds what it shall, and of kernel routes until the kernel counts them.
Processor time is that of all threads of the daemon until it is quiet again.
The null relay hands octets on without looking at them: with one receiver that is what tester, kernel and machine can do; with many it queues everything once for each, which a speaker that shares messages does not.
Nobody holds UPDATEs back: FRR runs with advertisement interval 0 and coalesce time 1 ms, without zebra except for kernel routes, where zebra is counted in.
BIRD takes next hops on the link as they are (`direct`, `gateway direct`); its listen backlog of 8 is what the sessions that are dialled at once wait for.
In all other scenarios at most four sessions are dialled at a time.
FRR sends a client of a reflector its own routes too, which is counted against nobody.
Kernel routes of ours are by the agent, `tortie-felix`.
";

const GROWTH: &str = "A line that is far above the others leaves its plot at the top; the table below has all figures.";

/// A table of Markdown with columns of equal width; the first row is the head.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            text.push_str(&if column == 0 {
                format!("| {cell}{pad} ")
            } else {
                format!("| {pad}{cell} ")
            });
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let end = if column == 0 { "-" } else { ":" };
                text.push_str(&format!("|{}{end}", "-".repeat(width + 1)));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests;
