use std::time::Duration;

use super::*;
use crate::run::{Measured, Phase};
use crate::scenario::Scenario;

fn report() -> Report {
    let mut figures = Figures::new(Scenario::Best);
    for (kind, wall) in [
        (Kind::Relay, Some(1)),
        (Kind::Tortie, Some(2)),
        (Kind::Bird, Some(8)),
        (Kind::Frr, None),
    ] {
        let phase = Phase {
            name: "announce",
            wall: wall.map(Duration::from_secs),
            cpu: Duration::from_secs(1),
            tester: Duration::ZERO,
        };
        let problems = if kind == Kind::Bird {
            vec!["client 1 misses 10.0.0.0/26".to_owned()]
        } else {
            Vec::new()
        };
        let measured = Measured {
            phases: vec![phase],
            memory: 1_000_000,
            problems,
            ..Measured::default()
        };
        figures.add(kind, measured);
    }
    Report {
        kinds: vec![Kind::Relay, Kind::Tortie, Kind::Bird, Kind::Frr],
        figures: vec![figures],
        limit: 60,
        rounds: 1,
        ..Report::default()
    }
}

#[test]
fn ours_is_put_beside_every_other_speaker() {
    let table = report().wall();
    let row = table.lines().last().unwrap();
    let cells: Vec<_> = row.split('|').map(str::trim).collect();
    assert_eq!(
        cells[2..8],
        ["1.000", "**2.000**", "8.000", "> 60", "0.25", "< 0.03"]
    );
}

#[test]
fn an_error_names_speaker_and_scenario() {
    let report = report();
    let errors = report.errors();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("BIRD 2, 10 senders"), "{}", errors[0]);
    assert!(report.page("m", "d", &[]).contains("## Errors\n\n- BIRD 2"));
}
