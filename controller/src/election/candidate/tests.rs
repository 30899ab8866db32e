use serde_json::json;

use super::*;

/// The API server: what it holds, and its answers.
#[derive(Default)]
struct Server {
    version: u64,
    held: Option<StoredLease>,
}

impl Server {
    fn store(&mut self, spec: LeaseSpec) -> Answer {
        self.version += 1;
        let object = json!({ "metadata": { "resourceVersion": self.version }, "spec": spec });
        let stored = StoredLease::read(object).unwrap();
        self.held = Some(stored.clone());
        Answer::Written(stored)
    }

    fn handle(&mut self, ask: &Next) -> Answer {
        match ask {
            Next::Read => self.held.clone().map_or(Answer::Missing, Answer::Found),
            Next::Create(_) if self.held.is_some() => Answer::Refused,
            Next::Create(spec) => self.store(spec.clone()),
            Next::Replace(stored, spec) => match &self.held {
                Some(held) if held.object["metadata"] == stored.object["metadata"] => {
                    self.store(spec.clone())
                }
                _ => Answer::Refused,
            },
            Next::Wait(_) => panic!("nothing is asked"),
        }
    }
}

struct Time {
    start: Instant,
    ms: u64,
}

impl Time {
    fn new() -> Time {
        Time {
            start: Instant::now(),
            ms: 0,
        }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn now(&self) -> Instant {
        self.at(self.ms)
    }

    /// What a clock on the wall shows that is wrong by some seconds.
    fn wall(&self, wrong_secs: u64) -> SystemTime {
        let secs = Duration::from_secs(1_800_000_000 + wrong_secs);
        SystemTime::UNIX_EPOCH + secs + Duration::from_millis(self.ms)
    }
}

fn candidate(name: &str, time: &Time) -> Candidate {
    Candidate::new(name.to_owned(), Timing::default(), time.now())
}

/// Asks and answers at once, as long as there is something to ask.
fn turn(candidate: &mut Candidate, server: &mut Server, time: &Time) {
    for _ in 0..10 {
        let next = candidate.next(time.now(), time.wall(0));
        if matches!(next, Next::Wait(_)) {
            return;
        }
        let answer = server.handle(&next);
        candidate.answered(time.now(), answer);
    }
    panic!("it asks without end");
}

/// As `turn`, but nobody answers.
fn turn_alone(candidate: &mut Candidate, time: &Time) {
    for _ in 0..10 {
        if let Next::Wait(_) = candidate.next(time.now(), time.wall(0)) {
            return;
        }
        candidate.answered(time.now(), Answer::Failed);
    }
    panic!("it asks without end");
}

/// When a candidate leads that looks every 10 ms.
fn leads_after(candidate: &mut Candidate, server: &mut Server, time: &mut Time) -> u64 {
    for _ in 0..10_000 {
        turn(candidate, server, time);
        if candidate.leads(time.now()) {
            return time.ms;
        }
        time.ms += 10;
    }
    panic!("it never leads");
}

#[test]
fn of_two_that_race_one_leads() {
    let (mut server, time) = (Server::default(), Time::new());
    let [mut one, mut two] = ["one", "two"].map(|name| candidate(name, &time));
    for candidate in [&mut one, &mut two] {
        assert_eq!(candidate.next(time.now(), time.wall(0)), Next::Read);
        candidate.answered(time.now(), Answer::Missing);
    }
    let asks = [&mut one, &mut two].map(|candidate| candidate.next(time.now(), time.wall(0)));
    for (candidate, ask) in [&mut one, &mut two].into_iter().zip(&asks) {
        assert!(matches!(ask, Next::Create(_)), "{ask:?}");
        let answer = server.handle(ask);
        candidate.answered(time.now(), answer);
    }
    assert!(one.leads(time.now()) && !two.leads(time.now()));
    let spec = server.held.unwrap().spec;
    assert_eq!(
        serde_json::to_value(spec).unwrap(),
        json!({
            "holderIdentity": "one", "leaseDurationSeconds": 15, "leaseTransitions": 0,
            "acquireTime": "2027-01-15T08:00:00.000000Z", "renewTime": "2027-01-15T08:00:00.000000Z",
        })
    );
}

#[test]
fn a_leader_renews_in_one_request_and_stays() {
    let (mut server, mut time) = (Server::default(), Time::new());
    let mut one = candidate("one", &time);
    turn(&mut one, &mut server, &time);
    for _ in 0..100 {
        time.ms += 2000;
        let next = one.next(time.now(), time.wall(0));
        assert!(matches!(next, Next::Replace(..)), "{next:?}");
        let answer = server.handle(&next);
        one.answered(time.now(), answer);
        assert!(one.leads(time.now()));
    }
    let spec = server.held.unwrap().spec;
    assert_eq!(
        spec.acquire_time.as_deref(),
        Some("2027-01-15T08:00:00.000000Z")
    );
    assert_eq!(
        spec.renew_time.as_deref(),
        Some("2027-01-15T08:03:20.000000Z")
    );
    assert_eq!(spec.lease_transitions, Some(0));
}

#[test]
fn a_leader_that_is_cut_off_ends_before_another_begins() {
    let (mut server, mut time) = (Server::default(), Time::new());
    let mut one = candidate("one", &time);
    turn(&mut one, &mut server, &time);
    let mut two = candidate("two", &time);
    turn(&mut two, &mut server, &time);
    let (mut ended, mut began) = (None, None);
    while began.is_none() && time.ms < 60_000 {
        time.ms += 10;
        turn_alone(&mut one, &time);
        turn(&mut two, &mut server, &time);
        if !one.leads(time.now()) {
            ended = ended.or(Some(time.ms));
        }
        if two.leads(time.now()) {
            began = Some(time.ms);
        }
    }
    assert_eq!((ended, began), (Some(10_000), Some(16_000)));
    assert_eq!(
        server.held.as_ref().unwrap().spec.lease_transitions,
        Some(1)
    );
    // The first is back, and stands by.
    time.ms += 2000;
    turn(&mut one, &mut server, &time);
    assert_eq!(one.holder(), Some("two"));
    assert!(!one.leads(time.now()));
}

#[test]
fn the_time_in_the_lease_decides_nothing() {
    let (mut server, mut time) = (Server::default(), Time::new());
    let mut two = candidate("two", &time);
    // Its clock is a day behind, so its Lease looks long expired.
    let spec = LeaseSpec {
        holder_identity: Some("one".to_owned()),
        lease_duration_seconds: Some(15),
        renew_time: Some("2027-01-14T08:00:00.000000Z".to_owned()),
        ..LeaseSpec::default()
    };
    server.store(spec.clone());
    for second in 0..60 {
        time.ms = second * 1000;
        if second % 2 == 0 {
            let renew_time = Some(format!("2027-01-14T08:00:{second:02}.000000Z"));
            server.store(LeaseSpec {
                renew_time,
                ..spec.clone()
            });
        }
        turn(&mut two, &mut server, &time);
        assert!(!two.leads(time.now()), "after {second} s");
    }
    let last = time.ms - 1000;
    let began = leads_after(&mut two, &mut server, &mut time);
    assert!((last + 15_000..last + 20_000).contains(&began), "{began}");
}

#[test]
fn a_lease_that_is_given_up_is_free_at_once() {
    let (mut server, mut time) = (Server::default(), Time::new());
    let [mut one, mut two] = ["one", "two"].map(|name| candidate(name, &time));
    turn(&mut one, &mut server, &time);
    turn(&mut two, &mut server, &time);
    assert!(two.release(time.wall(0)).is_none());
    let (stored, spec) = one.release(time.wall(0)).unwrap();
    assert!(!one.leads(time.now()));
    server.handle(&Next::Replace(stored, spec));
    time.ms += 2000;
    turn(&mut two, &mut server, &time);
    assert!(two.leads(time.now()));
}

#[test]
fn a_lease_that_somebody_deletes_is_waited_for() {
    let (mut server, mut time) = (Server::default(), Time::new());
    let [mut one, mut two] = ["one", "two"].map(|name| candidate(name, &time));
    turn(&mut one, &mut server, &time);
    turn(&mut two, &mut server, &time);
    server.held = None;
    turn_alone(&mut one, &time);
    assert_eq!(leads_after(&mut two, &mut server, &mut time), 16_000);
    assert!(!one.leads(time.now()));
}

#[test]
fn a_leader_sees_that_the_lease_was_given_to_another() {
    let (mut server, mut time) = (Server::default(), Time::new());
    let mut one = candidate("one", &time);
    turn(&mut one, &mut server, &time);
    server.store(LeaseSpec {
        holder_identity: Some("by hand".to_owned()),
        ..LeaseSpec::default()
    });
    time.ms += 2000;
    turn(&mut one, &mut server, &time);
    assert!(
        one.leads(time.now()),
        "it is refused, and does not know why"
    );
    time.ms += 500;
    turn(&mut one, &mut server, &time);
    assert!(!one.leads(time.now()));
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

/// A candidate behind a network.
struct Player {
    candidate: Candidate,
    wrong_secs: u64,
    /// When the request reaches the server, if it does, when somebody answers or gives up, and the answer.
    asked: Option<(Option<u64>, u64, Option<Answer>, Next)>,
    cut_off_until: u64,
    lives: usize,
}

/// From when on nothing goes wrong any more.
const CALM: u64 = 150_000;

/// Whatever the network does, and whenever processes die: never two leaders, and one in the end.
#[test]
fn there_are_never_two_leaders() {
    let mut changes = 0;
    for seed in 1..=150 {
        let mut random = Random(seed * 7919);
        let (mut server, mut time) = (Server::default(), Time::new());
        let mut late: Vec<(u64, Next)> = Vec::new();
        let player = |number: u64| Player {
            candidate: candidate(&format!("{number}-0"), &time),
            wrong_secs: number * 5000,
            asked: None,
            cut_off_until: 0,
            lives: 0,
        };
        let mut players: Vec<Player> = (0..3).map(player).collect();
        let mut last_leader = None;
        while time.ms < CALM + 80_000 {
            time.ms += 20;
            let calm = time.ms > CALM;
            for (_, ask) in late.extract_if(.., |(at, _)| *at <= time.ms) {
                server.handle(&ask);
            }
            for (number, player) in players.iter_mut().enumerate() {
                if !calm && random.below(2000) == 0 {
                    player.cut_off_until = time.ms + random.below(40_000);
                }
                if !calm && random.below(4000) == 0 {
                    // A process dies; what it sent may still arrive.
                    if let Some((Some(at), _, None, ask)) = player.asked.take() {
                        late.push((at, ask));
                    }
                    player.lives += 1;
                    let name = format!("{number}-{}", player.lives);
                    player.candidate = candidate(&name, &time);
                }
                player.step(&mut server, &mut late, &mut random, &time);
            }
            let now = time.now();
            let leaders = players.iter().filter(|player| player.candidate.leads(now));
            let leaders: Vec<&str> = leaders.map(|p| p.candidate.identity.as_str()).collect();
            assert!(
                leaders.len() <= 1,
                "seed {seed}, {} ms: {leaders:?}",
                time.ms
            );
            if let Some(leader) = leaders.first()
                && last_leader.as_deref() != Some(*leader)
            {
                last_leader = Some((*leader).to_owned());
                changes += 1;
            }
        }
        let leads = |player: &Player| player.candidate.leads(time.now());
        assert!(players.iter().any(leads), "seed {seed}: nobody leads");
    }
    assert!(changes > 300, "{changes} changes of the lead prove little");
}

impl Player {
    fn step(
        &mut self,
        server: &mut Server,
        late: &mut Vec<(u64, Next)>,
        random: &mut Random,
        time: &Time,
    ) {
        let ms = time.ms;
        let Some((reaches, ends, answer, ask)) = &mut self.asked else {
            let next = self.candidate.next(time.now(), time.wall(self.wrong_secs));
            if matches!(next, Next::Wait(_)) {
                return;
            }
            let is_cut_off = ms < self.cut_off_until;
            // Some are slow, a few arrive after whoever sent them has given up.
            let way = match random.below(20) {
                0 if ms < CALM => random.below(12_000),
                _ => random.below(100),
            };
            let reaches = (!is_cut_off).then_some(ms + way);
            let ends = if way < 4900 {
                ms + way + random.below(100)
            } else {
                ms + 5000
            };
            let ends = if is_cut_off { ms + 5000 } else { ends };
            self.asked = Some((reaches, ends, None, next));
            return;
        };
        if answer.is_none() && reaches.is_some_and(|at| at <= ms) {
            let told = server.handle(ask);
            // An answer may be lost.
            *answer = Some(match random.below(20) {
                0 if ms < CALM => Answer::Failed,
                _ => told,
            });
        }
        if ms >= *ends {
            if let (None, Some(at)) = (&answer, *reaches) {
                late.push((at, ask.clone()));
            }
            let answer = answer.take().unwrap_or(Answer::Failed);
            self.asked = None;
            self.candidate.answered(time.now(), answer);
        }
    }
}
