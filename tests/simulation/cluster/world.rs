//! One run: three servers, an engine, sources that move, and what must hold.

use std::time::{Duration, Instant};

use eventserver::cluster::{
    GRACE, JournaledEntries, Position, RestoreError, Restored, Trouble, begin_journal, publish,
    resume,
};
use eventserver::config::Config;
use eventserver::hub::Budgets;
use eventserver::journal::{CommitPoint, Recovery, maintain, snapshot_recovered};

use super::content::{Content, VARIANTS, line_of};
use super::memory_engine::MemoryEngine;
use super::node::{Journal, Lane, Node, Scenario, Step, restore};
use crate::journal::commit_log::Sync;
use crate::journal::memory_disk::{Fault, MemoryDisk};
use crate::journal::story::{Line, Story};
use crate::sim::Random;
use crate::sim::kernel::{KernelConfig, SocketId};
use crate::sim::prng::Prng;
use crate::sim::socket::Side;
use crate::variable;

/// The restored state of a server, what leads to it, and the journal if there is one.
type Started = (Restored, Content, Option<Journal>);

const SERVERS: usize = 3;
const SOURCES: usize = 3;
const GAP_TIMEOUT: u64 = 50;

/// How long nothing happens to the server that has to repair the stream, in milliseconds.
const CALM: u64 = GRACE.as_millis() as u64 + 2000;

/// A source that speaks `SYNC` and moves between servers.
#[derive(Default)]
struct SourcePeer {
    connection: Option<SourceConnection>,
    variant: u64,
}

struct SourceConnection {
    server: usize,
    life: u64,
    socket: SocketId,
    /// The bytes of answers that were looked at.
    read: usize,
    /// The next sequence to send, once the server has said what it awaits.
    next: Option<u64>,
    last_committed: Option<u64>,
}

/// The disk of a server with a journal.
struct ServerDisk {
    disk: MemoryDisk,
    commit_point: CommitPoint,
    /// What the last life had read.
    content: Content,
    /// What a start that has failed to begin the journal had read. It may have begun it all the same.
    begun: Option<Content>,
    /// The sequence before which the journal must have everything.
    floor: u64,
    /// Whether the journal has all entries of the stream, from the first one on.
    is_whole: bool,
    /// Whether the present life has begun it, and has read more of the stream, from the snapshot on.
    is_new: bool,
}

/// What the engine may do to its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Losses {
    None,
    /// Entries are lost only while a server that keeps them all is in reach: nothing may be forgotten.
    Repairable,
    /// Anything is lost: it may be forgotten, but not in silence.
    Any,
}

pub(super) struct World {
    random: Random,
    scenario: Scenario,
    losses: Losses,
    is_lossy: bool,
    engine: MemoryEngine,
    servers: [Option<Node>; SERVERS],
    /// What the servers with a journal keep over their lives.
    disks: [Option<ServerDisk>; SERVERS],
    sources: Vec<SourcePeer>,
    lives: u64,
    /// What the engine's stream says.
    truth: Content,
    /// What servers have read, by the first that has.
    committed: Content,
    /// The largest sequence that was sent, plus one.
    sent: u64,
    /// Until when nothing happens to the server that has to repair the stream.
    calm_until: u64,
    /// Whether servers may have applied different events.
    may_have_diverged: bool,
    clock: Instant,
    now: u64,
    turns: usize,
    /// Whether the steps that matter are printed.
    is_verbose: bool,
}

impl World {
    /// Runs everything that a seed decides, and panics on a violation. Returns the number of turns.
    pub(super) fn run(seed: u64) -> usize {
        let mut random = Random::new(&[], seed);
        let story = Story { seed, has_holes: random.one_in(4) };
        let default = Budgets::default();
        let losses = *random.pick(&[Losses::None, Losses::Repairable, Losses::Any]);
        let have_journals = random.one_in(2);
        let scenario = Scenario {
            config: Config {
                first_sequence: *random.pick(&[1, 0, 1000]),
                // Nothing waits behind as many holes as a window has sequences.
                reorder_window: *random.pick(if story.has_holes {
                    &[20, 200]
                } else {
                    &[3, 20, 200]
                }),
                gap_timeout: story.has_holes.then_some(Duration::from_millis(GAP_TIMEOUT)),
                stall_timeout: Duration::from_secs(100_000),
                ..Config::default()
            },
            budgets: Budgets {
                events: *random.pick(&[1, 3, 20, default.events]),
                in_flight_bytes: *random.pick(&[1, 50, 1000, 1 << 20]),
                unapplied: *random.pick(&[1, 5, 100, 1 << 18]),
                ..default
            },
            kernel_config: KernelConfig {
                backlog: 16,
                max_buffer_bytes: *random.pick(&[200, 5000]),
                fault_rate: *random.pick(&[0, 10]),
                descriptors: 100,
                events_per_poll: 1024,
            },
            story,
            max_retained_bytes: match losses {
                Losses::Any => *random.pick(&[500, 3000, 1 << 20]),
                // Journals keep everything.
                Losses::Repairable if have_journals => *random.pick(&[500, 1 << 26]),
                _ => 1 << 26,
            },
            recall_bytes: *random.pick(&[1, 1000, 1 << 20]),
        };
        let first = scenario.config.first_sequence;
        let sources = (0..SOURCES).map(|_| {
            let variant = random.below(VARIANTS as usize) as u64;
            SourcePeer { connection: None, variant }
        });
        let sources = sources.collect();
        let disks = [(); SERVERS].map(|()| {
            // Repairs may depend on every journal.
            let is_journaled = have_journals && (losses == Losses::Repairable || random.one_in(2));
            is_journaled.then(|| ServerDisk {
                disk: MemoryDisk::default(),
                commit_point: *random.pick(&[CommitPoint::Synced, CommitPoint::Written]),
                content: Content::new(first),
                begun: None,
                floor: first,
                is_whole: false,
                is_new: false,
            })
        });
        let mut world = World {
            is_lossy: random.one_in(2),
            engine: MemoryEngine::new(*random.pick(&[2, 3, 100])),
            random,
            scenario,
            losses,
            servers: [const { None }; SERVERS],
            disks,
            sources,
            lives: 0,
            truth: Content::new(first),
            committed: Content::new(first),
            sent: first,
            calm_until: 0,
            may_have_diverged: false,
            clock: Instant::now(),
            now: 1000,
            turns: 0,
            is_verbose: variable("CLUSTER_VERBOSE").is_some(),
        };
        world.start_server(0, true);
        for _ in 0..4 {
            for _ in 0..world.random.below(400) {
                world.step();
            }
            world.settle();
        }
        world.turns
    }

    fn print(&self, what: impl FnOnce() -> String) {
        if self.is_verbose {
            println!("{} ms: {}", self.now, what());
        }
    }

    fn first(&self) -> u64 {
        self.scenario.config.first_sequence
    }

    fn step(&mut self) {
        self.now += *self.random.pick(&[0, 0, 1, 1, 5, 30]);
        if self.is_calm() {
            if self.engine.is_down || self.engine.is_read_only {
                self.calm_until = self.now + CALM;
            }
            // The time that servers need to repair is counted on.
            (0..SERVERS).for_each(|server| self.step_connection(server));
        }
        let server = self.random.below(SERVERS);
        if self.random.one_in(2) {
            let sync =
                *self.random.pick(&[Sync::None, Sync::None, Sync::InBackground, Sync::AtOnce]);
            self.with_node(server, |node, _| node.step_journal(sync));
        }
        match self.random.below(201) {
            0..70 => self.step_connection(server),
            70..120 => self.turn(server),
            120..150 => self.source_sends(),
            150..158 => self.source_moves(),
            158..166 => self.with_node(server, |node, random| {
                node.clients_read(*random.pick(&[1, 30, usize::MAX]));
            }),
            166..172 => self.with_node(server, |node, _| node.client_connects()),
            172..178 => self.start_server(server, false),
            178..181 => self.crash(server),
            181..184 => self.cut(server),
            184..187 => self.stand_still(server),
            187..189 => self.engine.is_down = self.random.one_in(2),
            189 => self.engine.is_read_only = self.random.one_in(2),
            190..192 => self.engine.replicate(),
            192..194 => self.fail_over(),
            194 => self.engine.restart(),
            195..198 => self.publish(),
            198 => self.disk_will_fail(server),
            _ if self.random.one_in(2) => self.maintain(server),
            _ => self.now += *self.random.pick(&[100, 1000]),
        }
    }

    fn with_node(&mut self, server: usize, act: impl FnOnce(&mut Node, &mut Random)) {
        if let Some(node) = &mut self.servers[server] {
            act(node, &mut self.random);
        }
    }

    fn turn(&mut self, server: usize) {
        let now = self.clock + Duration::from_millis(self.now);
        let Some(node) = &mut self.servers[server] else { return };
        if node.stands_still_until > self.now {
            return;
        }
        match self.random.one_in(3) {
            true => node.turn(now),
            false => self.turns += node.turn_until_idle(now),
        }
        self.turns += 1;
    }
}

/// The engine and its connections.
impl World {
    fn step_connection(&mut self, server: usize) {
        for _ in 0..self.random.between(1, 6) {
            let lane = *self.random.pick(&[Lane::Append, Lane::Tail]);
            self.step_lane(server, lane);
        }
    }

    /// Takes a step of one connection. Returns whether something happened.
    fn step_lane(&mut self, server: usize, lane: Lane) -> bool {
        let Some(node) = &mut self.servers[server] else { return false };
        if node.stands_still_until > self.now {
            return false;
        }
        let story = self.scenario.story;
        let faults = (&mut self.random, self.is_lossy);
        match node.step(lane, &mut self.engine, story, self.now, faults) {
            Step::Nothing => return false,
            Step::Other => {}
            Step::Accepted(entry) => {
                self.on_accepted(&entry);
                self.print(|| format!("{server} appends up to {}", self.truth.next()));
            }
            Step::Read(from, to) => {
                self.print(|| format!("{server} reads {from}..{to}"));
                self.on_read(server, from, to);
            }
        }
        self.check_trouble(server);
        true
    }

    fn on_accepted(&mut self, entry: &[u8]) {
        let before = self.truth.next();
        self.truth.take(self.scenario.story, entry);
        if self.losses == Losses::Any {
            return;
        }
        for sequence in before..self.truth.next().min(self.committed.next()) {
            assert_eq!(
                self.truth.at(sequence),
                self.committed.at(sequence),
                "{sequence} was committed, and is replaced"
            );
        }
    }

    fn on_read(&mut self, server: usize, from: u64, to: u64) {
        let node = self.servers[server].as_ref().unwrap();
        if self.losses != Losses::Any {
            for sequence in from..to.min(self.committed.next()) {
                assert_eq!(
                    node.content.at(sequence),
                    self.committed.at(sequence),
                    "two servers apply different events at {sequence}"
                );
            }
        }
        if to > self.committed.next() {
            self.committed = node.content.clone();
        }
    }

    /// Returns whether a server has all that it has read in memory or in its journal, or need not have.
    fn has_everything(&self, server: usize) -> bool {
        let keeps_all = self.scenario.max_retained_bytes >= 1 << 26;
        self.disks[server]
            .as_ref()
            .map_or(keeps_all, |disk| disk.is_whole || keeps_all && disk.is_new)
    }

    /// Checks that a server reports nothing that cannot have happened.
    fn check_trouble(&self, server: usize) {
        let node = self.servers[server].as_ref().unwrap();
        match node.replica.borrow().trouble() {
            None
            | Some(Trouble::Unreachable(_) | Trouble::Journal(_) | Trouble::Trimmed { .. }) => {}
            // It waits for a server that has kept what it has not.
            Some(Trouble::Lost { .. }) if !self.has_everything(server) => {}
            Some(trouble) => assert!(
                self.may_have_diverged,
                "server {server} at {} of {} in {:?}: {trouble}",
                node.content.next(),
                self.truth.next(),
                self.losses
            ),
        }
    }

    /// Loses what the replica lacks, if the run allows it.
    fn fail_over(&mut self) {
        let kept = self.engine.replicated_end();
        let lost_any = kept < self.engine.end();
        let is_allowed = match self.losses {
            Losses::None => !lost_any,
            Losses::Repairable => !lost_any || self.can_repair(),
            Losses::Any => true,
        };
        if !is_allowed {
            return;
        }
        self.print(|| format!("failover from {:?} to {kept:?}", self.engine.end()));
        self.engine.fail_over();
        if lost_any {
            self.truth.truncate(kept.map_or(self.first(), |end| end.0));
            self.calm_until = self.now + CALM;
            self.engine.is_down = false;
            self.engine.is_read_only = false;
            self.may_have_diverged |= self.losses == Losses::Any;
        }
    }

    /// Returns whether a server is in reach that has read all that any server has, from the genesis on.
    fn can_repair(&self) -> bool {
        self.calm_until <= self.now
            && self.servers.iter().enumerate().any(|(server, node)| {
                let Some(node) = node else { return false };
                node.content.next() >= self.committed.next()
                    && self.has_everything(server)
                    && !node.is_cut
                    && node.stands_still_until <= self.now
                    && node.replica.borrow().trouble().is_none()
            })
    }

    /// Returns whether something may happen to a server.
    fn is_calm(&self) -> bool {
        self.losses != Losses::Any && self.calm_until > self.now
    }

    fn publish(&mut self) {
        if self.is_calm() {
            return;
        }
        if self.random.one_in(3) {
            self.engine.fail_in = Some(self.random.below(20) as u64);
        }
        let (first, id) = (self.first(), self.random.next());
        // It may be published though the call fails.
        let _ = publish(&mut self.engine, first, id);
        self.engine.fail_in = None;
        // A server that repairs the stream needs what is older than the snapshot, too.
        if self.losses == Losses::Repairable {
            self.engine.replicate();
        }
    }
}

/// Servers.
impl World {
    fn start_server(&mut self, server: usize, creates: bool) {
        if self.servers[server].is_some() {
            return;
        }
        let first = self.first();
        let create = creates.then_some(7);
        let had_stream = self.engine.end().is_some();
        let started = match self.disks[server] {
            None => self.start_without_journal(create),
            Some(_) => self.start_with_journal(server, create),
        };
        let Some((restored, content, journal)) = started else { return };
        if !had_stream && self.engine.end().is_some() {
            self.engine.replicate();
        }
        self.lives += 1;
        self.print(|| format!("{server} starts at {}", restored.state.awaited));
        let ids = (self.lives, self.engine.epoch);
        let node = Node::start(
            &self.scenario,
            restored,
            journal,
            content,
            self.clock + Duration::from_millis(self.now),
            ids,
            &mut self.random,
        );
        self.servers[server] = Some(node);
        let next = self.servers[server].as_ref().unwrap().content.next();
        self.on_read(server, first, next);
    }

    fn start_without_journal(&mut self, create: Option<u64>) -> Option<Started> {
        let restored = restore(&mut self.engine, self.scenario.config.first_sequence, create)?;
        let content = self.content_at(restored.state.awaited)?;
        Some((restored, content, None))
    }

    /// Recovers the journal, and goes on where it ends, or begins it anew.
    fn start_with_journal(&mut self, server: usize, create: Option<u64>) -> Option<Started> {
        let first = self.first();
        let ServerDisk { disk, commit_point, content, begun, floor, .. } =
            self.disks[server].as_ref().unwrap();
        let (disk, point, floor) = (disk.clone(), *commit_point, *floor);
        let mut entries = JournaledEntries::default();
        let recovery = Recovery::read_with_history(&disk, first, 0, &mut entries, |_| {});
        let mut recovery = recovery.unwrap_or_else(|error| panic!("{error}"));
        recovery.complete(&mut disk.clone()).unwrap();
        let min_bytes = *self.random.pick(&[0, 1000, u64::MAX]);
        snapshot_recovered(&mut disk.clone(), &mut recovery, min_bytes).unwrap();
        let awaited = recovery.state.awaited;
        assert!(awaited >= floor, "the journal of {server} ends at {awaited}, not {floor}");
        let begun = begun.as_ref().filter(|_| awaited > content.next());
        let mut content = begun.unwrap_or(content).clone();
        let journaled = entries.restored(&mut recovery).unwrap();
        match resume(&mut self.engine, first, create, 0, journaled.as_ref(), |_| {}) {
            Ok(None) => {
                content.truncate(awaited);
                self.disks[server].as_mut().unwrap().is_new = false;
                let journal = Journal::at(disk, recovery.position, point);
                Some((journaled.unwrap(), content, Some(journal)))
            }
            Ok(Some(mut restored)) => {
                let content = self.content_at(restored.state.awaited)?;
                let is_whole = content.next() == first && restored.snapshot.is_none();
                let kept = self.disks[server].as_mut().unwrap();
                (kept.floor, kept.is_whole, kept.is_new) = (first, is_whole, true);
                if self.random.one_in(4) {
                    disk.die(self.random.below(20) as u64);
                }
                let position = begin_journal(&mut disk.clone(), recovery.position, &mut restored);
                let Ok(position) = position else {
                    self.end_disk(&disk);
                    self.disks[server].as_mut().unwrap().begun = Some(content);
                    return None;
                };
                disk.end_faults();
                Some((restored, content, Some(Journal::at(disk, position, point))))
            }
            Err(error @ RestoreError::Diverged { .. }) => {
                assert!(self.may_have_diverged, "{error}");
                self.print(|| format!("{server} does not start: {error}"));
                self.move_journal_away(server);
                None
            }
            Err(RestoreError::Engine(_) | RestoreError::Missing { .. }) => None,
            // A snapshot was published before the engine lost what leads to it.
            Err(error) => {
                assert_eq!(self.losses, Losses::Any, "{error}");
                None
            }
        }
    }

    /// Does what an operator does about a journal that is not the beginning of the stream.
    fn move_journal_away(&mut self, server: usize) {
        let first = self.first();
        if let Some(disk) = &mut self.disks[server] {
            (disk.disk, disk.content, disk.floor) =
                (MemoryDisk::default(), Content::new(first), first);
            disk.is_whole = false;
        }
    }

    /// Returns what the stream says before a sequence. `None` if it has lost that.
    fn content_at(&self, awaited: u64) -> Option<Content> {
        let mut content = self.truth.clone();
        (awaited <= content.next()).then(|| {
            content.truncate(awaited);
            content
        })
    }

    fn crash(&mut self, server: usize) {
        if self.is_calm() {
            return;
        }
        let Some(mut node) = self.servers[server].take() else { return };
        self.print(|| format!("{server} crashes"));
        node.check_clients(false);
        self.end_journal(server, &mut node);
    }

    /// Ends the process of a server, or cuts its power.
    fn end_journal(&mut self, server: usize, node: &mut Node) {
        let Some(ServerDisk { disk, commit_point, content, floor, .. }) = &mut self.disks[server]
        else {
            return;
        };
        let (disk, is_synced) = (disk.clone(), *commit_point == CommitPoint::Synced);
        content.clone_from(&node.content);
        *floor = node.awaited;
        if self.random.one_in(2) {
            disk.end_faults();
            disk.die(self.random.below(8) as u64);
            node.step_journal(Sync::AtOnce);
        }
        if self.end_disk(&disk) && !is_synced {
            self.disks[server].as_mut().unwrap().floor = self.first();
        }
    }

    /// Ends what uses a disk, or cuts its power. Returns whether it was the latter.
    fn end_disk(&mut self, disk: &MemoryDisk) -> bool {
        let is_power_cut = self.random.one_in(2);
        match is_power_cut {
            true => disk.cut_power(&mut Prng::new(self.random.next())),
            false => disk.end_process(),
        }
        is_power_cut
    }

    /// Lets one of the next operations of a disk fail.
    fn disk_will_fail(&mut self, server: usize) {
        if let (Some(disk), Some(_)) = (&self.disks[server], &self.servers[server])
            && !self.is_calm()
        {
            let fault = *self.random.pick(&[Fault::Error, Fault::Full, Fault::ShortWrite]);
            disk.disk.fail(self.random.below(8) as u64, fault);
        }
    }

    fn maintain(&mut self, server: usize) {
        let Some(disk) = self.disks[server].as_ref().filter(|_| self.servers[server].is_some())
        else {
            return;
        };
        // A journal from which others are repaired keeps everything.
        let retain_bytes = match self.losses {
            Losses::Repairable => u64::MAX,
            _ => *self.random.pick(&[0, 3000]),
        };
        if let Err(error) = maintain(&mut disk.disk.clone(), retain_bytes, || {}) {
            assert!(!error.is_corruption(), "{error}");
        }
    }

    fn cut(&mut self, server: usize) {
        let is_cut = self.random.one_in(2);
        if !(is_cut && self.is_calm()) {
            self.with_node(server, |node, _| node.is_cut = is_cut);
        }
    }

    fn stand_still(&mut self, server: usize) {
        let until = self.now + *self.random.pick(&[10, 1000, 20_000]);
        if !self.is_calm() {
            self.with_node(server, |node, _| node.stands_still_until = until);
        }
    }
}

/// Sources.
impl World {
    fn source_moves(&mut self) {
        let index = self.random.below(SOURCES);
        let server = self.random.below(SERVERS);
        self.disconnect(index);
        self.connect(index, server);
    }

    fn disconnect(&mut self, index: usize) {
        let Some(connection) = self.sources[index].connection.take() else { return };
        let Some(node) = &self.servers[connection.server] else { return };
        if node.life == connection.life {
            let mut kernel = node.kernel.borrow_mut();
            kernel.sockets[connection.socket].is_finished = true;
            kernel.deliver(connection.socket);
        }
    }

    fn connect(&mut self, index: usize, server: usize) {
        let Some(node) = &self.servers[server] else { return };
        let mut kernel = node.kernel.borrow_mut();
        let Some(socket) = kernel.connect(Side::Source) else { return };
        kernel.sockets[socket].unsent.extend(b"SYNC\n");
        kernel.deliver(socket);
        let (life, next, last_committed) = (node.life, None, None);
        let connection = SourceConnection { server, life, socket, read: 0, next, last_committed };
        self.sources[index].connection = Some(connection);
    }

    /// Lets a source read its answers, and checks them. Returns whether it is connected.
    fn source_reads(&mut self, index: usize) -> bool {
        let Some(connection) = &mut self.sources[index].connection else { return false };
        let node = self.servers[connection.server].as_ref();
        let Some(node) = node.filter(|node| node.life == connection.life) else {
            self.sources[index].connection = None;
            return false;
        };
        let mut kernel = node.kernel.borrow_mut();
        let socket = &mut kernel.sockets[connection.socket];
        socket.receive(usize::MAX);
        while let Some(end) = socket.received[connection.read..].iter().position(|&b| b == b'\n') {
            let line = &socket.received[connection.read..connection.read + end];
            connection.read += end + 1;
            let (word, number) = str::from_utf8(line).unwrap().split_once(' ').unwrap();
            let number: u64 = number.parse().unwrap();
            match word {
                "awaited" => {
                    assert!(number <= node.awaited);
                    connection.next.get_or_insert(number);
                }
                "committed" => {
                    assert!(number < node.awaited, "{number} is not applied");
                    assert!(connection.last_committed.is_none_or(|last| last < number));
                    connection.last_committed = Some(number);
                }
                _ => panic!("{word}"),
            }
        }
        let is_closed = socket.is_closed;
        if is_closed {
            drop(kernel);
            self.sources[index].connection = None;
        }
        !is_closed
    }

    fn source_sends(&mut self) {
        let index = self.random.below(SOURCES);
        let count = self.random.between(1, 12);
        self.send(index, count, u64::MAX);
    }

    /// Lets a source send up to `count` lines, new ones or again, up to a sequence.
    fn send(&mut self, index: usize, count: u64, limit: u64) {
        if !self.source_reads(index) {
            return;
        }
        let SourcePeer { connection: Some(connection), variant } = &mut self.sources[index] else {
            return;
        };
        let node = self.servers[connection.server].as_ref().unwrap();
        let mut kernel = node.kernel.borrow_mut();
        let socket = &mut kernel.sockets[connection.socket];
        let Some(next) = connection.next else { return };
        if socket.unsent.len() > 2000 {
            return;
        }
        let story = self.scenario.story;
        let window = u64::from(self.scenario.config.reorder_window);
        let again = *self.random.pick(&[0, 0, 0, 2]);
        let first = next.saturating_sub(again).max(self.scenario.config.first_sequence);
        let mut end = next.max(first + count.min(window));
        if story.has_holes {
            // A hole stays awaited until it is given up.
            end = end.min(node.awaited + window);
        }
        end = end.min(limit);
        if end <= first {
            return;
        }
        let mut sequences: Vec<u64> = (first..end).collect();
        self.random.shuffle(&mut sequences);
        connection.next = Some(next.max(end));
        self.sent = self.sent.max(end);
        for sequence in sequences {
            let differs = self.random.one_in(4);
            let variant = if differs { *variant } else { 0 };
            if let Line::Event(bytes, _) | Line::Void(bytes) = line_of(story, variant, sequence) {
                socket.unsent.extend(bytes);
                socket.unsent.push_back(b'\n');
            }
        }
        socket.deliver();
    }
}

/// Quiet moments.
impl World {
    /// Ends all faults, lets everything arrive, and checks that all servers have applied the same.
    fn settle(&mut self) {
        self.end_faults();
        let lossy = std::mem::replace(&mut self.is_lossy, false);
        // Servers that have diverged must have noticed it before they are restarted.
        self.run_quietly(200, self.sent);
        for _ in 0..20 {
            if !self.servers.iter().flatten().any(|node| node.replica.borrow().is_in_doubt()) {
                break;
            }
            self.run_quietly(5, self.sent);
        }
        self.check_divergence();
        self.restart_troubled();
        let target = self.sent + 3;
        for round in 0.. {
            assert!(round < 400, "work is stuck: {}", self.describe(target));
            self.run_quietly(20, target);
            if self.is_settled(target) {
                break;
            }
            self.restart_troubled();
        }
        for server in 0..SERVERS {
            let node = self.servers[server].as_mut().unwrap();
            assert!(node.content.agrees(&self.truth), "server {server} differs in silence");
            assert_eq!(node.replica.borrow().trouble(), None);
            node.check_clients(true);
        }
        if self.losses != Losses::Any {
            assert!(self.truth.next() >= self.committed.next(), "committed events are gone");
        }
        self.committed = self.truth.clone();
        self.may_have_diverged = false;
        self.is_lossy = lossy;
    }

    fn end_faults(&mut self) {
        self.engine.is_down = false;
        self.engine.is_read_only = false;
        for node in self.servers.iter_mut().flatten() {
            node.is_cut = false;
            node.stands_still_until = 0;
        }
        self.disks.iter().flatten().for_each(|disk| disk.disk.end_faults());
    }

    /// Lets everybody work for some rounds, with sources that send up to a sequence.
    fn run_quietly(&mut self, rounds: usize, target: u64) {
        for _ in 0..rounds {
            self.now += 40;
            for server in 0..SERVERS {
                self.start_server(server, true);
                for lane in [Lane::Append, Lane::Tail] {
                    for _ in 0..6 {
                        self.step_lane(server, lane);
                    }
                }
                let now = self.clock + Duration::from_millis(self.now);
                if let Some(node) = &mut self.servers[server] {
                    node.step_journal(Sync::AtOnce);
                    node.clients_read(usize::MAX);
                    self.turns += node.turn_until_idle(now);
                    let mut kernel = node.kernel.borrow_mut();
                    (0..kernel.sockets.len()).for_each(|id| kernel.deliver(id));
                }
            }
            for index in 0..SOURCES {
                if !self.source_reads(index) || self.random.one_in(50) {
                    self.disconnect(index);
                    self.connect(index, index % SERVERS);
                }
                self.send(index, 40, target);
            }
        }
    }

    /// Checks that each server whose content is not that of the stream says so.
    fn check_divergence(&self) {
        for node in self.servers.iter().flatten() {
            let replica = node.replica.borrow();
            let says_so = replica.trouble().is_some_and(|trouble| !trouble.is_passing());
            let is_right =
                node.content.agrees(&self.truth) && node.content.next() <= self.truth.next();
            assert!(
                is_right || says_so,
                "a server at {} differs from the stream at {} and does not say so: {:?}",
                node.content.next(),
                self.truth.next(),
                replica.trouble()
            );
        }
    }

    /// Restarts servers that say that they need it, as an operator does.
    fn restart_troubled(&mut self) {
        for server in 0..SERVERS {
            let trouble = self.servers[server]
                .as_ref()
                .and_then(|node| node.replica.borrow().trouble().cloned());
            if trouble.as_ref().is_none_or(Trouble::is_passing) {
                continue;
            }
            if let Some(mut node) = self.servers[server].take() {
                node.check_clients(false);
                self.end_journal(server, &mut node);
                if !matches!(trouble, Some(Trouble::Trimmed { .. })) {
                    self.move_journal_away(server);
                }
            }
        }
    }

    fn is_settled(&mut self, target: u64) -> bool {
        let now = self.clock + Duration::from_millis(self.now);
        if !self.servers.iter_mut().flatten().all(|node| node.is_delivered(now)) {
            return false;
        }
        let is_hole = |sequence| line_of(self.scenario.story, 0, sequence) == Line::Hole;
        self.servers.iter().all(|node| {
            node.as_ref().is_some_and(|node| {
                node.is_still()
                    && node.replica.borrow().is_idle()
                    && node.replica.borrow().trouble().is_none()
                    && Position(self.truth.next()) == node.replica.borrow().position()
                    && node.awaited == self.truth.next()
                    && (node.awaited..target).all(is_hole)
            })
        })
    }

    fn describe(&self, target: u64) -> String {
        let servers = self.servers.iter().map(|node| {
            node.as_ref().map(|node| {
                let replica = node.replica.borrow();
                (node.awaited, replica.status(), replica.trouble().cloned(), replica.is_idle())
            })
        });
        let servers: Vec<_> = servers.collect();
        let is_hole = |it: &u64| line_of(self.scenario.story, 0, *it) == Line::Hole;
        let holes: Vec<u64> = (self.truth.next()..target).filter(is_hole).collect();
        format!(
            "target {target}, the stream is at {}, nobody sends {holes:?}, the window is {}: {servers:?}",
            self.truth.next(),
            self.scenario.config.reorder_window
        )
    }
}
