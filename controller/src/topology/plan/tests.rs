use super::super::facts::{Mesh, NodeFacts, Session};
use super::*;

fn settings() -> Settings {
    Settings {
        mesh_limit: 3,
        count: 2,
        cluster_id: "198.51.100.1".to_owned(),
        settle: Duration::from_secs(30),
    }
}

/// So many nodes in a whole mesh.
fn facts(count: usize) -> Facts {
    let names: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
    let session = Session {
        via: Via::Mesh,
        is_up: true,
        received: 1,
        advertised: 1,
    };
    let node = |name: &String| {
        let others = names.iter().filter(|other| *other != name);
        let node = NodeFacts {
            may_reflect: true,
            has_address: true,
            is_fresh: true,
            blocks: 1,
            sessions: others.map(|other| (other.clone(), session)).collect(),
            ..NodeFacts::default()
        };
        (name.clone(), node)
    };
    Facts {
        nodes: names.iter().map(node).collect(),
        peerings: BTreeMap::new(),
        mesh: Mesh {
            is_on: true,
            target: None,
            hindered_by: None,
        },
    }
}

fn once(facts: &Facts) -> Plan {
    plan(facts, &settings(), &mut Memory::default(), Instant::now())
}

fn is_left_alone(facts: &Facts, word: &str) {
    let plan = once(facts);
    assert_eq!((plan.state, &plan.actions), (State::LeftAlone, &vec![]));
    let because = plan.because.unwrap();
    assert!(because.contains(word), "{because}");
}

#[test]
fn what_others_have_arranged_is_left_alone() {
    let mut off = facts(5);
    off.mesh.is_on = false;
    is_left_alone(&off, "spec.nodeToNodeMeshEnabled");
    off.mesh.target = Some(Target::Mesh);
    is_left_alone(&off, "spec.nodeToNodeMeshEnabled");
    off.mesh.target = Some(Target::Reflectors);
    assert_eq!(once(&off).state, State::Changing);

    let mut marked = facts(2);
    marked.nodes.get_mut("n1").unwrap().mark = Mark::Foreign;
    is_left_alone(&marked, "Node/n1 metadata.annotations");

    let mut hindered = facts(5);
    hindered.mesh.hindered_by = Some("spec.nodeMeshPassword");
    is_left_alone(&hindered, "default spec.nodeMeshPassword");
    let mut few = facts(3);
    few.mesh.hindered_by = Some("spec.nodeMeshPassword");
    assert_eq!(once(&few).state, State::Mesh);
}

#[test]
fn the_target_is_written_down_first() {
    assert_eq!(once(&facts(4)).actions, [Action::Begin]);
    assert_eq!(once(&facts(3)).actions, []);
    let mut aimed = facts(4);
    aimed.mesh.target = Some(Target::Reflectors);
    let actions = once(&aimed).actions;
    let is_peering = |action: &Action| matches!(action, Action::CreatePeering(_));
    assert!(
        actions.len() == 2 && actions.iter().all(is_peering),
        "{actions:?}"
    );
    // Between 80 % of the limit and the limit it goes on as begun.
    aimed.nodes.remove("n3");
    assert_eq!(once(&aimed).actions.len(), 2);
    aimed.nodes.remove("n2");
    assert_eq!(once(&aimed).actions, [Action::BeginMesh]);
}

#[test]
fn one_reflector_is_too_few() {
    let mut facts = facts(4);
    facts.mesh.target = Some(Target::Reflectors);
    for name in ["n1", "n2", "n3"] {
        facts.nodes.get_mut(name).unwrap().may_reflect = false;
    }
    let plan = once(&facts);
    let because = plan.because.unwrap();
    assert!(
        because.starts_with("1 nodes can be reflectors"),
        "{because}"
    );
    assert_eq!(plan.state, State::Changing);
}

#[test]
fn marks_of_another_cluster_id_and_changed_peerings_are_corrected() {
    let mut facts = facts(4);
    facts.mesh.target = Some(Target::Reflectors);
    for (name, id) in [("n1", "198.51.100.1"), ("n2", "198.51.100.9")] {
        facts.nodes.get_mut(name).unwrap().mark = Mark::Ours(id.to_owned());
    }
    facts.peerings = [
        ("n1".to_owned(), Peering::Wrong),
        ("n2".to_owned(), Peering::Right),
    ]
    .into();
    let expected = [
        Action::CorrectPeering("n1".to_owned()),
        Action::Mark("n2".to_owned()),
    ];
    assert_eq!(once(&facts).actions, expected);
}
