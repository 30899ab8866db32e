use super::*;

const V4: Family = Family::IPV4_UNICAST;
const V6: Family = Family::IPV6_UNICAST;
const LIVE: PeerId = PeerId(0);
const DEAD: PeerId = PeerId(1);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn owes(families: &[Family]) -> Expected {
    Expected::EndOfRib(families.iter().copied().collect())
}

fn deferral() -> (Instant, Deferral) {
    let start = Instant::now();
    let mut deferral = Deferral::new(start, secs(10), secs(30));
    deferral.added(LIVE);
    deferral.added(DEAD);
    (start, deferral)
}

#[test]
fn ends_when_every_peer_has_sent_every_end_of_rib() {
    let (start, mut deferral) = deferral();
    deferral.up(start, LIVE, owes(&[V4, V6]));
    deferral.up(start, DEAD, owes(&[V4]));
    deferral.end_of_rib(LIVE, V4);
    deferral.end_of_rib(DEAD, V4);
    assert!(!deferral.ends(start + secs(1)));
    deferral.end_of_rib(LIVE, V6);
    assert!(deferral.ends(start + secs(1)));
    assert!(!deferral.ends(start + secs(1)), "ends once");
    assert_eq!(None, deferral.deadline(start + secs(1)));
}

#[test]
fn dead_peer_holds_it_up_only_while_peers_may_settle() {
    let (start, mut deferral) = deferral();
    deferral.up(start + secs(1), LIVE, owes(&[V4]));
    deferral.end_of_rib(LIVE, V4);
    assert!(!deferral.ends(start + secs(9)));
    assert_eq!(Some(start + secs(10)), deferral.deadline(start + secs(9)));
    assert!(deferral.ends(start + secs(10)));
}

#[test]
fn peer_without_end_of_rib_is_waited_for_until_the_limit_after_the_last_came_up() {
    let (start, mut deferral) = deferral();
    deferral.up(start + secs(9), LIVE, owes(&[V4]));
    assert!(!deferral.ends(start + secs(38)));
    assert_eq!(Some(start + secs(39)), deferral.deadline(start + secs(38)));
    assert!(deferral.ends(start + secs(39)));
}

#[test]
fn peer_that_comes_late_is_not_waited_for() {
    let (start, mut deferral) = deferral();
    deferral.removed(LIVE);
    deferral.up(start + secs(10), DEAD, owes(&[V4]));
    assert!(deferral.ends(start + secs(10)));
}

#[test]
fn peer_without_end_of_rib_has_told_everything_when_it_falls_silent() {
    let (start, mut deferral) = deferral();
    deferral.removed(DEAD);
    deferral.up(start, LIVE, Expected::Silence);
    deferral.heard(start + secs(1), LIVE);
    assert!(!deferral.ends(start + secs(2)));
    assert_eq!(Some(start + secs(3)), deferral.deadline(start + secs(2)));
    assert!(deferral.ends(start + secs(3)));
}

#[test]
fn peer_that_goes_or_is_removed_is_not_waited_for() {
    let (start, mut deferral) = deferral();
    deferral.up(start, LIVE, owes(&[V4]));
    deferral.removed(LIVE);
    deferral.up(start, DEAD, owes(&[V4]));
    deferral.down(DEAD);
    assert!(!deferral.ends(start + secs(9)), "it may come back in time");
    assert!(deferral.ends(start + secs(10)));
}

#[test]
fn without_peers_there_is_nothing_to_wait_for() {
    let start = Instant::now();
    assert!(Deferral::new(start, secs(10), secs(30)).ends(start));
}

#[test]
fn peer_that_restarts_again_is_waited_for_again_and_no_longer() {
    let (start, mut deferral) = deferral();
    deferral.removed(DEAD);
    deferral.up(start, LIVE, owes(&[V4]));
    deferral.down(LIVE);
    assert!(!deferral.ends(start + secs(1)), "it may come back");
    deferral.up(start + secs(2), LIVE, owes(&[V4]));
    assert!(!deferral.ends(start + secs(11)), "it owes an end-of-RIB");
    deferral.down(LIVE);
    assert!(deferral.ends(start + secs(11)), "it had its time");
}

#[test]
fn the_end_of_the_wait_is_known() {
    let (start, mut deferral) = deferral();
    let missing = |deferral: &Deferral, at| deferral.missing(start + secs(at)).collect::<Vec<_>>();
    assert_eq!(vec![LIVE, DEAD], missing(&deferral, 0));
    assert_eq!(Some(start + secs(10)), deferral.ends_by(start));
    deferral.up(start + secs(5), LIVE, owes(&[V4]));
    assert_eq!(vec![DEAD], missing(&deferral, 5));
    assert_eq!(Some(start + secs(35)), deferral.ends_by(start + secs(5)));
    deferral.end_of_rib(LIVE, V4);
    assert!(!deferral.ends(start + secs(6)));
    assert_eq!(Some(start + secs(10)), deferral.ends_by(start + secs(6)));
    assert!(deferral.ends(start + secs(10)));
    assert!(missing(&deferral, 10).is_empty());
    assert_eq!(None, deferral.ends_by(start + secs(10)));
}
