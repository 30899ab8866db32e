//! Medians of what repeated runs measured.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::daemon::Kind;
use crate::run::Measured;
use crate::scenario::Scenario;

/// What one daemon needs for one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// Wall time in seconds; `None` when the step did not end in one of the runs.
    pub wall: Option<f64>,
    /// Processor time of the daemon in seconds.
    pub cpu: f64,
    /// Processor time of the tester in seconds.
    pub tester: f64,
}

/// What all daemons showed in one scenario.
#[derive(Debug)]
pub struct Figures {
    /// Which.
    pub scenario: Scenario,
    runs: BTreeMap<Kind, Vec<Measured>>,
}

impl Figures {
    /// Of a scenario that has not run yet.
    pub fn new(scenario: Scenario) -> Self {
        Self {
            scenario,
            runs: BTreeMap::new(),
        }
    }

    /// Adds a run.
    pub fn add(&mut self, kind: Kind, measured: Measured) {
        self.runs.entry(kind).or_default().push(measured);
    }

    /// Names of the steps, in order.
    pub fn steps(&self) -> Vec<&'static str> {
        let mut steps = Vec::new();
        for phase in self.runs.values().flatten().flat_map(|run| &run.phases) {
            if !steps.contains(&phase.name) {
                steps.push(phase.name);
            }
        }
        steps
    }

    /// Medians of a step; `None` when the daemon did not get that far.
    pub fn figure(&self, kind: Kind, step: &str) -> Option<Figure> {
        let runs = self.runs.get(&kind)?.iter();
        let phases: Vec<_> = runs
            .filter_map(|run| run.phases.iter().find(|phase| phase.name == step))
            .collect();
        let walls: Option<Vec<f64>> = phases
            .iter()
            .map(|phase| phase.wall.as_ref().map(Duration::as_secs_f64))
            .collect();
        let seconds = |time: fn(&crate::run::Phase) -> Duration| {
            median(
                phases
                    .iter()
                    .map(|phase| time(phase).as_secs_f64())
                    .collect(),
            )
        };
        Some(Figure {
            wall: walls.and_then(median),
            cpu: seconds(|phase| phase.cpu)?,
            tester: seconds(|phase| phase.tester)?,
        })
    }

    /// Median of the greatest resident memory, in megabytes (10⁶ octets).
    pub fn memory(&self, kind: Kind) -> Option<f64> {
        let runs = self.runs.get(&kind)?.iter();
        median(runs.map(|run| megabytes(run.memory)).collect())
    }

    /// What was not as it must be, each with the name of the daemon and the scenario.
    pub fn problems(&self) -> Vec<String> {
        self.say(|run| &run.problems)
    }

    /// Steps that did not end.
    pub fn stuck(&self) -> Vec<String> {
        self.say(|run| &run.stuck)
    }

    fn say(&self, of: fn(&Measured) -> &Vec<String>) -> Vec<String> {
        let mut lines = Vec::new();
        for (kind, runs) in &self.runs {
            for line in runs.iter().flat_map(of) {
                let line = format!("{}, {}: {line}", kind.name(), self.scenario.title());
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        lines
    }
}

/// Octets in units of 10⁶.
#[allow(
    clippy::cast_precision_loss,
    reason = "memory of a process, shown in megabytes"
)]
pub fn megabytes(octets: u64) -> f64 {
    octets as f64 / 1e6
}

/// The middle one; of two in the middle the lower.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests;
