//! One daemon in one scenario: start, sessions, phases, what was measured.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::daemon::{Daemon, Kind, Plan};
use crate::link::Link;
use crate::process;
use crate::table::Goal;
use crate::tester::{Role, Tester};
use crate::universe::Universe;

/// Dials in flight where the time of the sessions is not what is measured: BIRD accepts from a
/// queue of eight.
pub const GENTLE: usize = 4;
/// How long the sessions may take before the first phase.
const SESSIONS: Duration = Duration::from_secs(60);
/// How long a daemon may keep working after a phase.
const SETTLE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// One measured step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// Name in tables.
    pub name: &'static str,
    /// Wall time; `None` when it did not come to an end.
    pub wall: Option<Duration>,
    /// Processor time of the daemon, until it was quiet again.
    pub cpu: Duration,
    /// Processor time of the tester meanwhile.
    pub tester: Duration,
}

/// What a run showed.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// The steps, in order.
    pub phases: Vec<Phase>,
    /// Greatest resident memory, in octets.
    pub memory: u64,
    /// What was not as it must be.
    pub problems: Vec<String>,
    /// Steps that did not end, which only ours must not have.
    pub stuck: Vec<String>,
}

/// A running daemon with its clients.
#[derive(Debug)]
pub struct Run {
    /// Who.
    pub kind: Kind,
    /// The clients.
    pub tester: Tester,
    /// The speaker.
    pub daemon: Daemon,
    /// Numbers of the clients that are looked at.
    pub receivers: Vec<usize>,
    /// What was measured so far.
    pub measured: Measured,
    /// How long a phase may take.
    pub limit: Duration,
    /// Where it runs; dropped last.
    _link: Link,
}

impl Run {
    /// Starts a daemon; no session yet.
    ///
    /// # Errors
    /// The namespaces cannot be made or the daemon does not start.
    pub fn start(
        kind: Kind,
        universe: &Rc<Universe>,
        plan: Plan<'_>,
        limit: Duration,
    ) -> Result<Self> {
        let link = Link::new(plan.neighbours.len())?;
        let daemon = Daemon::start(kind, &link, plan)?;
        let neighbours = plan.neighbours.iter();
        let roles: Vec<_> = neighbours
            .clone()
            .map(|one| Role {
                asn: one.asn,
                receives: one.receives,
            })
            .collect();
        let receivers = neighbours.enumerate().filter(|(_, one)| one.receives);
        Ok(Self {
            kind,
            tester: Tester::new(universe, &roles)?,
            daemon,
            receivers: receivers.map(|(index, _)| index).collect(),
            measured: Measured::default(),
            limit,
            _link: link,
        })
    }

    /// Establishes all sessions, outside of any measurement.
    ///
    /// # Errors
    /// They do not come up.
    pub fn establish(&mut self) -> Result<()> {
        let all: Vec<_> = (0..self.tester.sessions.len()).collect();
        self.tester
            .establish(&all, GENTLE, SESSIONS)
            .with_context(|| format!("log:\n{}", self.daemon.log()))?;
        self.daemon.settle(&mut self.tester, SETTLE)
    }

    /// Sends and measures until `receivers` hold what `goal` says. False when the time was over.
    ///
    /// # Errors
    /// The daemon or a session is gone, or a receiver was told something wrong.
    pub fn phase(
        &mut self,
        name: &'static str,
        receivers: &[usize],
        goal: &Goal,
        sends: &[(usize, Rc<[u8]>)],
    ) -> Result<bool> {
        self.tester.expect(receivers, goal);
        let clocks = self.clocks()?;
        let wall = self.tester.run(sends, self.limit)?;
        self.finish(name, wall, clocks)
    }

    /// As [`Run::phase`], for clients that go without a word.
    ///
    /// # Errors
    /// As [`Run::phase`].
    pub fn phase_of_loss(
        &mut self,
        name: &'static str,
        gone: &[usize],
        left: &[usize],
        goal: &Goal,
    ) -> Result<bool> {
        self.tester.expect(left, goal);
        let clocks = self.clocks()?;
        let start = Instant::now();
        self.tester.hang_up(gone);
        let wall = self.tester.run(&[], self.limit)?;
        self.finish(name, wall.map(|_| start.elapsed()), clocks)
    }

    /// As [`Run::phase`], where `reached` says when it is done. It is asked every 50 to 100 ms.
    ///
    /// # Errors
    /// As [`Run::phase`], and what `reached` answers.
    pub fn phase_until(
        &mut self,
        name: &'static str,
        sends: &[(usize, Rc<[u8]>)],
        mut reached: impl FnMut(&Daemon) -> Result<bool>,
    ) -> Result<bool> {
        self.tester.expect(&[], &Goal::Announcements(0));
        let clocks = self.clocks()?;
        let start = Instant::now();
        self.tester.run(sends, self.limit)?;
        let (mut wall, mut pause) = (None, POLL);
        while wall.is_none() && start.elapsed() < self.limit {
            self.tester.stay(pause)?;
            let asked = start.elapsed();
            wall = reached(&self.daemon)?.then_some(asked);
            // Asking must not become work that counts.
            pause = POLL.max((start.elapsed() - asked) * 5);
        }
        self.finish(name, wall, clocks)
    }

    /// Processor time of the daemon and of the tester so far.
    ///
    /// # Errors
    /// The daemon is gone.
    pub fn clocks(&self) -> Result<[Duration; 2]> {
        Ok([self.daemon.cpu()?, process::cpu(&[std::process::id()])?])
    }

    /// Notes a step that began at `clocks`.
    ///
    /// # Errors
    /// The daemon is gone.
    pub fn note(
        &mut self,
        name: &'static str,
        wall: Option<Duration>,
        clocks: [Duration; 2],
    ) -> Result<()> {
        let now = self.clocks()?;
        self.measured.phases.push(Phase {
            name,
            wall,
            cpu: now[0] - clocks[0],
            tester: now[1] - clocks[1],
        });
        self.measured.memory = process::peak_memory(&self.daemon.pids())?;
        Ok(())
    }

    fn finish(
        &mut self,
        name: &'static str,
        wall: Option<Duration>,
        clocks: [Duration; 2],
    ) -> Result<bool> {
        if wall.is_some() {
            self.daemon.settle(&mut self.tester, SETTLE)?;
        }
        self.note(name, wall, clocks)?;
        let missing = self.tester.missing();
        if wall.is_none() {
            let (missing, log) = (missing.unwrap_or_default(), self.daemon.log());
            let text = format!("{name}, after {:?}: {missing}\n{log}", self.limit);
            self.gave_up(text.trim_end().to_owned());
        } else if let Some(missing) = missing {
            let problem = format!("{name}, when it had gone quiet: {missing}");
            self.measured.problems.push(problem);
        }
        self.look_for_echoes(name);
        Ok(wall.is_some())
    }

    /// Notes a step that did not end. That is a figure of the others and an error of ours.
    pub fn gave_up(&mut self, text: String) {
        match self.kind {
            Kind::Tortie | Kind::Relay => self.measured.problems.push(text),
            Kind::Bird | Kind::Frr | Kind::Gobgp => self.measured.stuck.push(text),
        }
    }

    fn look_for_echoes(&mut self, name: &str) {
        if self.kind.echoes() {
            return;
        }
        let problem = self.tester.sessions.iter().find_map(|session| {
            let error = session.table.as_ref()?.no_echoes().err()?;
            Some(format!("{name}: client {}: {error}", session.index))
        });
        self.measured.problems.extend(problem);
    }
}
