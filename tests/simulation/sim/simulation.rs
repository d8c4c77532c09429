//! One run: a hub, a kernel, peers, and the model that checks the hub.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use eventserver::hub::CloseReason;
use eventserver::hub::{Hub, NextTurn, Readiness};

use super::kernel::{Kernel, SocketId};
use super::model::{Limits, Model, TurnSnapshot};
use super::network::SimulatedAcceptor;
use super::peers::{Pace, Peers};
use super::random::Random;
use super::scenario::Scenario;
use super::socket::Side;

/// Turns after which a hub that is still not idle counts as spinning.
const MAX_TURNS_TO_IDLE: usize = 100_000;

/// Rounds, besides ten for each unsent byte, after which unfinished work counts as stuck.
const MAX_ROUNDS_TO_SETTLE: usize = 20_000;

/// Turns between two reloads of the same settings, which must change nothing.
const RELOAD_INTERVAL: usize = 7;

/// A run in progress.
pub(crate) struct Simulation {
    random: Random,
    scenario: Scenario,
    kernel: Rc<RefCell<Kernel>>,
    hub: Hub<SimulatedAcceptor>,
    /// Readiness that was polled and not yet passed to a turn.
    ready: Vec<Readiness>,
    peers: Peers,
    model: Model,
    start: Instant,
    /// Milliseconds since the start.
    now: u64,
    turns: usize,
    is_tracing: bool,
}

impl Simulation {
    /// Runs everything that `random` decides, and panics on a violation. Returns the number of
    /// turns.
    pub(crate) fn run(random: Random, is_tracing: bool) -> usize {
        let mut simulation = Simulation::new(random, is_tracing);
        simulation.run_to_end();
        simulation.turns
    }

    fn new(mut random: Random, is_tracing: bool) -> Simulation {
        let scenario = Scenario::random(&mut random);
        if is_tracing {
            println!("{scenario:#?}");
        }
        let kernel = Kernel::new(scenario.kernel_config.clone(), random.fork());
        let kernel = Rc::new(RefCell::new(kernel));
        let acceptor = |side| SimulatedAcceptor { kernel: Rc::clone(&kernel), side };
        let start = Instant::now();
        let hub = Hub::new(
            scenario.config.clone(),
            scenario.capacity,
            acceptor(Side::Source),
            acceptor(Side::Client),
            start,
        )
        .with_budgets(scenario.budgets);
        let limits = Limits::new(&scenario.config, scenario.capacity, scenario.budgets.closes);
        let mut peers = Peers::new(&scenario, &mut random);
        peers.is_tracing = is_tracing;
        Simulation {
            model: Model::new(&scenario.config, limits),
            peers,
            hub,
            kernel,
            ready: Vec::new(),
            start,
            now: 0,
            turns: 0,
            is_tracing,
            scenario,
            random,
        }
    }

    fn run_to_end(&mut self) {
        let stops_early = self.random.one_in(4);
        for step in 0..self.scenario.steps {
            self.trace(format_args!("step {step} at {} ms", self.now));
            self.advance_clock();
            let awaited = self.model.sequencer.awaited();
            self.peers.step(&mut self.kernel.borrow_mut(), awaited);
            match self.random.below(10) {
                0 => {}
                1 => self.turn(),
                _ => self.turn_until_idle(),
            }
        }
        if !stops_early {
            self.settle();
            self.check_received();
        }
        self.stop();
    }

    fn trace(&self, what: std::fmt::Arguments<'_>) {
        if self.is_tracing {
            println!("{what}");
        }
    }

    fn advance_clock(&mut self) {
        let passing = match self.random.below(40) {
            0..10 => self.random.between(1, 20),
            10..12 => match self.hub.next_turn() {
                NextTurn::Until(_) => self.until_wakeup().saturating_sub(self.random.between(0, 1)),
                NextTurn::Now | NextTurn::WhenReady => 0,
            },
            12 => 1000,
            _ => 0,
        };
        self.now += passing;
    }

    /// Returns the milliseconds until the hub's next deadline.
    fn until_wakeup(&self) -> u64 {
        self.wakes_at().map_or(0, |at| at.saturating_sub(self.now))
    }

    fn wakes_at(&self) -> Option<u64> {
        match self.hub.next_turn() {
            NextTurn::Now => Some(self.now),
            NextTurn::Until(when) => Some((when - self.start).as_millis() as u64),
            NextTurn::WhenReady => None,
        }
    }

    /// Runs turns until the hub has nothing to do.
    fn turn_until_idle(&mut self) {
        for _ in 0..MAX_TURNS_TO_IDLE {
            let has_ready = self.wakes_at().is_some_and(|at| at <= self.now);
            if self.hub.is_stopped() || !(has_ready || self.kernel.borrow().has_ready()) {
                return;
            }
            self.turn();
        }
        panic!("the server spins");
    }

    fn turn(&mut self) {
        self.poll();
        self.turn_polled();
    }

    fn poll(&mut self) {
        self.kernel.borrow_mut().poll(&mut self.ready);
    }

    fn turn_polled(&mut self) {
        self.turns += 1;
        let now = self.start + Duration::from_millis(self.now);
        let ready = std::mem::take(&mut self.ready);
        let Simulation { hub, kernel, peers, scenario, .. } = self;
        if self.turns.is_multiple_of(RELOAD_INTERVAL) {
            hub.reconfigure(scenario.config.clone(), scenario.capacity);
        }
        hub.turn(now, &ready, |more| {
            peers.step_mid_turn(&mut kernel.borrow_mut());
            kernel.borrow_mut().poll(more)
        });
        self.trace(format_args!("  turn: {ready:?}"));
        self.observe();
    }

    /// Checks the last turn against the model.
    fn observe(&mut self) {
        if self.is_tracing {
            self.kernel.borrow().calls.iter().for_each(|call| println!("    {call}"));
        }
        self.hub.check_invariants();
        let awaited = self.model.sequencer.awaited();
        self.model.observe(&self.snapshot(), &mut self.kernel.borrow_mut());
        if self.model.sequencer.awaited() < awaited {
            self.peers.restart_stream();
        }
    }

    fn snapshot(&self) -> TurnSnapshot {
        let next_turn = self.hub.next_turn();
        TurnSnapshot {
            now: self.now,
            totals: self.hub.totals(),
            lines_received: self.lines_received(),
            is_idle: next_turn != NextTurn::Now && self.ready.is_empty(),
            wakes_at: self.wakes_at(),
        }
    }

    /// Returns how many lines of each open source the hub has processed.
    fn lines_received(&self) -> BTreeMap<SocketId, u64> {
        let kernel = self.kernel.borrow();
        let sockets = kernel.sockets.iter().enumerate();
        let lines = |token: Option<usize>| self.hub.lines_received(token?);
        sockets.filter_map(|(id, socket)| Some((id, lines(socket.token)?))).collect()
    }

    /// Runs until everything sent has been read, and delivered to every client that reads.
    fn settle(&mut self) {
        self.trace(format_args!("settling at {} ms", self.now));
        self.peers.stop_acting(&mut self.kernel.borrow_mut());
        let unsent: usize =
            self.kernel.borrow().sockets.iter().map(|socket| socket.unsent.len()).sum();
        for _ in 0..MAX_ROUNDS_TO_SETTLE + 10 * unsent {
            self.peers.transfer_all(&mut self.kernel.borrow_mut());
            self.turn_until_idle();
            if self.is_settled() {
                return;
            }
            if !self.kernel.borrow().has_ready() {
                self.now += self.until_wakeup().min(100);
            }
        }
        panic!("work is stuck; next event: {:?}", self.model.sequencer.due());
    }

    fn is_settled(&self) -> bool {
        let kernel = self.kernel.borrow();
        let is_still = |id: usize| {
            let socket = &kernel.sockets[id];
            socket.is_closed || socket.is_reset || (socket.unsent.is_empty() && !socket.edge)
        };
        let has_all = |client: &&super::peers::ClientPeer| {
            client.pace == Pace::Never || kernel.sockets[client.socket].is_drained()
        };
        (0..kernel.sockets.len()).all(is_still)
            && self.peers.clients.iter().all(|client| has_all(&client))
            && self.model.sequencer.due().is_none()
            && !kernel.has_reported_backlog(Side::Client)
            && !kernel.has_reported_backlog(Side::Source)
    }

    /// Checks that every client that reads has received all its lines.
    fn check_received(&self) {
        let kernel = self.kernel.borrow();
        for peer in self.peers.clients.iter().filter(|client| client.pace != Pace::Never) {
            if let Some(client) = self.model.clients.get(&peer.socket) {
                let received = &kernel.sockets[peer.socket].received;
                assert!(
                    *received == client.expected,
                    "client {} has not received everything",
                    peer.socket
                );
            }
        }
    }

    /// Stops the hub between a poll and its turn, as a signal does, and runs until it has stopped.
    fn stop(&mut self) {
        // Timeouts that are due fire before the stop.
        self.turn();
        self.poll();
        self.trace(format_args!("stop at {} ms", self.now));
        self.hub.stop(self.start + Duration::from_millis(self.now));
        let drain = self.scenario.config.drain_timeout.as_millis() as u64;
        self.model.stop(self.now + drain);
        self.observe();
        self.turn_polled();
        for _ in 0..MAX_ROUNDS_TO_SETTLE {
            self.turn_until_idle();
            if self.hub.is_stopped() {
                return self.check_stopped();
            }
            self.peers.transfer(&mut self.kernel.borrow_mut());
            if !self.kernel.borrow().has_ready() {
                self.now += self.until_wakeup().min(1 + drain / 4);
            }
        }
        panic!("the server does not stop");
    }

    /// Checks that no connection is left, and that clients closed in order have received all that
    /// was written.
    fn check_stopped(&self) {
        assert!(self.model.clients.is_empty(), "clients are left");
        assert_eq!(self.model.open_sources().count(), 0, "sources are left");
        assert!(self.model.lingering.is_empty(), "closed clients are left");
        assert!(self.model.put_off.is_empty(), "clients whose close was put off are left");
        let mut kernel = self.kernel.borrow_mut();
        for (&id, (reason, client)) in &self.model.closed_clients {
            let socket = &mut kernel.sockets[id];
            socket.deliver();
            socket.receive(usize::MAX);
            if socket.is_reset || client.is_broken {
                continue;
            }
            if client.has_lingered_out {
                assert!(
                    socket.received == client.expected[..client.written as usize],
                    "client {id} has not received all that was written"
                );
            }
            if *reason == CloseReason::Stopped && client.user.is_some() {
                assert_eq!(client.written, client.expected.len() as u64, "of client {id}");
            }
        }
    }
}
