//! A cluster whose agents see changes late, die, come back, and are cut off from the datastore; controllers are killed
//! between any two writes. Whatever happens, no two agents lose each other by what the controller does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::facts::{Facts, Mark, Mesh, NodeFacts, Peering, Session, Target, Via};
use super::plan::{Action, Memory, Plan, Settings, State, plan};

const CLUSTER_ID: &str = "198.51.100.1";
const SETTLE: Duration = Duration::from_secs(30);
/// Agents see a change, and report, within this time; less than it takes to settle.
const LATE: Duration = Duration::from_secs(6);
const FRESH: Duration = Duration::from_secs(360);

/// What stands in the datastore of topology, and what an agent knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Objects {
    /// All nodes, and whether they are marked.
    nodes: BTreeMap<usize, bool>,
    peerings: BTreeSet<usize>,
    no_mesh: bool,
    target: Option<Target>,
}

impl Objects {
    /// What the session between two nodes comes from, as `own` sees it.
    fn via(&self, own: usize, other: usize) -> Option<Via> {
        let (mine, other_mark) = (self.nodes.get(&own)?, self.nodes.get(&other)?);
        if self.peerings.contains(&own) || self.peerings.contains(&other) {
            return Some(Via::Peering);
        }
        (!self.no_mesh && !mine && !other_mark).then_some(Via::Mesh)
    }

    fn reflects(&self, own: usize) -> bool {
        self.nodes.get(&own) == Some(&true)
    }
}

#[derive(Clone, Debug)]
struct Agent {
    is_alive: bool,
    is_cut_off: bool,
    is_cordoned: bool,
    leaves: bool,
    view: Objects,
    saw_at: Instant,
    reported_at: Instant,
    report: BTreeMap<usize, Session>,
}

struct World {
    now: Instant,
    settings: Settings,
    objects: Objects,
    agents: BTreeMap<usize, Agent>,
    memory: Memory,
    next: usize,
    ends: usize,
}

#[derive(Clone, Debug)]
enum Op {
    Join,
    Kill(usize),
    Revive(usize),
    /// The Node object of one that is dead.
    Delete(usize),
    Drain(usize, bool),
    Cordon(usize, bool),
    CutOff(usize, bool),
    /// All, or one of the three kinds: watches do not wait for each other.
    See(usize, usize),
    Report(usize),
    /// A look of which so many actions are done.
    Look(usize),
    NewController,
    Wait(u64),
}

impl Op {
    fn changes_sessions(&self) -> bool {
        !matches!(
            self,
            Op::Report(_) | Op::Look(_) | Op::NewController | Op::CutOff(..) | Op::Cordon(..)
        )
    }
}

impl World {
    fn new(nodes: usize, limit: usize) -> World {
        let mut world = World {
            now: Instant::now(),
            settings: Settings {
                mesh_limit: limit,
                count: 3,
                cluster_id: CLUSTER_ID.to_owned(),
                settle: SETTLE,
            },
            objects: Objects::default(),
            agents: BTreeMap::new(),
            memory: Memory::default(),
            next: 0,
            ends: 0,
        };
        for _ in 0..nodes {
            world.join();
        }
        world.pass(LATE.as_secs() + 1);
        world
    }

    fn join(&mut self) {
        let number = self.next;
        self.next += 1;
        self.objects.nodes.insert(number, false);
        let agent = Agent {
            is_alive: true,
            is_cut_off: false,
            is_cordoned: false,
            leaves: false,
            view: self.objects.clone(),
            saw_at: self.now,
            reported_at: self.now,
            report: BTreeMap::new(),
        };
        self.agents.insert(number, agent);
    }

    fn is_there(&self, one: usize) -> bool {
        let agent = self.agents.get(&one);
        agent.is_some_and(|agent| agent.is_alive && !agent.leaves)
    }

    fn session(&self, one: usize, other: usize) -> bool {
        let wants = |own: usize, other| self.agents[&own].view.via(own, other).is_some();
        one != other
            && self.is_there(one)
            && self.is_there(other)
            && wants(one, other)
            && wants(other, one)
    }

    fn has_path(&self, one: usize, other: usize) -> bool {
        let reflects = |by: usize| self.agents[&by].view.reflects(by);
        let through = |by: usize| {
            self.is_there(by) && reflects(by) && self.session(one, by) && self.session(by, other)
        };
        self.session(one, other) || self.agents.keys().any(|by| through(*by))
    }

    fn paths(&self) -> BTreeSet<(usize, usize)> {
        let all = self.agents.keys();
        let pairs = all.flat_map(|one| self.agents.keys().map(move |other| (*one, *other)));
        pairs
            .filter(|(one, other)| one < other && self.has_path(*one, *other))
            .collect()
    }

    fn see(&mut self, number: usize) {
        let objects = self.objects.clone();
        let now = self.now;
        let reached = self.agents.get_mut(&number);
        if let Some(agent) = reached.filter(|agent| agent.is_alive && !agent.is_cut_off) {
            agent.view = objects;
            agent.saw_at = now;
        }
    }

    fn see_part(&mut self, number: usize, part: usize) {
        let reached = self.agents.get_mut(&number);
        let Some(agent) = reached.filter(|agent| agent.is_alive && !agent.is_cut_off) else {
            return;
        };
        match part {
            0 => self.see(number),
            1 => agent.view.nodes = self.objects.nodes.clone(),
            2 => agent.view.peerings = self.objects.peerings.clone(),
            _ => agent.view.no_mesh = self.objects.no_mesh,
        }
    }

    fn report(&mut self, number: usize) {
        let can = |agent: &&Agent| agent.is_alive && !agent.is_cut_off;
        let Some(agent) = self.agents.get(&number).filter(can) else {
            return;
        };
        let others = agent.view.nodes.keys().filter_map(|other| {
            let via = agent.view.via(number, *other)?;
            let is_up = self.agents.contains_key(other) && self.session(number, *other);
            let told = |from: usize, to: usize| match is_up {
                true => self.told(from, to),
                false => 0,
            };
            let session = Session {
                via,
                is_up,
                received: told(*other, number),
                advertised: told(number, *other),
            };
            Some((*other, session))
        });
        let report = others.collect();
        if let Some(agent) = self.agents.get_mut(&number) {
            agent.report = report;
            agent.reported_at = self.now;
        }
    }

    /// Own block, and those of others for who reflects.
    fn told(&self, from: usize, to: usize) -> u64 {
        let reflected = self.agents.keys().filter(|other| {
            self.agents[&from].view.reflects(from) && **other != to && self.session(from, **other)
        });
        1 + reflected.count() as u64
    }

    /// Time passes; who is not cut off sees and reports.
    fn pass(&mut self, secs: u64) {
        self.now += Duration::from_secs(secs);
        let all: Vec<usize> = self.agents.keys().copied().collect();
        let late = |at: Instant, now: Instant| now.duration_since(at) >= LATE;
        for number in &all {
            if late(self.agents[number].saw_at, self.now) {
                self.see(*number);
            }
        }
        for number in &all {
            if late(self.agents[number].reported_at, self.now) {
                self.report(*number);
            }
        }
    }

    fn facts(&self) -> Facts {
        let name = |number: usize| format!("n{number}");
        let node = |(number, is_marked): (&usize, &bool)| {
            let agent = &self.agents[number];
            let facts = NodeFacts {
                zone: Some(format!("z{}", number % 3)),
                may_reflect: true,
                has_address: true,
                mark: match is_marked {
                    true => Mark::Ours(CLUSTER_ID.to_owned()),
                    false => Mark::None,
                },
                leaves: agent.leaves,
                is_cordoned: agent.is_cordoned,
                is_fresh: self.now.duration_since(agent.reported_at) <= FRESH,
                blocks: 1,
                sessions: agent
                    .report
                    .iter()
                    .map(|(other, session)| (name(*other), *session))
                    .collect(),
            };
            (name(*number), facts)
        };
        let peerings = self.objects.peerings.iter();
        Facts {
            nodes: self.objects.nodes.iter().map(node).collect(),
            peerings: peerings.map(|one| (name(*one), Peering::Right)).collect(),
            mesh: Mesh {
                is_on: !self.objects.no_mesh,
                target: self.objects.target,
                hindered_by: None,
            },
        }
    }

    fn look(&mut self, most: usize) -> Plan {
        let facts = self.facts();
        let plan = plan(&facts, &self.settings, &mut self.memory, self.now);
        for action in plan.actions.iter().take(most) {
            self.act(action);
        }
        plan
    }

    fn act(&mut self, action: &Action) {
        let number = |name: &String| name[1..].parse::<usize>().unwrap();
        let objects = &mut self.objects;
        match action {
            Action::Begin => objects.target = Some(Target::Reflectors),
            Action::CreatePeering(name) => drop(objects.peerings.insert(number(name))),
            Action::DeletePeering(name) => drop(objects.peerings.remove(&number(name))),
            Action::Mark(name) => drop(objects.nodes.insert(number(name), true)),
            Action::Unmark(name) => drop(objects.nodes.insert(number(name), false)),
            Action::EndMesh => {
                self.ends += 1;
                objects.no_mesh = true;
            }
            Action::BeginMesh => {
                objects.no_mesh = false;
                objects.target = Some(Target::Mesh);
            }
            Action::CorrectPeering(_) => panic!("nobody changes BGPPeers here"),
        }
    }

    /// Whether sessions may end by this alone.
    fn run(&mut self, op: &Op) -> bool {
        let all: Vec<usize> = self.agents.keys().copied().collect();
        let pick = |at: usize| all[at % all.len()];
        match op {
            Op::Join if all.len() < 14 => self.join(),
            Op::Join => {}
            Op::Kill(at) => {
                self.agents.get_mut(&pick(*at)).unwrap().is_alive = false;
                return true;
            }
            Op::Revive(at) => {
                let objects = self.objects.clone();
                let now = self.now;
                let agent = self.agents.get_mut(&pick(*at)).unwrap();
                if !agent.is_alive && objects.nodes.contains_key(&pick(*at)) {
                    (agent.is_alive, agent.is_cut_off) = (true, false);
                    (agent.view, agent.saw_at) = (objects, now);
                }
            }
            Op::Delete(at) => {
                let number = pick(*at);
                if !self.agents[&number].is_alive && all.len() > 4 {
                    self.agents.remove(&number);
                    self.objects.nodes.remove(&number);
                }
            }
            Op::Drain(at, leaves) => {
                self.agents.get_mut(&pick(*at)).unwrap().leaves = *leaves;
                return true;
            }
            Op::Cordon(at, is_cordoned) => {
                self.agents.get_mut(&pick(*at)).unwrap().is_cordoned = *is_cordoned;
            }
            Op::CutOff(at, is_cut_off) => {
                self.agents.get_mut(&pick(*at)).unwrap().is_cut_off = *is_cut_off;
            }
            Op::See(at, part) => self.see_part(pick(*at), *part),
            Op::Report(at) => self.report(pick(*at)),
            Op::Look(most) => drop(self.look(*most)),
            Op::NewController => self.memory = Memory::default(),
            Op::Wait(secs) => self.pass(*secs),
        }
        false
    }

    /// What was reached before and is still there is reached; what is reached now.
    fn check(
        &self,
        before: BTreeSet<(usize, usize)>,
        op: &Op,
        may_end: bool,
    ) -> Result<BTreeSet<(usize, usize)>, TestCaseError> {
        let paths = self.paths();
        for (one, other) in before.difference(&paths).filter(|_| !may_end) {
            let there = self.is_there(*one) && self.is_there(*other);
            prop_assert!(
                !there,
                "{op:?}: {one} and {other} have lost each other; {:?}",
                self.objects
            );
        }
        Ok(paths)
    }

    /// Everybody is well again; it goes on until nothing is left to do.
    fn converge(&mut self) -> Result<Plan, TestCaseError> {
        let all: Vec<usize> = self.agents.keys().copied().collect();
        for number in all {
            let agent = self.agents.get_mut(&number).unwrap();
            agent.is_cut_off = false;
            (agent.is_cordoned, agent.leaves) = (false, false);
        }
        let mut before = self.paths();
        // Whoever has just died is missed first.
        self.pass(LATE.as_secs() + 1);
        before = self.check(before, &Op::Wait(LATE.as_secs() + 1), false)?;
        for _ in 0..400 {
            let plan = self.look(usize::MAX);
            self.pass(5);
            before = self.check(before, &Op::Wait(5), false)?;
            if matches!(plan.state, State::Mesh | State::Reflectors) {
                return Ok(plan);
            }
        }
        let plan = self.look(0);
        prop_assert!(false, "it does not end: {plan:?} {:?}", self.objects);
        Ok(plan)
    }
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..14_usize;
    prop_oneof![
        2 => Just(Op::Join),
        1 => at.clone().prop_map(Op::Kill),
        2 => at.clone().prop_map(Op::Revive),
        2 => at.clone().prop_map(Op::Delete),
        1 => (at.clone(), any::<bool>()).prop_map(|(at, is)| Op::Drain(at, is)),
        1 => (at.clone(), any::<bool>()).prop_map(|(at, is)| Op::Cordon(at, is)),
        1 => (at.clone(), prop::bool::weighted(0.3)).prop_map(|(at, is)| Op::CutOff(at, is)),
        8 => (at.clone(), 0..4_usize).prop_map(|(at, part)| Op::See(at, part)),
        8 => at.prop_map(Op::Report),
        12 => (0..4_usize).prop_map(Op::Look),
        1 => Just(Op::NewController),
        8 => (1..40_u64).prop_map(Op::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_lost_and_it_ends(
        nodes in 4..10_usize,
        limit in 3..9_usize,
        ops in vec(op(), 0..250),
    ) {
        let mut world = World::new(nodes, limit);
        let mut before = world.paths();
        for op in &ops {
            let may_end = world.run(op);
            if op.changes_sessions() {
                before = world.check(before, op, may_end)?;
            }
        }
        // A node that is dead for good is no reason to wait for ever.
        let alive = world.agents.values().filter(|agent| agent.is_alive).count();
        if alive * 2 <= world.objects.nodes.len() || alive < 4 {
            return Ok(());
        }
        let plan = world.converge()?;
        let marked: Vec<usize> = world.objects.nodes.iter().filter(|(_, marked)| **marked).map(|(node, _)| *node).collect();
        match plan.state {
            State::Reflectors => {
                prop_assert!(world.objects.no_mesh && world.objects.nodes.len() * 100 >= limit * 80);
                prop_assert_eq!(marked.len(), 3);
                prop_assert!(marked.iter().all(|node| world.is_there(*node)));
                prop_assert!(marked.iter().eq(&world.objects.peerings));
            }
            _ => {
                prop_assert!(!world.objects.no_mesh && world.objects.nodes.len() <= limit);
                prop_assert!(marked.is_empty() && world.objects.peerings.is_empty());
            }
        }
        // Nothing more is done.
        let before = world.objects.clone();
        for _ in 0..50 {
            let plan = world.look(usize::MAX);
            prop_assert_eq!(&plan.actions, &vec![]);
            world.pass(7);
        }
        prop_assert_eq!(before, world.objects);
    }
}

/// The world after it has come to rest.
fn settled(nodes: usize, limit: usize) -> World {
    let mut world = World::new(nodes, limit);
    world.converge().unwrap();
    world
}

#[test]
fn nothing_flaps_around_the_limit() {
    let mut world = settled(10, 10);
    for _ in 0..20 {
        world.join();
        world.converge().unwrap();
        let newest = world.next - 1;
        world.agents.remove(&newest);
        world.objects.nodes.remove(&newest);
        world.converge().unwrap();
    }
    assert_eq!(world.ends, 1);
    assert!(world.objects.no_mesh);
    // Below 80 % of the limit it goes back.
    for number in 0..3 {
        world.agents.remove(&number);
        world.objects.nodes.remove(&number);
    }
    world.converge().unwrap();
    assert!(!world.objects.no_mesh && world.objects.peerings.is_empty());
    world.join();
    world.converge().unwrap();
    assert_eq!(world.ends, 1);
}

#[test]
fn who_reflects_is_replaced_only_when_it_cannot_go_on() {
    let mut world = settled(9, 4);
    let reflectors = |world: &World| -> Vec<usize> {
        let nodes = world.objects.nodes.iter();
        nodes
            .filter(|(_, is)| **is)
            .map(|(node, _)| *node)
            .collect()
    };
    let before = reflectors(&world);
    let zones: BTreeSet<usize> = before.iter().map(|node| node % 3).collect();
    assert_eq!(zones.len(), 3);
    // Back within the time that it is given.
    world.agents.get_mut(&before[0]).unwrap().is_alive = false;
    for _ in 0..4 {
        world.pass(7);
        world.look(usize::MAX);
    }
    world.agents.get_mut(&before[0]).unwrap().is_alive = true;
    world.converge().unwrap();
    assert_eq!(reflectors(&world), before);
    // For good.
    world.agents.get_mut(&before[0]).unwrap().is_alive = false;
    for _ in 0..40 {
        world.pass(7);
        let still_reflects = reflectors(&world).contains(&before[0]);
        let plan = world.look(usize::MAX);
        if plan
            .actions
            .contains(&Action::Unmark(format!("n{}", before[0])))
        {
            assert!(still_reflects && plan.reflectors == 4, "{plan:?}");
        }
    }
    let after = reflectors(&world);
    assert_eq!(after.len(), 3);
    let stayed: Vec<&usize> = before.iter().filter(|node| after.contains(node)).collect();
    assert_eq!(stayed, [&before[1], &before[2]]);
    assert!(!world.objects.peerings.contains(&before[0]));
}

#[test]
fn an_agent_that_is_cut_off_keeps_the_mesh() {
    let mut world = World::new(6, 10);
    world.agents.get_mut(&5).unwrap().is_cut_off = true;
    world.settings.mesh_limit = 3;
    for _ in 0..200 {
        world.pass(7);
        world.look(usize::MAX);
    }
    assert!(!world.objects.no_mesh);
    let plan = world.look(0);
    let because = plan.because.unwrap();
    assert!(because.contains("the agent of node n5"), "{because}");
    world.converge().unwrap();
    assert!(world.objects.no_mesh);
}
