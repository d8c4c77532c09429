//! One run: a server, a kernel, peers, and the model that watches.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use eventserver::hub::CloseReason;
use eventserver::hub::{Hub, NextTurn, Readiness};

use super::kernel::{Kernel, SocketId};
use super::model::{Ending, Limits, Model};
use super::network::SimulatedAcceptor;
use super::peers::{Pace, Peers};
use super::random::Random;
use super::scenario::Scenario;
use super::socket::Side;

/// More turns than this without rest, and the server spins.
const MOST_TURNS_TO_REST: usize = 100_000;

/// More rounds than this, and some for each byte on its way, and those who wait will wait for ever.
const MOST_ROUNDS_TO_SETTLE: usize = 20_000;

/// A run under way.
pub(crate) struct Simulation {
    random: Random,
    scenario: Scenario,
    kernel: Rc<RefCell<Kernel>>,
    hub: Hub<SimulatedAcceptor>,
    /// What the poll has told of and no turn knows yet.
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
    /// Does the whole run that `random` decides, and panics if anything is not as it should be.
    /// Returns how many turns it took.
    pub(crate) fn run(random: Random, is_tracing: bool) -> usize {
        let mut simulation = Simulation::new(random, is_tracing);
        simulation.play();
        simulation.turns
    }

    fn new(mut random: Random, is_tracing: bool) -> Simulation {
        let scenario = Scenario::draw(&mut random);
        if is_tracing {
            println!("{scenario:#?}");
        }
        let kernel = Kernel::new(scenario.habits.clone(), random.fork());
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
        let limits = Limits::new(&scenario.config, scenario.capacity);
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

    fn play(&mut self) {
        let stops_early = self.random.one_in(4);
        for step in 0..self.scenario.steps {
            self.say(format_args!("step {step} at {} ms", self.now));
            self.let_time_pass();
            let awaited = self.model.order.awaited();
            self.peers.act(&mut self.kernel.borrow_mut(), awaited);
            match self.random.below(10) {
                0 => {}
                1 => self.turn(),
                _ => self.turn_until_rest(),
            }
        }
        if !stops_early {
            self.settle();
            self.check_received();
        }
        self.stop();
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        if self.is_tracing {
            println!("{what}");
        }
    }

    fn let_time_pass(&mut self) {
        let passing = match self.random.below(40) {
            0..10 => self.random.between(1, 20),
            10..12 => match self.hub.next_turn() {
                NextTurn::Until(_) => self.until_alarm().saturating_sub(self.random.between(0, 1)),
                NextTurn::Now | NextTurn::WhenReady => 0,
            },
            12 => 1000,
            _ => 0,
        };
        self.now += passing;
    }

    /// Milliseconds until the server wants to wake up by itself.
    fn until_alarm(&self) -> u64 {
        self.wakes_at().map_or(0, |at| at.saturating_sub(self.now))
    }

    fn wakes_at(&self) -> Option<u64> {
        match self.hub.next_turn() {
            NextTurn::Now => Some(self.now),
            NextTurn::Until(when) => Some((when - self.start).as_millis() as u64),
            NextTurn::WhenReady => None,
        }
    }

    /// Lets the server work as long as it has a reason to.
    fn turn_until_rest(&mut self) {
        for _ in 0..MOST_TURNS_TO_REST {
            let has_ready = self.wakes_at().is_some_and(|at| at <= self.now);
            if self.hub.is_stopped() || !(has_ready || self.kernel.borrow().is_anything_ready()) {
                return;
            }
            self.turn();
        }
        panic!("the server does not come to rest");
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
        let Simulation { hub, kernel, peers, .. } = self;
        hub.turn(now, &ready, |more| {
            peers.act_meanwhile(&mut kernel.borrow_mut());
            kernel.borrow_mut().poll(more)
        });
        self.say(format_args!("  turn: {ready:?}"));
        self.observe();
    }

    /// Checks all that is known of what the server just did.
    fn observe(&mut self) {
        if self.is_tracing {
            self.kernel.borrow().calls.iter().for_each(|call| println!("    {call}"));
        }
        self.hub.check_invariants();
        let awaited = self.model.order.awaited();
        self.model.observe(&self.ending(), &mut self.kernel.borrow_mut());
        if self.model.order.awaited() < awaited {
            self.peers.start_anew();
        }
    }

    fn ending(&self) -> Ending {
        let next_turn = self.hub.next_turn();
        Ending {
            now: self.now,
            totals: self.hub.totals(),
            lines_received: self.lines_received(),
            is_at_rest: next_turn != NextTurn::Now && self.ready.is_empty(),
            wakes_at: self.wakes_at(),
        }
    }

    /// How many lines of each open source the server has looked at.
    fn lines_received(&self) -> BTreeMap<SocketId, u64> {
        let kernel = self.kernel.borrow();
        let sockets = kernel.sockets.iter().enumerate();
        let lines = |token: Option<usize>| self.hub.lines_received(token?);
        sockets.filter_map(|(id, socket)| Some((id, lines(socket.token)?))).collect()
    }

    /// Lets everything come to its end that can: whatever was sent is read, and delivered to
    /// everybody who reads.
    fn settle(&mut self) {
        self.say(format_args!("settling at {} ms", self.now));
        self.peers.fall_silent(&mut self.kernel.borrow_mut());
        let unsent: usize =
            self.kernel.borrow().sockets.iter().map(|socket| socket.unsent.len()).sum();
        for _ in 0..MOST_ROUNDS_TO_SETTLE + 10 * unsent {
            self.peers.settle(&mut self.kernel.borrow_mut());
            self.turn_until_rest();
            if self.is_settled() {
                return;
            }
            if !self.kernel.borrow().is_anything_ready() {
                self.now += self.until_alarm().min(100);
            }
        }
        panic!("those who wait wait for ever: {:?}", self.model.order.due());
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
            && self.model.order.due().is_none()
            && !kernel.has_told_backlog(Side::Client)
            && !kernel.has_told_backlog(Side::Source)
    }

    /// Everybody who reads has all that is for them.
    fn check_received(&self) {
        let kernel = self.kernel.borrow();
        for peer in self.peers.clients.iter().filter(|client| client.pace != Pace::Never) {
            if let Some(client) = self.model.clients.get(&peer.socket) {
                let received = &kernel.sockets[peer.socket].received;
                assert!(*received == client.expected, "client {} lacks something", peer.socket);
            }
        }
    }

    /// Stops the server, as a signal does of which the poll has told among other things, and sees it
    /// out.
    fn stop(&mut self) {
        // Whatever is due by now has had its turn.
        self.turn();
        self.poll();
        self.say(format_args!("stop at {} ms", self.now));
        self.hub.stop(self.start + Duration::from_millis(self.now));
        let drain = self.scenario.config.drain_timeout.as_millis() as u64;
        self.model.stop(self.now + drain);
        self.observe();
        self.turn_polled();
        for _ in 0..MOST_ROUNDS_TO_SETTLE {
            self.turn_until_rest();
            if self.hub.is_stopped() {
                return self.check_stopped();
            }
            self.peers.go_on(&mut self.kernel.borrow_mut());
            if !self.kernel.borrow().is_anything_ready() {
                self.now += self.until_alarm().min(1 + drain / 4);
            }
        }
        panic!("the server does not stop");
    }

    /// Nobody is left, and who was closed after all was written has all of it.
    fn check_stopped(&self) {
        assert!(self.model.clients.is_empty(), "clients are left");
        assert_eq!(self.model.open_sources().count(), 0, "sources are left");
        assert!(self.model.lingering.is_empty(), "closed clients are left");
        let mut kernel = self.kernel.borrow_mut();
        for (&id, (reason, client)) in &self.model.gone {
            let socket = &mut kernel.sockets[id];
            socket.deliver();
            socket.receive(usize::MAX);
            if socket.is_reset || client.is_broken {
                continue;
            }
            if client.has_lingered_out {
                assert!(
                    socket.received == client.expected[..client.written as usize],
                    "client {id} lacks something that was written"
                );
            }
            if *reason == CloseReason::Stopped && client.user.is_some() {
                assert_eq!(client.written, client.expected.len() as u64, "of client {id}");
            }
        }
    }
}
