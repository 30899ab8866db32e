use super::*;
use crate::run::Phase;

fn run(wall: Option<u64>, memory: u64) -> Measured {
    Measured {
        phases: vec![Phase {
            name: "announce",
            wall: wall.map(Duration::from_secs),
            cpu: Duration::from_secs(1),
            tester: Duration::ZERO,
        }],
        memory,
        ..Measured::default()
    }
}

#[test]
fn figures_are_medians_of_the_runs_of_one_daemon() {
    let mut figures = Figures::new(Scenario::Best);
    for (wall, memory) in [(9, 1_000_000), (2, 3_000_000), (3, 2_000_000)] {
        figures.add(Kind::Bird, run(Some(wall), memory));
    }
    let figure = figures.figure(Kind::Bird, "announce").unwrap();
    assert_eq!(
        (figure.wall, figures.memory(Kind::Bird)),
        (Some(3.0), Some(2.0))
    );
    assert_eq!(figures.figure(Kind::Frr, "announce"), None);
}

#[test]
fn a_step_that_did_not_end_once_has_no_time() {
    let mut figures = Figures::new(Scenario::Best);
    figures.add(Kind::Bird, run(Some(1), 0));
    figures.add(Kind::Bird, run(None, 0));
    assert_eq!(figures.figure(Kind::Bird, "announce").unwrap().wall, None);
}
