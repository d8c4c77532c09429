//! Clients that come back: they are sent what they have missed before live events continue it.
//!
//! A client that has sent `ID|SEQUENCE` is registered at once: it takes over an older connection, counts as a
//! client, and has a send queue. But no live event is queued for it before it has all that was applied, so that
//! its bytes are in order. What is applied meanwhile is added to what it has missed.
//!
//! Clients are served one after another in the order of their arrival, within a budget per turn: the first one
//! is done soon and is passed over by no event, whereas many that advance alternately would fall behind the
//! stream together. A client waits without holding up the others while its socket does not accept its queue, and
//! comes before those that arrived later once it does.
//!
//! `src/protocol/RESUME.md` decides every case.

mod ahead;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use log::Level;

use self::ahead::AheadClients;
use crate::engine::{Engine, Full, Missed, Resume, ResumeProgress};
use crate::hub::budgets::Budgets;
use crate::hub::clients::{Client, ClientTable};
use crate::hub::context::Context;
use crate::hub::log_limiter::LogKind;
use crate::hub::log_line::log_line;
use crate::hub::outbound::{Outbound, ReplaySpace};
use crate::hub::token::ClientKey;
use crate::hub::transport::Stream;
use crate::protocol::{Sequence, UserId};

/// The cost of serving a client besides its events, in steps.
const CLIENT_STEPS: usize = 100;

/// The clients that have sent a sequence and do not get live events yet.
#[derive(Debug)]
pub(super) struct Resumes {
    sessions: HashMap<ClientKey, Session>,
    by_user: HashMap<UserId, ClientKey>,
    /// The clients that can be served, by the numbers of their sessions.
    ready: BTreeMap<u64, ClientKey>,
    /// The clients that wait for sequences that are not applied yet.
    ahead: AheadClients,
    /// The number of sessions so far.
    sessions_so_far: u64,
    /// Lines for one client at a time.
    lines: MissedLines,
}

/// A client that resumes.
#[derive(Debug)]
struct Session {
    /// Tells the session from earlier ones with the same key.
    number: u64,
    user: UserId,
    resume: Resume,
    state: State,
}

/// What a client that resumes waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its turn.
    Ready,
    /// Its socket.
    Blocked,
    /// Sequences that are not applied yet.
    Ahead,
}

/// The remaining budget of a turn.
#[derive(Clone, Copy, Debug)]
struct Budget {
    steps: usize,
    bytes: usize,
}

/// What is known after a client was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    CaughtUp,
    Ahead,
    Blocked,
    /// The total limit on queued bytes or the budget is exhausted.
    Exhausted,
    /// The client is about to be closed.
    Closing,
}

impl Resumes {
    pub(super) fn new(identify_timeout: Duration) -> Resumes {
        Resumes {
            sessions: HashMap::new(),
            by_user: HashMap::new(),
            ready: BTreeMap::new(),
            ahead: AheadClients::new(identify_timeout),
            sessions_so_far: 0,
            lines: MissedLines::default(),
        }
    }

    /// Changes the time for which a client may wait for sequences that are not applied yet.
    pub(super) fn set_timeout(&mut self, identify_timeout: Duration) {
        self.ahead.set_timeout(identify_timeout);
    }

    /// Starts the resume of a registered client that has everything up to `sequence`.
    pub(super) fn start(&mut self, key: ClientKey, user: UserId, sequence: Sequence) {
        self.sessions_so_far += 1;
        let number = self.sessions_so_far;
        let resume = Resume::after(sequence, user);
        self.sessions.insert(key, Session { number, user, resume, state: State::Ready });
        self.by_user.insert(user, key);
        self.ready.insert(number, key);
    }

    /// Forgets a client, if it resumes.
    pub(super) fn remove(&mut self, key: ClientKey) {
        if let Some(Session { number, user, resume, state }) = self.sessions.remove(&key) {
            self.by_user.remove(&user);
            match state {
                State::Ready => drop(self.ready.remove(&number)),
                State::Blocked => {}
                State::Ahead => self.ahead.remove(resume.next(), (key, number)),
            }
        }
    }

    /// Returns the client of a user, if it resumes.
    pub(super) fn client_of(&self, user: UserId) -> Option<ClientKey> {
        self.by_user.get(&user).copied()
    }

    /// Returns whether a client may lack events before the awaited sequence.
    pub(super) fn lacks_events(&self, key: ClientKey, awaited: u64) -> bool {
        self.sessions
            .get(&key)
            .is_some_and(|session| session.state != State::Ahead || session.resume.next() < awaited)
    }

    /// Returns the number of clients that resume.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Returns whether another turn has work to do without new readiness.
    pub(super) fn has_work_left(&self, engine: &Engine, outbound: &Outbound) -> bool {
        outbound.has_writable_replays()
            || (!self.ready.is_empty() && outbound.has_replay_space())
            || self.ahead.is_any_reached(engine.awaited())
    }

    /// Returns when the next client that waits for later sequences may be told, if ever.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.ahead.next_deadline()
    }

    /// Sends clients what they have missed, within the budget of a turn. Those that have everything get the live
    /// events of this turn.
    pub(super) fn advance<S: Stream>(
        &mut self,
        engine: &Engine,
        outbound: &mut Outbound,
        clients: &mut ClientTable<S>,
        cx: &mut Context,
    ) {
        let Budgets { resume_steps: steps, resume_bytes: bytes, .. } = cx.budgets;
        let mut budget = Budget { steps, bytes };
        while budget.bytes > 0
            && let Some((key, written)) = outbound.flush_writable_replay(clients)
        {
            budget.bytes = budget.bytes.saturating_sub(written);
            self.unblock(key);
        }
        for (key, _) in self.ahead.take_reached(engine.awaited()) {
            self.make_ready(key);
        }
        while budget.steps > 0
            && let Some((&number, &key)) = self.ready.first_key_value()
        {
            match self.serve(key, engine, outbound, clients, &mut budget, cx) {
                Served::Exhausted => return,
                Served::CaughtUp => {
                    self.let_join(key, engine, outbound, clients);
                    cx.counters.resumes_completed += 1;
                }
                // It is removed when it is closed.
                Served::Blocked | Served::Closing => self.set_state(key, State::Blocked),
                Served::Ahead => {
                    self.set_state(key, State::Ahead);
                    if let Some(session) = self.sessions.get(&key) {
                        self.ahead.insert(session.resume.next(), (key, number), cx.now);
                    }
                }
            }
            self.ready.remove(&number);
            budget.steps = budget.steps.saturating_sub(CLIENT_STEPS);
        }
    }

    /// Serves a client until it has everything, or cannot be served further in this turn.
    fn serve<S: Stream>(
        &mut self,
        key: ClientKey,
        engine: &Engine,
        outbound: &mut Outbound,
        clients: &mut ClientTable<S>,
        budget: &mut Budget,
        cx: &mut Context,
    ) -> Served {
        let others = self.sessions.len().saturating_sub(1);
        let Some(session) = self.sessions.get_mut(&key) else { return Served::Closing };
        loop {
            if clients.get(key).is_none_or(Client::is_closing) {
                return Served::Closing;
            }
            self.lines.clear();
            let space = outbound.replay_space(clients, key).at_most(budget.bytes);
            let lines = &mut self.lines;
            let progress = session
                .resume
                .advance(engine, &mut budget.steps, others, |missed| lines.append(missed, space));
            if let Some((first, last)) = self.lines.gap {
                cx.counters.resume_gaps += 1;
                log_gap(session.user, first, last, cx);
                if let Some(client) = clients.get_mut(key) {
                    client.stream_mut().on_gap_told(first, last);
                }
            }
            budget.bytes = budget.bytes.saturating_sub(self.lines.bytes.len());
            cx.counters.lines_replayed += self.lines.count;
            outbound.replay(clients, key, &self.lines.bytes, self.lines.count);
            match progress {
                ResumeProgress::CaughtUp => return Served::CaughtUp,
                ResumeProgress::Ahead => return Served::Ahead,
                ResumeProgress::BudgetExhausted => return Served::Exhausted,
                ResumeProgress::Blocked if outbound.has_unsent(clients, key) => {
                    return Served::Blocked;
                }
                ResumeProgress::Blocked if self.lines.bytes.is_empty() || budget.bytes == 0 => {
                    return Served::Exhausted;
                }
                ResumeProgress::Blocked => {}
            }
        }
    }

    /// Lets live events continue what a client has missed.
    fn let_join<S: Stream>(
        &mut self,
        key: ClientKey,
        engine: &Engine,
        outbound: &mut Outbound,
        clients: &mut ClientTable<S>,
    ) {
        self.remove(key);
        if let Some(client) = clients.get_mut(key)
            && let Some(recipient) = client.user().and_then(|user| engine.graph().recipient(user))
        {
            client.stream_mut().on_caught_up();
            outbound.join(clients, key, recipient);
        }
    }

    fn set_state(&mut self, key: ClientKey, state: State) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.state = state;
        }
    }

    /// Lists a client whose socket has accepted bytes.
    fn unblock(&mut self, key: ClientKey) {
        if self.sessions.get(&key).is_some_and(|session| session.state == State::Blocked) {
            self.make_ready(key);
        }
    }

    fn make_ready(&mut self, key: ClientKey) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.state = State::Ready;
            self.ready.insert(session.number, key);
        }
    }

    /// Tells the clients that have waited too long for sequences that are not applied: they continue with the
    /// awaited one. `is_drained` is whether nothing that was sent waits to be applied. Otherwise the clients get the
    /// timeout once more, because their sequences may be on the way.
    pub(super) fn expire(&mut self, engine: &Engine, is_drained: bool, now: Instant) {
        for (key, _) in self.ahead.take_expired(now, is_drained) {
            if let Some(session) = self.sessions.get_mut(&key) {
                session.resume.give_up_waiting(engine.awaited());
            }
            self.make_ready(key);
        }
    }

    /// Lets all clients continue in the stream that starts again, before `engine` is reset.
    pub(super) fn on_reset(&mut self, engine: &Engine) {
        for (key, _) in self.ahead.take_reached(engine.awaited()) {
            self.make_ready(key);
        }
        for session in self.sessions.values_mut() {
            session.resume.on_reset(engine);
        }
    }

    /// Panics unless the invariants between two turns hold.
    pub(super) fn check<S>(&self, clients: &ClientTable<S>) {
        assert_eq!(self.sessions.len(), self.by_user.len(), "each user resumes once");
        let is_in = |state: State| move |session: &&Session| session.state == state;
        let ready = self.sessions.values().filter(is_in(State::Ready)).count();
        assert_eq!(self.ready.len(), ready, "only clients that can be served are listed");
        let ahead = self.sessions.values().filter(is_in(State::Ahead)).count();
        assert_eq!(self.ahead.len(), ahead, "each client that is ahead is listed");
        for (&key, session) in &self.sessions {
            assert_eq!(self.client_of(session.user), Some(key));
            let Some(output) = clients.output(key) else { panic!("{key:?} is of a client") };
            assert!(output.is_replaying(), "{key:?} gets no live events");
            let is_ready = session.state == State::Ready;
            let is_listed = self.ready.get(&session.number) == Some(&key);
            assert_eq!(is_listed, is_ready, "{key:?} is listed if it can be served");
            let is_blocked = session.state == State::Blocked;
            assert!(!is_blocked || !output.is_empty(), "{key:?} waits for its socket");
        }
    }
}

#[cold]
fn log_gap(user: UserId, first: u64, last: u64, cx: &mut Context) {
    cx.log(
        LogKind::ResumeGap,
        Level::Warn,
        log_line!(
            "user {user} resumes with a gap: sequences {first} to {last} may be missing";
            user = user
        ),
    );
}

/// Lines for one client, as they are sent.
#[derive(Debug, Default)]
struct MissedLines {
    bytes: Vec<u8>,
    count: u64,
    gap: Option<(u64, u64)>,
}

impl MissedLines {
    fn clear(&mut self) {
        self.bytes.clear();
        (self.count, self.gap) = (0, None);
    }

    /// Appends a piece if it fits.
    fn append(&mut self, missed: Missed<'_>, space: ReplaySpace) -> Result<(), Full> {
        let start = self.bytes.len();
        match missed {
            Missed::Lines { text, count } if !space.fits(start, start + text.len(), count) => {
                return Err(Full);
            }
            Missed::Lines { text, count } => {
                self.bytes.extend_from_slice(text);
                self.count += count;
            }
            Missed::Gap { first, last } => {
                // Writing to a vector does not fail.
                let _ = write!(self.bytes, "gap {first} {last}\r\n");
                if !space.fits(start, self.bytes.len(), 1) {
                    self.bytes.truncate(start);
                    return Err(Full);
                }
                self.count += 1;
                self.gap = Some((first, last));
            }
        }
        Ok(())
    }
}
