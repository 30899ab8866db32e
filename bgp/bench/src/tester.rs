//! All sessions of the tester, on one thread.

use std::net::SocketAddrV4;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::link;
use crate::session::{Outcome, Session, State};
use crate::table::{Goal, Table};
use crate::universe::Universe;
use crate::wire;

/// What is read at once.
const CHUNK: usize = 256 * 1024;
/// Events taken at once.
const EVENTS: usize = 256;
/// The tester looks at clocks this often.
const TICK_MS: u16 = 20;
/// Pause after a dial that failed.
const RETRY: Duration = Duration::from_millis(20);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Who a session pretends to be.
#[derive(Debug, Clone, Copy)]
pub struct Role {
    /// Its AS number.
    pub asn: u32,
    /// Whether what it is told is looked at.
    pub receives: bool,
}

/// The load tester.
#[derive(Debug)]
pub struct Tester {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    /// The sessions, in the order of their addresses.
    pub sessions: Vec<Session>,
    scratch: Vec<u8>,
    /// Sessions that do not hold what they shall.
    pending: usize,
    next_keepalives: Instant,
    keepalive: Rc<[u8]>,
    end_of_rib: Rc<[u8]>,
    /// What is said about sessions that went away while they were dialled.
    last_refusal: String,
}

impl Tester {
    /// Sessions that are down, one per role.
    ///
    /// # Errors
    /// The kernel has no epoll.
    pub fn new(universe: &Rc<Universe>, roles: &[Role]) -> Result<Self> {
        let table = |index| Table::new(Rc::clone(universe), index);
        let sessions = roles.iter().enumerate();
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            events: vec![EpollEvent::empty(); EVENTS],
            sessions: sessions
                .map(|(index, role)| {
                    Session::new(index, role.asn, role.receives.then(|| table(index)))
                })
                .collect(),
            scratch: vec![0; CHUNK + wire::LARGEST],
            pending: 0,
            next_keepalives: Instant::now() + KEEPALIVE_INTERVAL,
            keepalive: wire::KEEPALIVE_MESSAGE.as_slice().into(),
            end_of_rib: wire::END_OF_RIB.as_slice().into(),
            last_refusal: String::new(),
        })
    }

    /// Establishes these sessions with at most `at_once` dials in flight; a dial that fails is
    /// repeated. Answers how long it took. Then it says that nothing was to be said (RFC 4724).
    ///
    /// # Errors
    /// `limit` is over; the error says how many are missing and what the last refusal was.
    pub fn establish(
        &mut self,
        which: &[usize],
        at_once: usize,
        limit: Duration,
    ) -> Result<Duration> {
        self.last_refusal = "none".to_owned();
        for session in which {
            self.sessions[*session].redialled = true;
        }
        let start = Instant::now();
        let took = loop {
            let missing = self.dial_some(which, at_once)?;
            if missing == 0 {
                break start.elapsed();
            }
            ensure!(
                start.elapsed() < limit,
                "{missing} of {} sessions are not established after {limit:?}; last refusal: {}",
                which.len(),
                self.last_refusal
            );
            self.turn()?;
        };
        for session in which {
            self.sessions[*session].redialled = false;
            self.sessions[*session].queue(Rc::clone(&self.end_of_rib));
            self.write(*session)?;
        }
        Ok(took)
    }

    /// Dials what is down and may be dialled; answers how many are not established.
    fn dial_some(&mut self, which: &[usize], at_once: usize) -> Result<usize> {
        let count = |sessions: &[Session], state| {
            let all = which.iter().map(|one| sessions[*one].state);
            all.filter(|one| *one == state).count()
        };
        let mut opening = count(&self.sessions, State::Opening);
        let missing = which.len() - count(&self.sessions, State::Established);
        let now = Instant::now();
        for session in which {
            if opening >= at_once {
                break;
            }
            let one = &self.sessions[*session];
            if one.state == State::Down && one.not_before <= now {
                self.dial(*session)?;
                opening += 1;
            }
        }
        Ok(missing)
    }

    fn dial(&mut self, session: usize) -> Result<()> {
        let to = SocketAddrV4::new(link::SPEAKER, link::PORT);
        let session = &mut self.sessions[session];
        if let Outcome::Gone(why) = session.dial(to)? {
            self.last_refusal = why;
            session.hang_up();
            session.not_before = Instant::now() + RETRY;
        } else if let Some(stream) = &session.stream {
            let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
            let event = EpollEvent::new(interest, session.index as u64);
            self.epoll.add(stream, event)?;
        }
        Ok(())
    }

    /// Closes sessions without a word.
    pub fn hang_up(&mut self, which: &[usize]) {
        for session in which {
            self.sessions[*session].hang_up();
        }
        self.count();
    }

    /// From now on the receivers among these shall hold this; the others are not looked at.
    pub fn expect(&mut self, which: &[usize], goal: &Goal) {
        for session in &mut self.sessions {
            let goal = if which.contains(&session.index) {
                goal.clone()
            } else {
                Goal::Announcements(0)
            };
            if let Some(table) = &mut session.table {
                table.expect(goal);
            }
        }
        self.count();
    }

    fn count(&mut self) {
        let tables = self.sessions.iter().filter_map(|one| one.table.as_ref());
        self.pending = tables.filter(|table| table.wrong() > 0).count();
    }

    /// Sends, and waits until every receiver holds what it shall. Answers the time since the
    /// first octet was written, or since the call when nothing is sent; `None` when `limit` is
    /// over.
    ///
    /// # Errors
    /// A session that was established is gone, or a receiver was told something wrong.
    pub fn run(
        &mut self,
        sends: &[(usize, Rc<[u8]>)],
        limit: Duration,
    ) -> Result<Option<Duration>> {
        let called = Instant::now();
        for session in &mut self.sessions {
            session.first_written = None;
        }
        for (index, messages) in sends {
            self.sessions[*index].queue(Rc::clone(messages));
            self.write(*index)?;
        }
        while self.pending > 0 {
            if called.elapsed() > limit {
                return Ok(None);
            }
            self.turn()?;
        }
        let end = Instant::now();
        let senders = sends.iter().map(|(index, _)| &self.sessions[*index]);
        let first = senders.filter_map(|one| one.first_written).min();
        Ok(Some(end - first.unwrap_or(called)))
    }

    /// Keeps the sessions alive for this long.
    ///
    /// # Errors
    /// As [`Tester::run`].
    pub fn stay(&mut self, time: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < time {
            self.turn()?;
        }
        Ok(())
    }

    /// How many receivers do not hold what they shall, and an example.
    pub fn missing(&self) -> Option<String> {
        let mut wrong = self.sessions.iter().filter_map(|session| {
            let table = session.table.as_ref().filter(|table| table.wrong() > 0)?;
            Some((session.index, table))
        });
        let (index, table) = wrong.next()?;
        Some(format!(
            "{} receivers do not hold what they shall; client {index}: {} prefixes, {}",
            1 + wrong.count(),
            table.wrong(),
            table.example().unwrap_or_default()
        ))
    }

    /// Waits for events once, at most for a tick, and handles them.
    fn turn(&mut self) -> Result<()> {
        let count = match self.epoll.wait(&mut self.events, TICK_MS) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => bail!("epoll: {error}"),
        };
        for place in 0..count {
            let event = self.events[place];
            let index = usize::try_from(event.data())?;
            // Closed by an earlier event of the same turn.
            if self.sessions[index].stream.is_none() {
                continue;
            }
            if event.events().intersects(EpollFlags::EPOLLOUT) {
                self.write(index)?;
            }
            let readable = EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
            if event.events().intersects(readable) && self.sessions[index].stream.is_some() {
                self.read(index)?;
            }
        }
        self.keep_alive()
    }

    fn keep_alive(&mut self) -> Result<()> {
        if Instant::now() < self.next_keepalives {
            return Ok(());
        }
        self.next_keepalives += KEEPALIVE_INTERVAL;
        for index in 0..self.sessions.len() {
            let session = &mut self.sessions[index];
            // What is being written is a sign of life as well.
            if session.state == State::Established && !session.wants_to_write() {
                session.queue(Rc::clone(&self.keepalive));
                self.write(index)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, index: usize) -> Result<()> {
        let outcome = self.sessions[index].write()?;
        self.after(index, outcome)
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let session = &mut self.sessions[index];
        let wrong = |session: &Session| session.table.as_ref().is_some_and(|t| t.wrong() > 0);
        let before = wrong(session);
        let outcome = session
            .read(&mut self.scratch)
            .with_context(|| format!("client {index}"))?;
        match (before, wrong(session)) {
            (true, false) => self.pending -= 1,
            (false, true) => self.pending += 1,
            _ => {}
        }
        self.after(index, outcome)
    }

    fn after(&mut self, index: usize, outcome: Outcome) -> Result<()> {
        let session = &mut self.sessions[index];
        if let Outcome::Gone(why) = outcome {
            if session.state == State::Established && !session.redialled {
                bail!("client {index}: the session ended: {why}");
            }
            self.last_refusal = why;
            session.hang_up();
            session.not_before = Instant::now() + RETRY;
            return Ok(());
        }
        let watch = session.wants_to_write();
        if let Some(stream) = &session.stream
            && session.watched_for_room != watch
        {
            session.watched_for_room = watch;
            let mut interest = EpollFlags::EPOLLIN;
            interest.set(EpollFlags::EPOLLOUT, watch);
            let mut event = EpollEvent::new(interest, index as u64);
            self.epoll.modify(stream, &mut event)?;
        }
        Ok(())
    }
}
