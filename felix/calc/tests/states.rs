//! Named states of the world in, desired state of the node out.
//!
//! Each file in `tests/states` is a list of states with what is expected of them, as text.
//! Every list is also run with the order of updates reversed, the order of states reversed, all
//! states in one batch, every update on its own, an empty world between any two states, and each
//! state as a fresh start: the result must depend on the state alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken state file fails its test"
)]

use felix_calc::{Calc, HostFacts, Programmed, Settings, SpeakerState, Update, calc};

#[path = "states/model.rs"]
mod model;
#[path = "states/render.rs"]
mod render;

use model::{History, State, World};

macro_rules! states {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/states/", stringify!($name), ".yaml");
            let text = std::fs::read_to_string(path).unwrap();
            expand(&History::parse(&text).unwrap_or_else(|e| panic!("{path}: {e}")));
        })*

        #[test]
        fn every_file_is_run() {
            let listed = [$(concat!(stringify!($name), ".yaml")),*];
            for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/states")).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let known = name.ends_with(".rs") || listed.contains(&name.as_str());
                assert!(known, "{name} is not in the list of tests");
            }
        }
    };
}

states!(
    bgp_filters,
    blocks,
    communities,
    default_route,
    disabled_export,
    endpoints,
    explicit_peers,
    felix_configuration,
    learned,
    local_as,
    mesh,
    mtu,
    nat,
    next_hop_ways,
    next_hops,
    overlay,
    passwords,
    pools,
    reachable_by,
    reflectors,
    router_id,
    selectors,
    services,
    session_options,
    session_settings,
    tunnel_addresses,
    tunnel_ends,
    unexported,
    unnumbered,
    unread_pools,
    unread_tunnels,
    vxlan,
    without_bgp,
);

/// Runs a history in every order that must not matter.
fn expand(history: &History) {
    let states: Vec<&State> = history.states.iter().collect();
    let reversed: Vec<&State> = history.states.iter().rev().collect();
    let empty = State::default();
    let mut spaced = Vec::new();
    for state in &history.states {
        spaced.extend([state, &empty]);
    }
    spaced.pop();
    run(history, "plain", &states, Order::Plain, Flush::EachState);
    run(
        history,
        "reversed keys",
        &states,
        Order::Reversed,
        Flush::EachState,
    );
    run(
        history,
        "reversed states",
        &reversed,
        Order::Plain,
        Flush::EachState,
    );
    run(history, "squashed", &states, Order::Plain, Flush::AtEnd);
    run(history, "split", &states, Order::Plain, Flush::EachUpdate);
    run(
        history,
        "split, reversed keys",
        &reversed,
        Order::Reversed,
        Flush::EachUpdate,
    );
    run(
        history,
        "empties between",
        &spaced,
        Order::Plain,
        Flush::EachState,
    );
    for state in &history.states {
        run(
            history,
            "fresh start",
            &[state],
            Order::Plain,
            Flush::EachState,
        );
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Plain,
    Reversed,
}

#[derive(Clone, Copy, PartialEq)]
enum Flush {
    EachState,
    AtEnd,
    EachUpdate,
}

fn run(history: &History, variant: &str, states: &[&State], order: Order, flush: Flush) {
    let mut settings = Settings::new(history.node.clone());
    settings.allow_default_route = history.allow_default_route;
    settings.bgp = history.bgp;
    let mut calc = Calc::new(settings);
    let mut world = World::default();
    let mut seen = render::Seen::default();
    seen.policies = history.policies;
    seen.tunnels = history.tunnels;
    for (index, state) in states.iter().enumerate() {
        let next = World::of(state);
        let mut updates = next.updates_from(&world);
        world = next;
        if index == 0 {
            updates.extend(calc::NEEDED.map(Update::InSync));
            updates.push(Update::EndpointsInSync);
        }
        if order == Order::Reversed {
            updates.reverse();
        }
        for update in updates {
            calc.update(update);
            if flush == Flush::EachUpdate {
                seen.take(calc.flush());
            }
        }
        if flush == Flush::AtEnd && index + 1 < states.len() {
            continue;
        }
        seen.take(calc.flush());
        assert!(
            calc.flush().is_none(),
            "{variant}, {}: a second flush said something",
            state.name
        );
        let Some(expected) = &state.expect else {
            continue;
        };
        let text = seen.text();
        assert!(
            text.trim() == expected.trim(),
            "{variant}, state {:?}:\n{}",
            state.name,
            render::difference(expected, &text)
        );
    }
}

#[test]
fn nothing_is_said_before_everything_needed_is_known() {
    let mut calc = Calc::new(Settings::new("a"));
    let mut needed: Vec<Update> = calc::NEEDED.map(Update::InSync).into();
    needed.push(Update::EndpointsInSync);
    needed.push(Update::Host(HostFacts::default()));
    for update in needed {
        assert!(calc.flush().is_none());
        assert!(!calc.waiting_for().is_empty());
        calc.update(update);
    }
    let first = calc.flush().unwrap();
    assert!(first.complete && first.hold_learned, "{first:?}");
    assert_eq!(
        first.bgp, None,
        "nothing is announced before the dataplane has reported"
    );
    calc.update(Update::Programmed(Programmed::default()));
    let second = calc.flush().unwrap();
    assert!(second.bgp.is_some() && !second.complete);
    assert_eq!((first.generation, second.generation), (1, 2));
}

#[test]
fn held_routes_are_released_once_the_speaker_has_converged() {
    let mut calc = Calc::new(Settings::new("a"));
    for kind in calc::NEEDED {
        calc.update(Update::InSync(kind));
    }
    calc.update(Update::EndpointsInSync);
    calc.update(Update::Host(HostFacts::default()));
    assert!(calc.flush().unwrap().hold_learned);
    calc.update(Update::Speaker(SpeakerState { converged: true }));
    assert!(!calc.flush().unwrap().hold_learned);
}
