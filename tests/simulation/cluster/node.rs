//! One server: its hub, its peers, and its two connections to the engine.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use eventserver::cluster::{
    EngineError, Next, Position, Replica, Request, Response, Restored, StreamEngine,
};
use eventserver::config::Config;
use eventserver::hub::{Budgets, Capacity, Hub, NextTurn, RestoredLog};
use eventserver::journal::{self, CommitPoint, read_entries};

use super::content::Content;
use super::memory_engine::MemoryEngine;
use super::stream_log::SimulatedStream;
use crate::journal::commit_log::{SimulatedLog, Sync};
use crate::journal::memory_disk::MemoryDisk;
use crate::journal::story::Story;
use crate::sim::Random;
use crate::sim::kernel::{Kernel, KernelConfig, SocketId};
use crate::sim::network::SimulatedAcceptor;
use crate::sim::socket::Side;

const CAPACITY: Capacity = Capacity { max_clients: 16, max_awaiting_id: 16 };

/// Turns after which a hub that is still not idle counts as spinning.
const MAX_TURNS_TO_IDLE: usize = 20_000;

/// What does not change over a run.
pub(super) struct Scenario {
    pub(super) config: Config,
    pub(super) budgets: Budgets,
    pub(super) kernel_config: KernelConfig,
    pub(super) story: Story,
    pub(super) max_retained_bytes: usize,
    /// The number of bytes that are read from a journal at once.
    pub(super) recall_bytes: usize,
}

/// The journal of a server.
pub(super) struct Journal {
    pub(super) disk: MemoryDisk,
    pub(super) log: SimulatedLog,
}

impl Journal {
    /// Continues a journal.
    pub(super) fn at(disk: MemoryDisk, position: journal::Position, point: CommitPoint) -> Journal {
        Journal { log: SimulatedLog::new(disk.clone(), position, point), disk }
    }
}

/// One of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Append,
    Tail,
}

/// The state of a connection's call.
#[derive(Debug, Default)]
enum Call {
    #[default]
    None,
    /// It was made, and has not reached the engine.
    Sent(Request),
    /// It was answered, and the answer has not arrived.
    Answered(Request, Result<Response, EngineError>),
}

#[derive(Debug, Default)]
struct Connection {
    call: Call,
    /// The engine's epoch when it connected.
    epoch: u64,
}

/// A client that reads at its own pace.
struct ClientPeer {
    socket: SocketId,
    user: u64,
    /// The awaited sequence when it sent its ID line, and when it was registered at the latest.
    registered: (u64, Option<u64>),
}

pub(super) struct Node {
    hub: Hub<SimulatedAcceptor>,
    pub(super) kernel: Rc<RefCell<Kernel>>,
    pub(super) replica: Rc<RefCell<Replica>>,
    journal: Option<Journal>,
    connections: [Connection; 2],
    recall_bytes: usize,
    clients: Vec<ClientPeer>,
    /// What this server has read.
    pub(super) content: Content,
    pub(super) awaited: u64,
    /// Whether it cannot reach the engine.
    pub(super) is_cut: bool,
    /// Until when it does nothing.
    pub(super) stands_still_until: u64,
    /// Identifies it among all servers of the run.
    pub(super) life: u64,
}

/// What became of a step of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// The engine has accepted an entry.
    Accepted(Vec<u8>),
    /// The server has read up to this sequence, from the first one on.
    Read(u64, u64),
    Other,
}

impl Node {
    pub(super) fn start(
        scenario: &Scenario,
        restored: Restored,
        journal: Option<Journal>,
        content: Content,
        clock: Instant,
        (life, epoch): (u64, u64),
        random: &mut Random,
    ) -> Node {
        let awaited = restored.state.awaited;
        assert_eq!(content.next(), awaited);
        assert_eq!(content.hash(awaited), restored.state.hash(), "a restored state at {awaited}");
        let mut replica = Replica::new(life, restored.history, restored.kept, restored.epoch)
            .with_max_retained_bytes(scenario.max_retained_bytes);
        if journal.is_some() {
            replica = replica.with_journal(restored.stream);
        }
        let replica = Rc::new(RefCell::new(replica));
        let kernel = Kernel::new(scenario.kernel_config.clone(), random.fork());
        let kernel = Rc::new(RefCell::new(kernel));
        let acceptor = |side| SimulatedAcceptor { kernel: Rc::clone(&kernel), side };
        let (sources, clients) = (acceptor(Side::Source), acceptor(Side::Client));
        let log = SimulatedStream {
            replica: Rc::clone(&replica),
            journal: journal.as_ref().map(|journal| journal.log.clone()),
        };
        let hub = Hub::new(scenario.config.clone(), CAPACITY, sources, clients, clock)
            .with_budgets(scenario.budgets)
            .with_log(RestoredLog { log, graph: restored.state.graph, awaited, history: None });
        let connection = || Connection { call: Call::None, epoch };
        Node {
            hub,
            kernel,
            replica,
            journal,
            connections: [connection(), connection()],
            recall_bytes: scenario.recall_bytes,
            clients: Vec::new(),
            content,
            awaited,
            is_cut: false,
            stands_still_until: 0,
            life,
        }
    }
}

/// Connections to the engine.
impl Node {
    /// Takes one step of a connection: makes a call, lets it reach the engine, or lets its answer arrive.
    /// `is_lossy`: the call or its answer may get lost.
    pub(super) fn step(
        &mut self,
        lane: Lane,
        engine: &mut MemoryEngine,
        story: Story,
        now: u64,
        (random, is_lossy): (&mut Random, bool),
    ) -> Step {
        let time = Duration::from_millis(now);
        let mut is_lost = || is_lossy && random.one_in(10);
        let connection = &mut self.connections[lane as usize];
        match std::mem::take(&mut connection.call) {
            Call::None => {
                let mut replica = self.replica.borrow_mut();
                let next = match lane {
                    Lane::Append => replica.next_append(time),
                    Lane::Tail => replica.next_tail(time),
                };
                match (next, &self.journal) {
                    (Next::Call(request), _) => connection.call = Call::Sent(request),
                    (Next::Recall(after), Some(journal)) => {
                        let after = after.map(|position| position.0);
                        let part = read_entries(&journal.disk, after, self.recall_bytes);
                        replica.on_recalled(part.map_err(|error| error.to_string()), time);
                    }
                    _ => return Step::Nothing,
                }
                Step::Other
            }
            Call::Sent(request) => {
                let lost = || Err(EngineError::passing("lost"));
                let is_broken = connection.epoch != engine.epoch;
                connection.epoch = engine.epoch;
                if is_broken || self.is_cut || is_lost() {
                    connection.call = Call::Answered(request, lost());
                    return Step::Other;
                }
                let end = engine.end();
                let response = request.call(engine);
                let accepted = match &request {
                    Request::Append(entry) | Request::Create(entry) if engine.end() != end => {
                        let end = end.unwrap_or(Position(entry.first));
                        assert!(entry.first <= end.0, "a server appends a hole after {end}");
                        Step::Accepted(entry.bytes.to_vec())
                    }
                    _ => Step::Other,
                };
                let response = if is_lost() { lost() } else { response };
                connection.call = Call::Answered(request, response);
                accepted
            }
            Call::Answered(request, response) => {
                let entries = match &response {
                    Ok(Response::Found(found)) => found.entries.clone(),
                    _ => Vec::new(),
                };
                let mut replica = self.replica.borrow_mut();
                let before = replica.position();
                match lane {
                    Lane::Append => replica.on_appended(&request, response, time, random.next()),
                    Lane::Tail => replica.on_tail(&request, response, time, random.next()),
                }
                while let Some(entry) = replica.take_unjournaled() {
                    self.journal.as_ref().unwrap().log.0.borrow_mut().append_stream(entry);
                }
                let after = replica.position();
                for (position, bytes) in entries {
                    if position > before && position <= after {
                        self.content.take(story, &bytes);
                    }
                }
                assert_eq!(self.content.next(), after.0, "what was read");
                match after > before {
                    true => Step::Read(before.0, after.0),
                    false => Step::Other,
                }
            }
        }
    }
}

/// The journal.
impl Node {
    /// Lets the thread of the journal, if there is one, write what has arrived.
    pub(super) fn step_journal(&mut self, sync: Sync) {
        if let Some(journal) = &self.journal {
            journal.log.0.borrow_mut().step(sync);
        }
    }
}

/// Turns.
impl Node {
    pub(super) fn turn_until_idle(&mut self, now: Instant) -> usize {
        for turns in 0..MAX_TURNS_TO_IDLE {
            let is_due = match self.hub.next_turn() {
                NextTurn::Now => true,
                NextTurn::Until(when) => when <= now,
                NextTurn::WhenReady => false,
            };
            if !(is_due || self.kernel.borrow().has_ready()) {
                self.note_registered();
                return turns;
            }
            self.turn(now);
        }
        panic!("the server spins");
    }

    pub(super) fn turn(&mut self, now: Instant) {
        let mut ready = Vec::new();
        self.kernel.borrow_mut().poll(&mut ready);
        let kernel = Rc::clone(&self.kernel);
        self.hub.turn(now, &ready, |more| kernel.borrow_mut().poll(more));
        self.kernel.borrow_mut().calls.clear();
        self.hub.check_invariants();
        let awaited = self.hub.totals().awaited();
        assert!(awaited >= self.awaited, "the awaited sequence falls");
        assert!(awaited <= self.content.next(), "{awaited} was not read back");
        self.awaited = awaited;
        assert_eq!(self.hub.state_hash(), Some(self.content.hash(awaited)), "at {awaited}");
    }

    /// Lets clients read. Returns whether nothing was left for them.
    pub(super) fn is_delivered(&mut self, now: Instant) -> bool {
        self.clients_read(usize::MAX);
        self.turn_until_idle(now);
        let kernel = self.kernel.borrow();
        self.clients.iter().all(|client| kernel.sockets[client.socket].is_drained())
    }

    pub(super) fn is_still(&self) -> bool {
        self.hub.next_turn() != NextTurn::Now && !self.kernel.borrow().has_ready()
    }
}

/// Clients.
impl Node {
    pub(super) fn client_connects(&mut self) {
        let mut kernel = self.kernel.borrow_mut();
        if self.clients.len() >= 6 {
            return;
        }
        let Some(socket) = kernel.connect(Side::Client) else { return };
        // One user each, so that nobody is taken over.
        let user = 1 + self.clients.len() as u64;
        kernel.sockets[socket].unsent.extend(format!("{user}\n").bytes());
        kernel.deliver(socket);
        self.clients.push(ClientPeer { socket, user, registered: (self.awaited, None) });
    }

    pub(super) fn clients_read(&mut self, max: usize) {
        for client in &self.clients {
            self.kernel.borrow_mut().sockets[client.socket].receive(max);
        }
    }

    /// Notes for each client that the server has read its ID line, because nothing is left to do.
    fn note_registered(&mut self) {
        let kernel = self.kernel.borrow();
        for client in &mut self.clients {
            let socket = &kernel.sockets[client.socket];
            if socket.unsent.is_empty() && !socket.edge && socket.token.is_some() {
                client.registered.1.get_or_insert(self.awaited);
            }
        }
    }

    /// Checks that each client has received all that is due (`is_complete`), or nothing else.
    pub(super) fn check_clients(&mut self, is_complete: bool) {
        self.clients_read(usize::MAX);
        let kernel = self.kernel.borrow();
        let mut due_from: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
        for client in &self.clients {
            let received = &kernel.sockets[client.socket].received;
            let (earliest, latest) = client.registered;
            let mut starts = earliest..=latest.unwrap_or(self.awaited);
            let found = starts.any(|start| {
                let due = due_from
                    .entry((client.user, start))
                    .or_insert_with(|| self.due(client.user, start));
                match is_complete {
                    true => received == due,
                    false => due.starts_with(received),
                }
            });
            assert!(found, "client {} has received {}", client.user, received.escape_ascii());
        }
    }

    /// Returns the bytes for a client that registered when a sequence was awaited.
    fn due(&self, user: u64, start: u64) -> Vec<u8> {
        let mut due = Vec::new();
        for sequence in start..self.awaited {
            if let Some(line) = self.content.at(sequence)
                && line.1.concerns(user, self.content.follows_before(sequence))
            {
                due.extend(&line.0);
                due.extend(b"\r\n");
            }
        }
        due
    }
}

/// Restores a server's state from the engine, which may fail.
pub(super) fn restore(
    engine: &mut MemoryEngine,
    first: u64,
    create: Option<u64>,
) -> Option<Restored> {
    let _: &mut dyn StreamEngine = engine;
    eventserver::cluster::restore(engine, first, create, 0, |_| {}).ok()
}
