//! One run: lives of a server on one disk, its peers, and what must hold.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use eventserver::config::{Config, OnSourceDisconnect};
use eventserver::engine::{FollowerGraph, History, LogEntry, StateHash};
use eventserver::hub::{Budgets, Capacity, Hub, NextTurn, RestoredLog};
use eventserver::journal::{
    CommitPoint, Recovery, SnapshotName, Storage, maintain, snapshot_recovered,
};
use eventserver::protocol::UserId;

use super::commit_log::{SimulatedLog, Sync};
use super::memory_disk::{Fault, MemoryDisk};
use super::prng::Prng;
use super::story::{Follows, Line, Story, USERS};
use crate::sim::Random;
use crate::sim::kernel::{Kernel, KernelConfig, SocketId};
use crate::sim::network::SimulatedAcceptor;
use crate::sim::socket::Side;

const CAPACITY: Capacity = Capacity { max_clients: 16, max_awaiting_id: 16 };
const LIVES: usize = 5;
const MAX_SOURCES: usize = 3;
const GAP_TIMEOUT: u64 = 50;
/// Turns after which a hub that is still not idle counts as spinning.
const MAX_TURNS_TO_IDLE: usize = 20_000;

/// What does not change over the lives of a run.
struct Scenario {
    config: Config,
    budgets: Budgets,
    kernel_config: KernelConfig,
    commit_point: CommitPoint,
    disk_fails: bool,
    story: Story,
}

/// A source that speaks `SYNC`.
struct SourcePeer {
    socket: SocketId,
    /// The bytes of answers that were looked at.
    read: usize,
    /// The next sequence to send, once the server has said what it awaits.
    next: Option<u64>,
    last_committed: Option<u64>,
}

/// A client that reads at its own pace.
struct ClientPeer {
    socket: SocketId,
    user: u64,
    /// It has everything up to this sequence, if it resumes.
    after: Option<u64>,
    /// The number of applied sequences when it sent its ID line, and when it was registered at the latest.
    registered: (usize, Option<usize>),
}

/// One life of a server.
struct Life {
    hub: Hub<SimulatedAcceptor>,
    kernel: Rc<RefCell<Kernel>>,
    log: SimulatedLog,
    sources: Vec<SourcePeer>,
    clients: Vec<ClientPeer>,
    /// The streams and sequences that were applied, each with the line and the follows before it.
    applied: Vec<(Line, Rc<Follows>)>,
    follows: Rc<Follows>,
    /// The stream and the awaited sequence at the start of the life.
    start: (u64, u64),
    stream: u64,
    awaited: u64,
    story: Story,
    /// The first sequence of a stream.
    first: u64,
    /// The first sequence from which on the recovery has read all events back.
    covered_from: u64,
    /// The number of entries that were compared with the story, and the stream after them.
    checked: (usize, u64),
}

pub(super) struct World {
    random: Random,
    scenario: Scenario,
    disk: MemoryDisk,
    life: Life,
    clock: Instant,
    now: u64,
    turns: usize,
}

impl Scenario {
    fn random(random: &mut Random, seed: u64) -> Scenario {
        let resets = random.one_in(3);
        let has_holes = random.one_in(3);
        let small_queue = random.one_in(4);
        let default = Budgets::default();
        let is_small = random.one_in(2);
        Scenario {
            config: Config {
                first_sequence: *random.pick(&[1, 0, 1000]),
                reorder_window: *random.pick(&[1, 3, 20, 200]),
                gap_timeout: has_holes.then_some(Duration::from_millis(GAP_TIMEOUT)),
                on_source_disconnect: match resets {
                    true => OnSourceDisconnect::Reset,
                    false => OnSourceDisconnect::Keep,
                },
                client_queue_bytes: if small_queue { 60 } else { 1 << 20 },
                stall_timeout: Duration::from_secs(3600),
                // A client that is ahead waits as long as it takes.
                identify_timeout: Duration::from_secs(3600),
                resume_events: if resets { 0 } else { *random.pick(&[0, 100_000]) },
                ..Config::default()
            },
            budgets: Budgets {
                events: if is_small { *random.pick(&[1, 3, 20]) } else { default.events },
                in_flight_bytes: *random.pick(&[1, 50, 1000, 1 << 20]),
                unapplied: *random.pick(&[1, 5, 100, 1 << 18]),
                prompt_batch_bytes: *random.pick(&[1, 50, 1000]),
                ..default
            },
            kernel_config: KernelConfig {
                backlog: 16,
                max_buffer_bytes: *random.pick(&[20, 200, 5000]),
                fault_rate: *random.pick(&[0, 10]),
                descriptors: 100,
                events_per_poll: 1024,
            },
            commit_point: *random.pick(&[
                CommitPoint::Synced,
                CommitPoint::Synced,
                CommitPoint::Written,
            ]),
            disk_fails: random.one_in(3),
            story: Story { seed, has_holes },
        }
    }

    fn first(&self) -> u64 {
        self.config.first_sequence
    }

    fn hash(&self, (stream, awaited): (u64, u64)) -> StateHash {
        let mut graph = FollowerGraph::with_state_hash();
        let follows = self.story.follows(stream, self.first(), awaited);
        follows.iter().for_each(|&(a, b)| graph.follow(UserId(a), UserId(b)));
        graph.state_hash(awaited).unwrap()
    }
}

impl World {
    /// Runs everything that a seed decides, and panics on a violation. Returns the number of turns.
    pub(super) fn run(seed: u64) -> usize {
        let mut random = Random::new(&[], seed);
        let scenario = Scenario::random(&mut random, seed);
        let disk = MemoryDisk::default();
        let clock = Instant::now();
        let start = (0, scenario.first());
        let life = Life::start(&scenario, &disk, start, clock, &mut random);
        let mut world = World { random, scenario, disk, life, clock, now: 0, turns: 0 };
        for _ in 0..LIVES {
            world.live();
            world.restart();
        }
        world.turns
    }

    /// Runs random steps, with a quiet moment now and then.
    fn live(&mut self) {
        for _ in 0..self.random.below(150) {
            self.step();
            match self.random.below(6) {
                0 => {}
                1 => self.turn(),
                _ => self.turn_until_idle(),
            }
            if self.random.one_in(40) {
                self.settle();
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..8 => self.client_connects(),
            8..20 => self.clients_read(),
            20..28 => self.source_connects(),
            28..60 => self.source_sends(),
            60..63 if self.random.one_in(3) => self.source_ends(),
            63..90 => self.disk_step(),
            90..93 => self.maintain(),
            93..95 => self.disk_will_fail(),
            _ => self.transfer(),
        }
    }

    /// Lets one of the next operations of the disk fail.
    fn disk_will_fail(&mut self) {
        if self.scenario.disk_fails {
            let fault = *self.random.pick(&[Fault::Error, Fault::Full, Fault::ShortWrite]);
            self.disk.fail(self.random.below(8) as u64, fault);
        }
    }

    fn disk_step(&mut self) {
        let sync = *self.random.pick(&[Sync::None, Sync::None, Sync::InBackground, Sync::AtOnce]);
        self.life.log.0.borrow_mut().step(sync);
    }

    fn maintain(&mut self) {
        let retain_bytes = *self.random.pick(&[0, 3000]);
        let result = maintain(&mut self.disk.clone(), retain_bytes, || {});
        if !self.scenario.disk_fails {
            result.unwrap();
        } else if let Err(error) = result {
            assert!(!error.is_corruption(), "{error}");
        }
    }

    fn transfer(&mut self) {
        let mut kernel = self.life.kernel.borrow_mut();
        (0..kernel.sockets.len()).for_each(|id| kernel.deliver(id));
    }
}

/// Peers.
impl World {
    fn client_connects(&mut self) {
        let mut kernel = self.life.kernel.borrow_mut();
        if self.life.clients.len() >= 12 {
            return;
        }
        let Some(socket) = kernel.connect(Side::Client) else { return };
        // One user each, so that nobody is taken over.
        let user = 1 + self.life.clients.len() as u64;
        // A reset ends what a sequence means.
        let may_resume = self.scenario.config.resume_events > 0;
        let after = (may_resume && self.random.one_in(2)).then(|| {
            let last = self.life.awaited.saturating_sub(1);
            let ahead = *self.random.pick(&[0, 0, 0, 2]);
            (last + ahead).saturating_sub(self.random.below(60) as u64)
        });
        let id = after.map_or_else(|| user.to_string(), |after| format!("{user}|{after}"));
        kernel.sockets[socket].unsent.extend(format!("{id}\n").bytes());
        kernel.deliver(socket);
        let registered = (self.life.applied.len(), None);
        self.life.clients.push(ClientPeer { socket, user, after, registered });
    }

    fn clients_read(&mut self) {
        let mut kernel = self.life.kernel.borrow_mut();
        for client in &self.life.clients {
            let max = *self.random.pick(&[0, 1, 30, usize::MAX]);
            kernel.sockets[client.socket].receive(max);
        }
    }

    fn source_connects(&mut self) {
        let mut kernel = self.life.kernel.borrow_mut();
        if self.life.sources.len() >= MAX_SOURCES {
            return;
        }
        let Some(socket) = kernel.connect(Side::Source) else { return };
        kernel.sockets[socket].unsent.extend(b"SYNC\n");
        kernel.deliver(socket);
        self.life.sources.push(SourcePeer { socket, read: 0, next: None, last_committed: None });
    }

    /// Lets a source that knows what is awaited send lines, new ones or again.
    fn source_sends(&mut self) {
        self.sources_read();
        let Life { sources, kernel, stream, awaited, .. } = &mut self.life;
        if sources.is_empty() {
            return;
        }
        let mut kernel = kernel.borrow_mut();
        let at = self.random.below(sources.len());
        let source = &mut sources[at];
        let socket = &mut kernel.sockets[source.socket];
        let Some(next) = source.next else { return };
        if socket.unsent.len() > 2000 || socket.is_closed {
            return;
        }
        let window = u64::from(self.scenario.config.reorder_window);
        let count = self.random.between(1, window.min(40));
        let first =
            next.saturating_sub(*self.random.pick(&[0, 0, 0, 2])).max(self.scenario.first());
        let mut end = next.max(first + count);
        if self.scenario.story.has_holes {
            // A hole stays awaited until it is given up.
            end = end.min(*awaited + window);
        }
        if end <= first {
            return;
        }
        let mut sequences: Vec<u64> = (first..end).collect();
        self.random.shuffle(&mut sequences);
        source.next = Some(next.max(end));
        for sequence in sequences {
            if let Line::Event(bytes, _) | Line::Void(bytes) =
                self.scenario.story.line(*stream, sequence)
            {
                socket.unsent.extend(bytes);
                socket.unsent.push_back(b'\n');
            }
        }
        if self.random.one_in(10) {
            socket.unsent.extend(b"SYNC\r\n");
        }
        socket.deliver();
    }

    /// Lets the sources read their answers, and checks them.
    fn sources_read(&mut self) {
        let Life { sources, kernel, awaited, .. } = &mut self.life;
        let mut kernel = kernel.borrow_mut();
        for source in sources.iter_mut() {
            if self.random.one_in(3) {
                continue;
            }
            let socket = &mut kernel.sockets[source.socket];
            socket.receive(*self.random.pick(&[3, usize::MAX]));
            while let Some(end) = socket.received[source.read..].iter().position(|&b| b == b'\n') {
                let line = &socket.received[source.read..source.read + end];
                source.read += end + 1;
                let line = str::from_utf8(line).unwrap();
                let (word, number) = line.split_once(' ').unwrap();
                let number: u64 = number.parse().unwrap();
                match word {
                    "awaited" => {
                        assert!(number <= *awaited);
                        source.next.get_or_insert(number);
                    }
                    "committed" => {
                        assert!(number < *awaited, "{number} is not applied");
                        assert!(source.last_committed.is_none_or(|last| last < number));
                        source.last_committed = Some(number);
                    }
                    _ => panic!("{line}"),
                }
            }
        }
    }

    /// Ends a source that has nothing unsent.
    fn source_ends(&mut self) {
        let Life { sources, kernel, .. } = &mut self.life;
        if sources.is_empty() {
            return;
        }
        let at = self.random.below(sources.len());
        let mut kernel = kernel.borrow_mut();
        if kernel.sockets[sources[at].socket].unsent.is_empty() {
            let socket = sources.swap_remove(at).socket;
            kernel.sockets[socket].is_finished = true;
            kernel.deliver(socket);
        }
    }
}

/// Turns.
impl World {
    fn turn_until_idle(&mut self) {
        for _ in 0..MAX_TURNS_TO_IDLE {
            let now = self.clock + Duration::from_millis(self.now);
            let is_due = match self.life.hub.next_turn() {
                NextTurn::Now => true,
                NextTurn::Until(when) => when <= now,
                NextTurn::WhenReady => false,
            };
            if !(is_due || self.life.kernel.borrow().has_ready()) {
                return self.life.note_registered();
            }
            self.turn();
        }
        panic!("the server spins");
    }

    fn turn(&mut self) {
        self.turns += 1;
        let now = self.clock + Duration::from_millis(self.now);
        let Life { hub, kernel, .. } = &mut self.life;
        let mut ready = Vec::new();
        kernel.borrow_mut().poll(&mut ready);
        hub.turn(now, &ready, |more| kernel.borrow_mut().poll(more));
        kernel.borrow_mut().calls.clear();
        hub.check_invariants();
        self.life.observe(&self.scenario);
    }

    /// Lets everything that was sent arrive, be committed and be read, and checks it.
    fn settle(&mut self) {
        self.disk.end_faults();
        for round in 0..10_000 {
            self.transfer();
            self.sources_read();
            for client in &self.life.clients {
                self.life.kernel.borrow_mut().sockets[client.socket].receive(usize::MAX);
            }
            self.turn_until_idle();
            self.life.log.0.borrow_mut().step(Sync::AtOnce);
            // A sync in the background may have failed before.
            let problem = eventserver::hub::CommitLog::problem(&self.life.log);
            assert!(problem.is_none() || round == 0, "{problem:?}");
            let is_still =
                !self.life.kernel.borrow().has_ready()
                    && self.life.hub.next_turn() != NextTurn::Now
                    && self.life.log.0.borrow().is_idle()
                    && self.life.clients.iter().all(|client| {
                        self.life.kernel.borrow().sockets[client.socket].is_drained()
                    })
                    && self
                        .life
                        .kernel
                        .borrow()
                        .sockets
                        .iter()
                        .all(|it| it.unsent.is_empty() || it.is_closed);
            if !is_still {
                continue;
            }
            let sent = self.life.sources.iter().filter_map(|source| source.next).max();
            if sent.is_none_or(|sent| self.is_applied_up_to(sent)) {
                let unstamped = eventserver::hub::CommitLog::stamp_point(&self.life.log);
                assert_eq!(unstamped, None, "a closed segment lacks its state hash");
                return self.life.check_received();
            }
            // What is missing is never sent.
            self.now += GAP_TIMEOUT + 1;
        }
        let sent: Vec<Option<u64>> = self.life.sources.iter().map(|source| source.next).collect();
        panic!("work is stuck, the sources have sent up to {sent:?}: {}", self.life.hub.totals());
    }

    /// Returns whether all before `sent` is applied, except for holes at its end.
    fn is_applied_up_to(&self, sent: u64) -> bool {
        let Life { stream, awaited, .. } = self.life;
        (awaited..sent).all(|it| self.scenario.story.line(stream, it) == Line::Hole)
    }
}

/// Restarts.
impl World {
    /// Ends the life, by a stop of the process or a power cut, and starts the next one.
    fn restart(&mut self) {
        if self.random.one_in(3) {
            // The disk dies under the thread first.
            self.disk.end_faults();
            self.disk.die(self.random.below(20) as u64);
            self.life.log.0.borrow_mut().step(Sync::AtOnce);
            self.turn();
        }
        self.life.check_prefixes();
        let is_power_cut = self.random.one_in(2);
        let least = {
            let thread = self.life.log.0.borrow();
            match is_power_cut {
                true => thread.durable as usize,
                false => thread.committed() as usize,
            }
        };
        match is_power_cut {
            true => self.disk.cut_power(&mut Prng::new(self.random.next())),
            false => self.disk.end_process(),
        }
        let states = self.life.states(&self.scenario);
        let recovery = Recovery::read(&self.disk, self.scenario.first(), |_| {})
            .unwrap_or_else(|error| panic!("{error}"));
        let restored = recovery.state.awaited;
        let is_restored = |&&state: &&(u64, u64)| {
            state.1 == restored && self.scenario.hash(state) == recovery.state.hash()
        };
        let Some(&start) = states[least..].iter().rev().find(is_restored) else {
            panic!("restored {restored}, but the states from {least} on are {:?}", &states[least..])
        };
        drop(recovery);
        self.life = Life::start(&self.scenario, &self.disk, start, self.clock, &mut self.random);
    }
}

/// Checks that a recovery reads back all events from a snapshot on, or from the beginning.
fn check_reach(disk: &MemoryDisk, covered_from: u64) {
    let names = disk.list().unwrap();
    let snapshots: Vec<u64> = names
        .iter()
        .filter_map(|name| SnapshotName::parse(name))
        .map(|name| name.awaited)
        .collect();
    let oldest = snapshots.iter().min().copied().unwrap_or(0);
    assert!(covered_from <= oldest, "{covered_from}, but there is a snapshot at {oldest}");
}

impl Life {
    /// Recovers from the disk, which leads to the state `start`.
    fn start(
        scenario: &Scenario,
        disk: &MemoryDisk,
        start: (u64, u64),
        clock: Instant,
        random: &mut Random,
    ) -> Life {
        let resume_events = scenario.config.resume_events;
        let mut recovery =
            Recovery::read_with_history(disk, scenario.first(), resume_events, &mut (), |_| {})
                .unwrap();
        recovery.complete(&mut disk.clone()).unwrap();
        let history = recovery.state.history.as_ref();
        let covered_from = history.map_or(0, History::covered_from);
        check_reach(disk, covered_from);
        let min_bytes = *random.pick(&[0, 1000, u64::MAX]);
        snapshot_recovered(&mut disk.clone(), &mut recovery, min_bytes).unwrap();
        assert_eq!(recovery.state.hash(), scenario.hash(start));
        let log = SimulatedLog::new(disk.clone(), recovery.position, scenario.commit_point);
        let kernel = Kernel::new(scenario.kernel_config.clone(), random.fork());
        let kernel = Rc::new(RefCell::new(kernel));
        let acceptor = |side| SimulatedAcceptor { kernel: Rc::clone(&kernel), side };
        let (sources, clients) = (acceptor(Side::Source), acceptor(Side::Client));
        let restored = RestoredLog {
            log: log.clone(),
            graph: recovery.state.graph,
            awaited: start.1,
            history: recovery.state.history,
        };
        let hub = Hub::new(scenario.config.clone(), CAPACITY, sources, clients, clock)
            .with_budgets(scenario.budgets)
            .with_log(restored);
        let (stream, awaited) = start;
        Life {
            hub,
            kernel,
            log,
            sources: Vec::new(),
            clients: Vec::new(),
            applied: Vec::new(),
            follows: Rc::new(scenario.story.follows(stream, scenario.first(), awaited)),
            start,
            stream,
            awaited,
            story: scenario.story,
            first: scenario.first(),
            covered_from,
            checked: (0, stream),
        }
    }

    /// Records what the last turn has applied, and checks that all of it was committed and is what was sent.
    fn observe(&mut self, scenario: &Scenario) {
        let awaited = self.hub.totals().awaited();
        // Before a reset everything was applied.
        for end in self.new_resets(scenario) {
            self.apply_up_to(scenario, end);
            self.stream += 1;
            (self.awaited, self.follows) = (scenario.first(), Rc::default());
            self.sources.clear();
        }
        assert!(awaited >= self.awaited, "the awaited sequence falls in a reset only");
        self.apply_up_to(scenario, awaited);
        self.check_entries(scenario);
        let states = self.states(scenario);
        let (last_stream, staged) = states[states.len() - 1];
        let max_unapplied = scenario.budgets.unapplied + scenario.budgets.events as u64;
        assert!(
            last_stream != self.stream || staged.saturating_sub(awaited) <= max_unapplied,
            "{staged} is staged while {awaited} is awaited"
        );
        let committed = self.log.0.borrow().committed() as usize;
        let is_before = states[..=committed]
            .iter()
            .any(|&(stream, next)| stream == self.stream && next >= awaited);
        let is_reset = awaited == scenario.first();
        assert!(
            is_before || is_reset || self.is_skipping(scenario, &states),
            "{awaited} is not committed"
        );
    }

    /// Returns whether the awaited sequence follows a gap that was skipped, which needs no entry of its own.
    fn is_skipping(&self, scenario: &Scenario, states: &[(u64, u64)]) -> bool {
        let committed = self.log.0.borrow().committed() as usize;
        let (stream, next) = states[committed];
        stream == self.stream
            && next < self.awaited
            && (next..self.awaited).all(|it| scenario.story.line(stream, it) == Line::Hole)
    }

    /// Returns the awaited sequences before the resets that were not seen yet.
    fn new_resets(&self, scenario: &Scenario) -> Vec<u64> {
        let (checked, _) = self.checked;
        let thread = self.log.0.borrow();
        let resets = thread.entries[checked..].iter().filter_map(|entry| match entry {
            LogEntry::Reset { awaited, first } => {
                assert_eq!(*first, scenario.first());
                Some(*awaited)
            }
            LogEntry::Batch(_) => None,
        });
        resets.collect()
    }

    fn apply_up_to(&mut self, scenario: &Scenario, awaited: u64) {
        while self.awaited < awaited {
            let line = scenario.story.line(self.stream, self.awaited);
            let follows = Rc::clone(&self.follows);
            if let Line::Event(_, effect) = line {
                effect.apply(Rc::make_mut(&mut self.follows));
            }
            self.applied.push((line, follows));
            self.awaited += 1;
        }
    }

    /// Returns the streams and awaited sequences before the first entry and after each.
    fn states(&self, scenario: &Scenario) -> Vec<(u64, u64)> {
        let (mut stream, start) = self.start;
        let mut states = vec![(stream, start)];
        for entry in &self.log.0.borrow().entries {
            let (_, next) = entry.range();
            if let LogEntry::Reset { first, .. } = entry {
                assert_eq!(*first, scenario.first());
                stream += 1;
            }
            states.push((stream, next));
        }
        states
    }

    /// Checks that new entries hold the lines of their sequences, byte by byte.
    fn check_entries(&mut self, scenario: &Scenario) {
        let thread = self.log.0.borrow();
        let (checked, mut stream) = self.checked;
        for entry in &thread.entries[checked..] {
            let LogEntry::Batch(batch) = entry else {
                stream += 1;
                continue;
            };
            let mut lines = Vec::new();
            let mut count = 0;
            for sequence in batch.first..batch.next {
                if let Line::Event(bytes, _) = scenario.story.line(stream, sequence) {
                    lines.extend(bytes);
                    lines.push(b'\n');
                    count += 1;
                }
            }
            assert_eq!(batch.lines.escape_ascii().to_string(), lines.escape_ascii().to_string());
            assert_eq!(batch.count, count);
        }
        self.checked = (thread.entries.len(), stream);
    }

    /// Notes for each client that the server has read its ID line, because nothing is left to do.
    fn note_registered(&mut self) {
        let kernel = self.kernel.borrow();
        for client in &mut self.clients {
            let socket = &kernel.sockets[client.socket];
            if socket.unsent.is_empty() && !socket.edge && socket.token.is_some() {
                client.registered.1.get_or_insert(self.applied.len());
            }
        }
    }

    /// Checks that each client has received all that is due.
    fn check_received(&self) {
        self.check_clients(|received, due| received == due);
    }

    /// Checks that each client has received nothing but what is due, from the first byte on.
    fn check_prefixes(&mut self) {
        for client in &self.clients {
            self.kernel.borrow_mut().sockets[client.socket].receive(usize::MAX);
        }
        self.check_clients(|received, due| due.starts_with(received));
    }

    fn check_clients(&self, is_right: impl Fn(&[u8], &[u8]) -> bool) {
        let kernel = self.kernel.borrow();
        let mut due_from: BTreeMap<(u64, usize), Vec<u8>> = BTreeMap::new();
        for client in &self.clients {
            let received = &kernel.sockets[client.socket].received;
            if let Some(after) = client.after {
                let due = self.due_after(client.user, after);
                assert!(
                    is_right(received, &due),
                    "client {} after {after} has received {} instead of {}",
                    client.user,
                    received.escape_ascii(),
                    due.escape_ascii()
                );
                continue;
            }
            let (earliest, latest) = client.registered;
            let mut starts = earliest..=latest.unwrap_or(self.applied.len());
            let found = starts.any(|start| {
                let due = due_from
                    .entry((client.user, start))
                    .or_insert_with(|| self.due(client.user, start));
                is_right(received, due)
            });
            assert!(found, "client {} has received {}", client.user, received.escape_ascii());
        }
    }

    /// Returns the bytes for a client that has everything up to a sequence, whichever life has applied the events.
    fn due_after(&self, user: u64, after: u64) -> Vec<u8> {
        let mut due = Vec::new();
        let mut next = after + 1;
        if next < self.covered_from {
            due.extend(format!("gap {next} {}\r\n", self.covered_from - 1).bytes());
            next = self.covered_from;
        }
        // Nothing precedes the stream.
        next = next.max(self.first);
        let mut follows = self.story.follows(self.stream, self.first, next);
        for sequence in next..self.awaited {
            let Line::Event(bytes, effect) = self.story.line(self.stream, sequence) else {
                continue;
            };
            if effect.concerns(user, &follows) {
                due.extend(bytes);
                due.extend(b"\r\n");
            }
            effect.apply(&mut follows);
        }
        due
    }

    /// Returns the bytes for a client that registered before the applied sequence with this index.
    fn due(&self, user: u64, start: usize) -> Vec<u8> {
        let mut due = Vec::new();
        for (line, follows) in &self.applied[start..] {
            if let Line::Event(bytes, effect) = line
                && effect.concerns(user, follows)
            {
                due.extend(bytes);
                due.extend(b"\r\n");
            }
        }
        due
    }
}

const _: () = assert!(USERS < 12, "some clients are of users that no event names");
